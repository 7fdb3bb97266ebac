//! Which token some bytes are: each kind's parser is tried under each profile.

use std::cmp::Ordering;

use der::{Decode, Header, Tag};
use tr34::{
    CaRebindToken, CaUnbindToken, EnvelopedKeyBlock, Freshness, KdhCredentialToken, KdhRebindToken,
    KdhUnbindToken, KeyBlock, KeyToken, KrdCredentialToken, MalformedToken, Profile, RandomToken,
    TokenKind,
};
use x509_cert::{certificate::Rfc5280, crl::CertificateList};

/// A token of some kind.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is what its type is")]
pub enum Token<'a> {
    Random(RandomToken),
    KrdCredential(KrdCredentialToken),
    KdhCredential(KdhCredentialToken),
    Key(KeyToken),
    KdhUnbind(KdhUnbindToken),
    KdhRebind(KdhRebindToken),
    CaUnbind(CaUnbindToken),
    CaRebind(CaRebindToken),
    Enveloped(EnvelopedKeyBlock),
    KeyBlock(KeyBlock<'a>),
}

/// In the order in which they are tried. No bytes are a token of two kinds; of broken ones the first that
/// came as far as any other is said to be nearest.
const KINDS: [TokenKind; 10] = [
    TokenKind::KeyToken,
    TokenKind::RandomToken,
    TokenKind::KrdCredential,
    TokenKind::KdhCredential,
    TokenKind::KdhUnbind,
    TokenKind::KdhRebind,
    TokenKind::CaUnbind,
    TokenKind::CaRebind,
    TokenKind::EnvelopedData,
    TokenKind::KeyBlock,
];

impl<'a> Token<'a> {
    /// As a token of this kind and profile.
    fn parse(kind: TokenKind, profile: Profile, der: &'a [u8]) -> Result<Self, MalformedToken> {
        match kind {
            TokenKind::RandomToken => RandomToken::parse(profile, der).map(Self::Random),
            TokenKind::KrdCredential => {
                KrdCredentialToken::parse(profile, der).map(Self::KrdCredential)
            }
            TokenKind::KdhCredential => {
                KdhCredentialToken::parse(profile, der).map(Self::KdhCredential)
            }
            TokenKind::KeyToken => KeyToken::parse(profile, der).map(Self::Key),
            TokenKind::KdhUnbind => KdhUnbindToken::parse(profile, der).map(Self::KdhUnbind),
            TokenKind::KdhRebind => KdhRebindToken::parse(profile, der).map(Self::KdhRebind),
            TokenKind::CaUnbind => CaUnbindToken::parse(profile, der).map(Self::CaUnbind),
            TokenKind::CaRebind => CaRebindToken::parse(profile, der).map(Self::CaRebind),
            TokenKind::EnvelopedData => EnvelopedKeyBlock::parse(profile, der).map(Self::Enveloped),
            TokenKind::KeyBlock | TokenKind::Identity => {
                KeyBlock::parse(profile, der).map(Self::KeyBlock)
            }
        }
    }

    /// The word for its kind in reports: stable.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Random(_) => "rt-krd",
            Self::KrdCredential(_) => "ct-krd",
            Self::KdhCredential(_) => "ct-kdh",
            Self::Key(token) => match token.freshness() {
                Freshness::Nonce(_) => "kt-kdh-two-pass",
                Freshness::SigningTime(_) => "kt-kdh-one-pass",
            },
            Self::KdhUnbind(_) => "ubt-kdh",
            Self::KdhRebind(_) => "rbt-kdh",
            Self::CaUnbind(_) => "ubt-ca",
            Self::CaRebind(_) => "rbt-ca",
            Self::Enveloped(_) => "enveloped-data",
            Self::KeyBlock(_) => "key-block",
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> TokenKind {
        match self {
            Self::Random(_) => TokenKind::RandomToken,
            Self::KrdCredential(_) => TokenKind::KrdCredential,
            Self::KdhCredential(_) => TokenKind::KdhCredential,
            Self::Key(_) => TokenKind::KeyToken,
            Self::KdhUnbind(_) => TokenKind::KdhUnbind,
            Self::KdhRebind(_) => TokenKind::KdhRebind,
            Self::CaUnbind(_) => TokenKind::CaUnbind,
            Self::CaRebind(_) => TokenKind::CaRebind,
            Self::Enveloped(_) => TokenKind::EnvelopedData,
            Self::KeyBlock(_) => TokenKind::KeyBlock,
        }
    }
}

