//! Rollouts, how far they have come, and what became of each slot.

use std::collections::HashMap;

use kdh_proto::v1;
use sqlx::{AssertSqlSafe, Row as _, query::Query};

use super::{
    Row, StoreError, Tx,
    few_rows::FewRows,
    keys::read_seal,
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::{
    names::{DeviceSerial, GroupName, Model, Slot},
    rollout::Counts,
    state::{DeviceState, RolloutKind, RolloutState},
};

const WHAT: &str = "rollout";

/// Which devices get keys, which slots, and how many at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    pub(crate) number: u32,
    pub(crate) kind: RolloutKind,
    pub(crate) reach: Reach,
    /// None: all that the devices' profiles have.
    pub(crate) slots: Vec<Slot>,
    pub(crate) waves: Waves,
    pub(crate) state: RolloutState,
    /// Why it was paused or stopped.
    pub(crate) state_why: String,
    pub(crate) started_by: String,
    pub(crate) why: String,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

/// Which devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of a model whose group carries no profile.
    Model(Model),
    Group(GroupName),
    /// In the order of their serial numbers, each once.
    Devices(Vec<DeviceSerial>),
    /// Whichever it is due for.
    Any,
}

/// How many devices at a time, and when it does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waves {
    /// 0 for all in one.
    pub(crate) devices: u32,
    /// How many of a hundred keys of a wave are confirmed before the next one begins.
    pub(crate) proceed_at: u32,
    /// It pauses when more devices than these have reported a wrong check value.
    pub(crate) stop_after: Option<u32>,
    /// Of those, how many there were when an operator had it go on.
    pub(crate) forgiven: u32,
}

impl Reach {
    /// The word in the database, in answers and in the audit trail.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "MODEL",
            Self::Group(_) => "GROUP",
            Self::Devices(_) => "DEVICES",
            Self::Any => "ANY",
        }
    }

    /// The model or the group; of devices, which they are in short.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Model(name) => name.to_string(),
            Self::Group(name) => name.to_string(),
            Self::Devices(_) => {
                use sha2::Digest as _;
                hex::encode(sha2::Sha256::digest(self.lines()))
            }
            Self::Any => String::new(),
        }
    }

    fn lines(&self) -> String {
        match self {
            Self::Devices(devices) => lines(devices.iter().map(DeviceSerial::as_str)),
            Self::Model(_) | Self::Group(_) | Self::Any => String::new(),
        }
    }

    fn of_parts(kind: &str, name: &str, devices: &str) -> Option<Self> {
        match kind {
            "MODEL" => Model::parse(name).ok().map(Self::Model),
            "GROUP" => GroupName::parse(name).ok().map(Self::Group),
            "DEVICES" => {
                let devices = devices.lines().map(DeviceSerial::parse);
                devices.collect::<Result<_, _>>().ok().map(Self::Devices)
            }
            "ANY" => Some(Self::Any),
            _ => None,
        }
    }
}

fn lines<'t>(items: impl Iterator<Item = &'t str>) -> String {
    items.collect::<Vec<_>>().join("\n")
}

impl Rollout {
    fn slot_lines(&self) -> String {
        lines(self.slots.iter().map(Slot::as_str))
    }
}

impl SealedRow for Rollout {
    const TABLE: &'static str = "rollouts";

    fn columns(&self, columns: &mut Columns) {
        columns.number(self.number);
        columns.text(self.kind.as_str());
        columns.text(self.reach.kind());
        columns.text(&self.reach.name());
        columns.text(&self.reach.lines());
        columns.text(&self.slot_lines());
        columns.number(self.waves.devices);
        columns.number(self.waves.proceed_at);
        columns.optional_number(self.waves.stop_after);
        columns.number(self.waves.forgiven);
        columns.text(self.state.as_str());
        columns.text(&self.state_why);
        columns.text(&self.started_by);
        columns.text(&self.why);
        columns.text(&self.created_at);
        columns.text(&self.changed_at);
    }

    fn title(&self) -> String {
        format!("rollout {}", self.number)
    }
}

/// A wave: the devices behind one serial number, up to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wave {
    /// The first one is 1.
    pub(crate) number: u32,
    pub(crate) after_device: String,
    /// The next batch begins behind it.
    pub(crate) last_device: String,
    pub(crate) devices: u64,
    /// Keys.
    pub(crate) made: u64,
    /// Devices or slots that got none.
    pub(crate) skipped: u64,
}

