//! What goes to payment switches: a line of records for each target, and how far its receiver has come.

use std::collections::{HashMap, HashSet};

use hsm::Mac;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Row, StoreError, Tx};
use crate::{
    names::{DeviceSerial, GroupName, Model, Slot},
    state::{DeviceState, ExportState},
};

const WHAT: &str = "export record";
/// Rows in one statement.
const ROWS_AT_ONCE: usize = 64;

/// A record in a target's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportRow {
    /// Its id.
    pub(crate) target: String,
    /// From 1, without gaps.
    pub(crate) position: u64,
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    pub(crate) version: u32,
    pub(crate) state: ExportState,
    /// Once there is a key.
    pub(crate) made: Option<Made>,
    /// By the target's MAC key.
    pub(crate) mac: Option<Mac>,
}

/// What a record says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) header: String,
    pub(crate) kind: String,
    pub(crate) kcv_method: String,
    pub(crate) kcv: String,
    /// As it goes out; none once it is erased.
    pub(crate) exported: Option<String>,
}

/// How far a target has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportMarks {
    /// The last record that left.
    pub(crate) sent: u64,
    /// Up to which all have arrived.
    pub(crate) acknowledged: u64,
    /// Up to which none has its key any more.
    pub(crate) erased: u64,
}

/// How long a target's line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportLine {
    pub(crate) last: u64,
    /// Up to which all are made.
    pub(crate) made: u64,
}

/// A slot whose key was confirmed, and of which device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    pub(crate) version: u32,
    pub(crate) owner: Owner,
}

/// What a target's scope is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) model: Model,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
}

impl Tx {
    /// Puts a version of a device's key into a target's line, behind whatever was ever made for it; `false` if it is
    /// there.
    pub(crate) async fn queue_export(
        &mut self,
        target: &str,
        device: &DeviceSerial,
        slot: &Slot,
        version: u32,
    ) -> Result<bool, StoreError> {
        let queued = self
            .queue_exports(target, &[(device, slot, version)])
            .await?;
        Ok(queued == 1)
    }

    /// The same of several, in their order. Says how many were not there.
    pub(crate) async fn queue_exports(
        &mut self,
        target: &str,
        keys: &[(&DeviceSerial, &Slot, u32)],
    ) -> Result<u64, StoreError> {
        let mut queued = 0;
        for some in keys.chunks(ROWS_AT_ONCE) {
            // Writers follow one another: nobody else takes the positions.
            let values = self.tuples(some.len(), 4);
            let [to, behind, now] = [1, 2, 3].map(|more| format!("${}", 4 * some.len() + more));
            let sql = format!(
                "INSERT INTO export_records (target, position, device, slot, version, state, created_at, changed_at)
                 SELECT {to}, last.position + ROW_NUMBER() OVER (ORDER BY n.column1), n.column2, n.column3, n.column4,
                     'QUEUED', {now}, {now}
                 FROM (VALUES {values}) AS n, (SELECT CASE WHEN MAX(position) > {behind} THEN MAX(position)
                     ELSE {behind} END AS position FROM export_records WHERE target = {to}) AS last
                 WHERE NOT EXISTS (SELECT 1 FROM export_records e WHERE e.target = {to} AND e.device = n.column2
                     AND e.slot = n.column3 AND e.version = n.column4 AND e.state <> 'SKIPPED')"
            );
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for (place, (device, slot, version)) in (0..).zip(some) {
                statement = statement
                    .bind(place)
                    .bind(device.to_string())
                    .bind(slot.to_string())
                    .bind(i64::from(*version));
            }
            let statement = statement
                .bind(target.to_owned())
                .bind(signed(self.exported_up_to(target))?)
                .bind(self.now.clone());
            let added = statement.execute(self.connection().await?).await?;
            queued += added.rows_affected();
        }
        if queued > 0 {
            self.later(
                "INSERT INTO export_marks (target, sent, acknowledged, erased) VALUES ($1, 0, 0, 0)
                 ON CONFLICT DO NOTHING",
            )
            .bind(target.to_owned());
        }
        Ok(queued)
    }

