//! Deliveries, and the nonces that they were asked for with.

use sqlx::Row as _;
use time::OffsetDateTime;
use tr34::{Freshness, KrdNonce, SigningTime};

use super::{KeyPlace, Row, Standing, StoreError, Tried, Tx, batch::Answer, time_text};
use crate::{
    names::{DeviceSerial, Slot},
    state::DeliveryState,
};

/// Deliveries, with the names of their keys.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT d.*, k.key_name FROM deliveries d LEFT JOIN device_keys k
                 ON k.device = d.device AND k.slot = d.slot AND k.version = d.version ",
            $which
        )
    };
}

/// A delivery to be prepared.
#[derive(Debug)]
pub(crate) struct NewDelivery<'a> {
    pub(crate) id: &'a str,
    pub(crate) device: &'a DeviceSerial,
    pub(crate) slot: &'a Slot,
    pub(crate) version: u32,
    pub(crate) freshness: &'a Freshness,
    pub(crate) expires_at: OffsetDateTime,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) device: DeviceSerial,
    pub(crate) slot: String,
    pub(crate) version: u32,
    /// Of a registered key.
    pub(crate) key_name: Option<String>,
    pub(crate) state: DeliveryState,
    pub(crate) nonce: Vec<u8>,
    pub(crate) token_sha256: Option<Vec<u8>>,
    pub(crate) expired: bool,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

impl Delivery {
    /// Where it stands: that it has expired is written down only when somebody asks for it.
    pub(crate) fn state_now(&self) -> DeliveryState {
        match self.state {
            DeliveryState::Issued if self.expired => DeliveryState::Expired,
            state => state,
        }
    }
}

impl Tx {
    /// Claims a nonce for a device that asks for what it shall hold in a slot, or for a token without a key;
    /// `false` if it was used before.
    pub(crate) async fn claim_nonce(
        &mut self,
        device: &DeviceSerial,
        slot: Option<&Slot>,
        nonce: &KrdNonce,
    ) -> Result<Tried<bool>, StoreError> {
        let now = self.now.clone();
        self.put_off_standing(device, slot);
        self.later("INSERT INTO nonces VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(device.as_str())
            .bind(nonce.as_bytes())
            .bind(now);
        let [standing, claim] = self.answers().await?;
        Ok(Tried {
            standing: Standing::read(&standing)?,
            outcome: claim.changed == 1,
        })
    }

    /// Gives up a delivery for which no token was made, and its nonce; `false` if it stands
    /// otherwise by now.
    pub(crate) async fn abandon_delivery(
        &mut self,
        device: &DeviceSerial,
        id: &str,
        nonce: &[u8],
    ) -> Result<bool, StoreError> {
        let abandoned = sqlx::query(
            "UPDATE deliveries SET state = 'ABANDONED', changed_at = $2
             WHERE id = $1 AND state = 'PREPARED'",
        )
        .bind(id)
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        if abandoned.rows_affected() == 0 {
            return Ok(false);
        }
        self.give_back_nonce(device, nonce).await?;
        Ok(true)
    }

    /// A nonce for which no token was made may be used again.
    pub(super) async fn give_back_nonce(
        &mut self,
        device: &DeviceSerial,
        nonce: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM nonces WHERE device = $1 AND nonce = $2")
            .bind(device.as_str())
            .bind(nonce)
            .execute(self.connection().await?)
            .await?;
        Ok(())
    }

    /// Records the intent to deliver.
    pub(crate) fn prepare_delivery(
        &mut self,
        delivery: &NewDelivery<'_>,
    ) -> Result<(), StoreError> {
        let (now, expires_at) = (self.now.clone(), time_text(delivery.expires_at)?);
        let (nonce, signing_time) = match delivery.freshness {
            Freshness::Nonce(nonce) => (nonce.as_bytes(), None),
            Freshness::SigningTime(time) => (&[][..], Some(seconds(*time)?)),
        };
        self.later(
            "INSERT INTO deliveries (id, device, slot, version, state, nonce, signing_time,
             expires_at, created_at, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $9, $7, $8, $8)",
        )
        .bind(delivery.id)
        .bind(delivery.device.as_str())
        .bind(delivery.slot.as_str())
        .bind(i64::from(delivery.version))
        .bind(DeliveryState::Prepared.as_str())
        .bind(nonce)
        .bind(expires_at)
        .bind(now)
        .bind(signing_time);
        Ok(())
    }

    /// Claims a signing time for a device: this one, or the first that is later than the last one. It is
    /// used up, whatever becomes of the token.
    pub(crate) async fn claim_signing_time(
        &mut self,
        device: &DeviceSerial,
        now: SigningTime,
    ) -> Result<SigningTime, StoreError> {
        let claimed: i64 = sqlx::query_scalar(
            "UPDATE devices SET last_signing_time =
                 CASE WHEN last_signing_time >= $2 THEN last_signing_time + 1 ELSE $2 END
             WHERE serial_number = $1 RETURNING last_signing_time",
        )
        .bind(device.as_str())
        .bind(seconds(now)?)
        .fetch_one(self.connection().await?)
        .await?;
        u64::try_from(claimed)
            .ok()
            .and_then(|seconds| SigningTime::from_unix_seconds(seconds).ok())
            .ok_or(StoreError::Damaged("signing time"))
    }

