//! Keys that the HSM makes or derives for devices, and whether it can.

use std::sync::Arc;

use hsm::{HsmError, InitialKey, Kcv, NewKey, SecretKey};
use kdh_proto::Reason;
use pki::Signer as _;
use tr34::{Kbh, KeyBlockFrame, KeyKind, Profile};

use super::{AT_ONCE, HostKeys, ours};
use crate::{
    bdks::DerivedKey,
    device_keys::{Next, UniqueKey},
    error::{HostError, refused},
    kdh::Kdh,
    store::{DeviceKey, Seal, Sealed, SealedRow as _},
};

impl HostKeys {
    /// Has the HSM make a key for each of these, and seal its row.
    pub(crate) async fn make_unique(
        &self,
        next: Vec<Next>,
        key: &UniqueKey,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let number = self.storage()?;
        let mut sealed = Vec::with_capacity(next.len());
        for batch in next.chunks(AT_ONCE) {
            let batch: Arc<[Next]> = batch.into();
            let new = NewKey {
                kind: key.kind,
                kcv_len: key.kcv_len,
            };
            let keys = vec![new; batch.len()];
            let (rows, unique) = (Arc::clone(&batch), key.clone());
            let bind = move |index: usize, kcv: &Kcv, wrapped: &[u8]| {
                rows[index]
                    .unique(&unique, kcv.clone(), wrapped.to_vec())
                    .to_be_sealed()
            };
            let made = self
                .in_time(self.kdh_tokens.make_keys(number, keys, bind))
                .await?;
            let made = batch.iter().zip(made);
            sealed.extend(made.map(|(next, made)| {
                let seal = Seal {
                    number,
                    mac: made.mac,
                };
                Sealed::new(next.unique(key, made.kcv, made.wrapped), Some(seal))
            }));
        }
        Ok(sealed)
    }

    /// Has the HSM derive an initial key for each of these, with derivation ids from `first` on, and seal its row.
    pub(crate) async fn derive(
        &self,
        next: Vec<Next>,
        derived: &DerivedKey,
        first: u32,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let key_set = &derived.key_set;
        let keys = (first..=u32::MAX).zip(&next).map(|(derivation_id, _)| {
            let id = key_set.initial_key(derivation_id);
            self.bdks.initial_key(&key_set.bdk, derived.kind, id)
        });
        let keys: Vec<InitialKey> = keys.collect::<Result<_, _>>()?;
        let mut sealed = Vec::with_capacity(next.len());
        for (next, keys) in next.chunks(AT_ONCE).zip(keys.chunks(AT_ONCE)) {
            let kcvs = self
                .kdh_tokens
                .initial_key_check_values(keys.to_vec(), derived.kcv_len);
            let kcvs = self.in_time(kcvs).await?;
            let rows = next.iter().zip(keys).zip(kcvs);
            let rows = rows.map(|((next, key), kcv)| next.derived(derived, key, kcv));
            sealed.extend(self.seal(rows.collect::<Result<_, _>>()?).await?);
        }
        Ok(sealed)
    }

    /// Whether this HSM can make such keys, keep them, and seal them for any terminal. No key is used.
    pub(crate) fn verify_makeable(&self, key: &UniqueKey) -> Result<(), HostError> {
        self.for_each_form(key.kind, &key.header, |request| {
            self.kdh_tokens.verify_storable(key.kind, request)
        })
    }

    /// Whether this HSM can derive such initial keys, and seal them for any terminal. No key is used.
    pub(crate) fn verify_derivable(&self, derived: &DerivedKey) -> Result<(), HostError> {
        let any = derived.key_set.initial_key(1);
        let key = self
            .bdks
            .initial_key(&derived.key_set.bdk, derived.kind, any)?;
        let header = derived.header_of(&key).map_err(ours)?;
        self.for_each_form(derived.kind, &header, |request| {
            self.kdh_tokens.verify_derivable(&key, request)
        })
    }

    /// Whether this HSM can seal a key with this header for any terminal. No key is used.
    pub(crate) fn verify_sealable(&self, key: &SecretKey, header: &Kbh) -> Result<(), HostError> {
        self.for_each_form(key.kind(), header, |request| {
            self.kdh_tokens.verify_sealable(key, request)
        })
    }

    /// Whether what is `possible` for one form is so for each in which terminals get keys.
    fn for_each_form(
        &self,
        kind: KeyKind,
        header: &Kbh,
        possible: impl Fn(&hsm::SealRequest<'_>) -> Result<(), HsmError>,
    ) -> Result<(), HostError> {
        let profiles = self.profiles.iter();
        let mut each = profiles.flat_map(|profile| self.kdhs.all().map(move |kdh| (kdh, *profile)));
        each.try_for_each(|(kdh, profile)| {
            let verified = self.with_request((kdh, profile), kind, header, &possible);
            verified.map_err(|error| match error {
                HsmError::Unsupported { .. } => {
                    let cause = format!("for terminals of profile {profile}: {error}");
                    refused(Reason::HsmUnsupported, cause)
                }
                other => other.into(),
            })
        })
    }

    /// A request to seal a key of this kind with this header, for any terminal that is bound to a KDH and speaks a form.
    pub(super) fn with_request<T>(
        &self,
        (kdh, profile): (&Kdh, Profile),
        kind: KeyKind,
        header: &Kbh,
        act: impl FnOnce(&hsm::SealRequest<'_>) -> T,
    ) -> T {
        act(&hsm::SealRequest {
            frame: &KeyBlockFrame::new(profile, &kdh.id, header, kind.key_len()),
            // Stands for any RSA key.
            recipient: kdh.key.public_key(),
            cipher: self.cipher(kind),
            oaep: self.oaep,
        })
    }
}
