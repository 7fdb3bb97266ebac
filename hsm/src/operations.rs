//! Which PKCS#11 functions were called: for the record of a ceremony.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki::{context::Function, mechanism::MechanismType};

/// Counts the calls of PKCS#11 functions by name. Clones share the count. Names only: no argument is
/// ever kept.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<Mutex<BTreeMap<String, u64>>>);

impl Operations {
    /// What was called since the last time, and how often: `C_FindObjects`, or with its mechanism
    /// `C_Sign(CKM_ECDSA)`. A call that failed counts too.
    pub fn take(&self) -> BTreeMap<String, u64> {
        mem::take(&mut self.counts())
    }

    pub(crate) fn add(&self, function: Function, mechanism: Option<MechanismType>) {
        let name = match mechanism {
            Some(mechanism) => format!("C_{function:?}({mechanism})"),
            None => format!("C_{function:?}"),
        };
        *self.counts().entry(name).or_default() += 1;
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
