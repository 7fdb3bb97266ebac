//! `RT_KRD`: the terminal's random number, by which it knows its key token as fresh.

use der::asn1::OctetStringRef;
use subtle::ConstantTimeEq;

use crate::{MalformedToken, Rule, TokenKind, encode, oid, wire};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

/// The terminal's random number. Comparison takes the same time wherever two nonces differ.
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

    /// The DER of the randomNonce attribute.
    pub(crate) fn to_attribute(&self) -> Vec<u8> {
        encode::attribute(oid::RANDOM_NONCE, &encode::octet_string(&self.0))
    }

    pub(crate) fn of_attribute(attribute: &wire::Attribute<'_>) -> Result<Self, Rule> {
        let value: &OctetStringRef = attribute.value_of(oid::RANDOM_NONCE, "randomNonce")?;
        let bytes = value.as_bytes();
        bytes.try_into().map(Self).map_err(|_| Rule::Length {
            field: "randomNonce",
            found: bytes.len(),
        })
    }
}

impl PartialEq for KrdNonce {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KrdNonce {}

/// `RT_KRD`: the bare randomNonce attribute, as in TR-34 B.12.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomToken {
    nonce: KrdNonce,
}

impl RandomToken {
    /// The token that carries this nonce.
    pub const fn new(nonce: KrdNonce) -> Self {
        Self { nonce }
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one randomNonce attribute with one value of 16 bytes.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        wire::decode(der)
            .and_then(|attribute| KrdNonce::of_attribute(&attribute))
            .map(Self::new)
            .map_err(TokenKind::RandomToken.breaks())
    }

    /// To DER: 34 bytes.
    pub fn to_der(&self) -> Vec<u8> {
        self.nonce.to_attribute()
    }

    /// The nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }
}
