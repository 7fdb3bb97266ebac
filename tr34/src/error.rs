//! Why bytes are not the token that they claim to be.

use std::fmt;

use crate::KbhError;

/// The message, or the part of one, that was being read or built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// `RT_KRD`.
    RandomToken,
    /// `CT_KRD`.
    KrdCredential,
    /// `CT_KDH`.
    KdhCredential,
    /// `KT_KDH`.
    KeyToken,
    /// The `EnvelopedData` inside a `KT_KDH`.
    EnvelopedData,
    /// The clear key block.
    KeyBlock,
    /// An `IssuerAndSerialNumber`.
    Identity,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RandomToken => "RT_KRD",
            Self::KrdCredential => "CT_KRD",
            Self::KdhCredential => "CT_KDH",
            Self::KeyToken => "KT_KDH",
            Self::EnvelopedData => "EnvelopedData",
            Self::KeyBlock => "key block",
            Self::Identity => "IssuerAndSerialNumber",
        })
    }
}

/// A token was refused, or could not be built from what was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{token}: {rule}")]
pub struct MalformedToken {
    /// What was being read or built.
    pub token: TokenKind,
    /// The rule that it breaks.
    #[source]
    pub rule: Rule,
}

/// The rules of this profile, one per way to break it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Not strict DER of the expected structure.
    #[error("not the expected DER structure")]
    Der(#[from] der::Error),
    /// The key block header is not acceptable.
    #[error("key block header")]
    Header(#[from] KbhError),
}