/// Bytes that are no token of any profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecognised {
    /// Not one SEQUENCE, as every token is.
    #[error("at byte 0: a SEQUENCE (30) expected")]
    NoSequence,
    /// Cut off.
    #[error("at byte {found}: it ends here, and {expected} bytes were expected")]
    CutOff {
        /// Bytes that its own length says.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Something stands behind it.
    #[error("at byte {expected}: nothing more expected, and {} bytes follow", found - expected)]
    Followed {
        /// Bytes that its own length says.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A certificate by itself.
    #[error("it is a certificate, and no token: openssl x509 -text shows it")]
    Certificate,
    /// A revocation list by itself.
    #[error("it is a revocation list, and no token: openssl crl -text shows it")]
    RevocationList,
    /// It is one SEQUENCE, and none that any profile has.
    #[error("it comes nearest to one of profile {profile}, and is none: {error}")]
    Refused {
        /// The profile whose reader came furthest.
        profile: Profile,
        /// Where it stopped, and what it expected there.
        error: MalformedToken,
    },
}

/// The token, with all profiles that write it so; the default one comes first if it is among them.
///
/// # Errors
/// No profile does. The refusal of the reader that came furthest says what was expected, and where.
pub fn recognise(der: &[u8]) -> Result<(Token<'_>, Vec<Profile>), Unrecognised> {
    expect_one_sequence(der)?;
    let mut nearest: Option<(Profile, MalformedToken)> = None;
    for kind in KINDS {
        let mut fitting = None;
        for profile in Profile::ALL {
            match Token::parse(kind, profile, der) {
                Ok(token) => {
                    let (_, profiles) = fitting.get_or_insert_with(|| (token, Vec::new()));
                    profiles.push(profile);
                }
                Err(error) => {
                    let came = nearest.as_ref().map(|(_, nearest)| reached(nearest));
                    if came.is_none_or(|came| reached(&error) > came) {
                        nearest = Some((profile, error));
                    }
                }
            }
        }
        if let Some(found) = fitting {
            return Ok(found);
        }
    }
    if x509_cert::Certificate::from_der(der).is_ok() {
        return Err(Unrecognised::Certificate);
    }
    if CertificateList::<Rfc5280>::from_der(der).is_ok() {
        return Err(Unrecognised::RevocationList);
    }
    match nearest {
        Some((profile, error)) => Err(Unrecognised::Refused { profile, error }),
        None => Err(Unrecognised::NoSequence),
    }
}

/// Whether the bytes are one SEQUENCE from end to end, whatever is in it.
fn expect_one_sequence(der: &[u8]) -> Result<(), Unrecognised> {
    let header = Header::from_der_partial(der);
    let Some((header, content)) = header.ok().filter(|(it, _)| it.tag() == Tag::Sequence) else {
        return Err(Unrecognised::NoSequence);
    };
    let (content_len, found) = (usize::try_from(header.length()), der.len());
    let expected = (found - content.len()).saturating_add(content_len.unwrap_or(usize::MAX));
    match found.cmp(&expected) {
        Ordering::Less => Err(Unrecognised::CutOff { expected, found }),
        Ordering::Greater => Err(Unrecognised::Followed { expected, found }),
        Ordering::Equal => Ok(()),
    }
}

/// How far a reader came. One that read to the end and refused the whole came furthest.
fn reached(error: &MalformedToken) -> usize {
    error.offset.unwrap_or(usize::MAX)
}
