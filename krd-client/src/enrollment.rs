//! The checks on what Enroll brings.

use pki::{Certificate, CertificateError, CredentialError, PublicKey, Role, verify_unlisted};
use time::OffsetDateTime;
use tr34::{KrdCredentialToken, MalformedToken, Profile};

use crate::DeviceSerial;

/// Certificates of CAs that may come along.
const MAX_CHAIN_LEN: usize = 4;

/// What the certificates have to fit.
#[derive(Clone, Copy, Debug)]
pub struct EnrollExpectation<'a> {
    /// How tokens are written.
    pub profile: Profile,
    /// The preset `CA_KRD`.
    pub ca: &'a Certificate,
    /// Who this terminal is.
    pub serial: &'a DeviceSerial,
    /// The terminal's RSA key.
    pub encryption_key: &'a PublicKey,
    /// The terminal's P-256 key.
    pub authentication_key: &'a PublicKey,
    /// Now.
    pub now: OffsetDateTime,
}

/// Which of the two certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// Of the RSA key.
    Encryption,
    /// Of the P-256 key.
    Authentication,
}

impl std::fmt::Display for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Encryption => "encryption certificate",
            Self::Authentication => "authentication certificate",
        })
    }
}

/// Why the certificates are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollRefusal {
    /// `CT_KRD` does not parse.
    #[error(transparent)]
    Malformed(#[from] MalformedToken),
    /// A certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate is for another key.
    #[error("the {0} is not for this terminal's key")]
    OtherKey(OwnCertificate),
    /// A certificate is for another serial number.
    #[error("the {0} is not for this terminal's serial number")]
    OtherSerial(OwnCertificate),
    /// A certificate's issuer, signature, validity or role.
    #[error("the {0}: {1}")]
    Credential(OwnCertificate, CredentialError),
    /// The chain does not start with the preset CA.
    #[error("the chain does not lead to the CA that this terminal trusts")]
    Chain,
}

impl EnrollRefusal {
    /// The stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token-malformed",
            Self::Certificate(_) => "certificate-malformed",
            Self::OtherKey(_) => "certificate-other-key",
            Self::OtherSerial(_) => "certificate-other-serial",
            Self::Credential(_, CredentialError::WrongRole(_)) => "certificate-wrong-role",
            Self::Credential(_, _) => "certificate-untrusted",
            Self::Chain => "chain-untrusted",
        }
    }
}

/// The terminal's certificates.
#[derive(Clone, Debug)]
#[must_use]
pub struct Credentials {
    /// Of the RSA key.
    pub encryption: Certificate,
    /// Of the P-256 key.
    pub authentication: Certificate,
    /// The issuing CA first.
    pub chain: Vec<Certificate>,
}

impl Credentials {
    /// From the bytes, without any check of trust.
    ///
    /// # Errors
    /// Something does not parse.
    pub fn parse<C: AsRef<[u8]>>(
        profile: Profile,
        ct_krd: &[u8],
        authentication: &[u8],
        chain: &[C],
    ) -> Result<Self, EnrollRefusal> {
        let token = KrdCredentialToken::parse(profile, ct_krd)?;
        let chain: Result<_, _> = chain
            .iter()
            .map(|ca| Certificate::from_der(ca.as_ref()))
            .collect();
        Ok(Self {
            encryption: Certificate::from_der(token.certificate())?,
            authentication: Certificate::from_der(authentication)?,
            chain: chain?,
        })
    }
}

/// Checks both certificates: for the terminal's own key, its serial number, by the preset CA, in
/// their validity, each in its role; and that the chain starts with the preset CA.
///
/// # Errors
/// The first check that fails.
pub fn verify_enrollment<C: AsRef<[u8]>>(
    ct_krd: &[u8],
    authentication: &[u8],
    chain: &[C],
    expected: &EnrollExpectation<'_>,
) -> Result<Credentials, EnrollRefusal> {
    if chain.len() > MAX_CHAIN_LEN {
        return Err(EnrollRefusal::Chain);
    }
    let credentials = Credentials::parse(expected.profile, ct_krd, authentication, chain)?;
    for (which, certificate, key, role) in [
        (
            OwnCertificate::Encryption,
            &credentials.encryption,
            expected.encryption_key,
            Role::Krd,
        ),
        (
            OwnCertificate::Authentication,
            &credentials.authentication,
            expected.authentication_key,
            Role::KrdTls,
        ),
    ] {
        if certificate.public_key() != key {
            return Err(EnrollRefusal::OtherKey(which));
        }
        if certificate.common_name().as_deref() != Some(expected.serial.as_str()) {
            return Err(EnrollRefusal::OtherSerial(which));
        }
        // The terminal has no revocation list of CA_KRD: whether it is listed is for the host to say.
        verify_unlisted(certificate, expected.ca, role, expected.now)
            .map_err(|error| EnrollRefusal::Credential(which, error))?;
    }
    if credentials.chain.first() != Some(expected.ca) {
        return Err(EnrollRefusal::Chain);
    }
    Ok(credentials)
}