/// What became of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RolloutKey {
    pub(crate) device: DeviceSerial,
    /// None: of the device altogether.
    pub(crate) slot: Option<Slot>,
    pub(crate) outcome: Outcome,
}

/// Whether a slot got a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This version.
    Made(u32),
    /// None, and why in a word.
    Skipped(String),
}

/// A device as a rollout finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) serial: DeviceSerial,
    pub(crate) model: String,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
    /// The serial number of its encryption certificate, if it has one.
    pub(crate) certificate: Option<String>,
}

/// Devices of one model, in one group, in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cohort {
    pub(crate) model: String,
    pub(crate) group: Option<GroupName>,
    pub(crate) state: DeviceState,
    pub(crate) devices: u64,
}

/// The states in which devices get no keys.
const LEFT_ALONE: &str = "('SUSPENDED', 'QUARANTINED', 'REBOUND', 'REVOKED')";

const SEEN: &str = "SELECT d.serial_number, d.model, d.group_name, d.state, c.serial AS certificate
     FROM devices d LEFT JOIN certificates c ON c.device = d.serial_number AND c.purpose = 'ENCRYPTION'
         AND c.state = 'CURRENT'";

impl Tx {
    /// Adds a rollout; `false` if its number is taken, or one for the same is open.
    pub(crate) async fn insert_rollout(
        &mut self,
        rollout: &Sealed<Rollout>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO rollouts (number, kind, target_kind, target, devices, slots, wave_devices, proceed_at,
                 stop_after, forgiven, state, state_why, started_by, why, created_at, changed_at, storage_key, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
             ON CONFLICT DO NOTHING",
        );
        let inserted = bound(statement, rollout)
            .execute(self.connection().await?)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts a row in the place of what it was; `false` if it is something else by now.
    pub(crate) async fn replace_rollout(
        &mut self,
        old: &Sealed<Rollout>,
        new: &Sealed<Rollout>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "UPDATE rollouts SET kind = $2, target_kind = $3, target = $4, devices = $5, slots = $6,
                 wave_devices = $7, proceed_at = $8, stop_after = $9, forgiven = $10, state = $11, state_why = $12,
                 started_by = $13, why = $14, created_at = $15, changed_at = $16, storage_key = $17, mac = $18
             WHERE number = $1 AND mac = $19",
        );
        let replaced = bound(statement, new)
            .bind(old.seal().map(Seal::mac_bytes))
            .execute(self.connection().await?)
            .await?;
        Ok(replaced.rows_affected() == 1)
    }

    /// Whether a rollout is what it was when it was read.
    pub(crate) async fn is_unchanged(
        &mut self,
        rollout: &Sealed<Rollout>,
    ) -> Result<bool, StoreError> {
        let mac: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT mac FROM rollouts WHERE number = $1")
                .bind(i64::from(rollout.unproven().number))
                .fetch_optional(self.connection().await?)
                .await?;
        let seal = rollout.seal().map(Seal::mac_bytes);
        Ok(seal.is_some() && mac.flatten() == seal)
    }

    pub(crate) async fn rollout(
        &mut self,
        number: u32,
    ) -> Result<Option<Sealed<Rollout>>, StoreError> {
        sqlx::query("SELECT * FROM rollouts WHERE number = $1")
            .bind(i64::from(number))
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Those that run or are paused.
    pub(crate) async fn open_rollouts(&mut self) -> Result<Vec<Sealed<Rollout>>, StoreError> {
        sqlx::query("SELECT * FROM rollouts WHERE state IN ('RUNNING', 'PAUSED') ORDER BY number")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// All, newest first, older than a given one if one is given.
    pub(crate) async fn rollouts(
        &mut self,
        before: u32,
        limit: i64,
    ) -> Result<Vec<Sealed<Rollout>>, StoreError> {
        sqlx::query(
            "SELECT * FROM rollouts WHERE ($1 = 0 OR number < $1) ORDER BY number DESC LIMIT $2",
        )
        .bind(i64::from(before))
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// The number of the next rollout.
    pub(crate) async fn next_rollout_number(&mut self) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(number) FROM rollouts")
            .fetch_one(self.connection().await?)
            .await?;
        u32::try_from(last.unwrap_or_default() + 1).map_err(|_| StoreError::Damaged(WHAT))
    }

    /// The waves of a rollout, the first one first.
    pub(crate) async fn waves(&mut self, rollout: u32) -> Result<Vec<Wave>, StoreError> {
        sqlx::query("SELECT * FROM rollout_waves WHERE rollout = $1 ORDER BY wave")
            .bind(i64::from(rollout))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_wave)
            .collect()
    }

    /// The last wave of a rollout.
    pub(crate) async fn last_wave(&mut self, rollout: u32) -> Result<Option<Wave>, StoreError> {
        sqlx::query("SELECT * FROM rollout_waves WHERE rollout = $1 ORDER BY wave DESC LIMIT 1")
            .bind(i64::from(rollout))
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read_wave)
            .transpose()
    }

