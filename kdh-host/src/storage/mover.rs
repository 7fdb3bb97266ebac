//! Brings rows under another pair of storage keys.

use std::{collections::BTreeSet, time::Duration};

use hsm::{HsmError, StorageError, StorageNumber};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::{
    Host, HostError, device_keys, refused_rows,
    store::{
        DeviceKey, FewRows, KeyPlace, Proven, Sealed, SealedRow, StoreError, for_each_kind_of_few,
        place_of,
    },
};

/// Rows in one job of the HSM and one transaction.
const BATCH: u32 = 64;

/// Moves all rows once.
pub(super) struct Mover<'h> {
    host: &'h Host,
    to: StorageNumber,
    moved: u64,
    /// Rows that are not as the HSM has sealed them.
    refused: BTreeSet<String>,
}

/// What became of it.
pub(super) struct Pass {
    pub(super) moved: u64,
    pub(super) refused: BTreeSet<String>,
}

impl<'h> Mover<'h> {
    pub(super) const fn new(host: &'h Host, to: StorageNumber) -> Self {
        Self {
            host,
            to,
            moved: 0,
            refused: BTreeSet::new(),
        }
    }

    /// Moves what can be moved.
    ///
    /// # Errors
    /// The HSM, or the database, could not. What was moved before stays moved.
    pub(super) async fn run(mut self) -> Result<Pass, HostError> {
        let mut cursor = KeyPlace::default();
        loop {
            let begun = Instant::now();
            let mut tx = self.host.store().ask(self.host.now()).await?;
            let rows = tx
                .device_keys_under_older(self.to.get(), &cursor, BATCH)
                .await?;
            drop(tx);
            // Where no host puts a row it may be found again and again.
            let last = rows.last().map(place_of).filter(|last| *last != cursor);
            let mut sound = Vec::with_capacity(rows.len());
            for row in rows {
                match row {
                    Ok(row) => sound.push(row),
                    Err(row) => self.refuse(&row.place).await?,
                }
            }
            let tried = self.move_batch(sound).await?;
            let Some(last) = last else { break };
            cursor = last;
            sleep_until(begun + self.time_for(tried)).await;
        }
        for_each_kind_of_few!(Kind => self.reseal_few::<Kind>().await?);
        Ok(Pass {
            moved: self.moved,
            refused: self.refused,
        })
    }

