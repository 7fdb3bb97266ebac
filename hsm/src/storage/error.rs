//! Why what lies outside of the HSM under a storage key was not taken.

use tr34::KeyKind;

use super::StorageNumber;

/// What is stored is not what the HSM once gave out, or is not to be had so. Nothing was done with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Pairs are counted from 1.
    #[error("storage keys are numbered from 1")]
    Number,
    /// Check values have 3 to 5 bytes.
    #[error("a key check value has 3 to 5 bytes, not {0}")]
    KcvLen(usize),
    /// An AES-CMAC has 16 bytes.
    #[error("a MAC has 16 bytes, not {0}")]
    MacLen(usize),
    /// The bytes are not those for which this MAC was made, or another key made it.
    #[error(
        "the MAC is not the one that {} makes of these bytes: they were changed behind the host's back",
        .0.mac_label()
    )]
    WrongMac(StorageNumber),
    /// A stored key is 8 bytes longer than the key (RFC 3394).
    #[error("a stored key of the kind {kind} has {expected} bytes, not {found}")]
    WrappedLen {
        /// As asked for.
        kind: KeyKind,
        /// Bytes.
        expected: usize,
        /// Bytes.
        found: usize,
    },
    /// It was wrapped under another key, or changed: what the HSM has just wrapped under this one does come out. An
    /// HSM that could not is no error of this kind.
    #[error("the stored key does not come out under {}", .0.key_label())]
    DoesNotOpen(StorageNumber),
    /// A stored key is used only with its record, which says whose it is.
    #[error("a stored key is used only with the record that it belongs to")]
    NoRecord,
    /// A record and its key are under one pair.
    #[error("the record has a MAC by {}, and its key lies under {}", .record.mac_label(), .key.key_label())]
    OtherPair {
        /// Of the MAC.
        record: StorageNumber,
        /// Of the wrapped key.
        key: StorageNumber,
    },
    /// One of several.
    #[error("record {index}: {error}")]
    At {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        error: Box<Self>,
    },
}