    /// Some of those in line that are to be made, the first ones behind what was ever made.
    pub(crate) async fn queued_exports(
        &mut self,
        target: &str,
        limit: u32,
    ) -> Result<Vec<ExportRow>, StoreError> {
        let behind = self.exported_up_to(target);
        sqlx::query(
            "SELECT * FROM export_records WHERE target = $1 AND state = 'QUEUED' AND position > $2
             ORDER BY position LIMIT $3",
        )
        .bind(target)
        .bind(signed(behind)?)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// The first one in line that was made before: somebody else has put it back.
    pub(crate) async fn export_put_back(
        &mut self,
        target: &str,
    ) -> Result<Option<u64>, StoreError> {
        let made = self.exported_up_to(target);
        let first: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(position) FROM export_records WHERE target = $1 AND state = 'QUEUED' AND position <= $2",
        )
        .bind(target)
        .bind(signed(made)?)
        .fetch_one(self.connection().await?)
        .await?;
        first.map(unsigned).transpose()
    }

    /// Puts down what became of some in line. Says which were in line still, by their positions.
    pub(crate) async fn finish_exports(
        &mut self,
        rows: &[&ExportRow],
    ) -> Result<HashSet<u64>, StoreError> {
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = format!(
            "UPDATE export_records SET state = n.column3, header = n.column4, kind = n.column5,
                 kcv_method = n.column6, kcv = n.column7, exported = n.column8, mac = n.column9,
                 changed_at = n.column10
             FROM (VALUES {}) AS n
             WHERE export_records.target = n.column1 AND export_records.position = n.column2
                 AND export_records.state = 'QUEUED'
             RETURNING export_records.position",
            self.tuples(rows.len(), 10)
        );
        let mut statement = sqlx::query_scalar(AssertSqlSafe(sql));
        for row in rows {
            let made = row.made.as_ref();
            statement = statement
                .bind(row.target.clone())
                .bind(signed(row.position)?)
                .bind(row.state.as_str())
                .bind(made.map(|made| made.header.clone()))
                .bind(made.map(|made| made.kind.clone()))
                .bind(made.map(|made| made.kcv_method.clone()))
                .bind(made.map(|made| made.kcv.clone()))
                .bind(made.and_then(|made| made.exported.clone()))
                .bind(row.mac.map(|mac| mac.as_bytes().to_vec()))
                .bind(self.now.clone());
        }
        let finished: Vec<i64> = statement.fetch_all(self.connection().await?).await?;
        finished.into_iter().map(unsigned).collect()
    }

    /// A target's records from a position on, as they are in line.
    pub(crate) async fn export_records(
        &mut self,
        target: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<ExportRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM export_records WHERE target = $1 AND position >= $2 ORDER BY position LIMIT $3",
        )
        .bind(target)
        .bind(signed(from)?)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// The MACs of a target's records, from one position to another.
    pub(crate) async fn export_macs(
        &mut self,
        target: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<Mac>, StoreError> {
        let macs: Vec<Option<Vec<u8>>> = sqlx::query_scalar(
            "SELECT mac FROM export_records WHERE target = $1 AND position BETWEEN $2 AND $3
                 AND state IN ('MADE', 'SKIPPED') ORDER BY position",
        )
        .bind(target)
        .bind(signed(from)?)
        .bind(signed(to)?)
        .fetch_all(self.connection().await?)
        .await?;
        macs.into_iter()
            .map(|mac| read_mac(mac)?.ok_or(StoreError::Damaged(WHAT)))
            .collect()
    }

    /// How far a target's receiver has come.
    pub(crate) async fn export_marks(&mut self, target: &str) -> Result<ExportMarks, StoreError> {
        let marks = sqlx::query("SELECT * FROM export_marks WHERE target = $1")
            .bind(target)
            .fetch_optional(self.connection().await?)
            .await?;
        marks
            .as_ref()
            .map_or(Ok(ExportMarks::default()), read_marks)
    }

    /// Puts down how far it has come: of what left, of what arrived and of what is erased.
    pub(crate) async fn set_export_marks(
        &mut self,
        target: &str,
        marks: ExportMarks,
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "UPDATE export_marks SET sent = $2, acknowledged = $3, erased = $4 WHERE target = $1",
        );
        let statement = statement
            .bind(target.to_owned())
            .bind(signed(marks.sent)?)
            .bind(signed(marks.acknowledged)?)
            .bind(signed(marks.erased)?);
        self.exactly_one(statement, "export mark").await
    }

