//! The dialects of the field: how TR-34's messages are written, and so what is read.
//!
//! A profile is a value of [`Layout`]; whatever differs between two profiles is a field of it, and the
//! messages ask the field, never the name.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::{OaepHash, oaep};

/// A way in which TR-34's messages are written. A reader of one profile takes that profile's bytes and
/// no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The samples of TR-34:2019 as corrected, in sound CMS that ordinary readers take.
    #[default]
    X9_2019,
    /// The same with the key block of Annex D: version 0, and the header as a plain OCTET STRING.
    X9_2019AnnexD,
    /// As the samples of Annex B are encoded: untagged OAEP parameters, attributes in the order printed,
    /// `SignedData` of version 1, the rebind's inner `SignedData` without tag and length.
    X9_2019Samples,
    /// The layout of TR-34:2012, which AWS Payment Cryptography, payShield and Atalla exchange.
    Aws2012,
    /// What Clover's public host makes with Bouncy Castle, and checks.
    Clover,
}

impl Profile {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::X9_2019,
        Self::X9_2019AnnexD,
        Self::X9_2019Samples,
        Self::Aws2012,
        Self::Clover,
    ];

    /// As configurations and reports spell it.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// Bytes of the nonces that terminals of this profile make.
    pub const fn nonce_len(self) -> usize {
        *self.layout().nonce_len.end()
    }

    /// Whether key, unbind and rebind tokens bring the CRL of the KDH's CA.
    pub const fn carries_crl(self) -> bool {
        self.layout().crl
    }

    /// Whether its tokens can say that RSAES-OAEP uses this hash.
    pub fn has_oaep_hash(self, hash: OaepHash) -> bool {
        oaep::algorithm(self, hash).is_ok()
    }

    pub(crate) const fn layout(self) -> &'static Layout {
        match self {
            Self::X9_2019 => &X9_2019,
            Self::X9_2019AnnexD => &X9_2019_ANNEX_D,
            Self::X9_2019Samples => &X9_2019_SAMPLES,
            Self::Aws2012 => &AWS_2012,
            Self::Clover => &CLOVER,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no profile is called \"{0}\"; there are x9-2019, x9-2019-annex-d, x9-2019-samples, aws-2012 and clover"
)]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// What differs between profiles. Where a field is a list, its first element is what is written, and all
/// are read.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a difference by itself"
)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) signed_data_version: SignedDataVersion,
    pub(crate) signature_algorithm: SignatureAlgorithm,
    pub(crate) attribute_order: AttributeOrder,
    /// Whether each signed token has a signing time, beside its nonce too.
    pub(crate) always_signing_time: bool,
    /// Whether each signed token has the attribute of RFC 6211, which repeats its algorithms.
    pub(crate) algorithm_protection: bool,
    /// Whether `UBT_CA` has signed attributes; without them the signature is over the content.
    pub(crate) ca_unbind_attributes: bool,
    /// Bytes of a nonce; the longest is what is made.
    pub(crate) nonce_len: RangeInclusive<usize>,
    /// Whether tokens that a KDH signs bring the CRL of its CA.
    pub(crate) crl: bool,
    /// Where `CT_KDH` has its CRL.
    pub(crate) credential_crl: CredentialCrl,
    /// Whether a credential token has an empty content, or none.
    pub(crate) credential_content: bool,
    /// The `EnvelopedData` in a key token.
    pub(crate) envelope: Embedding,
    /// The inner `SignedData` in a rebind token.
    pub(crate) new_credential: Embedding,
    /// Whether that inner `SignedData` has an empty set of CRLs, or no such field.
    pub(crate) new_credential_crls: bool,
    pub(crate) ciphertext: &'static [CiphertextPlace],
    pub(crate) oaep: OaepForm,
    /// Whether an AES IV whose second half is zero is written as its first half.
    pub(crate) short_aes_iv: bool,
    pub(crate) key_block: KeyBlockForm,
}

/// The version of a `SignedData` that has a signer.
#[derive(Clone, Copy)]
pub(crate) enum SignedDataVersion {
    /// RFC 5652 5.1: 3, or 1 for content of type id-data.
    ByContent,
    /// 1.
    One,
}

