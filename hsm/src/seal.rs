//! Sealing: the key block round Kn, encrypted under a fresh Ke, without Kn or Ke leaving the HSM.

use pki::PublicKey;
use tr34::{ContentCipher, KeyBlockFrame, OaepHash};

/// What to seal a Kn into, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct SealRequest<'a> {
    /// The key block round Kn.
    pub frame: &'a KeyBlockFrame,
    /// The terminal's RSA key.
    pub recipient: &'a PublicKey,
    /// The cipher under Ke.
    pub cipher: ContentCipher,
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
}

/// What goes into a key token's `EnvelopedData`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKeyBlock {
    /// The cipher's IV.
    pub iv: [u8; 16],
    /// The key block under Ke, padding included.
    pub ciphertext: Vec<u8>,
    /// Ke under the recipient's key.
    pub encrypted_key: Vec<u8>,
}