    /// A target's first record that is there and has not left; if there is none, the next that there will be.
    pub(crate) async fn first_unsent(
        &mut self,
        target: &str,
        sent: u64,
    ) -> Result<u64, StoreError> {
        let first: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(position) FROM export_records WHERE target = $1 AND position > $2",
        )
        .bind(target)
        .bind(signed(sent)?)
        .fetch_one(self.connection().await?)
        .await?;
        first.map_or(Ok(sent + 1), unsigned)
    }

    /// Notes when a target's records have arrived, from one position to another.
    pub(crate) async fn note_arrived(
        &mut self,
        target: &str,
        from: u64,
        to: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE export_records SET acknowledged_at = $4 WHERE target = $1 AND position BETWEEN $2 AND $3",
        )
        .bind(target)
        .bind(signed(from)?)
        .bind(signed(to)?)
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// How long a target's line is.
    pub(crate) async fn export_line(&mut self, target: &str) -> Result<ExportLine, StoreError> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(position) FROM export_records WHERE target = $1")
                .bind(target)
                .fetch_one(self.connection().await?)
                .await?;
        let queued: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(position) FROM export_records WHERE target = $1 AND state = 'QUEUED'",
        )
        .bind(target)
        .fetch_one(self.connection().await?)
        .await?;
        let last = unsigned(last.unwrap_or_default())?;
        let queued = queued.map(unsigned).transpose()?;
        Ok(ExportLine {
            last,
            made: queued.map_or(last, |queued| queued.saturating_sub(1)),
        })
    }

    /// The last of some records that have a key and need it no more: they arrived before a time, or whatever
    /// became of them if none is given.
    pub(crate) async fn last_to_erase(
        &mut self,
        target: &str,
        behind: u64,
        arrived_before: Option<&str>,
        limit: u32,
    ) -> Result<Option<u64>, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(position) FROM (SELECT position, acknowledged_at FROM export_records
                 WHERE target = $1 AND position > $2 ORDER BY position LIMIT $3) AS next_ones
             WHERE $4 = '' OR acknowledged_at < $4",
        )
        .bind(target)
        .bind(signed(behind)?)
        .bind(i64::from(limit))
        .bind(arrived_before.unwrap_or_default())
        .fetch_one(self.connection().await?)
        .await?;
        last.map(unsigned).transpose()
    }

    /// Takes the keys out of a target's records, from one position to another, and those in line out of it.
    pub(crate) async fn erase_exports(
        &mut self,
        target: &str,
        from: u64,
        to: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE export_records SET state = 'ERASED', exported = NULL, changed_at = $4
             WHERE target = $1 AND position BETWEEN $2 AND $3 AND state IN ('QUEUED', 'MADE')",
        )
        .bind(target)
        .bind(signed(from)?)
        .bind(signed(to)?)
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// Every target that has a line.
    pub(crate) async fn export_targets(
        &mut self,
    ) -> Result<Vec<(String, ExportMarks)>, StoreError> {
        sqlx::query("SELECT * FROM export_marks ORDER BY target")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| Ok((row.try_get("target")?, read_marks(row)?)))
            .collect()
    }

    /// Keys that devices have confirmed, behind a slot of a device. Of what the host cannot have written, device and
    /// slot.
    pub(crate) async fn confirmed_keys(
        &mut self,
        device: &str,
        slot: &str,
        limit: u32,
    ) -> Result<Vec<Result<Confirmed, (String, String)>>, StoreError> {
        sqlx::query(
            "SELECT k.device, k.slot, k.version, d.model, d.group_name, d.state AS device_state
             FROM device_keys k JOIN devices d ON d.serial_number = k.device
             WHERE k.state = 'ACTIVE' AND (k.device, k.slot) > ($1, $2)
             ORDER BY k.device, k.slot LIMIT $3",
        )
        .bind(device)
        .bind(slot)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| match read_confirmed(row) {
            Ok(confirmed) => Ok(Ok(confirmed)),
            Err(_) => Ok(Err((row.try_get("device")?, row.try_get("slot")?))),
        })
        .collect()
    }

    /// A device, as far as scopes are about it.
    pub(crate) async fn export_owner(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<Owner>, StoreError> {
        let mut owners = self.export_owners(std::slice::from_ref(device)).await?;
        owners.remove(device.as_str()).transpose()
    }

    /// The same, of several: those that are there, by their serial numbers.
    pub(crate) async fn export_owners(
        &mut self,
        devices: &[DeviceSerial],
    ) -> Result<HashMap<String, Result<Owner, StoreError>>, StoreError> {
        if devices.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT serial_number, model, group_name, state AS device_state FROM devices
             WHERE serial_number IN {}",
            self.tuples(1, devices.len())
        );
        let rows = self.about(sql, devices).await?;
        let owners = rows
            .iter()
            .map(|row| Ok((row.try_get("serial_number")?, read_owner(row))));
        owners.collect()
    }
}

