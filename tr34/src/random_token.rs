//! `RT_KRD`: the terminal's random number, by which it knows its key token as fresh.

use crate::{
    KrdNonce, MalformedToken, Profile, TokenKind, attribute::Attribute, oid, read::Fields,
};

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
    /// The bytes are not one randomNonce attribute with one value of a length that the profile has.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        Fields::of_token(TokenKind::RandomToken, der, |fields| {
            let attribute = Attribute::next(fields, "randomNonce", oid::RANDOM_NONCE)?;
            KrdNonce::read(profile, attribute.octets("randomNonce")?).map(Self::new)
        })
    }

    /// To DER: 18 bytes more than the nonce.
    pub fn to_der(&self) -> Vec<u8> {
        self.nonce.to_attribute()
    }

    /// The nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }
}
