//! The `EnvelopedData` of a key token: the key block under Ke, and Ke under the terminal's key.

use der::{AnyRef, asn1::OctetStringRef};

use crate::{
    ContentCipher, ContentEncryption, IssuerAndSerial, MalformedToken, OaepHash, Rule, TokenKind,
    encode, expect, oaep, oid, wire,
};

/// RFC 5652 6.1 and 6.2.1: both versions are 0 with a recipient named by issuer and serial number.
const VERSION: u8 = 0;

/// The encrypted key block, ready for one terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopedKeyBlock {
    recipient: IssuerAndSerial,
    oaep_hash: OaepHash,
    encrypted_key: Vec<u8>,
    encryption: ContentEncryption,
    ciphertext: Vec<u8>,
}

impl EnvelopedKeyBlock {
    /// From its parts: Ke encrypted to `recipient` by RSAES-OAEP, and the key block encrypted under
    /// Ke, padding included.
    ///
    /// # Errors
    /// `encrypted_key` is not as long as an RSA modulus of 2048 to 4096 bits; `ciphertext` is empty
    /// or not made of whole blocks.
    pub fn new(
        recipient: IssuerAndSerial,
        oaep_hash: OaepHash,
        encrypted_key: Vec<u8>,
        encryption: ContentEncryption,
        ciphertext: Vec<u8>,
    ) -> Result<Self, MalformedToken> {
        Self {
            recipient,
            oaep_hash,
            encrypted_key,
            encryption,
            ciphertext,
        }
        .with_lengths_checked()
        .map_err(TokenKind::EnvelopedData.breaks())
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one `EnvelopedData` of this profile: one recipient, named by issuer and
    /// serial number, RSAES-OAEP with tagged parameters, a [`ContentCipher`] with an IV of its block's
    /// length, and lengths as for [`Self::new`].
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        Self::read(der).map_err(TokenKind::EnvelopedData.breaks())
    }

    /// To DER.
    pub fn to_der(&self) -> Vec<u8> {
        let key_trans_recipient_info = encode::sequence(&[
            &encode::version(VERSION),
            &self.recipient.to_der(),
            &oaep::algorithm(self.oaep_hash),
            &encode::octet_string(&self.encrypted_key),
        ]);
        let encrypted_content_info = encode::sequence(&[
            &encode::object_identifier(oid::DATA),
            &encode::algorithm(
                self.cipher().oid(),
                &encode::octet_string(self.encryption.iv()),
            ),
            &encode::element(encode::CONTEXT_0_PRIMITIVE, &[&self.ciphertext]),
        ]);
        encode::sequence(&[
            &encode::version(VERSION),
            &encode::set(&[&key_trans_recipient_info]),
            &encrypted_content_info,
        ])
    }

    /// The terminal that can open it.
    pub const fn recipient(&self) -> &IssuerAndSerial {
        &self.recipient
    }

    /// The hash of RSAES-OAEP.
    pub const fn oaep_hash(&self) -> OaepHash {
        self.oaep_hash
    }

    /// Ke, encrypted.
    pub fn encrypted_key(&self) -> &[u8] {
        &self.encrypted_key
    }

    /// The cipher of the key block.
    pub const fn cipher(&self) -> ContentCipher {
        self.encryption.cipher()
    }

    /// The cipher with its IV.
    pub const fn encryption(&self) -> &ContentEncryption {
        &self.encryption
    }

    /// The key block, encrypted.
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    fn read(der: &[u8]) -> Result<Self, Rule> {
        let fields: wire::EnvelopedData<'_> = wire::decode(der)?;
        expect::version("EnvelopedData", fields.version, VERSION)?;

        let recipient: wire::KeyTransRecipientInfo<'_> =
            wire::only(&fields.recipient_infos, "recipientInfos")?;
        expect::version("KeyTransRecipientInfo", recipient.version, VERSION)?;

        let content = fields.encrypted_content_info;
        expect::content_type("encryptedContentInfo", content.content_type, oid::DATA)?;
        let algorithm = content.content_encryption_algorithm;
        let not_of_profile = Rule::Algorithm {
            field: "contentEncryptionAlgorithm",
        };
        let (Some(cipher), Some(parameters)) =
            (ContentCipher::from_oid(algorithm.oid), algorithm.parameters)
        else {
            return Err(not_of_profile);
        };

        Self {
            recipient: IssuerAndSerial::of_element(recipient.rid)?,
            oaep_hash: oaep::parse(recipient.key_encryption_algorithm)?,
            encrypted_key: recipient.encrypted_key.as_bytes().to_vec(),
            encryption: ContentEncryption::new(cipher, octets(parameters)?)?,
            ciphertext: content.encrypted_content.as_bytes().to_vec(),
        }
        .with_lengths_checked()
    }

    fn with_lengths_checked(self) -> Result<Self, Rule> {
        expect::rsa_len("encryptedKey", &self.encrypted_key)?;
        let found = self.ciphertext.len();
        if found == 0 || !found.is_multiple_of(self.cipher().block_len()) {
            return Err(Rule::Length {
                field: "encryptedContent",
                found,
            });
        }
        Ok(self)
    }
}

fn octets(parameters: AnyRef<'_>) -> Result<&[u8], Rule> {
    Ok(parameters.decode_as::<&OctetStringRef>()?.as_bytes())
}
