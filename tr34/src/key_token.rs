//! `KT_KDH`, two-pass: an [`EnvelopedKeyBlock`], signed by the KDH together with the key's header
//! and the terminal's nonce, and accompanied by the CRL of the KDH's CA.

use der::{AnyRef, Tag, TagNumber, Tagged};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    EnvelopedKeyBlock, IssuerAndSerial, Kbh, KrdNonce, MalformedToken, Rule, TokenKind, encode,
    expect, oid, signed_attributes::SignedAttributes, wire,
};

/// RFC 5652 5.1: the content is not id-data.
const SIGNED_DATA_VERSION: u8 = 3;

/// RFC 5652 5.3: the signer is named by issuer and serial number.
const SIGNER_INFO_VERSION: u8 = 1;

/// `[0]` of a `SignerInfo`.
const SIGNED_ATTRIBUTES: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

/// A key token that lacks only its signature.
#[derive(Clone, Debug)]
pub struct KeyTokenDraft {
    kdh: IssuerAndSerial,
    enveloped: Vec<u8>,
    crl: Vec<u8>,
    to_be_signed: Vec<u8>,
}

impl KeyTokenDraft {
    /// For the terminal that `enveloped` names and that sent `nonce`; `header` is the one inside
    /// the encrypted block, `kdh` whose key will sign, `crl_der` the current CRL of its CA.
    ///
    /// # Errors
    /// `crl_der` is not one CRL.
    pub fn new(
        enveloped: &EnvelopedKeyBlock,
        header: &Kbh,
        nonce: &KrdNonce,
        kdh: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<Self, MalformedToken> {
        let enveloped = enveloped.to_der();
        let attributes = SignedAttributes {
            header: header.clone(),
            nonce: nonce.clone(),
            message_digest: Sha256::digest(&enveloped).into(),
        };
        Ok(Self {
            kdh: kdh.clone(),
            enveloped,
            crl: wire::crl(crl_der).map_err(TokenKind::KeyToken.breaks())?,
            to_be_signed: encode::set(&[&attributes.to_set_content()]),
        })
    }

    /// What the KDH signs: the signed attributes as a SET OF (RFC 5652 5.4).
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
            .map_err(TokenKind::KeyToken.breaks())
    }

    fn encode(&self, signature: &[u8]) -> Vec<u8> {
        let sha256 = encode::algorithm(oid::SHA_256, &[]);
        let signer_info = encode::sequence(&[
            &encode::version(SIGNER_INFO_VERSION),
            &self.kdh.to_der(),
            &sha256,
            &encode::retagged(encode::CONTEXT_0, &self.to_be_signed),
            &encode::algorithm(oid::RSA_ENCRYPTION, encode::NULL),
            &encode::octet_string(signature),
        ]);
        encode::content_info(
            oid::SIGNED_DATA,
            &encode::sequence(&[
                &encode::version(SIGNED_DATA_VERSION),
                &encode::set(&[&sha256]),
                &encode::content_info(oid::ENVELOPED_DATA, &encode::octet_string(&self.enveloped)),
                &encode::element(encode::CONTEXT_1, &[&self.crl]),
                &encode::set(&[&signer_info]),
            ]),
        )
    }
}

/// A key token that was read. Everything about it is checked except its signature, its CRL and
/// whether its signer, recipient and nonce are the right ones.
#[derive(Clone, Debug)]
pub struct KeyToken {
    signer: IssuerAndSerial,
    signed_bytes: Vec<u8>,
    signature: Vec<u8>,
    nonce: KrdNonce,
    header: Kbh,
    crl: Vec<u8>,
    enveloped: EnvelopedKeyBlock,
}

impl KeyToken {
    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one key token of this profile (RFC 5652 5): `SignedData` version 3 with
    /// one CRL, no certificates and one signer; the signed attributes contentType, header, nonce
    /// and messageDigest, each once, in DER order; a messageDigest that is the SHA-256 of the
    /// content as received; the content as [`EnvelopedKeyBlock::parse`] takes it.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        let parts = Parts::read(der).map_err(TokenKind::KeyToken.breaks())?;
        Ok(Self {
            signer: parts.signer,
            signed_bytes: parts.signed_bytes,
            signature: parts.signature,
            nonce: parts.attributes.nonce,
            header: parts.attributes.header,
            crl: parts.crl,
            enveloped: EnvelopedKeyBlock::parse(parts.content)?,
        })
    }

    /// Who is said to have signed.
    pub const fn signer(&self) -> &IssuerAndSerial {
        &self.signer
    }

    /// What is said to be signed: the signed attributes as received, as a SET OF.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed_bytes
    }

    /// The signature over [`Self::signed_bytes`], RSA PKCS#1 v1.5 with SHA-256.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The signed nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }

    /// The signed header.
    pub const fn header(&self) -> &Kbh {
        &self.header
    }

    /// The CRL as received.
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }

    /// The encrypted key block.
    pub const fn enveloped(&self) -> &EnvelopedKeyBlock {
        &self.enveloped
    }
}

/// A token with its content still closed.
struct Parts<'a> {
    signer: IssuerAndSerial,
    attributes: SignedAttributes,
    signed_bytes: Vec<u8>,
    signature: Vec<u8>,
    crl: Vec<u8>,
    content: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Rule> {
        let token = wire::signed_data(der, SIGNED_DATA_VERSION)?;
        let digest_algorithm = wire::only(&token.digest_algorithms, "digestAlgorithms")?;
        expect::algorithm("digestAlgorithms", digest_algorithm, oid::SHA_256, None)?;
        let content = &token.encap_content_info;
        expect::content_type(
            "encapContentInfo",
            content.content_type,
            oid::ENVELOPED_DATA,
        )?;
        if token.certificates.is_some() {
            return Err(Rule::Unexpected {
                field: "certificates",
            });
        }

        let signer: wire::SignerInfo<'_> = wire::only(&token.signer_infos, "signerInfos")?;
        expect::version("SignerInfo", signer.version, SIGNER_INFO_VERSION)?;
        expect::algorithm(
            "digestAlgorithm",
            signer.digest_algorithm,
            oid::SHA_256,
            None,
        )?;
        expect::algorithm(
            "signatureAlgorithm",
            signer.signature_algorithm,
            oid::RSA_ENCRYPTION,
            Some(AnyRef::NULL),
        )?;
        expect::rsa_len("signature", signer.signature.as_bytes())?;

        signer
            .signed_attributes
            .tag()
            .assert_eq(SIGNED_ATTRIBUTES)?;
        let set_content = signer.signed_attributes.value();
        let attributes = SignedAttributes::parse(set_content)?;
        let digest: [u8; 32] = Sha256::digest(content.content.as_bytes()).into();
        if !bool::from(digest.ct_eq(&attributes.message_digest)) {
            return Err(Rule::DigestMismatch);
        }

        Ok(Self {
            signer: IssuerAndSerial::of_element(signer.sid)?,
            attributes,
            signed_bytes: encode::set(&[set_content]),
            signature: signer.signature.as_bytes().to_vec(),
            crl: wire::only_crl(&token)?,
            content: content.content.as_bytes(),
        })
    }
}