    /// Begins a wave; `false` if it has begun.
    pub(crate) async fn insert_wave(
        &mut self,
        rollout: u32,
        wave: &Wave,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO rollout_waves (rollout, wave, after_device, last_device, devices, made, skipped, created_at,
                 changed_at)
             VALUES ($1, $2, $3, $4, 0, 0, 0, $5, $5) ON CONFLICT DO NOTHING",
        )
        .bind(i64::from(rollout))
        .bind(i64::from(wave.number))
        .bind(&wave.after_device)
        .bind(&wave.last_device)
        .bind(self.now.clone())
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts down how far a wave has come since it was `before`; `false` if it was somewhere else.
    pub(crate) async fn advance_wave(
        &mut self,
        rollout: u32,
        before: &Wave,
        after: &Wave,
    ) -> Result<bool, StoreError> {
        let advanced = sqlx::query(
            "UPDATE rollout_waves SET last_device = $4, devices = $5, made = $6, skipped = $7, changed_at = $8
             WHERE rollout = $1 AND wave = $2 AND last_device = $3",
        )
        .bind(i64::from(rollout))
        .bind(i64::from(before.number))
        .bind(&before.last_device)
        .bind(&after.last_device)
        .bind(signed(after.devices)?)
        .bind(signed(after.made)?)
        .bind(signed(after.skipped)?)
        .bind(self.now.clone())
        .execute(self.connection().await?)
        .await?;
        Ok(advanced.rows_affected() == 1)
    }

