//! Pairs of storage keys of several tokens that are worked as one: made, compared, destroyed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use tr34::KeyKind;

use super::{
    StorageNumber,
    kept::Pair,
    of_kind,
    pair::{self, Proof},
};
use crate::{
    HsmError, SealRequest, Token, TokenGroup,
    token::{found_once, self_test_failed},
};

impl TokenGroup {
    /// The pairs of storage keys that every healthy token holds, the lowest number first. Each is seen to be the
    /// same in each by use, and from now on a token that was lost is not back before it holds it again. Asked
    /// for before anything else of storage.
    ///
    /// A pair of which a key is missing somewhere is left out, with a warning. One that is nowhere any more is
    /// forgotten.
    ///
    /// # Errors
    /// [`HsmError::KeyDiffers`]: a token holds another pair than the others. [`HsmError::WeakKey`].
    pub fn storage_numbers(&self) -> Result<Vec<StorageNumber>, HsmError> {
        let found = self.on_each("list the storage keys", Token::storage_pairs)?;
        let found: Vec<_> = found
            .into_iter()
            .flatten()
            .map(|(_, pairs)| pairs)
            .collect();
        let mut numbers: BTreeSet<_> = found.iter().flat_map(BTreeMap::keys).copied().collect();
        numbers.retain(|number| {
            let everywhere = found.iter().all(|pairs| pairs.get(number) == Some(&true));
            if !everywhere {
                tracing::warn!(%number, "a pair of storage keys is not in every token, or half of it");
            }
            everywhere
        });
        for number in &numbers {
            self.require_same_pair(*number)?;
        }
        for token in self.members() {
            for known in token.known_pairs() {
                if !found.iter().any(|pairs| pairs.contains_key(&known)) {
                    token.forget_pair(known);
                }
            }
        }
        Ok(numbers.into_iter().collect())
    }

    /// Takes back what [`Self::storage_numbers`] demanded, when a pair was destroyed by another host of the same
    /// HSM.
    pub fn require_storage_keys_no_more(&self, number: StorageNumber) {
        for token in self.members() {
            token.forget_pair(number);
        }
    }

    fn require_same_pair(&self, number: StorageNumber) -> Result<(), HsmError> {
        let members = self.members().iter();
        let known: Vec<_> = members.map(|token| token.known_pair(number)).collect();
        let proof = known.iter().flatten().next().cloned();
        let proof = proof.map_or_else(OnceLock::new, OnceLock::from);
        let differing = self.on_each("compare storage keys", |token| {
            let proof = found_once(&proof, || token.prove_pair(number).map(Arc::new))?;
            token.differing_key(proof)
        })?;
        let mut asked = Vec::new();
        for (token, answer) in self.members().iter().zip(differing) {
            if let Some((_, Some(label))) = answer {
                let token = token.title();
                return Err(HsmError::KeyDiffers { label, token });
            }
            asked.push(answer.map(|(generation, _)| generation));
        }
        if let Some(proof) = proof.get()
            && known.iter().any(Option::is_none)
        {
            self.remember(&asked, |known| known.storage(proof));
        }
        Ok(())
    }

    /// Destroys a pair in each token: what lies under it is lost for ever. Can be called again if it
    /// failed.
    ///
    /// # Errors
    /// [`HsmError::KeyNotFound`]: no token holds any of it. Otherwise the first token's that is not there, or refuses;
    /// it is destroyed in the others.
    pub fn destroy_storage_keys(&self, number: StorageNumber) -> Result<(), HsmError> {
        let mut nothing = None;
        let mut outcome = Ok(());
        let mut destroyed = false;
        for token in self.members() {
            match token.destroy_storage_keys(number) {
                Ok(()) => destroyed = true,
                Err(error @ HsmError::KeyNotFound { .. }) => nothing = Some(error),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome?;
        match nothing {
            Some(nothing) if !destroyed => Err(nothing),
            _ => Ok(()),
        }
    }

    /// Whether each healthy token can make and store keys of this kind, and seal them for such a request. What it
    /// can is found out once, with throw-away keys.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`], naming what is missing, of one of them.
    pub fn verify_storable(
        &self,
        kind: KeyKind,
        request: &SealRequest<'_>,
    ) -> Result<(), HsmError> {
        let key = of_kind(StorageNumber::FIRST.key_name()?, kind);
        self.on_each("store a key", |token| {
            token.require_storable(kind)?;
            token.verify_sealable(&key, request)
        })
        .map(drop)
    }
}

impl Token {
    /// Makes the pair of storage keys of this number in the token, from its own randomness. Where several tokens
    /// are worked as one, the HSM's own means bring it to the others: it is never extractable.
    ///
    /// # Errors
    /// [`HsmError::SelfTest`]: the module stores no keys. One of the names is taken; the module made a key that is
    /// weaker than its role, or a pair that does not do its work. Nothing is kept then.
    pub fn make_storage_keys(&self, number: StorageNumber) -> Result<(), HsmError> {
        if let Err(missing) = self.storing()?.kinds() {
            return Err(self_test_failed(&missing));
        }
        pair::make(&self.writer()?, number)
    }

    /// Destroys the pair, or what there is of it. What wraps goes first.
    fn destroy_storage_keys(&self, number: StorageNumber) -> Result<(), HsmError> {
        let key = self.destroy_key(&number.key_name()?);
        if let Err(error) = &key
            && !matches!(error, HsmError::KeyNotFound { .. })
        {
            return key;
        }
        match self.destroy_key(&number.mac_name()?) {
            Err(HsmError::KeyNotFound { .. }) => key,
            outcome => outcome,
        }
    }

    /// Refuses a kind of key that the module does not store.
    pub(crate) fn require_storable(&self, kind: KeyKind) -> Result<(), HsmError> {
        self.storing()?.require(kind)
    }

    fn storage_pairs(&self) -> Result<BTreeMap<StorageNumber, bool>, HsmError> {
        self.run("list the storage keys", |worker| {
            pair::numbers(&worker.session)
        })
    }

    fn prove_pair(&self, number: StorageNumber) -> Result<Proof, HsmError> {
        self.run("compare storage keys", move |worker| {
            let pair = Pair::of(worker, number)?;
            Proof::of(&worker.session, pair)
        })
    }

    /// The key that is not the one which made its part of the proof.
    fn differing_key(&self, proof: &Arc<Proof>) -> Result<Option<String>, HsmError> {
        let proof = Arc::clone(proof);
        self.run("compare storage keys", move |worker| {
            for (role, name) in proof.names() {
                let found = worker.key(role, &name)?;
                if !proof.is_by(&worker.session, role, found)? {
                    return Ok(Some(name.label().to_owned()));
                }
            }
            Ok(None)
        })
    }
}
