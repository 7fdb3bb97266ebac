//! The clear key block.
use crate::{IssuerAndSerial, Kbh, MalformedToken};

/// Offset of the key in its block.
pub fn key_offset(issuer_content_len: usize, serial_content_len: usize, key_len: usize, header_len: usize) -> usize {
    unimplemented!()
}

/// All of a key block except its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlockFrame {
    prefix: Vec<u8>,
    key_len: usize,
    suffix: Vec<u8>,
}

impl KeyBlockFrame {
    /// Round a key of `key_len` bytes.
    pub fn new(kdh: &IssuerAndSerial, header: &Kbh, key_len: usize) -> Self {
        unimplemented!()
    }
    /// What stands before the key.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }
    /// What stands behind the key.
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }
    /// Bytes of the key.
    pub fn key_len(&self) -> usize {
        self.key_len
    }
}

/// A parsed clear key block.
pub struct KeyBlock<'a> {
    kdh: IssuerAndSerial,
    key: &'a [u8],
    header: Kbh,
}

impl<'a> KeyBlock<'a> {
    /// From DER.
    pub fn parse(der: &'a [u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// The KDH.
    pub fn kdh(&self) -> &IssuerAndSerial {
        &self.kdh
    }
    /// The clear key.
    pub fn expose_key(&self) -> &'a [u8] {
        self.key
    }
    /// The header.
    pub fn header(&self) -> &Kbh {
        &self.header
    }
}
