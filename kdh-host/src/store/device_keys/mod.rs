//! What each device holds, or shall hold, in each slot: a row for each version of a key.
//!
//! ```text
//! mod      the row
//! reading  a row as it stands in the table, whatever is in it
//! queries  which rows there are
//! changes  rows that are added, replaced and put under other storage keys
//! ```

mod changes;
mod queries;
mod reading;

use std::fmt;

use hsm::{InitialKeyId, Kcv, KcvMethod};
use tr34::{Kbh, KeyKind};

pub(super) use self::reading::read;
pub(crate) use self::reading::{KeyRow, Unreadable, place_of};
use super::{
    KeySet, StoreError,
    keys::method_word,
    sealed::{Columns, SealedRow},
};
use crate::{
    names::{BdkName, DeviceSerial, KeyAlias, Slot, beginning},
    state::DeviceKeyState,
};

/// Where a row stands in the table, whether the host could have put it there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeyPlace {
    pub(crate) device: String,
    pub(crate) slot: String,
    pub(crate) version: i64,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, slot) = (beginning(&self.device), beginning(&self.slot));
        write!(
            f,
            "version {} of the key of {device} in slot {slot}",
            self.version
        )
    }
}

/// A version of what a device holds in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceKey {
    pub(crate) device: DeviceSerial,
    pub(crate) slot: Slot,
    pub(crate) version: u32,
    pub(crate) state: DeviceKeyState,
    pub(crate) source: KeySource,
    pub(crate) header: Kbh,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
    /// SHA-256 of the encryption key that it is meant for; none if the device has had none.
    pub(crate) recipient: Option<Vec<u8>>,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

/// Where a device's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The HSM has made it, for this device.
    Unique {
        /// Under the storage key; none once it is destroyed.
        wrapped: Option<Vec<u8>>,
    },
    /// The HSM derives it from a BDK, for this device, whenever it is needed.
    Derived {
        /// The BDK.
        bdk: BdkName,
        /// Whose it is. No other key of the BDK has this id.
        id: InitialKeyId,
    },
    /// A registered key, which other devices may hold too.
    Shared {
        /// Its name.
        name: KeyAlias,
    },
    /// Nowhere: the row was discarded.
    Nothing,
}

impl KeySource {
    /// The word in the database, in answers and in the audit trail.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Unique { .. } => "UNIQUE",
            Self::Derived { .. } => "DERIVED",
            Self::Shared { .. } => "SHARED",
            Self::Nothing => "NONE",
        }
    }

    /// Of a registered key, its name.
    pub(crate) const fn key_name(&self) -> Option<&KeyAlias> {
        match self {
            Self::Unique { .. } | Self::Derived { .. } | Self::Nothing => None,
            Self::Shared { name } => Some(name),
        }
    }

    /// Of a derived key, the BDK and whose it is.
    pub(crate) const fn initial_key(&self) -> Option<(&BdkName, InitialKeyId)> {
        match self {
            Self::Derived { bdk, id } => Some((bdk, *id)),
            Self::Unique { .. } | Self::Shared { .. } | Self::Nothing => None,
        }
    }

    /// Of a key of the device's own that is not destroyed: the key under the storage key.
    pub(crate) fn wrapped(&self) -> Option<&[u8]> {
        match self {
            Self::Unique { wrapped } => wrapped.as_deref(),
            Self::Derived { .. } | Self::Shared { .. } | Self::Nothing => None,
        }
    }
}

impl DeviceKey {
    /// The row of a version of which nothing is known any more: it says that the version was there.
    ///
    /// # Errors
    /// None, in truth.
    pub(crate) fn discarded(
        device: DeviceSerial,
        slot: Slot,
        version: u32,
        now: &str,
    ) -> Result<Self, StoreError> {
        let damaged = || StoreError::Damaged("device key");
        Ok(Self {
            device,
            slot,
            version,
            state: DeviceKeyState::Discarded,
            source: KeySource::Nothing,
            // The columns want something. It is nobody's.
            header: Kbh::parse(b"D0000D0AN00N0000").map_err(|_| damaged())?,
            kind: KeyKind::Aes128,
            kcv: Kcv::new(KcvMethod::AesCmac, &[0; 3]).map_err(|_| damaged())?,
            recipient: None,
            created_at: now.to_owned(),
            changed_at: now.to_owned(),
        })
    }

    /// Where the row stands.
    pub(crate) fn place(&self) -> KeyPlace {
        KeyPlace {
            device: self.device.to_string(),
            slot: self.slot.to_string(),
            version: i64::from(self.version),
        }
    }

    /// The row with its key under another storage key, if it has one.
    pub(crate) fn with_wrapped(&self, new: Option<&[u8]>) -> Self {
        let mut row = self.clone();
        if let KeySource::Unique { wrapped } = &mut row.source {
            *wrapped = new.map(<[u8]>::to_vec);
        }
        row
    }

    /// The row as it is from now on, in this state. What the host has of a key goes with the last states.
    pub(crate) fn moved_to(&self, state: DeviceKeyState, now: &str) -> Self {
        let mut row = self.clone();
        row.state = state;
        now.clone_into(&mut row.changed_at);
        if let (
            DeviceKeyState::Destroyed | DeviceKeyState::Withdrawn,
            KeySource::Unique { wrapped },
        ) = (state, &mut row.source)
        {
            *wrapped = None;
        }
        row
    }
}

impl SealedRow for DeviceKey {
    const TABLE: &'static str = "device_keys";

    fn columns(&self, columns: &mut Columns) {
        columns.text(self.device.as_str());
        columns.text(self.slot.as_str());
        columns.number(self.version);
        columns.text(self.state.as_str());
        columns.text(self.source.as_str());
        columns.optional_text(self.source.key_name().map(KeyAlias::as_str));
        columns.optional_bytes(self.source.wrapped());
        columns.text(&self.header.to_string());
        columns.text(self.kind.name());
        columns.text(method_word(self.kcv.method()));
        columns.text(&self.kcv.to_string());
        columns.optional_bytes(self.recipient.as_deref());
        columns.text(&self.created_at);
        columns.text(&self.changed_at);
        let derived = self.source.initial_key();
        let derived = derived.map(|(bdk, id)| KeySet::of(bdk, id));
        let key_set = derived.as_ref().map(|(key_set, _)| key_set);
        columns.optional_text(key_set.map(|key_set| key_set.bdk.as_str()));
        columns.optional_text(key_set.map(KeySet::digits).as_deref());
        columns.optional_number(derived.as_ref().map(|(_, number)| *number));
    }

    fn title(&self) -> String {
        self.place().to_string()
    }
}
