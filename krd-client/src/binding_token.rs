//! The checks on unbind and rebind tokens. Pure functions: what passed is authentic, and whether it is
//! to be obeyed is for [`Binding::after`](crate::Binding::after) to say.

use pki::{Certificate, CertificateError, PublicKey, VerifiedCrl};
use tr34::{
    CaRebindToken, CaUnbindToken, IssuerAndSerial, KdhRebindToken, KdhUnbindToken, KrdNonce,
    MalformedToken, SignerPart,
};

use crate::{
    AuthenticToken, Kdh, KdhRefusal, KdhTrust, SigningTimeBounds, SigningTimeRefusal, TokenDigest,
};

/// What `UBT_KDH` and `RBT_KDH` have to fit.
#[derive(Clone, Copy, Debug)]
pub struct KdhTokenExpectation<'a> {
    /// What the terminal knows of hosts.
    pub trust: KdhTrust<'a>,
    /// The certificate of the KDH that the terminal is bound to.
    pub kdh: &'a Certificate,
    /// The nonce that was sent for this token.
    pub nonce: &'a KrdNonce,
    /// How tokens name this terminal.
    pub own_id: &'a IssuerAndSerial,
}

/// What `UBT_CA` and `RBT_CA` have to fit.
#[derive(Clone, Copy, Debug)]
pub struct CaTokenExpectation<'a> {
    /// What the terminal knows of hosts.
    pub trust: KdhTrust<'a>,
    /// The preset `CA_KRD`.
    pub ca: &'a Certificate,
    /// How tokens name this terminal.
    pub own_id: &'a IssuerAndSerial,
    /// For `RBT_CA`, which has no nonce and says when it was signed.
    pub signing_time: SigningTimeBounds,
}

/// Why an unbind or rebind token is refused. One variant for each check, in their order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingTokenRefusal {
    /// The token does not parse.
    #[error(transparent)]
    Malformed(#[from] MalformedToken),
    /// The revocation list, or the certificate of the KDH that is said to have signed.
    #[error(transparent)]
    Kdh(#[from] KdhRefusal),
    /// Another CA than `CA_KRD`.
    #[error("the token is not by the CA_KRD that this terminal trusts")]
    OtherCa,
    /// `CA_KRD` has expired, or is not valid yet.
    #[error("the certificate of CA_KRD does not hold now")]
    CaValidity,
    /// The signature.
    #[error("the token's signature does not verify")]
    Signature,
    /// The nonce.
    #[error("the token answers another nonce than the one that was sent")]
    Nonce,
    /// The terminal that it is for.
    #[error("the token is for another terminal")]
    OtherKrd,
    /// The signing time.
    #[error(transparent)]
    SigningTime(#[from] SigningTimeRefusal),
    /// The certificate of the new KDH does not parse.
    #[error("the new KDH: {0}")]
    NewCertificate(#[from] CertificateError),
    /// The new KDH.
    #[error("the new KDH: {0}")]
    NewKdh(KdhRefusal),
}

impl BindingTokenRefusal {
    /// The stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NewCertificate(_) => "token-malformed",
            Self::Kdh(refusal) | Self::NewKdh(refusal) => refusal.reason(),
            Self::OtherCa => "other-ca",
            Self::CaValidity => "ca-not-valid",
            Self::Signature => "signature-invalid",
            Self::Nonce => "nonce-mismatch",
            Self::OtherKrd => "other-recipient",
            Self::SigningTime(refusal) => refusal.reason(),
        }
    }
}

/// An unbind or rebind token that is authentic.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedBindingToken {
    digest: TokenDigest,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    KdhUnbind { signer: Kdh },
    KdhRebind { signer: Kdh, new: Box<Kdh> },
    CaUnbind { kdh: IssuerAndSerial },
    CaRebind { kdh: IssuerAndSerial, new: Box<Kdh> },
}

impl VerifiedBindingToken {
    /// What it says about the binding.
    pub fn as_authentic(&self) -> AuthenticToken<'_> {
        let token = self.digest;
        match &self.content {
            Content::KdhUnbind { signer } => AuthenticToken::KdhUnbind { token, signer },
            Content::KdhRebind { signer, new } => AuthenticToken::KdhRebind { signer, new },
            Content::CaUnbind { kdh } => AuthenticToken::CaUnbind { token, kdh },
            Content::CaRebind { kdh, new } => AuthenticToken::CaRebind { token, kdh, new },
        }
    }

    /// Which token it is.
    pub const fn digest(&self) -> TokenDigest {
        self.digest
    }
}

/// A `UBT_KDH` or `RBT_KDH` that parsed and whose revocation list is good.
#[derive(Clone, Debug)]
#[must_use]
pub struct CurrentKdhToken {
    digest: TokenDigest,
    token: KdhToken,
    crl: VerifiedCrl,
}

#[derive(Clone, Debug)]
enum KdhToken {
    Unbind(KdhUnbindToken),
    Rebind(KdhRebindToken),
}

