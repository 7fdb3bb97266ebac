//! Why bytes are not the token that they claim to be.

use std::fmt;

use der::{Tag, asn1::ObjectIdentifier};

use crate::{KbhError, MAX_TOKEN_LEN};

/// The message, or the part of one, that was being read or built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// `RT_KRD`.
    RandomToken,
    /// `CT_KRD`.
    KrdCredential,
    /// `CT_KDH`.
    KdhCredential,
    /// `KT_KDH`, outside its `EnvelopedData`.
    KeyToken,
    /// `UBT_KDH`.
    KdhUnbind,
    /// `RBT_KDH`.
    KdhRebind,
    /// `UBT_CA`.
    CaUnbind,
    /// `RBT_CA`.
    CaRebind,
    /// The `EnvelopedData` of a `KT_KDH`.
    EnvelopedData,
    /// The clear key block.
    KeyBlock,
    /// An `IssuerAndSerialNumber` by itself.
    Identity,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RandomToken => "RT_KRD",
            Self::KrdCredential => "CT_KRD",
            Self::KdhCredential => "CT_KDH",
            Self::KeyToken => "KT_KDH",
            Self::KdhUnbind => "UBT_KDH",
            Self::KdhRebind => "RBT_KDH",
            Self::CaUnbind => "UBT_CA",
            Self::CaRebind => "RBT_CA",
            Self::EnvelopedData => "EnvelopedData",
            Self::KeyBlock => "key block",
            Self::Identity => "IssuerAndSerialNumber",
        })
    }
}

/// Bytes that are not a token of this profile, or parts that cannot make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{token}{at}: {rule}", at = At(.offset))]
pub struct MalformedToken {
    /// What was being read or built.
    pub token: TokenKind,
    /// Where in the bytes that were given, when they were read.
    pub offset: Option<usize>,
    /// The rule that was broken.
    pub rule: Rule,
}

impl MalformedToken {
    /// About a part that was given by itself, where offsets are not those of the token.
    pub(crate) const fn of_part(self) -> Self {
        Self {
            offset: None,
            ..self
        }
    }
}

/// An offset in a message.
struct At<'a>(&'a Option<usize>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, ", at byte {offset}"),
            None => Ok(()),
        }
    }
}

impl TokenKind {
    /// For `map_err`, where a token is built.
    pub(crate) fn breaks(self) -> impl Fn(Rule) -> MalformedToken {
        move |rule| MalformedToken {
            token: self,
            offset: None,
            rule,
        }
    }
}

/// The rules of this profile. A field is named as in RFC 5652.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A token is at most [`MAX_TOKEN_LEN`] bytes long.
    #[error("{found} bytes, more than {MAX_TOKEN_LEN}")]
    TooLong {
        /// Bytes.
        found: usize,
    },
    /// A token is DER.
    #[error("{field} is not the DER expected: {error}")]
    Der {
        /// What should stand here.
        field: &'static str,
        /// What is wrong with it.
        error: der::ErrorKind,
    },
    /// A structure has all its fields.
    #[error("{field} expected, and nothing follows")]
    Missing {
        /// What should stand here.
        field: &'static str,
    },
    /// A structure has its fields in their order, each of its type.
    #[error("{field} expected, of type {expected}, and {found} found")]
    Tag {
        /// What should stand here.
        field: &'static str,
        /// Its tag.
        expected: Tag,
        /// The tag that stands here.
        found: Tag,
    },
    /// A structure ends where it ends.
    #[error("nothing more expected in {field}")]
    Surplus {
        /// The structure.
        field: &'static str,
    },
    /// A name is written as DER would write it, sets in order.
    #[error("{field} is not in its DER form")]
    NotCanonical {
        /// What is not.
        field: &'static str,
    },
    /// A name is made of sets with attributes.
    #[error("{field} has a set without attributes")]
    EmptySet {
        /// Whose name it is.
        field: &'static str,
    },
    /// A name's values are text, in a string type that every reader knows.
    #[error("{field} has a value that is no text")]
    NotText {
        /// Whose name it is.
        field: &'static str,
    },
    /// Each structure has one version.
    #[error("{field} has version {found}")]
    Version {
        /// The structure.
        field: &'static str,
        /// Its version.
        found: u8,
    },
    /// Each content has one type.
    #[error("{field} holds content of type {found}")]
    ContentType {
        /// The structure.
        field: &'static str,
        /// The type in it.
        found: ObjectIdentifier,
    },
    /// Only this profile's algorithms, with its parameters.
    #[error("{field} or its parameters are not of this profile")]
    Algorithm {
        /// The algorithm's field.
        field: &'static str,
    },
    /// One signer, one recipient, one CRL, each attribute once and with one value.
    #[error("{found} of {field}, not one")]
    NotExactlyOne {
        /// What there must be one of.
        field: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A field that CMS knows and this token does not have.
    #[error("{field} is present")]
    Unexpected {
        /// The field.
        field: &'static str,
    },
    /// Each token has its signed attributes and no others.
    #[error("an attribute of type {found} is not for this token")]
    UnknownAttribute {
        /// The attribute's type.
        found: ObjectIdentifier,
    },
    /// The signed attributes are in the order of the profile, which is DER's for a SET OF or the printed
    /// one.
    #[error("signedAttrs are not in the order of this profile")]
    AttributeOrder,
    /// A signing time is a `UTCTime` to 2049 and a `GeneralizedTime` after (RFC 5652 11.3), in whole
    /// seconds.
    #[error("signingTime is not written as RFC 5652 has it")]
    SigningTime,
    /// A rebind token leads to another KDH than the one that it names.
    #[error("the new KDH is the old one")]
    SameKdh,
    /// Byte strings have the lengths that their algorithms give them.
    #[error("{field} has {found} bytes")]
    Length {
        /// The byte string.
        field: &'static str,
        /// Its length.
        found: usize,
    },
    /// A serial number is positive and has at most 20 bytes (RFC 5280 4.1.2.2).
    #[error("serial number is not positive or too long")]
    SerialNumber,
    /// The signed digest is that of the content.
    #[error("messageDigest is not the digest of the content")]
    DigestMismatch,
    /// The key block header has values of TR-31.
    #[error(transparent)]
    Header(#[from] KbhError),
}
