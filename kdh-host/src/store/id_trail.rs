//! What the audit trail says of derivation ids: of each key set, up to which one they are given out.
//!
//! It is learnt from the trail at the start, and kept in memory as one writer after the other gives ids out. What a
//! transaction was to give out is given out, whatever becomes of the transaction: a counter that somebody puts back, at
//! whatever moment, gives nothing out twice.

use std::{collections::HashMap, ops::RangeInclusive};

use super::{
    KeySet, Tx,
    memory::{Learns, Remembered},
};

/// What is known of all key sets.
pub(super) type IdTrail = Remembered<HashMap<KeySet, Last>>;

/// The last id of a key set that is given out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    /// For certain.
    certain: u32,
    /// A transaction was to give it out, and may have.
    tried: u32,
}

impl IdTrail {
    /// They are about to be given out, up to this one.
    fn expect(&self, of: KeySet, last: u32) {
        let mut known = self.known();
        let known = known.entry(of).or_default();
        known.tried = last.max(known.tried);
    }
}

impl Learns for HashMap<KeySet, Last> {
    type Change = (KeySet, u32);

    /// They are given out, on record.
    fn apply(&mut self, (key_set, last): (KeySet, u32)) {
        let known = self.entry(key_set).or_default();
        known.certain = last.max(known.certain);
        known.tried = last.max(known.tried);
    }
}

impl Tx {
    /// The last derivation id of a key set that is given out, whatever the database says: at least, and at most.
    pub(crate) fn ids_given_out(&self, of: &KeySet) -> RangeInclusive<u32> {
        let known = self.memory.ids.known();
        let known = known.get(of).copied().unwrap_or_default();
        known.certain..=known.tried
    }

    /// From now on they are given out, up to this one.
    pub(super) fn note_ids_given_out(&mut self, of: &KeySet, last: u32) {
        self.memory.ids.expect(of.clone(), last);
        self.changes.ids.push((of.clone(), last));
    }
}
