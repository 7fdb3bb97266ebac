//! What the audit trail says, as far as the host keeps it in memory: it is learnt at the start, when the trail is followed
//! whole, and follows what the host commits. What somebody else changes in the database changes nothing here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    StoreError,
    act_trail::{self, ActTrail},
    approval_trail::{self, ApprovalTrail},
    bdks::KeySet,
    commits::{Commits, Head, Records},
    device_trail::{self, DeviceTrails},
    export_trail::ExportTrail,
    holders::{self, KeyHolders},
    id_trail::IdTrail,
    milestones::Milestones,
    profile_trail::{self, NewestProfiles},
};

/// Something that the trail says, for one at a time to look at or to change.
#[derive(Debug, Default)]
pub(super) struct Remembered<K>(Mutex<K>);

impl<K> Remembered<K> {
    pub(super) fn known(&self) -> MutexGuard<'_, K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of something takes up what a transaction adds.
pub(super) trait Learns {
    type Change;

    fn apply(&mut self, change: Self::Change);
}

impl<K: Learns> Remembered<K> {
    /// They are committed.
    pub(super) fn settle(&self, changes: impl IntoIterator<Item = K::Change>) {
        let mut known = self.known();
        for change in changes {
            known.apply(change);
        }
    }
}

/// All of that.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) acts: ActTrail,
    pub(super) approvals: ApprovalTrail,
    pub(super) devices: DeviceTrails,
    pub(super) exports: ExportTrail,
    pub(super) holders: KeyHolders,
    pub(super) ids: IdTrail,
    pub(super) milestones: Milestones,
    pub(super) profiles: NewestProfiles,
    /// Locked before the others.
    pub(super) commits: Commits,
}

/// What a transaction adds.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) records: Option<Records>,
    pub(super) acts: Vec<act_trail::Change>,
    pub(super) approvals: Vec<approval_trail::Change>,
    pub(super) devices: Vec<device_trail::Change>,
    /// Targets, and the positions of records that are made.
    pub(super) exports: Vec<(String, u64)>,
    pub(super) holders: Vec<holders::Change>,
    /// Key sets, and the last derivation ids that are given out.
    pub(super) ids: Vec<(KeySet, u32)>,
    pub(super) milestones: Vec<Head>,
    pub(super) profiles: Vec<profile_trail::Change>,
}

impl Changes {
    /// Whether they are nothing but records.
    pub(super) fn is_of_records_alone(&self) -> bool {
        self.acts.is_empty()
            && self.approvals.is_empty()
            && self.devices.is_empty()
            && self.exports.is_empty()
            && self.holders.is_empty()
            && self.ids.is_empty()
            && self.profiles.is_empty()
    }
}

impl Memory {
    /// These changes are about to be committed: from now on, the database may have them or not.
    pub(super) fn expect(&self, changes: Changes) {
        // There are none without a record.
        if let Some(records) = changes.records {
            self.commits.known().expect(records, changes);
        }
    }

    /// All that may be so: given what is so for certain, and what a transaction makes of it. The newest comes last.
    pub(super) fn possible<S>(
        &self,
        certain: impl FnOnce() -> S,
        then: impl Fn(&S, &Changes) -> S,
    ) -> Vec<S> {
        let commits = self.commits.known();
        commits.possible(certain(), then)
    }

    /// Everything up to this record is committed.
    pub(super) fn settle(&self, last: Head) {
        let mut commits = self.commits.known();
        let there = commits.settle(last);
        self.take(there);
    }

    /// A writer has read that the trail ends there: nothing of others is uncommitted, if `alone`.
    ///
    /// # Errors
    /// The host has not left it so.
    pub(super) fn find(&self, last: Head, alone: bool) -> Result<(), StoreError> {
        let mut commits = self.commits.known();
        let there = commits.find(last, alone)?;
        self.take(there);
        Ok(())
    }

    /// In their order, with the commits locked.
    fn take(&self, there: Vec<Changes>) {
        for changes in there {
            self.acts.settle(changes.acts);
            self.approvals.settle(changes.approvals);
            self.devices.settle(changes.devices);
            self.exports.settle(changes.exports);
            self.holders.settle(changes.holders);
            self.ids.settle(changes.ids);
            self.milestones.settle(changes.milestones);
            self.profiles.settle(changes.profiles);
        }
    }
}
