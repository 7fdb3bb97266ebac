//! What became of each slot.

use kdh_proto::v1;
use sqlx::{AssertSqlSafe, Row as _};

use super::{WHAT, unsigned};
use crate::{
    names::{DeviceSerial, Slot},
    store::{Row, StoreError, Tx},
};

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

/// Of a page.
#[derive(Debug, Default)]
pub(crate) struct RolloutKeys {
    pub(crate) keys: Vec<v1::RolloutKey>,
    /// The device and the slot behind which there may be more.
    pub(crate) ask_behind: Option<(String, String)>,
}

/// Slots that are looked at for one page, however few of them are wanted: nobody keeps a connection for long.
pub(in crate::store) const LOOK: usize = 5000;

impl Tx {
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
            self.tuples(keys.len(), 5)
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

    /// What became of slots, behind a device and a slot: of all, or of those in which something is wrong. These are looked
    /// for among so many, and the caller asks on.
    pub(crate) async fn rollout_keys(
        &mut self,
        rollout: u32,
        (device, slot): (&str, &str),
        limit: usize,
        troubled: bool,
    ) -> Result<RolloutKeys, StoreError> {
        let looked_at = if troubled { LOOK } else { limit };
        let rows = sqlx::query(
            "SELECT r.device, r.slot, r.version, r.skipped, k.state,
                 CASE WHEN d.state = 'REVOKED' THEN 1 ELSE 0 END AS revoked,
                 (SELECT COUNT(*) FROM deliveries x WHERE x.device = r.device AND x.slot = r.slot
                     AND x.version = r.version AND x.state = 'MISMATCH') AS mismatches,
                 (SELECT COUNT(*) FROM deliveries x WHERE x.device = r.device AND x.slot = r.slot
                     AND x.version = r.version AND x.state NOT IN ('PREPARED', 'ABANDONED')) AS offers
             FROM (SELECT device, slot, version, skipped FROM rollout_keys
                   WHERE rollout = $1 AND device >= $2 AND (device > $2 OR slot > $3)
                   ORDER BY device, slot LIMIT $4) AS r
                 LEFT JOIN device_keys k ON k.device = r.device AND k.slot = r.slot AND k.version = r.version
                 LEFT JOIN devices d ON d.serial_number = r.device
             ORDER BY r.device, r.slot",
        )
        .bind(i64::from(rollout))
        .bind(device)
        .bind(slot)
        .bind(i64::try_from(looked_at).unwrap_or(i64::MAX))
        .fetch_all(self.connection().await?)
        .await?;
        let mut found = RolloutKeys::default();
        for row in &rows {
            let key = read_key(row)?;
            if rows.len() == looked_at {
                found.ask_behind = Some((key.serial_number.clone(), key.slot.clone()));
            }
            if !troubled || is_troubled(row)? {
                found.keys.push(key);
            }
            if found.keys.len() == limit {
                let last = found.keys.last();
                found.ask_behind = last.map(|key| (key.serial_number.clone(), key.slot.clone()));
                break;
            }
        }
        Ok(found)
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
}

/// Whether it was skipped, or the device has reported a wrong check value and got no other key since.
fn is_troubled(row: &Row) -> Result<bool, StoreError> {
    let (skipped, state): (Option<String>, Option<String>) =
        (row.try_get("skipped")?, row.try_get("state")?);
    let is_pending = state.as_deref() == Some("PENDING");
    Ok(skipped.is_some() || (is_pending && unsigned(row, "mismatches")? > 0))
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
