//! What a module can do.

use tr34::OaepHash;

/// How key blocks are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealingWay {
    /// CBC in three parts, Kn wrapped in the middle.
    Splice,
}

/// How components are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombiningWay {
    /// `CKM_XOR_BASE_AND_DATA`.
    Xor,
    /// AES key wrap computed from CBC wrapping.
    KeyWrap,
}

/// What a module would have to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<&'static str>);

/// What a module can do, by its own list and by trying.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// How key blocks are sealed.
    pub sealing: Result<SealingWay, Missing>,
    /// The hashes with which a throw-away key could be sealed and opened.
    pub oaep: Vec<OaepHash>,
    /// How components are combined.
    pub combining: Result<CombiningWay, Missing>,
    /// The mechanisms that the token lists, `CKM_...`, of those that this crate knows.
    pub mechanisms: Vec<String>,
}

/// A self-test that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestReport {
    /// How key blocks are sealed.
    pub way: SealingWay,
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
    /// Lengths of the keys that were sealed and opened.
    pub key_lengths: Vec<usize>,
}
