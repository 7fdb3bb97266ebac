//! Brings rows under another pair of storage keys.

use std::{collections::BTreeSet, slice, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hsm::{HsmError, StorageError, StorageNumber};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    Host, HostError, device_keys, refused_rows,
    store::{
        Approval, DeviceKey, FewRows, KeyPlace, Proven, Sealed, SealedRow, StoreError, StoredBdk,
        StoredKey, bdk_title, for_each_kind_of_few, place_of,
    },
};

/// Rows in one job of the HSM and one transaction.
const BATCH: u32 = 64;
/// Batches that the HSM has while one is written.
const JOBS: usize = 3;

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
        if !self.has_all_rows().await? {
            return Ok(self.pass());
        }
        let (host, to) = (self.host, self.to);
        let pages = stream::try_unfold(Some(KeyPlace::default()), |after| async {
            match after {
                Some(after) => page(host, to, after).await.map(Some),
                None => Ok(None),
            }
        });
        let mut batches = pages
            .map_ok(|page| async {
                let (rows, unreadable) = page;
                let new = host.keys().rewrap(&rows, to).await;
                Ok((rows, new, unreadable))
            })
            .try_buffered(JOBS)
            .boxed();
        while let Some((rows, new, unreadable)) = batches.try_next().await? {
            for place in unreadable {
                self.refuse(&place).await?;
            }
            match new {
                Ok(new) => self.replace(&rows, &new).await?,
                Err(error) if is_of_a_row(&error) => self.move_each(&rows).await?,
                Err(error) => return Err(error),
            }
        }
        drop(batches);
        for_each_kind_of_few!(Kind => self.reseal_few::<Kind>().await?);
        Ok(self.pass())
    }

    fn pass(self) -> Pass {
        Pass {
            moved: self.moved,
            refused: self.refused,
        }
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
        self.has_all_rows().await?;
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

    /// One by one: the HSM stops at the first that is not as it has sealed it, and there may be more.
    async fn move_each(&mut self, rows: &[Sealed<DeviceKey>]) -> Result<(), HostError> {
        for row in rows {
            let row = slice::from_ref(row);
            match self.host.keys().rewrap(row, self.to).await {
                Ok(new) => self.replace(row, &new).await?,
                Err(error) if is_of_a_row(&error) => {
                    self.refuse(&row[0].unproven().place()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        // The HSM was given them twice.
        sleep(time_for(self.host, rows.len())).await;
        Ok(())
    }

    async fn replace(
        &mut self,
        old: &[Sealed<DeviceKey>],
        new: &[Sealed<DeviceKey>],
    ) -> Result<(), HostError> {
        let mut tx = self.host.store().write(self.host.now()).await?;
        if tx.rewrap_device_keys(old, new).await? {
            tx.commit().await?;
            self.note_moved(new);
            return Ok(());
        }
        drop(tx);
        for (old, new) in old.iter().zip(new) {
            self.replace_one(old, new).await?;
        }
        Ok(())
    }

    /// The same, of one: another one was changed meanwhile, or is the same key as another row's.
    async fn replace_one(
        &mut self,
        old: &Sealed<DeviceKey>,
        new: &Sealed<DeviceKey>,
    ) -> Result<(), HostError> {
        let mut tx = self.host.store().write(self.host.now()).await?;
        if tx.replace_device_key(old, new).await? {
            tx.commit().await?;
            self.note_moved(slice::from_ref(new));
            return Ok(());
        }
        // One that was changed meanwhile is under the new pair already. An alarm is raised once.
        let row = new.unproven();
        let is_equal = if self.host.refused_rows().has(&row.title()) {
            tx.equal_key(row).await?.is_some()
        } else {
            let equal = device_keys::require_no_equal(self.host, &mut tx, row).await;
            equal.is_err()
        };
        tx.commit().await?;
        if is_equal {
            self.refuse(&row.place()).await?;
        }
        Ok(())
    }

    fn note_moved(&mut self, rows: &[Sealed<DeviceKey>]) {
        for row in rows {
            self.moved += 1;
            self.host.refused_rows().forget(&row.unproven().title());
        }
    }

    /// A row that nobody can vouch for stays where it is, and the old pair with it.
    async fn refuse(&mut self, place: &KeyPlace) -> Result<(), HostError> {
        self.refused.insert(place.to_string());
        refused_rows::report(self.host, place).await
    }

    /// The same, of a row of another table.
    async fn refuse_row(&mut self, title: String) -> Result<(), HostError> {
        refused_rows::report_row(self.host, &title).await?;
        self.refused.insert(title);
        Ok(())
    }

    /// Whether every row is there that there has to be: of each BDK and each registered key that the host knows, and of each
    /// approval that is in force. A backup has a row that is gone with its seal by the old pair: destroyed, nobody could
    /// read it any more. Each is refused; keys of terminals that come from such a key cannot be moved.
    async fn has_all_rows(&mut self) -> Result<bool, HostError> {
        // In a turn of its own: what a writer has the host know, who is not done yet, has no row.
        let mut tx = self.host.store().write(self.host.now()).await?;
        let keys = self.host.keys();
        let bdks = keys.bdks().names().into_iter();
        let mut gone: BTreeSet<_> = bdks.map(|name| bdk_title(name.as_str())).collect();
        gone.extend(keys.held_names().iter().map(StoredKey::title_of));
        let stored = tx.few_rows::<StoredBdk>().await?.into_iter().map(title);
        let stored = stored.chain(tx.few_rows::<StoredKey>().await?.into_iter().map(title));
        for title in stored {
            gone.remove(&title?);
        }
        let approvals = tx.lost_approvals().await?.into_iter();
        gone.extend(approvals.map(|id| Approval::title_of(&id)));
        drop(tx);
        let has_all = gone.is_empty();
        for row in gone {
            self.refuse_row(row).await?;
        }
        Ok(has_all)
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

/// Which row it is, whatever is in it.
fn title<R: SealedRow>(row: Result<Sealed<R>, StoreError>) -> Result<String, StoreError> {
    match row {
        Ok(row) => Ok(row.unproven().title()),
        Err(StoreError::NotSealed(title)) => Ok(title),
        Err(error) => Err(error),
    }
}

/// Rows that are as a host writes them, and the places of those that are not.
type Page = (Vec<Sealed<DeviceKey>>, Vec<KeyPlace>);

/// The next rows behind a place, and behind which one those come that follow, if any do. Takes as long as so many rows
/// may take.
async fn page(
    host: &Host,
    to: StorageNumber,
    after: KeyPlace,
) -> Result<(Page, Option<KeyPlace>), HostError> {
    let begun = Instant::now();
    let mut tx = host.store().ask(host.now()).await?;
    let rows = tx.device_keys_under_older(to.get(), &after, BATCH).await?;
    drop(tx);
    // Where no host puts a row it may be found again and again.
    let last = rows.last().map(place_of).filter(|last| *last != after);
    let (mut sound, mut unreadable) = Page::default();
    for row in rows {
        match row {
            Ok(row) => sound.push(row),
            Err(row) => unreadable.push(row.place),
        }
    }
    sleep_until(begun + time_for(host, sound.len())).await;
    Ok(((sound, unreadable), last))
}

/// How long rows may take that the HSM is given.
fn time_for(host: &Host, rows: usize) -> Duration {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    Duration::from_secs(1) * rows / host.config().rewrap_per_second.get()
}

/// Whether a row is what is wrong, and not the HSM.
const fn is_of_a_row(error: &HostError) -> bool {
    matches!(
        error,
        HostError::Hsm(HsmError::Storage(StorageError::At { .. }))
            | HostError::Store(StoreError::NotSealed(_))
    )
}
