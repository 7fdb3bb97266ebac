//! What the audit trail says of who has been given each registered key.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes. A device's
//! row that somebody hides or changes behind the host's back changes nothing here.

use std::collections::HashMap;

use kdh_proto::v1::AuditRecord;
use serde_json::Value;

use super::{
    KEY_ASSIGNED, Tx,
    memory::{Learns, Remembered},
};
use crate::names::{DeviceSerial, KeyAlias};

/// The action of a record that says which keys a rollout has made for which devices.
pub(crate) const KEYS_MADE: &str = "rollout.keys-made";

/// Who has been given a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Holders {
    #[default]
    None,
    One(String),
    Several,
}

impl Holders {
    fn with(&self, device: &str) -> Self {
        match self {
            Self::None => Self::One(device.to_owned()),
            Self::One(holder) if holder == device => self.clone(),
            Self::One(_) | Self::Several => Self::Several,
        }
    }

    fn has_another_than(&self, device: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(holder) => holder != device,
            Self::Several => true,
        }
    }
}

/// What a transaction adds.
#[derive(Debug)]
pub(super) struct Change {
    key: String,
    device: String,
}

/// What is known of all keys.
pub(super) type KeyHolders = Remembered<Known>;

/// By the names of keys.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, Holders>);

impl Known {
    /// Takes note of a record.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        for change in changes(record) {
            self.apply(change);
        }
    }
}

impl Learns for Known {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        let holders = self.0.entry(change.key).or_default();
        *holders = holders.with(&change.device);
    }
}

/// Which devices are given registered keys, as a record says.
pub(super) fn changes(record: &AuditRecord) -> Vec<Change> {
    let detail = || serde_json::from_str::<Value>(&record.detail).unwrap_or_default();
    let given = |key: &str, device: &str| Change {
        key: key.to_owned(),
        device: device.to_owned(),
    };
    match &*record.action {
        KEY_ASSIGNED => {
            let detail = detail();
            let key = detail["key"].as_str();
            key.map(|key| given(key, &record.device))
                .into_iter()
                .collect()
        }
        KEYS_MADE => {
            let detail = detail();
            let mut changes = Vec::new();
            for keys in detail["keys"].as_array().into_iter().flatten() {
                let Some(key) = keys["key"].as_str() else {
                    continue;
                };
                let made = keys["made"].as_array().into_iter().flatten();
                let devices = made.filter_map(|made| made.as_str()?.split(' ').next());
                changes.extend(devices.map(|device| given(key, device)));
            }
            changes
        }
        _ => Vec::new(),
    }
}

impl Tx {
    /// Whether another device than this one was given a registered key, or may have been, by the trail.
    pub(super) fn was_given_elsewhere(&self, name: &KeyAlias, device: &DeviceSerial) -> bool {
        let (name, device) = (name.as_str(), device.as_str());
        let keys = &self.memory.holders;
        let possible = self.memory.possible(
            || keys.known().0.get(name).cloned().unwrap_or_default(),
            |holders, changes| {
                let given = changes.holders.iter().filter(|change| change.key == name);
                given.fold(holders.clone(), |holders, change| {
                    holders.with(&change.device)
                })
            },
        );
        possible
            .iter()
            .any(|holders| holders.has_another_than(device))
    }
}
