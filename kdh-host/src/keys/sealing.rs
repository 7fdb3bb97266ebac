//! Rows that the HSM seals, verifies, and brings under another pair of storage keys.

use std::sync::Arc;

use hsm::{Authenticated, HsmError, KnSource, StorageError, StorageNumber};

use super::{AT_ONCE, HostKeys};
use crate::{
    error::HostError,
    store::{DeviceKey, Proven, Seal, Sealed, SealedRow, StoreError, Verified},
};

impl HostKeys {
    /// Has the HSM seal rows. They hold no key that lies under another pair than the present one: see [`Self::reseal`].
    pub(crate) async fn seal<R: SealedRow>(
        &self,
        rows: Vec<R>,
    ) -> Result<Vec<Sealed<R>>, HostError> {
        self.seal_under(self.storage()?, rows).await
    }

    async fn seal_under<R: SealedRow>(
        &self,
        number: StorageNumber,
        rows: Vec<R>,
    ) -> Result<Vec<Sealed<R>>, HostError> {
        let mut sealed = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter();
        loop {
            let batch: Vec<R> = rows.by_ref().take(AT_ONCE).collect();
            if batch.is_empty() {
                return Ok(sealed);
            }
            let bytes = batch.iter().map(SealedRow::to_be_sealed).collect();
            let macs = self
                .in_time(self.kdh_tokens.authenticate(number, bytes))
                .await?;
            let batch = batch.into_iter().zip(macs);
            sealed.extend(batch.map(|(row, mac)| Sealed::new(row, Some(Seal { number, mac }))));
        }
    }

    /// The same, of one.
    pub(crate) async fn seal_one<R: SealedRow>(&self, row: R) -> Result<Sealed<R>, HostError> {
        let mut sealed = self.seal(vec![row]).await?;
        sealed.pop().ok_or_else(no_row)
    }

    /// Has the HSM seal rows that take the place of others. A key that lies under an older pair comes under the present
    /// one with its row.
    pub(crate) async fn reseal(
        &self,
        old: &[Proven<DeviceKey>],
        new: Vec<DeviceKey>,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let present = self.storage()?;
        let old: Vec<_> = old.iter().map(|row| row.sealed().clone()).collect();
        let is_present = |row: &Sealed<DeviceKey>| {
            let seal = row.seal();
            seal.is_some_and(|seal| seal.number == present)
        };
        if old.iter().all(is_present) {
            return self.seal_under(present, new).await;
        }
        let mut sealed = Vec::with_capacity(new.len());
        for (old, new) in old.chunks(AT_ONCE).zip(new.chunks(AT_ONCE)) {
            sealed.extend(self.rewrap_as(old, new, present).await?);
        }
        Ok(sealed)
    }

    /// Has the HSM bring rows under another pair.
    ///
    /// # Errors
    /// [`StorageError::At`]: the first that is not as it was sealed.
    pub(crate) async fn rewrap(
        &self,
        rows: &[Sealed<DeviceKey>],
        to: StorageNumber,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let same: Vec<_> = rows.iter().map(|row| row.unproven().clone()).collect();
        self.rewrap_as(rows, &same, to).await
    }

    /// The same, and makes each row what stands in `new` at its place, but for the key.
    async fn rewrap_as(
        &self,
        rows: &[Sealed<DeviceKey>],
        new: &[DeviceKey],
        to: StorageNumber,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let mut records = Vec::with_capacity(rows.len());
        for (index, (row, new)) in rows.iter().zip(new).enumerate() {
            let record = self.record_of(row).map_err(|_| StorageError::At {
                index,
                error: Box::new(StorageError::NoRecord),
            });
            let record = record.map_err(HsmError::from)?;
            let stored = match self.source(row) {
                Ok(KnSource::Stored(stored)) if new.source.wrapped().is_some() => Some(stored),
                _ => None,
            };
            records.push((record, stored));
        }
        let new: Arc<[DeviceKey]> = new.into();
        let rewritten = Arc::clone(&new);
        let bind = move |index: usize, wrapped: Option<&[u8]>| {
            rewritten[index].with_wrapped(wrapped).to_be_sealed()
        };
        let rewrapped = self
            .in_time(self.kdh_tokens.rewrap(to, records, bind))
            .await?;
        let sealed = new.iter().zip(rewrapped).map(|(new, rewrapped)| {
            let seal = Seal {
                number: to,
                mac: rewrapped.mac,
            };
            Sealed::new(new.with_wrapped(rewrapped.wrapped.as_deref()), Some(seal))
        });
        Ok(sealed.collect())
    }

