//! Issuing certificates. The issuing CA decides everything but the public key.

use std::net::IpAddr;

use const_oid::AssociatedOid;
use der::{
    Encode,
    asn1::{Ia5String, OctetString},
};
use sha2::{Digest, Sha256};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::{
    Version,
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, SubjectAltName, SubjectKeyIdentifier, name::GeneralName},
    },
};

use crate::{
    Certificate, CertificateError, Name, PublicKey, Role, RoleError, SerialNumber, Signer,
    Validity,
    encoding::{self, SignFailure, TbsCertificate},
};

/// RFC 7093 2 (1): the leftmost 160 bits of the SHA-256 of the key.
const KEY_IDENTIFIER_LEN: usize = 20;

/// A CA at work: its certificate and its key, wherever that is.
#[derive(Debug)]
pub struct Issuer<'a, S> {
    /// The CA's certificate.
    pub certificate: &'a Certificate,
    /// The CA's key.
    pub signer: &'a S,
}

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The profile.
    pub role: Role,
    /// The holder's name; see [`Role::subject`] for end entities.
    pub name: Name,
    /// The key, whose possession the holder has proved.
    pub public_key: PublicKey,
    /// Unique for the issuer.
    pub serial: SerialNumber,
    /// From when until when.
    pub validity: Validity,
    /// Host names and IP addresses; for [`Role::HostTls`], and only there.
    pub hosts: Vec<String>,
}

