//! EnvelopedData.
use crate::{ContentCipher, IssuerAndSerial, MalformedToken, OaepHash};

/// The encrypted key block with its wrapped Ke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopedKeyBlock {
    recipient: IssuerAndSerial,
    oaep_hash: OaepHash,
    encrypted_key: Vec<u8>,
    cipher: ContentCipher,
    iv: [u8; 16],
    ciphertext: Vec<u8>,
}

impl EnvelopedKeyBlock {
    /// From its parts.
    pub fn new(
        recipient: IssuerAndSerial,
        oaep_hash: OaepHash,
        encrypted_key: Vec<u8>,
        cipher: ContentCipher,
        iv: [u8; 16],
        ciphertext: Vec<u8>,
    ) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// From DER.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// To DER.
    pub fn to_der(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// The KRD.
    pub fn recipient(&self) -> &IssuerAndSerial {
        &self.recipient
    }
    /// OAEP's hash.
    pub fn oaep_hash(&self) -> OaepHash {
        self.oaep_hash
    }
    /// Ke under the KRD's key.
    pub fn encrypted_key(&self) -> &[u8] {
        &self.encrypted_key
    }
    /// The cipher.
    pub fn cipher(&self) -> ContentCipher {
        self.cipher
    }
    /// The IV.
    pub fn iv(&self) -> &[u8; 16] {
        &self.iv
    }
    /// The encrypted key block.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }
}
