//! Rollouts as operators order them.
//!
//! ```text
//! mod      which devices, which slots, how many at a time
//! waves    how far a rollout has come
//! outcomes what became of each slot
//! reached  the devices that a rollout comes to
//! ```

mod outcomes;
mod reached;
mod waves;

use sqlx::Row as _;

#[cfg(test)]
pub(super) use self::outcomes::LOOK;
pub(crate) use self::{
    outcomes::{Outcome, RolloutKey, RolloutKeys},
    reached::{Cohort, Seen},
    waves::Wave,
};
use super::{
    Row, StoreError, Tx,
    few_rows::FewRows,
    keys::read_seal,
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::{
    names::{DeviceSerial, GroupName, Model, Slot},
    state::{RolloutKind, RolloutState},
};

const WHAT: &str = "rollout";

/// A row as it was read; its number alone if the host cannot have written it.
pub(crate) type RolloutRow = Result<Sealed<Rollout>, i64>;

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
        title(self.number)
    }
}

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
            .map(|row| read(row).map_err(|number| StoreError::NotSealed(title(number))))
            .transpose()
    }

    /// Those that run or are paused.
    pub(crate) async fn open_rollouts(&mut self) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE state IN ('RUNNING', 'PAUSED') ORDER BY number",
        )
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// All, newest first, older than a given one if one is given.
    pub(crate) async fn rollouts(
        &mut self,
        before: u32,
        limit: i64,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE ($1 = 0 OR number < $1) ORDER BY number DESC LIMIT $2",
        )
        .bind(i64::from(before))
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// The number of the next rollout.
    pub(crate) async fn next_rollout_number(&mut self) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(number) FROM rollouts")
            .fetch_one(self.connection().await?)
            .await?;
        u32::try_from(last.unwrap_or_default() + 1).map_err(|_| StoreError::Damaged(WHAT))
    }
}

/// What a row is called, for people.
pub(crate) fn title(number: impl std::fmt::Display) -> String {
    format!("{WHAT} {number}")
}

impl FewRows for Rollout {
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError> {
        read(row).map_err(|number| StoreError::NotSealed(title(number)))
    }

    async fn reseal(tx: &mut Tx, old: &Sealed<Self>, new: &Sealed<Self>) -> Result<(), StoreError> {
        tx.replace_rollout(old, new).await.map(drop)
    }
}

fn read(row: &Row) -> RolloutRow {
    parse(row).map_err(|_| row.try_get("number").unwrap_or_default())
}

fn parse(row: &Row) -> Result<Sealed<Rollout>, StoreError> {
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

fn unsigned(row: &Row, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| StoreError::Damaged(WHAT))
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged(WHAT))
}