    /// The token exists; older ones of the same slot count no more. Returns their ids, or that the delivery
    /// is not one that was prepared and is still to be issued.
    pub(crate) async fn issue_delivery(
        &mut self,
        delivery: &NewDelivery<'_>,
        token_sha256: &[u8; 32],
    ) -> Result<Tried<Result<Vec<String>, StoreError>>, StoreError> {
        let now = self.now.clone();
        self.put_off_standing(delivery.device, Some(delivery.slot));
        self.put_off_superseding(delivery.device, Some(delivery.slot));
        self.later(
            "UPDATE deliveries SET state = 'ISSUED', token_sha256 = $2, changed_at = $3
             WHERE id = $1 AND state = 'PREPARED'",
        )
        .bind(delivery.id)
        .bind(&token_sha256[..])
        .bind(now);
        let [standing, older, issued] = self.answers().await?;
        Ok(Tried {
            standing: Standing::read(&standing)?,
            outcome: match issued.changed {
                1 => ids(&older),
                _ => Err(StoreError::Damaged("delivery state")),
            },
        })
    }

    /// Open deliveries of a device count no more. Returns their ids.
    pub(crate) async fn supersede_deliveries(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Vec<String>, StoreError> {
        self.put_off_superseding(device, None);
        let [superseded] = self.answers().await?;
        ids(&superseded)
    }

    /// Nothing is known any more of a key that is on its way.
    pub(crate) async fn supersede_deliveries_of_key(
        &mut self,
        place: &KeyPlace,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE deliveries SET state = 'SUPERSEDED', changed_at = $4
             WHERE device = $1 AND slot = $2 AND version = $3 AND state = 'ISSUED'",
        )
        .bind(&place.device)
        .bind(&place.slot)
        .bind(place.version)
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// A device has bound anew: it holds none of the keys that it confirmed before. Returns how many count
    /// no more.
    pub(crate) async fn end_deliveries(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<u64, StoreError> {
        let ended = sqlx::query(
            "UPDATE deliveries SET state = 'ENDED', changed_at = $2
             WHERE device = $1 AND state = 'CONFIRMED'",
        )
        .bind(device.as_str())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(ended.rows_affected())
    }

    /// Of one slot or of all.
    fn put_off_superseding(&mut self, device: &DeviceSerial, slot: Option<&Slot>) {
        let now = self.now.clone();
        self.later(
            "UPDATE deliveries SET state = 'SUPERSEDED', changed_at = $3
             WHERE device = $1 AND ($2 = '' OR slot = $2) AND state = 'ISSUED' RETURNING id",
        )
        .bind(device.as_str())
        .bind(slot.map_or("", Slot::as_str))
        .bind(now);
    }

    /// Moves a delivery on.
    ///
    /// # Errors
    /// It is not in the state that it shall leave.
    pub(crate) async fn set_delivery_state(
        &mut self,
        id: &str,
        from: DeliveryState,
        to: DeliveryState,
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE deliveries SET state = $3, changed_at = $4 WHERE id = $1 AND state = $2",
            )
            .bind(id.to_owned())
            .bind(from.as_str())
            .bind(to.as_str())
            .bind(self.now.clone()),
            "delivery state",
        )
        .await
    }

    pub(crate) async fn delivery(&mut self, id: &str) -> Result<Option<Delivery>, StoreError> {
        let row = sqlx::query(select!("WHERE d.id = $1"))
            .bind(id)
            .fetch_optional(self.connection().await?)
            .await?;
        row.as_ref().map(|row| read(row, &self.now)).transpose()
    }

    /// Deliveries whose token was not made, or not yet.
    pub(crate) async fn unfinished_deliveries(&mut self) -> Result<Vec<Delivery>, StoreError> {
        sqlx::query(select!("WHERE d.state = 'PREPARED'"))
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| read(row, &self.now))
            .collect()
    }

    /// Deliveries, newest first, older than a given one if one is given.
    pub(crate) async fn deliveries(
        &mut self,
        device: Option<&DeviceSerial>,
        before: &str,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        sqlx::query(select!(
            "WHERE ($1 = '' OR d.device = $1) AND ($2 = '' OR
                 d.sequence < (SELECT sequence FROM deliveries WHERE id = $2))
             ORDER BY d.sequence DESC LIMIT $3"
        ))
        .bind(device.map_or("", DeviceSerial::as_str))
        .bind(before)
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| read(row, &self.now))
        .collect()
    }
}

fn ids(answer: &Answer) -> Result<Vec<String>, StoreError> {
    let ids = answer.rows.iter().map(|row| row.try_get("id"));
    Ok(ids.collect::<Result<_, _>>()?)
}

fn read(row: &Row, now: &str) -> Result<Delivery, StoreError> {
    let damaged = || StoreError::Damaged("delivery");
    let device: String = row.try_get("device")?;
    let version: i64 = row.try_get("version")?;
    let state: String = row.try_get("state")?;
    let expires_at: String = row.try_get("expires_at")?;
    Ok(Delivery {
        id: row.try_get("id")?,
        device: DeviceSerial::parse(&device).map_err(|_| damaged())?,
        slot: row.try_get("slot")?,
        version: u32::try_from(version).map_err(|_| damaged())?,
        key_name: row.try_get("key_name")?,
        state: DeliveryState::parse(&state).ok_or_else(damaged)?,
        nonce: row.try_get("nonce")?,
        token_sha256: row.try_get("token_sha256")?,
        expired: expires_at.as_str() < now,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}

/// As a signing time stands in the database.
fn seconds(time: SigningTime) -> Result<i64, StoreError> {
    i64::try_from(time.unix_seconds()).map_err(|_| StoreError::Damaged("signing time"))
}
