//! A key profile whose every field is well formed. Whether its fields go together is the policy's question.

use hsm::KcvMethod;
use tr34::{Kbh, KeyKind};

use crate::names::{BdkName, KeyAlias, ProfileName, Slot};

/// What the slots of a device hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyProfile {
    pub(crate) name: ProfileName,
    /// In the order of their names, each once.
    pub(crate) slots: Vec<ProfileSlot>,
}

/// What one slot of a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileSlot {
    pub(crate) slot: Slot,
    /// With which devices receive the key.
    pub(crate) header: Kbh,
    pub(crate) kind: KeyKind,
    pub(crate) source: KeySource,
    pub(crate) kcv: KcvForm,
    /// How long a key may be delivered and used.
    pub(crate) validity_days: u32,
    /// How old a key is when it is renewed by itself; never, if this is not said.
    pub(crate) renewal_days: Option<u32>,
}

/// Where the keys of a slot come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Each is made in the HSM for one device.
    Unique,
    /// Each is an initial key of AES DUKPT.
    Derived(Derivation),
    /// All are one registered key.
    Shared(KeyAlias),
}

/// From what, and under which ids, initial keys are derived (ANSI X9.24-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Derivation {
    pub(crate) bdk: BdkName,
    /// The first half of the initial key id. The second half, the derivation id, is chosen for each key.
    pub(crate) key_set_id: [u8; 4],
    /// Whether the key serial number travels in an optional block of the header.
    pub(crate) ksn_in_header: bool,
}

/// In which form check values of a slot's keys are computed and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KcvForm {
    pub(crate) method: KcvMethod,
    /// Bytes.
    pub(crate) len: u32,
}

impl KeyProfile {
    /// What it says of a slot.
    pub(crate) fn slot(&self, slot: &Slot) -> Option<&ProfileSlot> {
        self.slots.iter().find(|found| found.slot == *slot)
    }
}

/// What is different between two versions of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// The fields, by their names in a profile's file.
    pub(crate) fields: Vec<&'static str>,
    /// Whether a key that was made by the one is no key by the other.
    pub(crate) need_a_new_key: bool,
}

impl ProfileSlot {
    /// What is different here from how the slot was before.
    pub(crate) fn differences(&self, before: &Self) -> Differences {
        let mut differences = Differences::default();
        for (field, differs, needs_a_new_key) in [
            ("header", self.header != before.header, true),
            ("kind", self.kind != before.kind, true),
            ("source", self.source != before.source, true),
            ("kcv", self.kcv != before.kcv, false),
            (
                "validity-days",
                self.validity_days != before.validity_days,
                false,
            ),
            (
                "renewal-days",
                self.renewal_days != before.renewal_days,
                false,
            ),
        ] {
            if differs {
                differences.fields.push(field);
                differences.need_a_new_key |= needs_a_new_key;
            }
        }
        differences
    }
}
