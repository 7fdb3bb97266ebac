//! Why a key does not go to another system, and what to do next.

use tr31::KeyBlockError;
use tr34::{KeyAlgorithm, KeyKind};

/// What is not exported so. Nothing was wrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A key is not sent under a weaker one (NIST SP 800-57 part 1, table 2).
    #[error(
        "a key of the kind {kind} does not go out under {label}, which is of the kind {under} and weaker: share a \
         stronger key with the other system"
    )]
    Weak {
        /// Of the key.
        kind: KeyKind,
        /// The key over it.
        label: String,
        /// Of the key over it.
        under: KeyKind,
    },
    /// AES key wrap, version D of TR-31 and AES-CMAC take an AES key.
    #[error(
        "{label} is of the kind {found}, and keys are exported by AES keys: share one with the other system"
    )]
    NotAes {
        /// The key.
        label: String,
        /// Of the key.
        found: KeyKind,
    },
    /// The header's algorithm is not the key's.
    #[error(
        "the header says algorithm {algorithm}, which is not that of a key of the kind {kind}: correct it"
    )]
    HeaderOfOtherKind {
        /// In the header.
        algorithm: KeyAlgorithm,
        /// Of the key.
        kind: KeyKind,
    },
    /// The header and its optional blocks make no key block.
    #[error(transparent)]
    KeyBlock(#[from] KeyBlockError),
}