    /// Puts down what became of slots; `false` if this rollout has come to one of them before. One that makes what is
    /// due may: the last time counts.
    pub(crate) async fn insert_rollout_keys(
        &mut self,
        rollout: u32,
        keys: &[RolloutKey],
        again: bool,
    ) -> Result<bool, StoreError> {
        if keys.is_empty() {
            return Ok(true);
        }
        let conflict = if again {
            "(rollout, device, slot) DO UPDATE SET version = excluded.version, skipped = excluded.skipped"
        } else {
            "DO NOTHING"
        };
        let sql = format!(
            "INSERT INTO rollout_keys (rollout, device, slot, version, skipped) VALUES {} ON CONFLICT {conflict}",
            tuples(keys.len(), 5)
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for key in keys {
            let (version, skipped) = match &key.outcome {
                Outcome::Made(version) => (Some(i64::from(*version)), None),
                Outcome::Skipped(why) => (None, Some(why.clone())),
            };
            statement = statement
                .bind(i64::from(rollout))
                .bind(key.device.to_string())
                .bind(key.slot.as_ref().map_or("", Slot::as_str).to_owned())
                .bind(version)
                .bind(skipped);
        }
        let inserted = statement.execute(self.connection().await?).await?;
        Ok(inserted.rows_affected() == keys.len() as u64)
    }

    /// Devices behind a serial number, in the order of serial numbers.
    pub(crate) async fn reached(
        &mut self,
        reach: &Reach,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Seen>, StoreError> {
        if let Reach::Devices(devices) = reach {
            let behind = devices.iter().filter(|device| device.as_str() > after);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let page: Vec<_> = behind.take(limit).cloned().collect();
            return self.seen(&page).await;
        }
        let (condition, names) = reached(reach);
        let (behind, at_most) = (names.len() + 1, names.len() + 2);
        let sql = format!(
            "{SEEN} WHERE {condition} AND d.serial_number > ${behind} ORDER BY d.serial_number LIMIT ${at_most}"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .bind(after.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// A device has come to a profile, if its group or its model carries one: it is looked later whether its slots
    /// have keys.
    pub(crate) fn queue_for_filling(&mut self, device: &DeviceSerial) {
        self.later(
            "INSERT INTO devices_to_fill (device)
             SELECT d.serial_number FROM devices d WHERE d.serial_number = $1
                 AND EXISTS (SELECT 1 FROM key_profile_targets t WHERE (t.kind = 'GROUP' AND t.name = d.group_name)
                     OR (t.kind = 'MODEL' AND t.name = d.model))
             ON CONFLICT DO NOTHING",
        )
        .bind(device.to_string());
    }

    /// Devices that came to a profile, behind a serial number: but for those that get nothing as they stand now.
    pub(crate) async fn unfilled(
        &mut self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Seen>, StoreError> {
        let sql = format!(
            "{SEEN} JOIN devices_to_fill q ON q.device = d.serial_number
             WHERE q.device > $1 AND d.state NOT IN {LEFT_ALONE}
             ORDER BY q.device LIMIT $2"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(after.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// It was looked whether their slots have keys.
    pub(crate) async fn unqueue(&mut self, devices: &[DeviceSerial]) -> Result<(), StoreError> {
        if devices.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM devices_to_fill WHERE device IN {}",
            tuples(1, devices.len())
        );
        let statement = devices
            .iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), |statement, device| {
                statement.bind(device.to_string())
            });
        statement.execute(self.connection().await?).await?;
        Ok(())
    }

    /// Devices that have had the newest live key of a slot since before a time, the oldest first, behind one of them.
    /// With the time of each.
    pub(crate) async fn due(
        &mut self,
        reach: &Reach,
        slot: &Slot,
        before: &str,
        (time, device): (&str, &str),
        limit: u32,
    ) -> Result<Vec<(String, Seen)>, StoreError> {
        let (condition, names) = reached(reach);
        let parameter = |number: usize| format!("${}", names.len() + number);
        let [of_slot, until, time_of, device_of, at_most] = [1, 2, 3, 4, 5].map(parameter);
        let sql = format!(
            "SELECT k.created_at AS due_since, d.serial_number, d.model, d.group_name, d.state, c.serial AS certificate
             FROM device_keys k JOIN devices d ON d.serial_number = k.device
                 LEFT JOIN certificates c ON c.device = d.serial_number AND c.purpose = 'ENCRYPTION'
                     AND c.state = 'CURRENT'
             WHERE {condition} AND k.slot = {of_slot} AND k.state IN ('PENDING', 'ACTIVE')
                 AND k.created_at <= {until} AND (k.created_at, k.device) > ({time_of}, {device_of})
                 AND d.state NOT IN {LEFT_ALONE}
                 AND NOT EXISTS (SELECT 1 FROM device_keys n WHERE n.device = k.device AND n.slot = k.slot
                     AND n.version > k.version AND n.state IN ('PENDING', 'ACTIVE'))
             ORDER BY k.created_at, k.device LIMIT {at_most}"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .bind(slot.to_string())
            .bind(before.to_owned())
            .bind(time.to_owned())
            .bind(device.to_owned())
            .bind(i64::from(limit))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| Ok((row.try_get("due_since")?, read_seen(row)?)))
            .collect()
    }

    /// How many devices are reached, by what they have in common.
    pub(crate) async fn cohorts(&mut self, reach: &Reach) -> Result<Vec<Cohort>, StoreError> {
        let (condition, names) = reached(reach);
        let sql = format!(
            "SELECT d.model, d.group_name, d.state, COUNT(*) AS devices FROM devices d WHERE {condition}
             GROUP BY d.model, d.group_name, d.state"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| {
                let devices = unsigned(row, "devices")?;
                Ok(Cohort {
                    devices,
                    ..read_cohort(row)?
                })
            })
            .collect()
    }

    /// What they hold in each slot: how many keys are confirmed, and how many are not.
    pub(crate) async fn held_by_cohort(
        &mut self,
        reach: &Reach,
    ) -> Result<HashMap<(Cohort, Slot), (u64, u64)>, StoreError> {
        let (condition, names) = reached(reach);
        let sql = format!(
            "SELECT d.model, d.group_name, d.state, k.slot,
                 COUNT(CASE WHEN k.state = 'ACTIVE' THEN 1 END) AS confirmed,
                 COUNT(CASE WHEN k.state = 'PENDING' THEN 1 END) AS pending
             FROM devices d JOIN device_keys k ON k.device = d.serial_number
             WHERE {condition} AND k.state IN ('PENDING', 'ACTIVE')
             GROUP BY d.model, d.group_name, d.state, k.slot"
        );
        names
            .into_iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), Query::bind)
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| {
                let slot: String = row.try_get("slot")?;
                let slot = Slot::parse(&slot).map_err(|_| StoreError::Damaged("device key"))?;
                let counts = (unsigned(row, "confirmed")?, unsigned(row, "pending")?);
                Ok(((read_cohort(row)?, slot), counts))
            })
            .collect()
    }

    /// What became of the keys of a wave.
    pub(crate) async fn count_wave(
        &mut self,
        rollout: u32,
        wave: &Wave,
    ) -> Result<Counts, StoreError> {
        // Each key with what became of it since, by the rows of the device.
        let row = sqlx::query(
            "SELECT COUNT(CASE WHEN k.state IN ('ACTIVE', 'DESTROYED') THEN 1 END) AS confirmed,
                 COUNT(CASE WHEN k.state = 'WITHDRAWN' OR (k.state = 'PENDING' AND d.state = 'REVOKED')
                     THEN 1 END) AS void,
                 COUNT(CASE WHEN k.state = 'PENDING' AND EXISTS (SELECT 1 FROM deliveries x
                     WHERE x.device = r.device AND x.slot = r.slot AND x.version = r.version
                         AND x.state = 'MISMATCH') THEN 1 END) AS failed,
                 COUNT(CASE WHEN k.state <> 'PENDING' OR EXISTS (SELECT 1 FROM deliveries x
                     WHERE x.device = r.device AND x.slot = r.slot AND x.version = r.version
                         AND x.state NOT IN ('PREPARED', 'ABANDONED')) THEN 1 END) AS offered
             FROM rollout_keys r
                 JOIN device_keys k ON k.device = r.device AND k.slot = r.slot AND k.version = r.version
                 JOIN devices d ON d.serial_number = r.device
             WHERE r.rollout = $1 AND r.device > $2 AND r.device <= $3",
        )
        .bind(i64::from(rollout))
        .bind(&wave.after_device)
        .bind(match &*wave.last_device {
            // It takes devices in no order: all serial numbers are before this.
            "" => "~",
            last => last,
        })
        .fetch_one(self.connection().await?)
        .await?;
        Ok(Counts {
            offered: unsigned(&row, "offered")?,
            confirmed: unsigned(&row, "confirmed")?,
            failed: unsigned(&row, "failed")?,
            void: unsigned(&row, "void")?,
        })
    }

    /// What became of slots, behind a device and a slot: of all, or of those in which something is wrong.
    pub(crate) async fn rollout_keys(
        &mut self,
        rollout: u32,
        (device, slot): (&str, &str),
        limit: i64,
        troubled: bool,
    ) -> Result<Vec<v1::RolloutKey>, StoreError> {
        sqlx::query(
            "SELECT * FROM (SELECT r.device, r.slot, r.version, r.skipped, k.state,
                 CASE WHEN d.state = 'REVOKED' THEN 1 ELSE 0 END AS revoked,
                 (SELECT COUNT(*) FROM deliveries x WHERE x.device = r.device AND x.slot = r.slot
                     AND x.version = r.version AND x.state = 'MISMATCH') AS mismatches,
                 (SELECT COUNT(*) FROM deliveries x WHERE x.device = r.device AND x.slot = r.slot
                     AND x.version = r.version AND x.state NOT IN ('PREPARED', 'ABANDONED')) AS offers
             FROM rollout_keys r
                 LEFT JOIN device_keys k ON k.device = r.device AND k.slot = r.slot AND k.version = r.version
                 LEFT JOIN devices d ON d.serial_number = r.device
             WHERE r.rollout = $1 AND (r.device > $2 OR (r.device = $2 AND r.slot > $3))) AS found
             WHERE $4 = 0 OR skipped IS NOT NULL OR (state = 'PENDING' AND mismatches > 0)
             ORDER BY device, slot LIMIT $5",
        )
        .bind(i64::from(rollout))
        .bind(device)
        .bind(slot)
        .bind(i64::from(troubled))
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read_key)
        .collect()
    }

    /// How many devices have reported a wrong check value for a key of a rollout.
    pub(crate) async fn mismatched(&mut self, rollout: u32) -> Result<u32, StoreError> {
        // Such deliveries are few: the database begins with them.
        let devices: i64 = sqlx::query_scalar(
            "SELECT COUNT(DISTINCT x.device) FROM deliveries x CROSS JOIN rollout_keys r
             WHERE x.state = 'MISMATCH' AND r.rollout = $1 AND r.device = x.device AND r.slot = x.slot
                 AND r.version = x.version",
        )
        .bind(i64::from(rollout))
        .fetch_one(self.connection().await?)
        .await?;
        u32::try_from(devices).map_err(|_| StoreError::Damaged(WHAT))
    }

    /// These devices, in the order of serial numbers.
    pub(crate) async fn seen(&mut self, devices: &[DeviceSerial]) -> Result<Vec<Seen>, StoreError> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "{SEEN} WHERE d.serial_number IN {} ORDER BY d.serial_number",
            tuples(1, devices.len())
        );
        self.about(sql, devices)
            .await?
            .iter()
            .map(read_seen)
            .collect()
    }

    /// The last version that each slot of these devices has had.
    pub(crate) async fn last_versions(
        &mut self,
        devices: &[DeviceSerial],
    ) -> Result<HashMap<(DeviceSerial, Slot), u32>, StoreError> {
        if devices.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT device, slot, MAX(version) AS version FROM device_keys WHERE device IN {} GROUP BY device, slot",
            tuples(1, devices.len())
        );
        let damaged = || StoreError::Damaged("device key");
        self.about(sql, devices)
            .await?
            .iter()
            .map(|row| {
                let (device, slot): (String, String) =
                    (row.try_get("device")?, row.try_get("slot")?);
                let version: i64 = row.try_get("version")?;
                let key = (
                    DeviceSerial::parse(&device).map_err(|_| damaged())?,
                    Slot::parse(&slot).map_err(|_| damaged())?,
                );
                Ok((key, u32::try_from(version).map_err(|_| damaged())?))
            })
            .collect()
    }

    /// Rows that a statement finds of devices, which are its only parameters.
    pub(super) async fn about(
        &mut self,
        sql: String,
        devices: &[DeviceSerial],
    ) -> Result<Vec<Row>, StoreError> {
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for device in devices {
            statement = statement.bind(device.to_string());
        }
        Ok(statement.fetch_all(self.connection().await?).await?)
    }
}

