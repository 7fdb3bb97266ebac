//! CT_KRD and CT_KDH.
use crate::MalformedToken;

/// CT_KRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrdCredentialToken {
    certificate: Vec<u8>,
}

impl KrdCredentialToken {
    /// From a certificate.
    pub fn new(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
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
    /// The certificate as received.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// CT_KDH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdhCredentialToken {
    certificate: Vec<u8>,
    crl: Vec<u8>,
}

impl KdhCredentialToken {
    /// From a certificate and a CRL.
    pub fn new(certificate_der: &[u8], crl_der: &[u8]) -> Result<Self, MalformedToken> {
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
    /// The certificate as received.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
    /// The CRL as received.
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }
}
