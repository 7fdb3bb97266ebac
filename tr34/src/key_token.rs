//! KT_KDH.
use crate::{EnvelopedKeyBlock, IssuerAndSerial, Kbh, KrdNonce, MalformedToken};

/// A key token that lacks its signature.
#[derive(Clone, Debug)]
pub struct KeyTokenDraft {
    to_be_signed: Vec<u8>,
}

impl KeyTokenDraft {
    /// From its parts.
    pub fn new(
        enveloped: &EnvelopedKeyBlock,
        header: &Kbh,
        nonce: &KrdNonce,
        kdh: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// What the KDH signs.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }
    /// The finished token.
    pub fn into_token(self, signature: &[u8]) -> Result<Vec<u8>, MalformedToken> {
        unimplemented!()
    }
}

/// A parsed KT_KDH.
#[derive(Clone, Debug)]
pub struct KeyToken {
    signer: IssuerAndSerial,
    signed_bytes: Vec<u8>,
    signature: Vec<u8>,
    nonce: KrdNonce,
    header: Kbh,
    crl: Vec<u8>,
    enveloped: EnvelopedKeyBlock,
}

impl KeyToken {
    /// From DER.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// Who says to have signed.
    pub fn signer(&self) -> &IssuerAndSerial {
        &self.signer
    }
    /// What was signed.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed_bytes
    }
    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
    /// The nonce.
    pub fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }
    /// The signed header.
    pub fn header(&self) -> &Kbh {
        &self.header
    }
    /// The CRL.
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }
    /// The encrypted key block.
    pub fn enveloped(&self) -> &EnvelopedKeyBlock {
        &self.enveloped
    }
}