/// Why a certificate, request or revocation list was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError<E: std::error::Error + 'static> {
    /// The key did not sign.
    #[error("the key did not sign")]
    Signing(#[source] E),
    /// The key made a signature that does not verify.
    #[error("the signature that was made does not verify")]
    WrongSignature,
    /// The issuer's certificate belongs to another key.
    #[error("the issuer's certificate does not belong to the issuer's key")]
    IssuerKey,
    /// The issuer is not a CA that may certify this role.
    #[error("an issuer of this kind does not certify a subject in the role {0:?}")]
    IssuerRole(Role),
    /// Ends before it begins, or after its issuer.
    #[error("the validity is empty or ends after the issuer's")]
    Validity,
    /// Host names missing for a TLS server, given for another role, or malformed.
    #[error("host names are for TLS servers, which need at least one: {0}")]
    Hosts(String),
    /// What was made does not fit its own role.
    #[error("the certificate does not fit its role: {0}")]
    Role(#[from] RoleError),
    /// What was made does not read back.
    #[error("what was made does not read back: {0}")]
    Reread(#[from] CertificateError),
    /// The structure does not encode.
    #[error("the structure does not encode: {0}")]
    Encoding(#[from] der::Error),
    /// A revocation list's dates or entries are not acceptable.
    #[error("{0}")]
    Crl(#[from] crate::CrlError),
}

impl<E: std::error::Error + 'static> From<SignFailure<E>> for IssueError<E> {
    fn from(failure: SignFailure<E>) -> Self {
        match failure {
            SignFailure::Key(error) => Self::Signing(error),
            SignFailure::Encoding(error) => Self::Encoding(error),
            SignFailure::WrongSignature => Self::WrongSignature,
        }
    }
}

/// Certifies a subject.
///
/// What is to be signed is compared with its role's profile before the key is used; before it
/// returns, the signature was verified, and the certificate read back and compared once more.
///
/// # Errors
/// The issuer may not certify this role, the subject does not fit it, or the key did not sign.
pub fn issue_certificate<S: Signer>(
    issuer: &Issuer<'_, S>,
    subject: &Subject,
) -> Result<Certificate, IssueError<S::Error>> {
    if issuer.certificate.public_key() != issuer.signer.public_key() {
        return Err(IssueError::IssuerKey);
    }
    let issuer_role = [Role::RootCa, Role::SubCa]
        .into_iter()
        .find(|role| role.verify(issuer.certificate).is_ok());
    if !issuer_role.is_some_and(|role| role.may_certify(subject.role)) {
        return Err(IssueError::IssuerRole(subject.role));
    }
    if !issuer
        .certificate
        .validity()
        .covers_end_of(&subject.validity)
    {
        return Err(IssueError::Validity);
    }
    let issuer_key_identifier = issuer.certificate.subject_key_identifier().map_or_else(
        || key_identifier(issuer.signer.public_key()),
        <[u8]>::to_vec,
    );
    issue(
        issuer.signer,
        issuer.certificate.subject(),
        issuer_key_identifier,
        subject,
    )
}

/// Makes a self-signed root.
///
/// # Errors
/// The subject is not a [`Role::RootCa`] with the signer's key, or the key did not sign.
pub fn issue_root<S: Signer>(
    signer: &S,
    subject: &Subject,
) -> Result<Certificate, IssueError<S::Error>> {
    if subject.role != Role::RootCa {
        return Err(IssueError::IssuerRole(subject.role));
    }
    if subject.public_key != *signer.public_key() {
        return Err(IssueError::IssuerKey);
    }
    let identifier = key_identifier(&subject.public_key);
    issue(signer, &subject.name, identifier, subject)
}

fn issue<S: Signer>(
    signer: &S,
    issuer: &Name,
    issuer_key_identifier: Vec<u8>,
    subject: &Subject,
) -> Result<Certificate, IssueError<S::Error>> {
    if subject.validity.not_after <= subject.validity.not_before {
        return Err(IssueError::Validity);
    }
    if subject.hosts.is_empty() == (subject.role == Role::HostTls) {
        return Err(IssueError::Hosts(subject.hosts.join(", ")));
    }
    let spki: SubjectPublicKeyInfoOwned = der::Decode::from_der(subject.public_key.as_spki_der())?;
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: subject.serial.to_x509()?,
        signature: signer.public_key().signature_algorithm().identifier(),
        issuer: issuer.as_x509().clone(),
        validity: subject.validity.to_x509()?,
        subject: subject.name.as_x509().clone(),
        subject_public_key_info: spki,
        extensions: extensions(subject, issuer_key_identifier)?,
    };
    // Nothing is signed that would not fit: a signature that was made cannot be taken back.
    let draft = Certificate::from_der(&encoding::unsigned(signer.public_key(), &tbs)?)?;
    subject.role.verify(&draft)?;
    let certificate = Certificate::from_der(&encoding::sign(signer, &tbs)?)?;
    subject.role.verify(&certificate)?;
    Ok(certificate)
}

fn extensions<E: std::error::Error + 'static>(
    subject: &Subject,
    issuer_key_identifier: Vec<u8>,
) -> Result<Vec<Extension>, IssueError<E>> {
    let mut extensions = vec![
        extension(true, &subject.role.basic_constraints())?,
        extension(true, &subject.role.key_usage())?,
        extension(
            false,
            &SubjectKeyIdentifier(OctetString::new(key_identifier(&subject.public_key))?),
        )?,
        authority_key_identifier(issuer_key_identifier)?,
    ];
    if let Some(usage) = subject.role.extended_key_usage() {
        extensions.push(extension(false, &usage)?);
    }
    if !subject.hosts.is_empty() {
        let names: Result<Vec<_>, _> = subject
            .hosts
            .iter()
            .map(|host| general_name(host))
            .collect();
        let names = names.map_err(IssueError::Hosts)?;
        extensions.push(extension(false, &SubjectAltName(names))?);
    }
    Ok(extensions)
}

/// One extension with its value in DER.
pub(crate) fn extension<T: Encode + AssociatedOid>(
    critical: bool,
    value: &T,
) -> der::Result<Extension> {
    Ok(Extension {
        extn_id: T::OID,
        critical,
        extn_value: OctetString::new(value.to_der()?)?,
    })
}

/// How a certificate or revocation list names its issuer's key.
pub(crate) fn authority_key_identifier(identifier: Vec<u8>) -> der::Result<Extension> {
    extension(
        false,
        &AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(identifier)?),
            ..AuthorityKeyIdentifier::default()
        },
    )
}

pub(crate) fn key_identifier(key: &PublicKey) -> Vec<u8> {
    let mut digest = Sha256::digest(key.key_bits()).to_vec();
    digest.truncate(KEY_IDENTIFIER_LEN);
    digest
}

/// A host name or an IP address, as RFC 5280 4.2.1.6 writes it; the text itself if it is neither.
fn general_name(host: &str) -> Result<GeneralName, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        return OctetString::new(octets)
            .map(GeneralName::IpAddress)
            .map_err(|_| host.to_owned());
    }
    // A name in a certificate is absolute without a dot at its end.
    rustls_pki_types::DnsName::try_from(host)
        .ok()
        .filter(|_| !host.ends_with('.'))
        .and_then(|_| Ia5String::new(host).ok())
        .map(GeneralName::DnsName)
        .ok_or_else(|| host.to_owned())
}
