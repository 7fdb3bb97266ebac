//! What a host asks of stored keys, many at a time. Each call is one job of one token.

use std::sync::Arc;

use super::{
    Authenticated, Mac, MadeKey, NewKey, Rewrapped, StorageError, StorageNumber, StoredKn,
    kept::{self, Pair},
};
use crate::{HsmError, Kcv, KeyRole, Token, TokenGroup, worker::Worker};

impl TokenGroup {
    /// Makes keys in the HSM, and gives each as it is stored: its check value, the key under `ksk.N`, and the MAC by
    /// `ksm.N` over what `bind` makes of its index, its check value and the wrapped key. The HSM keeps nothing of
    /// them.
    ///
    /// # Errors
    /// [`StorageError::KcvLen`]. [`HsmError::Unsupported`]: the module does not store keys of one of the kinds.
    /// [`HsmError::KeyNotFound`]: there is no such pair.
    pub async fn make_keys(
        &self,
        number: StorageNumber,
        keys: Vec<NewKey>,
        bind: impl Fn(usize, &Kcv, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Vec<MadeKey>, HsmError> {
        for new in &keys {
            if !Kcv::LENS.contains(&new.kcv_len) {
                return Err(StorageError::KcvLen(new.kcv_len).into());
            }
        }
        let kinds: Vec<_> = keys.iter().map(|new| new.kind).collect();
        let job = Arc::new((keys, bind));
        let work = move |worker: &mut Worker| {
            let (keys, bind) = &*job;
            let pair = Pair::of(worker, number)?;
            let session = &worker.session;
            let stored = each(keys, |_, new| kept::make(session, pair.key, *new))?;
            each(stored, |index, (kcv, wrapped)| {
                let mac = kept::sign(session, pair.mac, &bind(index, &kcv, &wrapped))?;
                Ok(MadeKey { kcv, wrapped, mac })
            })
        };
        let storable = |token: &Token| {
            let mut kinds = kinds.iter();
            kinds.try_for_each(|kind| token.require_storable(*kind))
        };
        self.answer_by_one("make keys", storable, work).await
    }

    /// The MACs by `ksm.N` of these bytes.
    ///
    /// # Errors
    /// [`HsmError::KeyNotFound`]: there is no such pair.
    pub async fn authenticate(
        &self,
        number: StorageNumber,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Mac>, HsmError> {
        let records = Arc::new(records);
        let work = move |worker: &mut Worker| {
            let key = worker.key(KeyRole::StorageMac, &number.mac_name()?)?;
            each(&*records, |_, bytes| {
                kept::sign(&worker.session, key, bytes)
            })
        };
        self.answer_by_one("make MACs", |_| Ok(()), work).await
    }

    /// Whether records are what they were when their MACs were made.
    ///
    /// # Errors
    /// [`StorageError::At`]: the first that is not. [`HsmError::KeyNotFound`]: there is no such pair.
    pub async fn verify_macs(&self, records: Vec<Authenticated>) -> Result<(), HsmError> {
        let records = Arc::new(records);
        let work =
            move |worker: &mut Worker| each(&*records, |_, record| record.verify(worker)).map(drop);
        self.answer_by_one("verify MACs", |_| Ok(()), work).await
    }

    /// Brings records under another pair: each MAC is verified; its key, if it has one, is unwrapped and wrapped under
    /// `ksk.N`; and `ksm.N` makes a MAC over what `bind` makes of its index and the wrapped key.
    ///
    /// # Errors
    /// [`StorageError::At`]: the first record that is not what it was, or whose key is not.
    /// [`HsmError::KeyNotFound`]: there is no such pair. Nothing was changed: what is stored is the caller's.
    pub async fn rewrap(
        &self,
        to: StorageNumber,
        records: Vec<(Authenticated, Option<StoredKn>)>,
        bind: impl Fn(usize, Option<&[u8]>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Vec<Rewrapped>, HsmError> {
        let job = Arc::new((records, bind));
        let work = move |worker: &mut Worker| {
            let (records, bind) = &*job;
            let to = Pair::of(worker, to)?;
            let verified = each(records, |_, (record, kn)| {
                record.verify(worker)?;
                let Some(kn) = kn else { return Ok(None) };
                kn.require_beside(record)?;
                Ok(Some((kn, Pair::of(worker, kn.number)?)))
            })?;
            let session = &worker.session;
            let opened = each(verified, |_, verified| {
                let Some((kn, from)) = verified else {
                    return Ok(None);
                };
                let opened = kept::unwrap(session, from, kn.kind, &kn.wrapped, false)?;
                Ok(Some((opened, kn.kind)))
            })?;
            let wrapped = each(opened, |_, opened| {
                let Some((kn, kind)) = opened else {
                    return Ok(None);
                };
                kept::wrap(session, to.key, kn.handle(), kind).map(Some)
            })?;
            each(wrapped, |index, wrapped| {
                let mac = kept::sign(session, to.mac, &bind(index, wrapped.as_deref()))?;
                Ok(Rewrapped { wrapped, mac })
            })
        };
        self.answer_by_one("rewrap keys", |_| Ok(()), work).await
    }

    /// By a healthy one that is `able`, each in its turn. As [`Self::seal_and_sign`], of the caller's time.
    pub(crate) async fn answer_by_one<T: Send + 'static>(
        &self,
        operation: &'static str,
        able: impl Fn(&Token) -> Result<(), HsmError>,
        work: impl Fn(&mut Worker) -> Result<T, HsmError> + Clone + Send + 'static,
    ) -> Result<T, HsmError> {
        let mut failed = None;
        for token in self.candidates() {
            let outcome = match able(token) {
                Ok(()) => token.answer(operation, work.clone()).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.may_succeed_elsewhere() => failed = Some(error),
                outcome => return outcome,
            }
        }
        Err(failed.unwrap_or(HsmError::Busy))
    }
}

/// Does one thing for each, and says of which it went wrong. Who has several things to do does one after the other
/// for all: some modules take long to turn from one key of the token to another.
pub(crate) fn each<I: IntoIterator, T>(
    items: I,
    mut act: impl FnMut(usize, I::Item) -> Result<T, HsmError>,
) -> Result<Vec<T>, HsmError> {
    let items = items.into_iter().enumerate();
    let outcomes = items.map(|(index, item)| {
        act(index, item).map_err(|error| match error {
            HsmError::Storage(error) => HsmError::Storage(StorageError::At {
                index,
                error: Box::new(error),
            }),
            other => other,
        })
    });
    outcomes.collect()
}
