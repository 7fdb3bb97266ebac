//! Whose certificate is meant: issuer and serial number (RFC 5652 10.2.4).

use der::{AnyRef, Encode, Tag, Tagged};
use x509_cert::{Certificate, name::Name};

use crate::{MalformedToken, Rule, TokenKind, encode, wire};

/// RFC 5280 4.1.2.2.
const MAX_SERIAL_LEN: usize = 20;

/// Issuer name and serial number of a certificate. Equal when their DER is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuerAndSerial {
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

impl IssuerAndSerial {
    /// From the DER of the issuer's `Name` and the content bytes of the serial number's `INTEGER`.
    ///
    /// # Errors
    /// The name is empty or not DER; the serial number is not a positive `INTEGER` in its shortest
    /// form, or longer than 20 bytes.
    pub fn new(issuer_name_der: &[u8], serial_content: &[u8]) -> Result<Self, MalformedToken> {
        Self::of_parts(issuer_name_der, serial_content).map_err(TokenKind::Identity.breaks())
    }

    /// From the DER of an `IssuerAndSerialNumber`.
    ///
    /// # Errors
    /// As [`Self::new`]; the bytes are not that structure and nothing else.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        wire::decode(der)
            .and_then(|fields| Self::of_wire(&fields))
            .map_err(TokenKind::Identity.breaks())
    }

    /// The identity that a certificate, in DER, gives its holder.
    ///
    /// # Errors
    /// As [`Self::new`]; the bytes are not a certificate and nothing else.
    pub fn of_certificate(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
        let read = || {
            let certificate: Certificate = wire::decode(certificate_der)?;
            let tbs = certificate.tbs_certificate();
            let issuer = tbs.issuer().to_der()?;
            let serial = tbs.serial_number().to_der()?;
            Self::of_wire(&wire::decode(&encode::sequence(&[&issuer, &serial]))?)
        };
        read().map_err(TokenKind::Identity.breaks())
    }

    /// The DER of the `IssuerAndSerialNumber`.
    pub fn to_der(&self) -> Vec<u8> {
        encode::sequence(&[
            &self.issuer,
            &encode::element(encode::INTEGER, &[&self.serial]),
        ])
    }

    /// The DER of the issuer's `Name`.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The content bytes of the serial number's `INTEGER`.
    pub fn serial_bytes(&self) -> &[u8] {
        &self.serial
    }

    /// From an element of a larger structure.
    pub(crate) fn of_element(element: AnyRef<'_>) -> Result<Self, Rule> {
        Self::of_wire(&element.decode_as()?)
    }

    fn of_wire(fields: &wire::IssuerAndSerialNumber<'_>) -> Result<Self, Rule> {
        fields.serial_number.tag().assert_eq(Tag::Integer)?;
        Self::of_parts(
            &wire::received(fields.issuer)?,
            fields.serial_number.value(),
        )
    }

    fn of_parts(issuer: &[u8], serial: &[u8]) -> Result<Self, Rule> {
        let name: Name = wire::decode(issuer)?;
        if name.is_empty() {
            return Err(Rule::Length {
                field: "issuer",
                found: 0,
            });
        }
        // Decoding sorts a name's sets, whatever order they came in.
        if name.to_der()? != issuer {
            return Err(Rule::NotCanonical { field: "issuer" });
        }
        if !is_positive_integer(serial) || serial.len() > MAX_SERIAL_LEN {
            return Err(Rule::SerialNumber);
        }
        Ok(Self {
            issuer: issuer.to_vec(),
            serial: serial.to_vec(),
        })
    }
}

/// Whether these are the content bytes of an INTEGER above zero, in the shortest form.
fn is_positive_integer(content: &[u8]) -> bool {
    match content {
        [0x00, second, ..] => *second >= 0x80,
        [first, ..] => (0x01..0x80).contains(first),
        [] => false,
    }
}
