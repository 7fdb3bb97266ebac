//! DER from its parts.
//!
//! What this crate writes is always within DER's limits, so writing cannot fail, and the key block
//! needs headers for content that nobody here may hold. Reading is the `der` crate's.

use der::asn1::ObjectIdentifier;

use crate::{
    Profile, oid,
    profile::{Embedding, SignatureAlgorithm},
};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, primitive: the ciphertext's implicit tag.
pub(crate) const CONTEXT_0_PRIMITIVE: u8 = 0x80;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xA0;
/// `[1]`, constructed.
pub(crate) const CONTEXT_1: u8 = 0xA1;

/// The whole element NULL.
pub(crate) const NULL: &[u8] = &[0x05, 0x00];

/// One element: tag, length in its shortest form, and the parts of the content one after another.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content_len = parts.iter().map(|part| part.len()).sum();
    let mut der = header(tag, content_len);
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

/// Tag and length in front of `content_len` bytes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a length below 128, and the number of a length's own bytes, fit a byte"
)]
pub(crate) fn header(tag: u8, content_len: usize) -> Vec<u8> {
    if content_len < 0x80 {
        return vec![tag, content_len as u8];
    }
    let bytes = content_len.to_be_bytes();
    let significant = &bytes[content_len.leading_zeros() as usize / 8..];
    [&[tag, 0x80 | significant.len() as u8], significant].concat()
}

/// Bytes of tag and length in front of `content_len` bytes.
pub(crate) fn header_len(content_len: usize) -> usize {
    header(0, content_len).len()
}

/// The same element under another tag.
pub(crate) fn retagged(tag: u8, element: &[u8]) -> Vec<u8> {
    [&[tag], element.get(1..).unwrap_or_default()].concat()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(SET, parts)
}

pub(crate) fn octet_string(content: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, &[content])
}

/// An INTEGER below 128, which is what versions are.
pub(crate) const fn version(number: u8) -> [u8; 3] {
    [0x02, 0x01, number]
}

pub(crate) fn object_identifier(oid: ObjectIdentifier) -> Vec<u8> {
    element(0x06, &[oid.as_bytes()])
}

/// `AlgorithmIdentifier`; absent parameters are an empty slice.
pub(crate) fn algorithm(oid: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
    sequence(&[&object_identifier(oid), parameters])
}

/// `Attribute` with one value.
pub(crate) fn attribute(oid: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    sequence(&[&object_identifier(oid), &set(&[value])])
}

/// `ContentInfo`, outer or encapsulated: RFC 5652 gives both the same form.
pub(crate) fn content_info(content_type: ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    sequence(&[
        &object_identifier(content_type),
        &element(CONTEXT_0, &[content]),
    ])
}

/// What names the signature in this profile.
pub(crate) fn signature_algorithm(profile: Profile) -> Vec<u8> {
    let oid = match profile.layout().signature_algorithm {
        SignatureAlgorithm::RsaEncryption => oid::RSA_ENCRYPTION,
        SignatureAlgorithm::Sha256WithRsaEncryption => oid::SHA_256_WITH_RSA_ENCRYPTION,
    };
    algorithm(oid, NULL)
}

/// A SEQUENCE of these parts, as it stands inside an OCTET STRING.
pub(crate) fn embedded(embedding: Embedding, parts: &[&[u8]]) -> Vec<u8> {
    match embedding {
        Embedding::Element => sequence(parts),
        Embedding::Content => parts.concat(),
    }
}