/// Which devices are reached, as a condition on `devices d` and its parameters.
fn reached(reach: &Reach) -> (String, Vec<String>) {
    match reach {
        Reach::Model(name) => (
            "d.model = $1 AND (d.group_name IS NULL OR d.group_name NOT IN
                 (SELECT name FROM key_profile_targets WHERE kind = 'GROUP'))"
                .to_owned(),
            vec![name.to_string()],
        ),
        Reach::Group(name) => ("d.group_name = $1".to_owned(), vec![name.to_string()]),
        Reach::Devices(devices) => (
            format!("d.serial_number IN {}", tuples(1, devices.len())),
            devices.iter().map(ToString::to_string).collect(),
        ),
        Reach::Any => ("1 = 0".to_owned(), Vec::new()),
    }
}

/// Parameters for so many rows of so many columns: `($1,$2),($3,$4)`.
pub(super) fn tuples(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let parameters = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", parameters.collect::<Vec<_>>().join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

impl FewRows for Rollout {
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError> {
        let number = || row.try_get::<i64, _>("number").unwrap_or_default();
        read(row).map_err(|_| StoreError::NotSealed(format!("rollout {}", number())))
    }

    async fn reseal(tx: &mut Tx, old: &Sealed<Self>, new: &Sealed<Self>) -> Result<(), StoreError> {
        tx.replace_rollout(old, new).await.map(drop)
    }
}

fn read(row: &Row) -> Result<Sealed<Rollout>, StoreError> {
    let damaged = || StoreError::Damaged(WHAT);
    let text = |column: &str| row.try_get::<String, _>(column);
    let number = |column: &str| {
        let number: i64 = row.try_get(column)?;
        u32::try_from(number).map_err(|_| damaged())
    };
    let stop_after: Option<i64> = row.try_get("stop_after")?;
    let stop_after = stop_after.map(u32::try_from).transpose();
    let reach = Reach::of_parts(&text("target_kind")?, &text("target")?, &text("devices")?);
    let slots = text("slots")?;
    let slots = slots.lines().map(Slot::parse);
    let rollout = Rollout {
        number: number("number")?,
        kind: RolloutKind::parse(&text("kind")?).ok_or_else(damaged)?,
        reach: reach.ok_or_else(damaged)?,
        slots: slots.collect::<Result<_, _>>().map_err(|_| damaged())?,
        waves: Waves {
            devices: number("wave_devices")?,
            proceed_at: number("proceed_at")?,
            stop_after: stop_after.map_err(|_| damaged())?,
            forgiven: number("forgiven")?,
        },
        state: RolloutState::parse(&text("state")?).ok_or_else(damaged)?,
        state_why: text("state_why")?,
        started_by: text("started_by")?,
        why: text("why")?,
        created_at: text("created_at")?,
        changed_at: text("changed_at")?,
    };
    Ok(Sealed::new(rollout, read_seal(row)?))
}

fn read_wave(row: &Row) -> Result<Wave, StoreError> {
    let number: i64 = row.try_get("wave")?;
    Ok(Wave {
        number: u32::try_from(number).map_err(|_| StoreError::Damaged(WHAT))?,
        after_device: row.try_get("after_device")?,
        last_device: row.try_get("last_device")?,
        devices: unsigned(row, "devices")?,
        made: unsigned(row, "made")?,
        skipped: unsigned(row, "skipped")?,
    })
}

fn read_seen(row: &Row) -> Result<Seen, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let (serial, state): (String, String) = (row.try_get("serial_number")?, row.try_get("state")?);
    let group: Option<String> = row.try_get("group_name")?;
    let group = group.map(|name| GroupName::parse(&name).map_err(|_| damaged()));
    Ok(Seen {
        serial: DeviceSerial::parse(&serial).map_err(|_| damaged())?,
        model: row.try_get("model")?,
        group: group.transpose()?,
        state: DeviceState::parse(&state).ok_or_else(damaged)?,
        certificate: row.try_get("certificate")?,
    })
}

