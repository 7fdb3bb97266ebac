//! Why a key is not derived from another, and what to do next.

use tr34::KeyKind;

/// What cannot be an initial key of a BDK. No key was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerivationError {
    /// A key is never stronger than what it is derived from (ANSI X9.24-3 6.3.2).
    #[error(
        "an initial key of the kind {kind} is not derived from {bdk}, which is of the kind {under} and weaker: \
         derive a shorter key, or have a stronger BDK brought in"
    )]
    Weak {
        /// Of the initial key.
        kind: KeyKind,
        /// The BDK.
        bdk: String,
        /// Of the BDK.
        under: KeyKind,
    },
    /// AES DUKPT has AES keys, and the older one two-key TDEA.
    #[error(
        "an initial key of the kind {kind} is not derived from {bdk}, which is of the kind {under}: AES keys \
         derive AES keys, and two-key TDEA keys such keys"
    )]
    OtherCipher {
        /// Of the initial key.
        kind: KeyKind,
        /// The BDK.
        bdk: String,
        /// Of the BDK.
        under: KeyKind,
    },
    /// A key serial number begins with what stays the same for the terminal's life.
    #[error(
        "{id} has bits of the transaction counter set: the last five bits of an initial key's serial number are \
         zeros"
    )]
    Counter {
        /// In hexadecimal digits.
        id: String,
    },
}