    /// Has the HSM verify every row as it is: the number of a pair in a row is anybody's word until then.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub(super) async fn verify(mut self) -> Result<BTreeSet<String>, HostError> {
        let mut after = KeyPlace::default();
        loop {
            let mut tx = self.host.store().ask(self.host.now()).await?;
            let rows = tx.key_rows(None, &after, BATCH).await?;
            drop(tx);
            let last = rows.last().map(place_of).filter(|last| *last != after);
            let (proven, refused) = refused_rows::sift(self.host, rows).await?;
            self.refused.extend(refused.iter().map(ToString::to_string));
            for row in proven {
                if !self.is_under_new(row.sealed()) {
                    self.refused.insert(row.title());
                }
            }
            let Some(last) = last else { break };
            after = last;
        }
        for_each_kind_of_few!(Kind => self.verify_few::<Kind>().await?);
        Ok(self.refused)
    }

    async fn verify_few<R: FewRows>(&mut self) -> Result<(), HostError> {
        let rows = self.few().await?;
        for row in self.proven::<R>(rows).await? {
            if !self.is_under_new(row.sealed()) {
                self.refused.insert(row.title());
            }
        }
        Ok(())
    }

    fn is_under_new<R: SealedRow>(&self, row: &Sealed<R>) -> bool {
        row.seal().map(|seal| seal.number) == Some(self.to)
    }

    /// How long rows may take that the HSM is given.
    fn time_for(&self, rows: u32) -> Duration {
        Duration::from_secs(1) * rows / self.host.config().rewrap_per_second.get()
    }

    /// Says how many rows the HSM was given, those that it was given again included.
    async fn move_batch(&mut self, rows: Vec<Sealed<DeviceKey>>) -> Result<u32, HostError> {
        let mut tried = u32::try_from(rows.len()).unwrap_or(BATCH);
        match self.host.keys().rewrap(&rows, self.to).await {
            Ok(new) => self.replace(rows.iter().zip(&new)).await?,
            Err(error) if is_of_a_row(&error) => {
                // Each by itself: there may be more.
                for row in &rows {
                    tried += 1;
                    self.move_one(row).await?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(tried)
    }

    async fn move_one(&mut self, row: &Sealed<DeviceKey>) -> Result<(), HostError> {
        match self
            .host
            .keys()
            .rewrap(std::slice::from_ref(row), self.to)
            .await
        {
            Ok(new) => self.replace([row].into_iter().zip(&new)).await,
            Err(error) if is_of_a_row(&error) => self.refuse(&row.unproven().place()).await,
            Err(error) => Err(error),
        }
    }

    async fn replace<'r>(
        &mut self,
        rows: impl Iterator<Item = (&'r Sealed<DeviceKey>, &'r Sealed<DeviceKey>)>,
    ) -> Result<(), HostError> {
        let mut moved = Vec::new();
        let mut equal = Vec::new();
        let mut tx = self.host.store().write(self.host.now()).await?;
        for (old, new) in rows {
            if tx.replace_device_key(old, new).await? {
                moved.push(new.unproven().title());
                continue;
            }
            // One that was changed meanwhile is under the new pair already. An alarm is raised once.
            let row = new.unproven();
            let is_equal = if self.host.refused_rows().has(&row.title()) {
                tx.equal_key(row).await?.is_some()
            } else {
                let equal = device_keys::require_no_equal(self.host, &mut tx, row).await;
                equal.is_err()
            };
            if is_equal {
                equal.push(row.place());
            }
        }
        tx.commit().await?;
        self.moved += u64::try_from(moved.len()).unwrap_or(u64::MAX);
        for row in moved {
            self.host.refused_rows().forget(&row);
        }
        for place in equal {
            self.refuse(&place).await?;
        }
        Ok(())
    }

    /// A row that nobody can vouch for stays where it is, and the old pair with it.
    async fn refuse(&mut self, place: &KeyPlace) -> Result<(), HostError> {
        self.refused.insert(place.to_string());
        refused_rows::report(self.host, place).await
    }

    /// The same, of a row of another table.
    async fn refuse_row(&mut self, title: String) -> Result<(), HostError> {
        refused_rows::report_row(self.host, &title, None, json!({"row": title})).await?;
        self.refused.insert(title);
        Ok(())
    }

    /// Puts another seal on rows of which there are few.
    async fn reseal_few<R: FewRows>(&mut self) -> Result<(), HostError> {
        let mut rows = self.few::<R>().await?;
        rows.retain(|row| row.seal().is_none_or(|seal| seal.number < self.to));
        let resealed = self.resealed(rows).await?;
        if resealed.is_empty() {
            return Ok(());
        }
        let mut tx = self.host.store().write(self.host.now()).await?;
        for (old, new) in &resealed {
            R::reseal(&mut tx, old.sealed(), new).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Those that the host can have written. The others are refused.
    async fn few<R: FewRows>(&mut self) -> Result<Vec<Sealed<R>>, HostError> {
        let mut tx = self.host.store().read(self.host.now()).await?;
        let rows = tx.few_rows::<R>().await?;
        drop(tx);
        let mut sound = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok(row) => sound.push(row),
                Err(StoreError::NotSealed(title)) => self.refuse_row(title).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sound)
    }

    /// Those that are as the HSM has sealed them, and as it seals them now. The others stay where they are.
    async fn resealed<R: SealedRow + Clone>(
        &mut self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<(Proven<R>, Sealed<R>)>, HostError> {
        let proven = self.proven(rows).await?;
        let same = proven.iter().map(|row| R::clone(row)).collect();
        let sealed = self.host.keys().seal(same).await?;
        Ok(proven.into_iter().zip(sealed).collect())
    }

    async fn proven<R: SealedRow>(
        &mut self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<Proven<R>>, HostError> {
        let mut proven = Vec::with_capacity(rows.len());
        for outcome in self.host.keys().prove_each(rows).await? {
            match outcome {
                Ok(row) => proven.push(row),
                Err(row) => self.refuse_row(row.unproven().title()).await?,
            }
        }
        Ok(proven)
    }
}

/// Whether a row is what is wrong, and not the HSM.
const fn is_of_a_row(error: &HostError) -> bool {
    matches!(
        error,
        HostError::Hsm(HsmError::Storage(StorageError::At { .. }))
            | HostError::Store(StoreError::NotSealed(_))
    )
}
