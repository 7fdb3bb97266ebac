//! A `SignedData` with one signer (RFC 5652 5), the same for each token that is signed.

use der::{Tag, asn1::ObjectIdentifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    IssuerAndSerial, MalformedToken, Profile, Rule, TokenKind, encode, expect, oid,
    profile::SignedDataVersion,
    read::{self, Element, Fields},
    signed_attributes::{DIGEST_LEN, Purpose, SignedAttributes},
};

/// RFC 5652 5.3: the signer is named by issuer and serial number.
const SIGNER_INFO_VERSION: u8 = 1;

/// What a kind of signed token is made of, in a profile.
#[derive(Clone, Copy)]
pub(crate) struct SignedForm {
    pub(crate) kind: TokenKind,
    pub(crate) content_type: ObjectIdentifier,
    pub(crate) purpose: Purpose,
    pub(crate) profile: Profile,
}

impl SignedForm {
    fn version(self) -> u8 {
        match self.profile.layout().signed_data_version {
            SignedDataVersion::One => 1,
            SignedDataVersion::ByContent if self.content_type == oid::DATA => 1,
            SignedDataVersion::ByContent => 3,
        }
    }

    /// The higher authority's tokens bring no CRL: it is not the CA of a KDH.
    fn has_crl(self) -> bool {
        self.purpose != Purpose::CaOrder && self.profile.carries_crl()
    }

    fn has_attributes(self) -> bool {
        self.kind != TokenKind::CaUnbind || self.profile.layout().ca_unbind_attributes
    }
}

/// A token that lacks only its signature.
#[derive(Clone, Debug)]
pub struct TokenDraft {
    kind: TokenKind,
    /// All of the `SignedData` before its signers, one field behind the other.
    before_signers: Vec<u8>,
    /// All of the `SignerInfo` before its signature algorithm, likewise.
    before_signature: Vec<u8>,
    signature_algorithm: Vec<u8>,
    to_be_signed: Vec<u8>,
}

impl TokenDraft {
    /// `crl_der` is left out where the token brings none.
    pub(crate) fn new(
        form: SignedForm,
        content: &[u8],
        attributes: &SignedAttributes,
        signer: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<Self, MalformedToken> {
        let crls = if form.has_crl() {
            let crl = Fields::of_token(form.kind, crl_der, |fields| fields.any("crls")?.crl());
            encode::element(encode::CONTEXT_1, &[&crl.map_err(MalformedToken::of_part)?])
        } else {
            Vec::new()
        };
        let sha256 = encode::algorithm(oid::SHA_256, &[]);
        let attributes = form.has_attributes().then(|| {
            let digest = Sha256::digest(content).into();
            attributes.to_set_content(form.profile, form.content_type, &digest)
        });
        let sent = attributes
            .as_ref()
            .map(|attributes| encode::element(encode::CONTEXT_0, &[attributes]));
        Ok(Self {
            kind: form.kind,
            before_signers: [
                &encode::version(form.version())[..],
                &encode::set(&[&sha256]),
                &encode::content_info(form.content_type, &encode::octet_string(content)),
                &crls,
            ]
            .concat(),
            before_signature: [
                &encode::version(SIGNER_INFO_VERSION)[..],
                &signer.to_der(),
                &sha256,
                &sent.unwrap_or_default(),
            ]
            .concat(),
            signature_algorithm: encode::signature_algorithm(form.profile),
            to_be_signed: attributes.map_or_else(
                || content.to_vec(),
                |attributes| encode::set(&[&attributes]),
            ),
        })
    }

    /// What is signed: the signed attributes as a SET OF, or, where there are none, the content
    /// (RFC 5652 5.4).
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The DER of the token with this signature, which is RSA PKCS#1 v1.5 with SHA-256 and is not
    /// verified here.
    ///
    /// # Errors
    /// The signature is not as long as an RSA modulus of 2048 to 4096 bits; the token is longer
    /// than [`MAX_TOKEN_LEN`](crate::MAX_TOKEN_LEN).
    pub fn into_token(self, signature: &[u8]) -> Result<Vec<u8>, MalformedToken> {
        let token = self.encode(signature);
        expect::rsa_len("signature", signature)
            .and_then(|()| expect::token_len(&token))
            .map(|()| token)
            .map_err(self.kind.breaks())
    }

    fn encode(&self, signature: &[u8]) -> Vec<u8> {
        let signer_info = encode::sequence(&[
            &self.before_signature,
            &self.signature_algorithm,
            &encode::octet_string(signature),
        ]);
        let signers = encode::set(&[&signer_info]);
        encode::content_info(
            oid::SIGNED_DATA,
            &encode::sequence(&[&self.before_signers, &signers]),
        )
    }
}

/// What a token says of its signature. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerPart {
    signer: IssuerAndSerial,
    signed_bytes: Vec<u8>,
    signature: Vec<u8>,
}

impl SignerPart {
    /// Who is said to have signed.
    pub const fn signer(&self) -> &IssuerAndSerial {
        &self.signer
    }

    /// What is said to be signed: the signed attributes as received, as a SET OF, or the content of a
    /// token that has none.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed_bytes
    }

    /// The signature over [`Self::signed_bytes`], RSA PKCS#1 v1.5 with SHA-256.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// A signed token whose content is still closed.
