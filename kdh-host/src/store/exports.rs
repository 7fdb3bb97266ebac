//! What goes to payment switches: a line of records for each target, and how far its receiver has come.

use hsm::Mac;
use sqlx::Row as _;

use super::{Row, StoreError, Tx};
use crate::{
    names::{DeviceSerial, GroupName, Model, Slot},
    state::{DeviceState, ExportState},
};

const WHAT: &str = "export record";

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
    /// Puts a version of a device's key into a target's line; `false` if it is there.
    pub(crate) async fn queue_export(
        &mut self,
        target: &str,
        device: &DeviceSerial,
        slot: &Slot,
        version: u32,
    ) -> Result<bool, StoreError> {
        // Writers follow one another: nobody else takes the position.
        let queued = sqlx::query(
            "INSERT INTO export_records (target, position, device, slot, version, state, created_at, changed_at)
             SELECT $1, COALESCE(MAX(position), 0) + 1, $2, $3, $4, 'QUEUED', $5, $5
             FROM export_records WHERE target = $1
             ON CONFLICT DO NOTHING",
        )
        .bind(target)
        .bind(device.as_str())
        .bind(slot.as_str())
        .bind(i64::from(version))
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        if queued.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO export_marks (target, sent, acknowledged, erased) VALUES ($1, 0, 0, 0)
             ON CONFLICT DO NOTHING",
        )
        .bind(target)
        .execute(self.connection().await?)
        .await?;
        Ok(true)
    }

    /// Some of those in line that are to be made, the first ones.
    pub(crate) async fn queued_exports(
        &mut self,
        target: &str,
        limit: u32,
    ) -> Result<Vec<ExportRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM export_records WHERE target = $1 AND state = 'QUEUED' ORDER BY position LIMIT $2",
        )
        .bind(target)
        .bind(i64::from(limit))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Puts down what became of one in line; `false` if it is in line no more.
    pub(crate) async fn finish_export(&mut self, row: &ExportRow) -> Result<bool, StoreError> {
        let made = row.made.as_ref();
        let finished = sqlx::query(
            "UPDATE export_records SET state = $3, header = $4, kind = $5, kcv_method = $6, kcv = $7, exported = $8,
                 mac = $9, changed_at = $10
             WHERE target = $1 AND position = $2 AND state = 'QUEUED'",
        )
        .bind(&row.target)
        .bind(signed(row.position)?)
        .bind(row.state.as_str())
        .bind(made.map(|made| made.header.clone()))
        .bind(made.map(|made| made.kind.clone()))
        .bind(made.map(|made| made.kcv_method.clone()))
        .bind(made.map(|made| made.kcv.clone()))
        .bind(made.and_then(|made| made.exported.clone()))
        .bind(row.mac.map(|mac| mac.as_bytes().to_vec()))
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(finished.rows_affected() == 1)
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

    /// Keys that devices have confirmed, behind a slot of a device.
    pub(crate) async fn confirmed_keys(
        &mut self,
        device: &str,
        slot: &str,
        limit: u32,
    ) -> Result<Vec<Confirmed>, StoreError> {
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
        .map(|row| {
            let (device, slot, version) = read_key(row)?;
            Ok(Confirmed {
                device,
                slot,
                version,
                owner: read_owner(row)?,
            })
        })
        .collect()
    }

    /// A device, as far as scopes are about it.
    pub(crate) async fn export_owner(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<Owner>, StoreError> {
        sqlx::query(
            "SELECT model, group_name, state AS device_state FROM devices WHERE serial_number = $1",
        )
        .bind(device.as_str())
        .fetch_optional(self.connection().await?)
        .await?
        .as_ref()
        .map(read_owner)
        .transpose()
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
    let mark = |column| unsigned(row.try_get(column)?);
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
