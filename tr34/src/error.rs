//! Why bytes are not the token that they claim to be.

use std::fmt;

use der::asn1::ObjectIdentifier;

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
            Self::EnvelopedData => "EnvelopedData",
            Self::KeyBlock => "key block",
            Self::Identity => "IssuerAndSerialNumber",
        })
    }
}

/// Bytes that are not a token of this profile, or parts that cannot make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{token}: {rule}")]
pub struct MalformedToken {
    /// What was being read or built.
    pub token: TokenKind,
    /// The rule that was broken.
    pub rule: Rule,
}

impl TokenKind {
    /// For `map_err`.
    pub(crate) fn breaks(self) -> impl Fn(Rule) -> MalformedToken {
        move |rule| MalformedToken { token: self, rule }
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
    /// A token is DER, has the fields of its type in their order, and ends where it ends.
    #[error("not the DER expected: {0}")]
    Der(#[from] der::Error),
    /// A name is written as DER would write it, sets in order.
    #[error("{field} is not in its DER form")]
    NotCanonical {
        /// What is not.
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
    /// The signed attributes are the four of a two-pass token.
    #[error("an attribute of type {found} is not for this token")]
    UnknownAttribute {
        /// The attribute's type.
        found: ObjectIdentifier,
    },
    /// The signed attributes are in DER's order for a SET OF.
    #[error("signedAttrs are not in DER order")]
    AttributesUnsorted,
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