impl CurrentKdhToken {
    /// The first half of [`verify_kdh_unbind`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn unbind(token: &[u8], trust: &KdhTrust<'_>) -> Result<Self, BindingTokenRefusal> {
        let parsed = KdhUnbindToken::parse(trust.profile, token)?;
        Ok(Self {
            digest: TokenDigest::of(token),
            crl: trust.verify_crl(parsed.crl())?,
            token: KdhToken::Unbind(parsed),
        })
    }

    /// The first half of [`verify_kdh_rebind`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn rebind(token: &[u8], trust: &KdhTrust<'_>) -> Result<Self, BindingTokenRefusal> {
        let parsed = KdhRebindToken::parse(trust.profile, token)?;
        Ok(Self {
            digest: TokenDigest::of(token),
            crl: trust.verify_crl(parsed.crl())?,
            token: KdhToken::Rebind(parsed),
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
    pub fn verify_origin(
        self,
        expected: &KdhTokenExpectation<'_>,
    ) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
        let Self { digest, token, crl } = self;
        let (signed, nonce, krd) = match &token {
            KdhToken::Unbind(token) => (token.signed_by(), token.nonce(), token.krd()),
            KdhToken::Rebind(token) => (token.signed_by(), token.nonce(), token.krd()),
        };
        let kdh = expected.trust.verify_certificate(expected.kdh, &crl)?;
        if signed.signer() != kdh.id() {
            return Err(KdhRefusal::OtherKdh.into());
        }
        verify_signature(kdh.public_key(), signed)?;
        if nonce != expected.nonce {
            return Err(BindingTokenRefusal::Nonce);
        }
        require_own(krd, expected.own_id)?;
        let content = match &token {
            KdhToken::Unbind(_) => Content::KdhUnbind {
                signer: Kdh::from(&kdh),
            },
            KdhToken::Rebind(token) => Content::KdhRebind {
                signer: Kdh::from(&kdh),
                new: verify_new(token.new_kdh_certificate(), &expected.trust, &crl)?,
            },
        };
        Ok(VerifiedBindingToken { digest, content })
    }
}

/// Checks `UBT_KDH`, in this order: it parses; the revocation list's signature, freshness and number;
/// the KDH is not listed; its certificate's path and role; it is the KDH that the terminal is bound to;
/// its signature; the nonce; the terminal that it names.
///
/// # Errors
/// The first check that fails.
pub fn verify_kdh_unbind(
    token: &[u8],
    expected: &KdhTokenExpectation<'_>,
) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
    CurrentKdhToken::unbind(token, &expected.trust)?.verify_origin(expected)
}

/// Checks `RBT_KDH` as [`verify_kdh_unbind`] does its token, and then the certificate of the new KDH as
/// that of any KDH.
///
/// # Errors
/// The first check that fails.
pub fn verify_kdh_rebind(
    token: &[u8],
    expected: &KdhTokenExpectation<'_>,
) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
    CurrentKdhToken::rebind(token, &expected.trust)?.verify_origin(expected)
}

/// Checks `UBT_CA`, in this order: it parses; it is by the preset `CA_KRD`, which holds now; its
/// signature; the terminal that it names.
///
/// # Errors
/// The first check that fails.
pub fn verify_ca_unbind(
    token: &[u8],
    expected: &CaTokenExpectation<'_>,
) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
    let parsed = CaUnbindToken::parse(expected.trust.profile, token)?;
    expected.verify_origin(parsed.signed_by())?;
    require_own(parsed.krd(), expected.own_id)?;
    Ok(VerifiedBindingToken {
        digest: TokenDigest::of(token),
        content: Content::CaUnbind {
            kdh: parsed.kdh().clone(),
        },
    })
}

/// Checks `RBT_CA` as [`verify_ca_unbind`] does its token, and then the signing time, the revocation
/// list that the terminal remembers, and the certificate of the new KDH as that of any KDH.
///
/// # Errors
/// The first check that fails.
pub fn verify_ca_rebind(
    token: &[u8],
    expected: &CaTokenExpectation<'_>,
) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
    let parsed = CaRebindToken::parse(expected.trust.profile, token)?;
    expected.verify_origin(parsed.signed_by())?;
    require_own(parsed.krd(), expected.own_id)?;
    expected.signing_time.verify(parsed.signing_time())?;
    let crl = expected.trust.verify_crl(None)?;
    Ok(VerifiedBindingToken {
        digest: TokenDigest::of(token),
        content: Content::CaRebind {
            kdh: parsed.kdh().clone(),
            new: verify_new(parsed.new_kdh_certificate(), &expected.trust, &crl)?,
        },
    })
}

impl CaTokenExpectation<'_> {
    fn verify_origin(&self, signed: &SignerPart) -> Result<(), BindingTokenRefusal> {
        if *signed.signer() != self.ca.issuer_and_serial()? {
            return Err(BindingTokenRefusal::OtherCa);
        }
        let now = self.trust.now;
        if now < self.ca.not_before() || now > self.ca.not_after() {
            return Err(BindingTokenRefusal::CaValidity);
        }
        verify_signature(self.ca.public_key(), signed)
    }
}

fn verify_signature(key: &PublicKey, signed: &SignerPart) -> Result<(), BindingTokenRefusal> {
    key.verify(signed.signed_bytes(), signed.signature())
        .map_err(|_| BindingTokenRefusal::Signature)
}

fn require_own(krd: &IssuerAndSerial, own_id: &IssuerAndSerial) -> Result<(), BindingTokenRefusal> {
    if krd == own_id {
        return Ok(());
    }
    Err(BindingTokenRefusal::OtherKrd)
}

fn verify_new(
    certificate: &[u8],
    trust: &KdhTrust<'_>,
    crl: &VerifiedCrl,
) -> Result<Box<Kdh>, BindingTokenRefusal> {
    let certificate = Certificate::from_der(certificate)?;
    let credential = trust
        .verify_certificate(&certificate, crl)
        .map_err(BindingTokenRefusal::NewKdh)?;
    Ok(Box::new(Kdh::from(&credential)))
}