    /// Has the HSM verify rows.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: one is not as it was sealed.
    pub(crate) async fn prove<R: SealedRow>(
        &self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<Proven<R>>, HostError> {
        let not_sealed = |row: &Sealed<R>| StoreError::NotSealed(row.unproven().title());
        for batch in rows.chunks(AT_ONCE) {
            let macs = batch.iter().map(|row| self.record_of(row));
            let macs = macs.collect::<Result<_, _>>()?;
            let verified = self.in_time(self.kdh_tokens.verify_macs(macs)).await;
            verified.map_err(|error| {
                match unsealed(&error).and_then(|index| batch.get(index)) {
                    Some(row) => not_sealed(row).into(),
                    None => HostError::Hsm(error),
                }
            })?;
        }
        let proven = rows
            .into_iter()
            .map(|row| row.into_proven(Verified::by_hsm()));
        Ok(proven.collect())
    }

    /// The same, each for itself: one that is not as it was sealed is given back.
    pub(crate) async fn prove_each<R: SealedRow>(
        &self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<Result<Proven<R>, Sealed<R>>>, HostError> {
        let mut sound = vec![true; rows.len()];
        let mut from = 0;
        while from < rows.len() {
            let batch = &rows[from..rows.len().min(from + AT_ONCE)];
            let records = batch.iter().map_while(|row| self.record_of(row).ok());
            let records: Vec<_> = records.collect();
            let mut verified = records.len();
            if verified > 0 {
                let outcome = self.in_time(self.kdh_tokens.verify_macs(records)).await;
                if let Err(error) = outcome {
                    let first = unsealed(&error).filter(|index| *index < verified);
                    verified = first.ok_or(error)?;
                }
            }
            let all = verified == batch.len();
            from += verified;
            if !all {
                sound[from] = false;
                from += 1;
            }
        }
        let outcomes = rows.into_iter().zip(sound).map(|(row, sound)| {
            if sound {
                Ok(row.into_proven(Verified::by_hsm()))
            } else {
                Err(row)
            }
        });
        Ok(outcomes.collect())
    }

    /// The same, of one.
    pub(crate) async fn prove_one<R: SealedRow>(
        &self,
        row: Sealed<R>,
    ) -> Result<Proven<R>, HostError> {
        let mut proven = self.prove(vec![row]).await?;
        proven.pop().ok_or_else(no_row)
    }

    /// What the HSM has to verify of a row.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: it has no seal, or by no key that this HSM has.
    pub(crate) fn record_of<R: SealedRow>(
        &self,
        row: &Sealed<R>,
    ) -> Result<Authenticated, StoreError> {
        let record = row.authenticated();
        let record = record.filter(|record| self.holds_pair(record.number));
        record.ok_or_else(|| StoreError::NotSealed(row.unproven().title()))
    }
}

fn no_row() -> HostError {
    HostError::Internal("the HSM has answered about no row".to_owned())
}

/// Which of several rows is not as the HSM has sealed it, if that is what is wrong.
fn unsealed(error: &HsmError) -> Option<usize> {
    match error {
        HsmError::Storage(StorageError::At { index, .. }) => Some(*index),
        _ => None,
    }
}