fn read_key(row: &Row) -> Result<v1::RolloutKey, StoreError> {
    let (version, skipped): (Option<i64>, Option<String>) =
        (row.try_get("version")?, row.try_get("skipped")?);
    let (state, revoked): (Option<String>, i64) = (row.try_get("state")?, row.try_get("revoked")?);
    let state = match state.as_deref() {
        _ if skipped.is_some() => "SKIPPED",
        Some("ACTIVE" | "DESTROYED") => "CONFIRMED",
        Some("PENDING") if revoked > 0 => "VOID",
        Some("PENDING") if unsigned(row, "mismatches")? > 0 => "FAILED",
        Some("PENDING") if unsigned(row, "offers")? > 0 => "OFFERED",
        Some("PENDING") => "MADE",
        _ => "VOID",
    };
    Ok(v1::RolloutKey {
        serial_number: row.try_get("device")?,
        slot: row.try_get("slot")?,
        version: u32::try_from(version.unwrap_or_default())
            .map_err(|_| StoreError::Damaged(WHAT))?,
        state: state.to_owned(),
        why: skipped.unwrap_or_default(),
    })
}

fn read_cohort(row: &Row) -> Result<Cohort, StoreError> {
    let damaged = || StoreError::Damaged("device");
    let (state, group): (String, Option<String>) =
        (row.try_get("state")?, row.try_get("group_name")?);
    let group = group.map(|name| GroupName::parse(&name).map_err(|_| damaged()));
    Ok(Cohort {
        model: row.try_get("model")?,
        group: group.transpose()?,
        state: DeviceState::parse(&state).ok_or_else(damaged)?,
        devices: 0,
    })
}

fn unsigned(row: &Row, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| StoreError::Damaged(WHAT))
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged(WHAT))
}
