//! The pairs of storage keys that the HSM has, and which is in use.

use std::sync::{MutexGuard, PoisonError};

use hsm::{HsmError, StorageNumber};

use super::{HostKeys, no_token};
use crate::{
    error::HostError,
    store::{Sealed, SealedRow},
};

/// The storage keys.
#[derive(Debug)]
pub(super) struct Pairs {
    /// That the HSM has, the lowest number first.
    numbers: Vec<StorageNumber>,
    /// Under which what is new comes.
    present: Option<StorageNumber>,
}

impl Pairs {
    /// The lowest is in use: a higher one was prepared, or its rows are being moved, which the database says.
    pub(super) fn new(numbers: Vec<StorageNumber>) -> Self {
        Self {
            present: numbers.first().copied(),
            numbers,
        }
    }
}

impl HostKeys {
    /// Under which pair keys are stored, and rows sealed, from now on.
    pub(crate) fn storage(&self) -> Result<StorageNumber, HostError> {
        let present = self.pairs().present;
        present.ok_or_else(|| HostError::Internal("there are no storage keys".to_owned()))
    }

    /// The pairs of storage keys that the HSM has, the lowest number first.
    pub(crate) fn storage_numbers(&self) -> Vec<StorageNumber> {
        self.pairs().numbers.clone()
    }

    /// Whether it has this one.
    pub(super) fn holds_pair(&self, number: StorageNumber) -> bool {
        self.pairs().numbers.contains(&number)
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pair can be made, or is there.
    ///
    /// # Errors
    /// A token is not there; or the pair cannot be the same in every token: their own means have to bring it to
    /// each.
    pub(crate) fn require_makeable(&self, number: StorageNumber) -> Result<(), HostError> {
        let tokens = &self.kdh_tokens;
        let members = tokens.members();
        if let Some(absent) = members.iter().find(|token| !token.health().is_ready()) {
            let cause =
                format!("{absent:?} is not there: storage keys are changed in all tokens at once");
            return Err(HostError::Internal(cause));
        }
        if members.len() > 1 && !tokens.storage_numbers()?.contains(&number) {
            return Err(HostError::Internal(format!(
                "pair {number} is not whole in every token: make it by a ceremony, and copy it to each by the HSM's \
                 own means"
            )));
        }
        Ok(())
    }

    /// Has the HSM make a pair, if it is not there yet. The caller has seen that it can, and that nothing is under
    /// it.
    pub(crate) fn begin_storage(&self, number: StorageNumber) -> Result<(), HostError> {
        let tokens = &self.kdh_tokens;
        let mut numbers = tokens.storage_numbers()?;
        if !numbers.contains(&number) {
            let token = tokens.members().first().ok_or_else(no_token)?;
            // Of an earlier try there may be half; what is whole would have been found.
            self.destroy_pair(number)?;
            token.make_storage_keys(number)?;
            numbers = tokens.storage_numbers()?;
        }
        self.pairs().numbers = numbers;
        Ok(())
    }

    /// From now on, what is new comes under this pair, which the HSM has.
    pub(crate) fn use_storage(&self, number: StorageNumber) {
        let mut pairs = self.pairs();
        if pairs.numbers.contains(&number) {
            pairs.present = Some(number);
        }
    }

    /// Destroys a pair, or what is left of it: nothing is under it any more.
    pub(crate) fn destroy_storage(&self, number: StorageNumber) -> Result<(), HostError> {
        self.destroy_pair(number)?;
        self.pairs().numbers.retain(|held| *held != number);
        Ok(())
    }

    fn destroy_pair(&self, number: StorageNumber) -> Result<(), HostError> {
        match self.kdh_tokens.destroy_storage_keys(number) {
            Ok(()) | Err(HsmError::KeyNotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a row is sealed by the pair that is in use. Asked in the turn in which it is written: whatever is
    /// sealed by another pair may be too late.
    pub(crate) fn is_under_present<R: SealedRow>(&self, row: &Sealed<R>) -> bool {
        row.seal().map(|seal| seal.number) == self.pairs().present
    }
}
