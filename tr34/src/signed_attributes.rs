//! What the KDH signs in a two-pass key token: content type, header, nonce and digest.

use der::{
    Decode, Reader, SliceReader,
    asn1::{ObjectIdentifier, OctetStringRef},
};

use crate::{Kbh, KrdNonce, Rule, encode, expect, oid, wire};

/// Bytes of a SHA-256 digest.
const DIGEST_LEN: usize = 32;

pub(crate) struct SignedAttributes {
    pub(crate) header: Kbh,
    pub(crate) nonce: KrdNonce,
    pub(crate) message_digest: [u8; DIGEST_LEN],
}

impl SignedAttributes {
    /// The attributes one after another, in DER's order: a set's content without tag and length,
    /// which differ between what is signed and what is sent.
    pub(crate) fn to_set_content(&self) -> Vec<u8> {
        let mut attributes = [
            encode::attribute(
                oid::CONTENT_TYPE,
                &encode::object_identifier(oid::ENVELOPED_DATA),
            ),
            self.header.to_attribute(),
            self.nonce.to_attribute(),
            encode::attribute(
                oid::MESSAGE_DIGEST,
                &encode::octet_string(&self.message_digest),
            ),
        ];
        attributes.sort();
        attributes.concat()
    }

    /// From the content of the set as received.
    ///
    /// No attribute but the four: a signingTime, for one, belongs to the one-pass token.
    pub(crate) fn parse(set_content: &[u8]) -> Result<Self, Rule> {
        let encodings = elements(set_content)?;
        if !encodings.is_sorted() {
            return Err(Rule::AttributesUnsorted);
        }
        let attributes = encodings
            .into_iter()
            .map(wire::Attribute::from_der)
            .collect::<Result<Vec<_>, _>>()?;
        let known = [
            oid::CONTENT_TYPE,
            oid::KEY_BLOCK_HEADER,
            oid::RANDOM_NONCE,
            oid::MESSAGE_DIGEST,
        ];
        if let Some(unknown) = attributes.iter().find(|one| !known.contains(&one.oid)) {
            return Err(Rule::UnknownAttribute { found: unknown.oid });
        }

        let content_type = once(&attributes, oid::CONTENT_TYPE, "contentType")?;
        let header = once(&attributes, oid::KEY_BLOCK_HEADER, "key block header")?;
        let nonce = once(&attributes, oid::RANDOM_NONCE, "randomNonce")?;
        let digest = once(&attributes, oid::MESSAGE_DIGEST, "messageDigest")?;

        let content_type = content_type.value_of(oid::CONTENT_TYPE, "contentType")?;
        expect::content_type("contentType", content_type, oid::ENVELOPED_DATA)?;
        let digest: &OctetStringRef = digest.value_of(oid::MESSAGE_DIGEST, "messageDigest")?;
        Ok(Self {
            header: Kbh::of_attribute(header)?,
            nonce: KrdNonce::of_attribute(nonce)?,
            message_digest: digest.as_bytes().try_into().map_err(|_| Rule::Length {
                field: "messageDigest",
                found: digest.as_bytes().len(),
            })?,
        })
    }
}

/// The encodings that stand one behind the other.
fn elements(content: &[u8]) -> Result<Vec<&[u8]>, Rule> {
    let mut reader = SliceReader::new(content)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(reader.tlv_bytes()?);
    }
    Ok(elements)
}

/// The only attribute of a type.
fn once<'s, 'a>(
    attributes: &'s [wire::Attribute<'a>],
    oid: ObjectIdentifier,
    field: &'static str,
) -> Result<&'s wire::Attribute<'a>, Rule> {
    let of_type: Vec<_> = attributes.iter().filter(|one| one.oid == oid).collect();
    match of_type[..] {
        [one] => Ok(one),
        _ => Err(Rule::NotExactlyOne {
            field,
            found: of_type.len(),
        }),
    }
}
