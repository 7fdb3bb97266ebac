//! The CMS structures of RFC 5652, cut down to what this profile allows, for reading.
//!
//! A field that the profile has no use for is not declared, so `der` refuses it. Sets that must
//! hold one element are read as sets of anything and narrowed by [`only`], so that a wrong number
//! is told from a wrong element. What was signed stays an [`AnyRef`], bytes as received.

use der::{
    AnyRef, Choice, Decode, DecodeValue, Encode, Sequence,
    asn1::{ObjectIdentifier, OctetStringRef, SetOfVec},
};
use spki::AlgorithmIdentifierRef;
use x509_cert::{Certificate, crl::CertificateList};

use crate::{Rule, expect, oid};

#[derive(Sequence)]
struct ContentInfo<'a> {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: AnyRef<'a>,
}

/// RFC 5652 5.1.
#[derive(Sequence)]
pub(crate) struct SignedData<'a> {
    pub(crate) version: u8,
    pub(crate) digest_algorithms: SetOfVec<AnyRef<'a>>,
    pub(crate) encap_content_info: EncapsulatedContentInfo<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) certificates: Option<SetOfVec<AnyRef<'a>>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) crls: Option<SetOfVec<AnyRef<'a>>>,
    pub(crate) signer_infos: SetOfVec<AnyRef<'a>>,
}

/// RFC 5652 5.2, with the content present.
#[derive(Sequence)]
pub(crate) struct EncapsulatedContentInfo<'a> {
    pub(crate) content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    pub(crate) content: &'a OctetStringRef,
}

/// RFC 5652 5.3, without unsigned attributes.
#[derive(Sequence)]
pub(crate) struct SignerInfo<'a> {
    pub(crate) version: u8,
    pub(crate) sid: AnyRef<'a>,
    pub(crate) digest_algorithm: AlgorithmIdentifierRef<'a>,
    /// Tag `[0]`; not read as a set here, because that would lose the order received.
    pub(crate) signed_attributes: AnyRef<'a>,
    pub(crate) signature_algorithm: AlgorithmIdentifierRef<'a>,
    pub(crate) signature: &'a OctetStringRef,
}

/// RFC 5652 5.3.
#[derive(Sequence)]
pub(crate) struct Attribute<'a> {
    pub(crate) oid: ObjectIdentifier,
    pub(crate) values: SetOfVec<AnyRef<'a>>,
}

impl<'a> Attribute<'a> {
    /// The one value of an attribute that must be of this type.
    pub(crate) fn value_of<T>(&self, oid: ObjectIdentifier, field: &'static str) -> Result<T, Rule>
    where
        T: Choice<'a> + DecodeValue<'a, Error = der::Error>,
    {
        if self.oid != oid {
            return Err(Rule::UnknownAttribute { found: self.oid });
        }
        only(&self.values, field)
    }
}

/// RFC 5652 6.1, without originator and unprotected attributes.
#[derive(Sequence)]
pub(crate) struct EnvelopedData<'a> {
    pub(crate) version: u8,
    pub(crate) recipient_infos: SetOfVec<AnyRef<'a>>,
    pub(crate) encrypted_content_info: EncryptedContentInfo<'a>,
}

/// RFC 5652 6.2.1.
#[derive(Sequence)]
pub(crate) struct KeyTransRecipientInfo<'a> {
    pub(crate) version: u8,
    pub(crate) rid: AnyRef<'a>,
    pub(crate) key_encryption_algorithm: AlgorithmIdentifierRef<'a>,
    pub(crate) encrypted_key: &'a OctetStringRef,
}

/// RFC 5652 6.1, with the content present.
#[derive(Sequence)]
pub(crate) struct EncryptedContentInfo<'a> {
    pub(crate) content_type: ObjectIdentifier,
    pub(crate) content_encryption_algorithm: AlgorithmIdentifierRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    pub(crate) encrypted_content: &'a OctetStringRef,
}

/// RFC 5652 10.2.4.
#[derive(Sequence)]
pub(crate) struct IssuerAndSerialNumber<'a> {
    pub(crate) issuer: AnyRef<'a>,
    pub(crate) serial_number: AnyRef<'a>,
}

/// TR-34's key block, as in the published samples.
#[derive(Sequence)]
pub(crate) struct KeyBlock<'a> {
    pub(crate) version: u8,
    pub(crate) kdh: AnyRef<'a>,
    pub(crate) key: &'a OctetStringRef,
    pub(crate) header: Attribute<'a>,
}

/// Reads one whole value: nothing behind it, nothing longer than a token may be.
pub(crate) fn decode<'a, T>(der: &'a [u8]) -> Result<T, Rule>
where
    T: Decode<'a, Error = der::Error>,
{
    expect::token_len(der)?;
    Ok(T::from_der(der)?)
}

/// Reads a `ContentInfo` that holds a `SignedData` of this version.
pub(crate) fn signed_data(der: &[u8], version: u8) -> Result<SignedData<'_>, Rule> {
    let info: ContentInfo<'_> = decode(der)?;
    expect::content_type("ContentInfo", info.content_type, oid::SIGNED_DATA)?;
    let signed: SignedData<'_> = info.content.decode_as()?;
    expect::version("SignedData", signed.version, version)?;
    Ok(signed)
}

/// The one element of a set that must have exactly one.
pub(crate) fn only<'a, T>(set: &SetOfVec<AnyRef<'a>>, field: &'static str) -> Result<T, Rule>
where
    T: Choice<'a> + DecodeValue<'a, Error = der::Error>,
{
    match set.as_slice() {
        [one] => Ok(one.decode_as()?),
        elements => Err(Rule::NotExactlyOne {
            field,
            found: elements.len(),
        }),
    }
}

/// The bytes of a certificate, if that is what they are. They are kept as they are: a decoded
/// certificate written out again need not be what was signed.
pub(crate) fn certificate(der: &[u8]) -> Result<Vec<u8>, Rule> {
    decode::<Certificate>(der)?;
    Ok(der.to_vec())
}

/// The bytes of a CRL, if that is what they are; kept like those of a certificate.
pub(crate) fn crl(der: &[u8]) -> Result<Vec<u8>, Rule> {
    decode::<CertificateList>(der)?;
    Ok(der.to_vec())
}

/// The only certificate of a `SignedData`.
pub(crate) fn only_certificate(signed: &SignedData<'_>) -> Result<Vec<u8>, Rule> {
    certificate(&received(only_of(
        signed.certificates.as_ref(),
        "certificates",
    )?)?)
}

/// The only CRL of a `SignedData`.
pub(crate) fn only_crl(signed: &SignedData<'_>) -> Result<Vec<u8>, Rule> {
    crl(&received(only_of(signed.crls.as_ref(), "crls")?)?)
}

/// The one element of a set that may be left out altogether, but not here.
fn only_of<'a>(
    set: Option<&SetOfVec<AnyRef<'a>>>,
    field: &'static str,
) -> Result<AnyRef<'a>, Rule> {
    let missing = Rule::NotExactlyOne { field, found: 0 };
    only(set.ok_or(missing)?, field)
}

/// The whole encoding of an element; DER has one, so these are the bytes received.
pub(crate) fn received(element: AnyRef<'_>) -> Result<Vec<u8>, Rule> {
    Ok(element.to_der()?)
}
