//! Certificates as values: parsed once, strictly, with their DER kept.

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode, Encode, pem::LineEnding};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tr34::IssuerAndSerial;
use x509_cert::{
    Version,
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
        SubjectKeyIdentifier,
    },
};

use crate::{KeyError, Name, NameError, PublicKey, SerialError, SerialNumber, Validity, validity};

/// Nothing that this system issues comes near; anything above is refused unread.
const MAX_LEN: usize = 16 * 1024;

/// The extensions whose meaning is checked somewhere: no other one may be critical.
const KNOWN: [ObjectIdentifier; 6] = [
    AuthorityKeyIdentifier::OID,
    BasicConstraints::OID,
    ExtendedKeyUsage::OID,
    KeyUsage::OID,
    SubjectAltName::OID,
    SubjectKeyIdentifier::OID,
];

/// An X.509 certificate, version 3, in DER, with a public key that this system uses.
///
/// Parsing says nothing about trust; see [`crate::verify_credential`].
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    subject: Name,
    issuer: Name,
    serial: SerialNumber,
    public_key: PublicKey,
    validity: Validity,
    key_usage: Option<(bool, KeyUsage)>,
    basic_constraints: Option<(bool, BasicConstraints)>,
    extended_key_usage: Option<ExtendedKeyUsage>,
    subject_key_identifier: Option<Vec<u8>>,
    has_authority_key_identifier: bool,
    has_hosts: bool,
}

/// Why bytes are not an acceptable certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any certificate of this system.
    #[error("the certificate is longer than {MAX_LEN} bytes")]
    TooLong,
    /// Not the DER of one certificate and nothing else, or an extension does not decode.
    #[error("the certificate is not well-formed DER")]
    Malformed,
    /// No PEM block `CERTIFICATE`.
    #[error("there is no PEM certificate")]
    Pem,
    /// A critical extension that this system does not know (RFC 5280 4.2).
    #[error("the certificate has an unknown critical extension")]
    CriticalExtension,
    /// Not version 3.
    #[error("the certificate is not of version 3")]
    Version,
    /// Subject or issuer.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Serial number.
    #[error("{0}")]
    Serial(#[from] SerialError),
    /// Public key.
    #[error("{0}")]
    Key(#[from] KeyError),
}

impl From<der::Error> for CertificateError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

impl Certificate {
    /// From DER.
    ///
    /// # Errors
    /// The bytes are not exactly one well-formed certificate with an acceptable key.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_LEN {
            return Err(CertificateError::TooLong);
        }
        let parsed = x509_cert::Certificate::from_der(der)?;
        // Decoding sorts sets and tolerates what encoding does not; only DER comes back the same.
        if parsed.to_der()? != der {
            return Err(CertificateError::Malformed);
        }
        let tbs = parsed.tbs_certificate();
        if tbs.version() != Version::V3 {
            return Err(CertificateError::Version);
        }
        if tbs.signature() != parsed.signature_algorithm() {
            return Err(CertificateError::Malformed);
        }
        let extensions = tbs.extensions().map_or(&[][..], Vec::as_slice);
        if extensions
            .iter()
            .any(|extension| extension.critical && !KNOWN.contains(&extension.extn_id))
        {
            return Err(CertificateError::CriticalExtension);
        }
        let serial = tbs.serial_number().to_der()?;
        let serial = der::asn1::AnyRef::from_der(&serial)?;
        let certificate = Self {
            subject: Name::from_x509(tbs.subject().clone())?,
            issuer: Name::from_x509(tbs.issuer().clone())?,
            serial: SerialNumber::from_content(serial.value())?,
            public_key: PublicKey::from_spki_der(&tbs.subject_public_key_info().to_der()?)?,
            validity: Validity {
                not_before: validity::from_x509(tbs.validity().not_before),
                not_after: validity::from_x509(tbs.validity().not_after),
            },
            key_usage: tbs.get_extension()?,
            basic_constraints: tbs.get_extension()?,
            extended_key_usage: tbs.get_extension()?.map(|(_critical, usage)| usage),
            subject_key_identifier: tbs
                .get_extension::<SubjectKeyIdentifier>()?
                .map(|(_critical, identifier)| identifier.0.as_bytes().to_vec()),
            has_authority_key_identifier: tbs
                .get_extension::<AuthorityKeyIdentifier>()?
                .is_some_and(|(_critical, identifier)| identifier.key_identifier.is_some()),
            has_hosts: tbs
                .get_extension::<SubjectAltName>()?
                .is_some_and(|(_critical, names)| !names.0.is_empty()),
            der: der.to_vec(),
        };
        // Whatever is a certificate here, messages can carry and name.
        IssuerAndSerial::of_certificate(der).map_err(|_| CertificateError::Malformed)?;
        Ok(certificate)
    }

    /// From PEM: exactly one block.
    ///
    /// # Errors
    /// There is no such block, or what is in it is not acceptable.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let (label, der) =
            der::pem::decode_vec(pem.as_bytes()).map_err(|_| CertificateError::Pem)?;
        if label != "CERTIFICATE" {
            return Err(CertificateError::Pem);
        }
        Self::from_der(&der)
    }

    /// The DER, as it was parsed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// As PEM, lines ended by line feeds.
    pub fn to_pem(&self) -> String {
        // A bounded length and a fixed label always encode; an empty text would be refused by every
        // reader.
        der::pem::encode_string("CERTIFICATE", LineEnding::LF, &self.der).unwrap_or_default()
    }

    /// Who holds it.
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// Who issued it.
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// Its serial number.
    pub const fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// How CMS messages name it (RFC 5652 10.2.4).
    ///
    /// # Errors
    /// Never for a certificate that was parsed; the message library has the last word.
    pub fn issuer_and_serial(&self) -> Result<IssuerAndSerial, tr34::MalformedToken> {
        IssuerAndSerial::new(self.issuer.der(), self.serial.content())
    }

    /// The certified key.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// From when until when it holds.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// First moment of its validity.
    pub const fn not_before(&self) -> OffsetDateTime {
        self.validity.not_before
    }

    /// Last moment of its validity.
    pub const fn not_after(&self) -> OffsetDateTime {
        self.validity.not_after
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> Option<String> {
        self.subject.common_name()
    }

    pub(crate) const fn key_usage(&self) -> Option<(bool, KeyUsage)> {
        self.key_usage
    }

    pub(crate) fn basic_constraints(&self) -> Option<(bool, BasicConstraints)> {
        self.basic_constraints.clone()
    }

    pub(crate) const fn extended_key_usage(&self) -> Option<&ExtendedKeyUsage> {
        self.extended_key_usage.as_ref()
    }

    pub(crate) const fn has_authority_key_identifier(&self) -> bool {
        self.has_authority_key_identifier
    }

    /// Whether it names host names or IP addresses.
    pub(crate) const fn has_hosts(&self) -> bool {
        self.has_hosts
    }

    pub(crate) fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.subject_key_identifier.as_deref()
    }
}

impl PartialEq for Certificate {
    /// The same certificate to the byte.
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}
