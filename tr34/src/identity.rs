//! Whose certificate is meant: issuer and serial number (RFC 5652 10.2.4).

use der::{Decode, Encode, Tag};
use x509_cert::name::Name;

use crate::{
    MalformedToken, Rule, TokenKind, encode,
    read::{Element, Fields},
    sound::require_name,
};

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
        Fields::of_token(TokenKind::Identity, der, |fields| {
            Self::read(fields.next("IssuerAndSerialNumber", Tag::Sequence)?)
        })
    }

    /// The identity that a certificate, in DER, gives its holder.
    ///
    /// # Errors
    /// As [`Self::new`]; the bytes are not a certificate and nothing else.
    pub fn of_certificate(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
        Fields::of_token(TokenKind::Identity, certificate_der, |fields| {
            let element = fields.any("certificate")?;
            let certificate = element.as_certificate()?;
            let tbs = certificate.tbs_certificate();
            let parts = || {
                let issuer = tbs.issuer().to_der().map_err(name_error)?;
                Self::of_parts(&issuer, tbs.serial_number().as_bytes())
            };
            element.check(parts())
        })
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

    /// From its SEQUENCE in a larger structure.
    pub(crate) fn read(element: Element<'_>) -> Result<Self, MalformedToken> {
        let mut fields = element.fields();
        let issuer = fields.any("issuer")?;
        let serial = fields.next("serialNumber", Tag::Integer)?;
        fields.end()?;
        element.check(Self::of_parts(issuer.whole(), serial.content()))
    }

    fn of_parts(issuer: &[u8], serial: &[u8]) -> Result<Self, Rule> {
        let name = Name::from_der(issuer).map_err(name_error)?;
        if name.is_empty() {
            return Err(Rule::Length {
                field: "issuer",
                found: 0,
            });
        }
        require_name("issuer", &name)?;
        let values = Fields::of_part(TokenKind::Identity, "issuer", issuer);
        let sound = values.require_sound_values();
        sound.map_err(|error| error.rule)?;
        // Decoding sorts a name's sets, whatever order they came in.
        if name.to_der().map_err(name_error)? != issuer {
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

fn name_error(error: der::Error) -> Rule {
    Rule::Der {
        field: "issuer",
        error: error.kind(),
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
