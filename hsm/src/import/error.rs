//! Why a key that arrived encrypted was not taken, and what to do next.

use tr34::KeyKind;

/// What arrived is not what was announced. Nothing was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Keys go where their labels say.
    #[error("{label} is not the label of a {role}: choose one that begins with {prefix:?}")]
    Label {
        /// The label.
        label: String,
        /// What the key would have to be.
        role: &'static str,
        /// How labels of that role begin.
        prefix: &'static str,
    },
    /// A key wrapped as in RFC 3394 or 5649 is 8 bytes longer than the key.
    #[error(
        "the wrapped key has {found} bytes, and one of the kind {kind} has {expected}: have it sent again, \
         or correct the kind"
    )]
    WrappedLength {
        /// As announced.
        kind: KeyKind,
        /// Bytes.
        expected: usize,
        /// Bytes.
        found: usize,
    },
    /// RSA makes as many bytes as its modulus has.
    #[error(
        "the encrypted transport key has {found} bytes, and import pair {pair} has {expected}: have the \
         sender use the certificate of this pair"
    )]
    TransportKeyLength {
        /// The import pair.
        pair: String,
        /// Bytes.
        expected: usize,
        /// Bytes.
        found: usize,
    },
    /// A key is not sent under a weaker one.
    #[error(
        "a key of the kind {kind} does not come under one of the kind {under}, which is weaker: have the \
         sender use a key that is at least as strong"
    )]
    Weak {
        /// Of the key.
        kind: KeyKind,
        /// Of the key over it.
        under: KeyKind,
    },
    /// Blocks of version B are under TDEA.
    #[error(
        "key blocks of version {version} are not opened: have the key sent in version D, or in another form"
    )]
    Version {
        /// Of the block.
        version: tr31::Version,
    },
    /// AES key wrap, and version D of TR-31, take an AES key.
    #[error(
        "{label} is of the kind {found}, and {form} takes an AES key: agree on one with the sender"
    )]
    NotAes {
        /// The key.
        label: String,
        /// Of the key.
        found: KeyKind,
        /// What would be done with it.
        form: &'static str,
    },
    /// The header's field is another one than announced.
    #[error(
        "the header says {found} of {field}, and {announced} was announced: ask the sender which is right"
    )]
    Header {
        /// Which.
        field: &'static str,
        /// In the plan or order.
        announced: String,
        /// In what arrived.
        found: String,
    },
    /// What arrives with a header is held against the announced one.
    #[error("the key comes with a header, and none was announced: say which is right")]
    NoHeader,
    /// The announced header's algorithm is not the announced kind's.
    #[error(
        "the announced header says algorithm {algorithm}, which is not that of a key of the kind {kind}: \
         correct one of them"
    )]
    HeaderOfOtherKind {
        /// In the announced header.
        algorithm: tr34::KeyAlgorithm,
        /// As announced.
        kind: KeyKind,
    },
    /// A master key is there to be sent to terminals.
    #[error(
        "the header says that the key is not exportable (N), and a master key is sent to terminals: have it \
         sent with E or S"
    )]
    NotExportable,
    /// What an optional block demands would be lost.
    #[error(
        "the key block has an optional block {id}, which is not kept here: have it sent without, or bring \
         the key in by components"
    )]
    OptionalBlock {
        /// The identifier.
        id: String,
    },
    /// The payload is shorter than the announced key.
    #[error(
        "the key block's payload has {found} bytes, which is too short for a key of the kind {kind}: correct \
         the kind, or have it sent again"
    )]
    PayloadLength {
        /// As announced.
        kind: KeyKind,
        /// Bytes.
        found: usize,
    },
    /// It was encrypted to another pair, with another hash, or changed on its way. Says nothing more on
    /// purpose.
    #[error(
        "the transport key does not open under import pair {pair}: have the sender encrypt it to the \
         certificate of this pair, by RSA-OAEP with {hash} in MGF1 too and the empty label"
    )]
    TransportKey {
        /// The import pair.
        pair: String,
        /// The hash.
        hash: &'static str,
    },
    /// The integrity check of AES key wrap failed: another key, another form of wrapping, or changed.
    #[error(
        "the wrapped key does not open under {under}: compare that key's check value with the sender, and \
         whether it was wrapped as in {rfc}"
    )]
    WrappedKey {
        /// The key over it.
        under: String,
        /// Of which AES key wrap.
        rfc: &'static str,
    },
    /// Changed on its way, or under another KBPK.
    #[error(
        "the MAC of the key block is not one of {kbpk}: compare that key's check value with the sender, and \
         have the block sent again"
    )]
    Mac {
        /// The key block protection key.
        kbpk: String,
    },
    /// Authentic, and yet the payload's length is another key's.
    #[error(
        "the key block does not hold a key of the kind {kind}: ask the sender what it holds, and correct the \
         kind"
    )]
    KeyLength {
        /// As announced.
        kind: KeyKind,
    },
    /// The token was verified for another key than the one in the HSM.
    #[error(
        "the certificate does not belong to import pair {pair}: name the certificate that was made for it"
    )]
    OtherPair {
        /// The import pair.
        pair: String,
    },
    /// Other recipient, other key block than the signed header says, or changed.
    #[error(
        "the key block of the token does not open under import pair {pair} as one of the kind {kind} with \
         the token's header: have the sender make the token for the certificate of this pair, and correct \
         the kind if that is wrong"
    )]
    KeyToken {
        /// The import pair.
        pair: String,
        /// As announced.
        kind: KeyKind,
    },
    /// A rehearsal makes up what it can, and has no sender.
    #[error("only its sender can make {what}")]
    NotMadeUp {
        /// What would have to arrive.
        what: String,
    },
}