pub(crate) struct Signed<'a> {
    pub(crate) by: SignerPart,
    pub(crate) attributes: SignedAttributes,
    pub(crate) crl: Option<Vec<u8>>,
    /// The OCTET STRING of `encapContentInfo`.
    pub(crate) content: Element<'a>,
    /// The signed attributes, or the signer that has none.
    near: Element<'a>,
}

impl<'a> Signed<'a> {
    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one token of this form: one signer, its attributes and no others, in their
    /// order, the CRL if there is one, no certificates, and a messageDigest that is the SHA-256 of the
    /// content as received.
    pub(crate) fn read(form: SignedForm, der: &'a [u8]) -> Result<Self, MalformedToken> {
        Fields::of_token(form.kind, der, |fields| {
            let mut fields = signed_data(fields)?;
            fields.version(form.version())?;
            let digests = fields.next("digestAlgorithms", Tag::Set)?.fields().only()?;
            expect_sha256(digests)?;
            let content = content(&mut fields, form.content_type)?;
            let crl = if form.has_crl() {
                Some(only_crl(&mut fields)?)
            } else {
                None
            };
            let signer = fields.next("signerInfos", Tag::Set)?.fields().only()?;
            fields.end()?;
            let (by, attributes, near) = signer_info(form, signer, content)?;
            Ok(Self {
                by,
                attributes,
                crl,
                content,
                near,
            })
        })
    }

    /// A refusal, for there is another number of an attribute than one.
    pub(crate) fn not_one(&self, field: &'static str, found: usize) -> MalformedToken {
        let attributes = self.near.fields();
        attributes.refused(Rule::NotExactlyOne { field, found })
    }
}

/// The fields of the `SignedData` in a `ContentInfo`.
pub(crate) fn signed_data<'a>(fields: &mut Fields<'a>) -> Result<Fields<'a>, MalformedToken> {
    let mut info = fields.sequence("ContentInfo")?;
    info.content_type("ContentInfo", oid::SIGNED_DATA)?;
    let signed = info.explicit("SignedData", 0, Tag::Sequence)?;
    info.end()?;
    Ok(signed.fields())
}

/// The OCTET STRING in `encapContentInfo`.
fn content<'a>(
    fields: &mut Fields<'a>,
    content_type: ObjectIdentifier,
) -> Result<Element<'a>, MalformedToken> {
    let mut info = fields.sequence("encapContentInfo")?;
    info.content_type("encapContentInfo", content_type)?;
    let content = info.explicit("eContent", 0, Tag::OctetString)?;
    info.end()?;
    Ok(content)
}

/// The only CRL in `[1]`.
pub(crate) fn only_crl(fields: &mut Fields<'_>) -> Result<Vec<u8>, MalformedToken> {
    fields
        .next("crls", read::context(1))?
        .fields()
        .only()?
        .crl()
}

fn expect_sha256(algorithm: Element<'_>) -> Result<(), MalformedToken> {
    algorithm.tagged(Tag::Sequence)?;
    if algorithm.whole() != encode::algorithm(oid::SHA_256, &[]) {
        return Err(algorithm.refused(Rule::Algorithm {
            field: algorithm.name(),
        }));
    }
    Ok(())
}

fn signer_info<'a>(
    form: SignedForm,
    signer: Element<'a>,
    content: Element<'_>,
) -> Result<(SignerPart, SignedAttributes, Element<'a>), MalformedToken> {
    let mut fields = signer.tagged(Tag::Sequence)?.named("SignerInfo").fields();
    fields.version(SIGNER_INFO_VERSION)?;
    let sid = IssuerAndSerial::read(fields.next("sid", Tag::Sequence)?)?;
    expect_sha256(fields.any("digestAlgorithm")?)?;
    let (attributes, signed_bytes, near) = if form.has_attributes() {
        let set = fields.next("signedAttrs", read::context(0))?;
        let read =
            SignedAttributes::read(set.fields(), form.profile, form.purpose, form.content_type);
        let (attributes, digest) = read?;
        expect_digest(set, digest, content)?;
        (attributes, encode::set(&[set.content()]), set)
    } else {
        let none = SignedAttributes::default();
        (none, content.content().to_vec(), signer)
    };
    let algorithm = fields.next("signatureAlgorithm", Tag::Sequence)?;
    if algorithm.whole() != encode::signature_algorithm(form.profile) {
        let field = "signatureAlgorithm";
        return Err(algorithm.refused(Rule::Algorithm { field }));
    }
    let signature = fields.octets("signature")?;
    signature.check(expect::rsa_len("signature", signature.content()))?;
    fields.end()?;
    let signed_by = SignerPart {
        signer: sid,
        signed_bytes,
        signature: signature.content().to_vec(),
    };
    Ok((signed_by, attributes, near))
}

fn expect_digest(
    attributes: Element<'_>,
    signed: [u8; DIGEST_LEN],
    content: Element<'_>,
) -> Result<(), MalformedToken> {
    let digest: [u8; DIGEST_LEN] = Sha256::digest(content.content()).into();
    if !bool::from(digest.ct_eq(&signed)) {
        return Err(attributes.refused(Rule::DigestMismatch));
    }
    Ok(())
}
