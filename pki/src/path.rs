//! From a certificate to a credential: path, validity, revocation, role.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use time::OffsetDateTime;
use tr34::IssuerAndSerial;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    ExtendedKeyUsageValidator, KeyPurposeIdIter, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, anchor_from_trusted_cert,
};

use crate::{Certificate, PublicKey, Role, RoleError, Validity, VerifiedCrl};

/// The algorithms of this system, and no others.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::ECDSA_P256_SHA256,
];

/// A certificate that was issued by the expected CA, holds now, is not revoked and fits its role.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedCredential {
    certificate: Certificate,
    /// Of the CA that issued it.
    issuer_validity: Validity,
    role: Role,
    id: IssuerAndSerial,
}

impl VerifiedCredential {
    /// Checks again what changes: the validity of certificate and issuer, and revocation by the issuer's
    /// present list. The signature and the role stay as they were verified.
    ///
    /// # Errors
    /// As [`verify_credential`].
    pub fn require_good(
        &self,
        crl: &VerifiedCrl,
        now: OffsetDateTime,
    ) -> Result<(), CredentialError> {
        if !self.issuer_validity.holds_at(now) {
            return Err(CredentialError::UntrustedIssuer);
        }
        if now < self.certificate.not_before() {
            return Err(CredentialError::NotYetValid);
        }
        if now > self.certificate.not_after() {
            return Err(CredentialError::Expired);
        }
        if crl.crl().issuer() != self.certificate.issuer() {
            return Err(CredentialError::NoRevocationStatus);
        }
        crl.require_good(now, None)
            .map_err(|_| CredentialError::StaleRevocationList)?;
        if crl.crl().lists(self.certificate.serial()) {
            return Err(CredentialError::Revoked);
        }
        Ok(())
    }

    /// The certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The role it was verified for.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The certified key.
    pub const fn public_key(&self) -> &PublicKey {
        self.certificate.public_key()
    }

    /// How tokens name it.
    pub const fn id(&self) -> &IssuerAndSerial {
        &self.id
    }
}

/// Why a certificate is not accepted as a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Another issuer than the expected CA, or one that is no CA.
    #[error("the certificate is not by the expected CA")]
    UntrustedIssuer,
    /// The issuer's name is right, the signature is not.
    #[error("the certificate's signature does not verify")]
    BadSignature,
    /// After its validity.
    #[error("the certificate has expired")]
    Expired,
    /// Before its validity.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// On the revocation list.
    #[error("the certificate was revoked")]
    Revoked,
    /// The revocation list does not speak for this issuer.
    #[error("the revocation list is not by the certificate's issuer")]
    NoRevocationStatus,
    /// The revocation list has grown stale since it was verified.
    #[error("the revocation list is stale")]
    StaleRevocationList,
    /// Not of the demanded role.
    #[error("{0}")]
    WrongRole(#[from] RoleError),
    /// Anything else that path validation refuses.
    #[error("the certificate does not validate")]
    Invalid,
}

impl From<webpki::Error> for CredentialError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::UnknownIssuer => Self::UntrustedIssuer,
            Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | Error::SignatureAlgorithmMismatch => Self::BadSignature,
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CertRevoked => Self::Revoked,
            Error::CrlExpired { .. } => Self::StaleRevocationList,
            Error::CaUsedAsEndEntity => Self::WrongRole(RoleError::BasicConstraints),
            Error::UnknownRevocationStatus => Self::NoRevocationStatus,
            _ => Self::Invalid,
        }
    }
}

/// Roles are checked by [`Role::verify`], exactly and including absence; this leaves it to that.
struct LeftToRole;

impl ExtendedKeyUsageValidator for LeftToRole {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        purposes.try_for_each(|purpose| purpose.map(drop))
    }
}

/// Checks an end entity's certificate against the sub-CA that must have issued it, which the caller
/// trusts by configuration, and that CA's verified revocation list.
///
/// # Errors
/// The first check that fails.
pub fn verify_credential(
    leaf: &Certificate,
    issuer: &Certificate,
    role: Role,
    crl: &VerifiedCrl,
    now: OffsetDateTime,
) -> Result<VerifiedCredential, CredentialError> {
    let crl: CertRevocationList<'_> = BorrowedCertRevocationList::from_der(crl.crl().der())?.into();
    let crls = [&crl];
    let revocation = RevocationOptionsBuilder::new(&crls)
        .map_err(|_| CredentialError::NoRevocationStatus)?
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    verify_path(leaf, issuer, now, Some(revocation))?;
    role.verify(leaf)?;
    Ok(VerifiedCredential {
        id: leaf
            .issuer_and_serial()
            .map_err(|_| CredentialError::Invalid)?,
        certificate: leaf.clone(),
        issuer_validity: issuer.validity(),
        role,
    })
}

/// Checks an end entity's certificate that no revocation list covers: a TLS server's or an
/// operator's, or that of somebody who takes part in ceremonies, where their CA issues none. Who is an
/// operator is decided by the configured roles.
///
/// # Errors
/// The first check that fails.
pub fn verify_unlisted(
    leaf: &Certificate,
    issuer: &Certificate,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), CredentialError> {
    verify_path(leaf, issuer, now, None)?;
    Ok(role.verify(leaf)?)
}

/// Checks that a sub-CA's certificate was issued by the root and that both hold now.
///
/// # Errors
/// The first check that fails.
pub fn verify_sub_ca(
    sub_ca: &Certificate,
    root: &Certificate,
    now: OffsetDateTime,
) -> Result<(), CredentialError> {
    Role::RootCa.verify(root)?;
    Role::SubCa.verify(sub_ca)?;
    if sub_ca.issuer() != root.subject() || !root.validity().holds_at(now) {
        return Err(CredentialError::UntrustedIssuer);
    }
    // webpki validates end entities; a CA is checked here, by the same rules.
    let parsed: x509_cert::Certificate =
        der::Decode::from_der(sub_ca.der()).map_err(|_| CredentialError::Invalid)?;
    let message =
        der::Encode::to_der(parsed.tbs_certificate()).map_err(|_| CredentialError::Invalid)?;
    let signature = parsed
        .signature()
        .as_bytes()
        .ok_or(CredentialError::Invalid)?;
    root.public_key()
        .verify(&message, signature)
        .map_err(|_| CredentialError::BadSignature)?;
    if now < sub_ca.not_before() {
        return Err(CredentialError::NotYetValid);
    }
    if now > sub_ca.not_after() {
        return Err(CredentialError::Expired);
    }
    Ok(())
}

fn verify_path(
    leaf: &Certificate,
    issuer: &Certificate,
    now: OffsetDateTime,
    revocation: Option<webpki::RevocationOptions<'_>>,
) -> Result<(), CredentialError> {
    Role::SubCa
        .verify(issuer)
        .map_err(|_| CredentialError::UntrustedIssuer)?;
    // The anchor is the sub-CA itself, so that its own validity would not be looked at.
    if !issuer.validity().holds_at(now) {
        return Err(CredentialError::UntrustedIssuer);
    }
    let issuer_der = CertificateDer::from(issuer.der());
    let anchors = [anchor_from_trusted_cert(&issuer_der)?];
    let leaf_der = CertificateDer::from(leaf.der());
    let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| CredentialError::NotYetValid)?;
    EndEntityCert::try_from(&leaf_der)?
        .verify_for_usage(
            ALGORITHMS,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            LeftToRole,
            revocation,
            None,
        )
        .map(drop)
        .map_err(CredentialError::from)
}
