//! RT_KRD.
use crate::MalformedToken;
use subtle::ConstantTimeEq;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

/// The terminal's random number.
#[derive(Clone, Debug)]
pub struct KrdNonce([u8; NONCE_LEN]);

impl KrdNonce {
    /// From random bytes.
    pub const fn from_bytes(bytes: [u8; NONCE_LEN]) -> Self {
        Self(bytes)
    }
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; NONCE_LEN] {
        &self.0
    }
}

impl PartialEq for KrdNonce {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for KrdNonce {}

/// RT_KRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomToken {
    nonce: KrdNonce,
}

impl RandomToken {
    /// From a nonce.
    pub const fn new(nonce: KrdNonce) -> Self {
        Self { nonce }
    }
    /// From DER.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// To DER.
    pub fn to_der(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// The nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }
}
