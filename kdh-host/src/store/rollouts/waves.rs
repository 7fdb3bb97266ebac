//! Waves: how far a rollout has come.

use sqlx::Row as _;

use super::{WHAT, signed, unsigned};
use crate::{
    rollout::Counts,
    store::{Row, StoreError, Tx},
};

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

impl Tx {
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