/// What names a signature by RSA PKCS#1 v1.5 with SHA-256; the parameters are NULL either way.
#[derive(Clone, Copy)]
pub(crate) enum SignatureAlgorithm {
    /// rsaEncryption, the hash being that of the digest algorithm (RFC 3370 3.2).
    RsaEncryption,
    /// sha256WithRSAEncryption (RFC 5754 3.2).
    Sha256WithRsaEncryption,
}

/// How signed attributes are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttributeOrder {
    /// As DER orders a SET OF.
    Der,
    /// contentType, nonce or time, header, digest.
    Printed,
}

/// Where `CT_KDH` has its CRL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialCrl {
    /// RFC 5652 5.1.
    BeforeSigners,
    /// As printed.
    AfterSigners,
}

/// How a structure stands in the OCTET STRING of `encapContentInfo`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Embedding {
    /// The whole element.
    Element,
    /// The content of its SEQUENCE, without tag and length.
    Content,
}

/// Where an `EnvelopedData` has its ciphertext.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CiphertextPlace {
    /// RFC 5652 6.1: third element of encryptedContentInfo.
    EncryptedContent,
    /// Behind the IV, in the algorithm identifier.
    InAlgorithm,
}

/// How RSAES-OAEP's parameters are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OaepForm {
    /// RFC 4055 4.1: explicit tags, defaults left out. The hash of MGF1 is written without parameters;
    /// read is what RFC 4055 2.1 allows, NULL or none.
    Tagged,
    /// The same, the hash of MGF1 with NULL.
    TaggedWithNull,
    /// As printed: three bare SEQUENCEs, SHA-256 only.
    Untagged,
}

/// How the clear key block is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyBlockForm {
    /// As in the samples: version 1, the header as an attribute.
    Attribute,
    /// Annex D: version 0, the header as an OCTET STRING.
    OctetString,
}

const X9_2019: Layout = Layout {
    name: "x9-2019",
    signed_data_version: SignedDataVersion::ByContent,
    signature_algorithm: SignatureAlgorithm::RsaEncryption,
    attribute_order: AttributeOrder::Der,
    always_signing_time: false,
    algorithm_protection: false,
    ca_unbind_attributes: false,
    nonce_len: 16..=16,
    crl: true,
    credential_crl: CredentialCrl::BeforeSigners,
    credential_content: true,
    envelope: Embedding::Element,
    new_credential: Embedding::Element,
    new_credential_crls: false,
    ciphertext: &[CiphertextPlace::EncryptedContent],
    oaep: OaepForm::Tagged,
    short_aes_iv: false,
    key_block: KeyBlockForm::Attribute,
};

const X9_2019_ANNEX_D: Layout = Layout {
    name: "x9-2019-annex-d",
    key_block: KeyBlockForm::OctetString,
    ..X9_2019
};

const X9_2019_SAMPLES: Layout = Layout {
    name: "x9-2019-samples",
    signed_data_version: SignedDataVersion::One,
    attribute_order: AttributeOrder::Printed,
    nonce_len: 8..=16,
    credential_crl: CredentialCrl::AfterSigners,
    new_credential: Embedding::Content,
    // The second place is that of the samples before their corrigendum.
    ciphertext: &[
        CiphertextPlace::EncryptedContent,
        CiphertextPlace::InAlgorithm,
    ],
    oaep: OaepForm::Untagged,
    short_aes_iv: true,
    ..X9_2019
};

const AWS_2012: Layout = Layout {
    name: "aws-2012",
    nonce_len: 8..=8,
    crl: false,
    credential_crl: CredentialCrl::BeforeSigners,
    envelope: Embedding::Content,
    ciphertext: &[CiphertextPlace::InAlgorithm],
    short_aes_iv: false,
    ..X9_2019_SAMPLES
};

const CLOVER: Layout = Layout {
    name: "clover",
    signature_algorithm: SignatureAlgorithm::Sha256WithRsaEncryption,
    always_signing_time: true,
    algorithm_protection: true,
    ca_unbind_attributes: true,
    nonce_len: 8..=16,
    crl: false,
    credential_content: false,
    new_credential_crls: true,
    oaep: OaepForm::TaggedWithNull,
    ..X9_2019
};
