//! DER written by other code than that which is tested.

use der::{Any, Encode, Tag, TagNumber, asn1::ObjectIdentifier};

pub const DATA: &str = "1.2.840.113549.1.7.1";
pub const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
pub const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
pub const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
pub const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
pub const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
pub const RANDOM_NONCE: &str = "1.2.840.113549.1.9.25.3";
pub const ALGORITHM_PROTECTION: &str = "1.2.840.113549.1.9.52";
pub const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
pub const RSAES_OAEP: &str = "1.2.840.113549.1.1.7";
pub const MGF1: &str = "1.2.840.113549.1.1.8";
pub const P_SPECIFIED: &str = "1.2.840.113549.1.1.9";
pub const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
pub const SHA_256_WITH_RSA: &str = "1.2.840.113549.1.1.11";
pub const SHA_1: &str = "1.3.14.3.2.26";
pub const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
pub const SHA_384: &str = "2.16.840.1.101.3.4.2.2";
pub const DES_EDE3_CBC: &str = "1.2.840.113549.3.7";
pub const DES_CBC: &str = "1.3.14.3.2.7";
pub const AES_128_CBC: &str = "2.16.840.1.101.3.4.1.2";
pub const AES_192_CBC: &str = "2.16.840.1.101.3.4.1.22";

pub const NULL: &[u8] = &[0x05, 0x00];

/// A `Name` with one common name.
pub fn name(common_name: &str) -> Vec<u8> {
    let value = element(Tag::Utf8String, &[common_name.as_bytes()]);
    sequence(&[&set(&[&sequence(&[&oid("2.5.4.3"), &value])])])
}

pub fn element(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    Any::new(tag, parts.concat()).unwrap().to_der().unwrap()
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(Tag::Sequence, parts)
}

pub fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(Tag::Set, parts)
}

pub fn octets(content: &[u8]) -> Vec<u8> {
    element(Tag::OctetString, &[content])
}

pub fn integer(value: u8) -> Vec<u8> {
    value.to_der().unwrap()
}

/// From the bytes inside, right or wrong.
pub fn integer_of(content: &[u8]) -> Vec<u8> {
    element(Tag::Integer, &[content])
}

pub fn oid(dotted: &str) -> Vec<u8> {
    ObjectIdentifier::new(dotted).unwrap().to_der().unwrap()
}

/// A context-specific tag.
pub fn context(number: u16, constructed: bool, parts: &[&[u8]]) -> Vec<u8> {
    let number = TagNumber(number.into());
    element(
        Tag::ContextSpecific {
            constructed,
            number,
        },
        parts,
    )
}

pub fn tagged(number: u16, parts: &[&[u8]]) -> Vec<u8> {
    context(number, true, parts)
}

pub fn algorithm(dotted: &str, parameters: &[u8]) -> Vec<u8> {
    sequence(&[&oid(dotted), parameters])
}

pub fn attribute(dotted: &str, values: &[&[u8]]) -> Vec<u8> {
    sequence(&[&oid(dotted), &set(values)])
}
