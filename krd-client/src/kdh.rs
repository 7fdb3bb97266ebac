//! The checks on the host's credential, which bind and load share.

use pki::{
    Certificate, CredentialError, CrlError, CrlNumber, PublicKeyKind, Role, VerifiedCredential,
    VerifiedCrl, verify_credential, verify_crl,
};
use time::OffsetDateTime;
use tr34::{KdhCredentialToken, MalformedToken};

/// What the terminal knows before it looks at a host's credential.
#[derive(Clone, Copy, Debug)]
pub struct KdhTrust<'a> {
    /// The preset `CA_KDH`.
    pub ca: &'a Certificate,
    /// The highest number of a revocation list that was seen.
    pub last_crl: Option<CrlNumber>,
    /// Bits that the KDH's key must have.
    pub min_rsa_bits: usize,
    /// Now.
    pub now: OffsetDateTime,
}

/// Why a host's credential is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KdhRefusal {
    /// The revocation list: form, issuer, signature, freshness, number.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// The revocation list names the KDH.
    #[error("the KDH certificate was revoked")]
    Revoked,
    /// The certificate: path, validity, role.
    #[error("the KDH certificate: {0}")]
    Certificate(#[from] CredentialError),
    /// The key is shorter than this terminal demands.
    #[error("the KDH's key has {bits} bits; this terminal demands {minimum}")]
    KeyTooWeak {
        /// What was found.
        bits: usize,
        /// What is demanded.
        minimum: usize,
    },
    /// Another KDH than the one that the terminal is bound to.
    #[error("this is not the KDH that the terminal is bound to")]
    OtherKdh,
}

impl KdhRefusal {
    /// The stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Crl(CrlError::Stale(_))
            | Self::Certificate(CredentialError::StaleRevocationList) => "crl-stale",
            Self::Crl(CrlError::NotYetValid(_)) => "crl-not-yet-valid",
            Self::Crl(CrlError::OlderThanSeen { .. }) => "crl-older-than-seen",
            Self::Crl(CrlError::WrongIssuer | CrlError::BadSignature) => "crl-untrusted",
            Self::Crl(_) => "crl-malformed",
            Self::Revoked | Self::Certificate(CredentialError::Revoked) => "kdh-revoked",
            Self::Certificate(CredentialError::Expired) => "kdh-expired",
            Self::Certificate(CredentialError::NotYetValid) => "kdh-not-yet-valid",
            Self::Certificate(CredentialError::WrongRole(_)) => "kdh-wrong-role",
            Self::Certificate(_) => "kdh-untrusted",
            Self::KeyTooWeak { .. } => "kdh-key-too-weak",
            Self::OtherKdh => "other-kdh",
        }
    }
}

impl KdhTrust<'_> {
    /// Checks a revocation list: signature, freshness, number.
    ///
    /// # Errors
    /// [`KdhRefusal::Crl`].
    pub fn verify_crl(&self, crl_der: &[u8]) -> Result<VerifiedCrl, KdhRefusal> {
        Ok(verify_crl(crl_der, self.ca, self.now, self.last_crl)?)
    }

    /// Checks a KDH certificate: not listed, path, role, strength.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_certificate(
        &self,
        certificate: &Certificate,
        crl: &VerifiedCrl,
    ) -> Result<VerifiedCredential, KdhRefusal> {
        if crl.crl().lists(certificate.serial()) {
            return Err(KdhRefusal::Revoked);
        }
        let credential = verify_credential(certificate, self.ca, Role::Kdh, crl, self.now)?;
        if let PublicKeyKind::Rsa { bits } = credential.public_key().kind()
            && bits < self.min_rsa_bits
        {
            return Err(KdhRefusal::KeyTooWeak {
                bits,
                minimum: self.min_rsa_bits,
            });
        }
        Ok(credential)
    }
}

/// Why `CT_KDH` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindRefusal {
    /// It does not parse.
    #[error(transparent)]
    Malformed(#[from] MalformedToken),
    /// The certificate in it does not parse.
    #[error("CT_KDH: {0}")]
    Certificate(#[from] pki::CertificateError),
    /// The credential in it.
    #[error("CT_KDH: {0}")]
    Kdh(#[from] KdhRefusal),
}

impl BindRefusal {
    /// The stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Certificate(_) => "token-malformed",
            Self::Kdh(refusal) => refusal.reason(),
        }
    }
}

/// A `CT_KDH` that parsed and whose revocation list is good.
#[derive(Clone, Debug)]
#[must_use]
pub struct CurrentKdhCredential {
    certificate: Certificate,
    crl: VerifiedCrl,
}

impl CurrentKdhCredential {
    /// The first half of [`verify_kdh_credential`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(ct_kdh: &[u8], trust: &KdhTrust<'_>) -> Result<Self, BindRefusal> {
        let token = KdhCredentialToken::parse(ct_kdh)?;
        Ok(Self {
            certificate: Certificate::from_der(token.certificate())?,
            crl: trust.verify_crl(token.crl())?,
        })
    }

    /// The list, to be remembered before anything else is looked at.
    pub const fn crl(&self) -> &VerifiedCrl {
        &self.crl
    }

    /// The second half.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_kdh(
        self,
        trust: &KdhTrust<'_>,
        bound: Option<&Certificate>,
    ) -> Result<VerifiedCredential, BindRefusal> {
        let credential = trust.verify_certificate(&self.certificate, &self.crl)?;
        if bound.is_some_and(|bound| bound != credential.certificate()) {
            return Err(KdhRefusal::OtherKdh.into());
        }
        Ok(credential)
    }
}

/// Checks `CT_KDH`, in this order: it parses; the revocation list's signature, freshness and number;
/// the KDH is not listed; its certificate's path, role and strength; it is the KDH that the terminal
/// is `bound` to, if it is bound.
///
/// # Errors
/// The first check that fails.
pub fn verify_kdh_credential(
    ct_kdh: &[u8],
    trust: &KdhTrust<'_>,
    bound: Option<&Certificate>,
) -> Result<VerifiedCredential, BindRefusal> {
    CurrentKdhCredential::verify(ct_kdh, trust)?.verify_kdh(trust, bound)
}