fn damaged() -> StoreError {
    StoreError::Damaged(WHAT)
}

fn signed(position: u64) -> Result<i64, StoreError> {
    i64::try_from(position).map_err(|_| damaged())
}

fn unsigned(position: i64) -> Result<u64, StoreError> {
    u64::try_from(position).map_err(|_| damaged())
}

fn read_mac(mac: Option<Vec<u8>>) -> Result<Option<Mac>, StoreError> {
    let mac = mac.map(|mac| Mac::new(&mac));
    mac.transpose().map_err(|_| damaged())
}

fn read_marks(row: &Row) -> Result<ExportMarks, StoreError> {
    let mark = |column| unsigned(row.try_get(column).map_err(|_| damaged())?);
    Ok(ExportMarks {
        sent: mark("sent")?,
        acknowledged: mark("acknowledged")?,
        erased: mark("erased")?,
    })
}

fn read_key(row: &Row) -> Result<(DeviceSerial, Slot, u32), StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let version: i64 = row.try_get("version")?;
    Ok((
        DeviceSerial::parse(&text("device")?).map_err(|_| damaged())?,
        Slot::parse(&text("slot")?).map_err(|_| damaged())?,
        u32::try_from(version).map_err(|_| damaged())?,
    ))
}

fn read_confirmed(row: &Row) -> Result<Confirmed, StoreError> {
    let (device, slot, version) = read_key(row)?;
    Ok(Confirmed {
        device,
        slot,
        version,
        owner: read_owner(row)?,
    })
}

fn read_owner(row: &Row) -> Result<Owner, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let text = |column: &str| row.try_get::<String, _>(column);
    let group: Option<String> = row.try_get("group_name")?;
    let group = group.map(|group| GroupName::parse(&group));
    Ok(Owner {
        model: Model::parse(&text("model")?).map_err(|_| damaged())?,
        group: group.transpose().map_err(|_| damaged())?,
        state: DeviceState::parse(&text("device_state")?).ok_or_else(damaged)?,
    })
}

fn read(row: &Row) -> Result<ExportRow, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let maybe = |column: &str| row.try_get::<Option<String>, _>(column);
    let (device, slot, version) = read_key(row)?;
    let parts = (
        maybe("header")?,
        maybe("kind")?,
        maybe("kcv_method")?,
        maybe("kcv")?,
    );
    let exported = maybe("exported")?;
    let made = match (parts, exported) {
        ((Some(header), Some(kind), Some(kcv_method), Some(kcv)), exported) => Some(Made {
            header,
            kind,
            kcv_method,
            kcv,
            exported,
        }),
        ((None, None, None, None), None) => None,
        _ => return Err(damaged()),
    };
    Ok(ExportRow {
        target: text("target")?,
        position: unsigned(row.try_get("position")?)?,
        device,
        slot,
        version,
        state: ExportState::parse(&text("state")?).ok_or_else(damaged)?,
        made,
        mac: read_mac(row.try_get("mac")?)?,
    })
}
