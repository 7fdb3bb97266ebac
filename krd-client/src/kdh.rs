//! The checks on the host's credential, which bind and load share.

use pki::{
    Certificate, CredentialError, CrlError, CrlNumber, PublicKeyKind, Role, VerifiedCredential,
    VerifiedCrl, verify_credential, verify_crl,
};
use time::OffsetDateTime;
use tr34::{KdhCredentialToken, MalformedToken, Profile};

/// What the terminal knows before it looks at a host's credential.
#[derive(Clone, Copy, Debug)]
pub struct KdhTrust<'a> {
    /// How tokens are written.
    pub profile: Profile,
    /// The preset `CA_KDH`.
    pub ca: &'a Certificate,
    /// The revocation list with the highest number that was seen.
    pub last_crl: Option<RememberedCrl<'a>>,
    /// Bits that the KDH's key must have.
    pub min_rsa_bits: usize,
    /// Now.
    pub now: OffsetDateTime,
}

/// A revocation list as the terminal remembers it.
#[derive(Clone, Copy, Debug)]
pub struct RememberedCrl<'a> {
    /// Its number.
    pub number: CrlNumber,
    /// Its DER, which was verified when it came.
    pub der: &'a [u8],
}

/// Why a host's credential is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KdhRefusal {
    /// The revocation list: form, issuer, signature, freshness, number.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// The same of the list that the terminal remembers, for a token that brings none.
    #[error("the token brings no CRL, and of the last one: {0}; \"krd bind\" brings a new one")]
    RememberedCrl(CrlError),
    /// There is no revocation list, neither in the token nor from before.
    #[error("the token brings no CRL, and there is none from before; \"krd bind\" brings one")]
    NoCrl,
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
            Self::Crl(error) | Self::RememberedCrl(error) => match error {
                CrlError::Stale(_) => "crl-stale",
                CrlError::NotYetValid(_) => "crl-not-yet-valid",
                CrlError::OlderThanSeen { .. } => "crl-older-than-seen",
                CrlError::WrongIssuer | CrlError::BadSignature => "crl-untrusted",
                _ => "crl-malformed",
            },
            Self::Certificate(CredentialError::StaleRevocationList) => "crl-stale",
            Self::NoCrl => "crl-missing",
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
    /// Checks a revocation list: signature, freshness, number. Where a token brings none, the
    /// remembered one has to be fresh still.
    ///
    /// # Errors
    /// [`KdhRefusal::Crl`], [`KdhRefusal::RememberedCrl`], [`KdhRefusal::NoCrl`].
    pub fn verify_crl(&self, brought: Option<&[u8]>) -> Result<VerifiedCrl, KdhRefusal> {
        let last = self.last_crl.map(|crl| crl.number);
        let verify = |crl| verify_crl(crl, self.ca, self.now, last);
        match (brought, self.last_crl) {
            (Some(crl), _) => verify(crl).map_err(KdhRefusal::Crl),
            (None, Some(remembered)) => verify(remembered.der).map_err(KdhRefusal::RememberedCrl),
            (None, None) => Err(KdhRefusal::NoCrl),
        }
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
        let token = KdhCredentialToken::parse(trust.profile, ct_kdh)?;
        Ok(Self {
            certificate: Certificate::from_der(token.certificate())?,
            crl: trust.verify_crl(Some(token.crl()))?,
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
    pub fn verify_kdh(self, trust: &KdhTrust<'_>) -> Result<VerifiedCredential, BindRefusal> {
        Ok(trust.verify_certificate(&self.certificate, &self.crl)?)
    }
}

/// Checks `CT_KDH`, in this order: it parses; the revocation list's signature, freshness and number;
/// the KDH is not listed; its certificate's path, role and strength. Whether the terminal may be bound
/// to it is for [`Binding::after`](crate::Binding::after) to say.
///
/// # Errors
/// The first check that fails.
pub fn verify_kdh_credential(
    ct_kdh: &[u8],
    trust: &KdhTrust<'_>,
) -> Result<VerifiedCredential, BindRefusal> {
    CurrentKdhCredential::verify(ct_kdh, trust)?.verify_kdh(trust)
}
