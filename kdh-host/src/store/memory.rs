//! What the audit trail says, as far as the host keeps it in memory: it is learnt at the start, when the trail is followed
//! whole, and follows what the host commits. What somebody else changes in the database changes nothing here.

use std::{collections::HashMap, sync::Mutex};

use super::{
    approval_trail::{self, ApprovalTrail},
    bdks::KeySet,
    device_trail::{self, DeviceTrails},
    export_trail::ExportTrail,
};

/// Of which it is.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) approvals: ApprovalTrail,
    pub(super) devices: DeviceTrails,
    pub(super) exports: ExportTrail,
    /// The last derivation ids that were given out.
    pub(super) ids: Mutex<HashMap<KeySet, u32>>,
}

/// What a transaction adds.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) approvals: Vec<approval_trail::Change>,
    pub(super) devices: Vec<device_trail::Change>,
    /// Targets, and the positions of records that are made.
    pub(super) exports: Vec<(String, u64)>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.approvals.is_empty() && self.devices.is_empty() && self.exports.is_empty()
    }
}

impl Memory {
    /// These changes are about to be committed: from now on, the database may have them or not.
    pub(super) fn expect(&self, changes: &Changes) {
        self.approvals.expect(&changes.approvals);
        self.devices.expect(&changes.devices);
        self.exports.expect(&changes.exports);
    }

    /// They are committed.
    pub(super) fn settle(&self, changes: Changes) {
        self.approvals.settle(changes.approvals);
        self.devices.settle(&changes.devices);
        self.exports.settle(changes.exports);
    }
}
