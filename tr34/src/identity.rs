//! Who a certificate belongs to, as CMS names it.
use crate::MalformedToken;

/// Issuer name and serial number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuerAndSerial {
    der: Vec<u8>,
}

impl IssuerAndSerial {
    /// From the DER of the issuer's Name and the serial's content bytes.
    pub fn new(issuer_name_der: &[u8], serial_content: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// From DER.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// Of a certificate.
    pub fn of_certificate(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
        unimplemented!()
    }
    /// The DER.
    pub fn to_der(&self) -> Vec<u8> {
        self.der.clone()
    }
    /// The DER of the issuer's Name.
    pub fn issuer_der(&self) -> &[u8] {
        unimplemented!()
    }
    /// The serial number's content bytes.
    pub fn serial_bytes(&self) -> &[u8] {
        unimplemented!()
    }
}
