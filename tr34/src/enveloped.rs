//! The `EnvelopedData` of a key token: the key block under Ke, and Ke under the terminal's key.

use der::Tag;

use crate::{
    ContentCipher, ContentEncryption, IssuerAndSerial, MalformedToken, OaepHash, Profile, Rule,
    TokenKind, encode, expect, oaep, oid,
    profile::{CiphertextPlace, Embedding},
    read::{self, Element, Fields},
};

/// RFC 5652 6.1 and 6.2.1: both versions are 0 with a recipient named by issuer and serial number.
const VERSION: u8 = 0;

const NAME: &str = "EnvelopedData";

/// Bytes of the IV under AES in the published sample, which fills it up with zeros.
const SHORT_IV_LEN: usize = 8;

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
    /// serial number, RSAES-OAEP with the profile's parameters, a [`ContentCipher`] with an IV of its
    /// block's length, and lengths as for [`Self::new`].
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        Fields::of_token(TokenKind::EnvelopedData, der, |fields| {
            Self::read(profile, fields.sequence(NAME)?)
        })
    }

    /// From the content of a key token.
    pub(crate) fn of_content(
        profile: Profile,
        octets: Element<'_>,
    ) -> Result<Self, MalformedToken> {
        let embedding = profile.layout().envelope;
        Self::read(
            profile,
            Fields::embedded(TokenKind::EnvelopedData, embedding, NAME, octets)?,
        )
    }

    /// To DER.
    ///
    /// # Errors
    /// The profile has no word for the hash of RSAES-OAEP.
    pub fn to_der(&self, profile: Profile) -> Result<Vec<u8>, MalformedToken> {
        self.encode(profile, Embedding::Element)
    }

    /// As the content of a key token.
    pub(crate) fn to_content(&self, profile: Profile) -> Result<Vec<u8>, MalformedToken> {
        self.encode(profile, profile.layout().envelope)
    }

    fn encode(&self, profile: Profile, embedding: Embedding) -> Result<Vec<u8>, MalformedToken> {
        let oaep =
            oaep::algorithm(profile, self.oaep_hash).map_err(TokenKind::EnvelopedData.breaks())?;
        let key_trans_recipient_info = encode::sequence(&[
            &encode::version(VERSION),
            &self.recipient.to_der(),
            &oaep,
            &encode::octet_string(&self.encrypted_key),
        ]);
        let iv = encode::octet_string(self.written_iv(profile));
        let ciphertext = encode::element(encode::CONTEXT_0_PRIMITIVE, &[&self.ciphertext]);
        let data = encode::object_identifier(oid::DATA);
        let cipher = self.cipher().oid();
        let content_info = match profile.layout().ciphertext[0] {
            CiphertextPlace::EncryptedContent => {
                encode::sequence(&[&data, &encode::algorithm(cipher, &iv), &ciphertext])
            }
            CiphertextPlace::InAlgorithm => encode::sequence(&[
                &data,
                &encode::algorithm(cipher, &[iv, ciphertext].concat()),
            ]),
        };
        Ok(encode::embedded(
            embedding,
            &[
                &encode::version(VERSION),
                &encode::set(&[&key_trans_recipient_info]),
                &content_info,
            ],
        ))
    }

    /// An AES IV is cut to its first half where the profile has it so and the second half says nothing.
    fn written_iv(&self, profile: Profile) -> &[u8] {
        match self.encryption.iv().split_at_checked(SHORT_IV_LEN) {
            Some((first, [0, 0, 0, 0, 0, 0, 0, 0])) if profile.layout().short_aes_iv => first,
            _ => self.encryption.iv(),
        }
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

    fn read(profile: Profile, mut fields: Fields<'_>) -> Result<Self, MalformedToken> {
        fields.version(VERSION)?;
        let recipient = fields.next("recipientInfos", Tag::Set)?.fields().only()?;
        let mut content = fields.sequence("encryptedContentInfo")?;
        fields.end()?;

        let recipient = recipient.tagged(Tag::Sequence)?;
        let mut key = recipient.named("KeyTransRecipientInfo").fields();
        key.version(VERSION)?;
        let rid = IssuerAndSerial::read(key.next("rid", Tag::Sequence)?)?;
        let oaep_hash = oaep::read(profile, key.next("keyEncryptionAlgorithm", Tag::Sequence)?)?;
        let encrypted_key = key.octets("encryptedKey")?;
        encrypted_key.check(expect::rsa_len("encryptedKey", encrypted_key.content()))?;
        key.end()?;

        content.content_type("encryptedContentInfo", oid::DATA)?;
        let (encryption, ciphertext) = encrypted_content(profile, content)?;
        let read = Self {
            recipient: rid,
            oaep_hash,
            encrypted_key: encrypted_key.content().to_vec(),
            encryption,
            ciphertext: ciphertext.content().to_vec(),
        };
        ciphertext.check(read.with_lengths_checked())
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

/// Reads the algorithm with its IV, and the ciphertext at one of the profile's places.
fn encrypted_content(
    profile: Profile,
    mut content: Fields<'_>,
) -> Result<(ContentEncryption, Element<'_>), MalformedToken> {
    let algorithm = content.next("contentEncryptionAlgorithm", Tag::Sequence)?;
    let mut fields = algorithm.fields();
    let cipher = ContentCipher::from_oid(fields.oid("contentEncryptionAlgorithm")?);
    let cipher = algorithm.check(cipher.ok_or(Rule::Algorithm {
        field: "contentEncryptionAlgorithm",
    }))?;
    let iv = fields.octets("IV")?;
    let written = iv.content();
    let short = profile.layout().short_aes_iv
        && written.len() == SHORT_IV_LEN
        && cipher.block_len() != SHORT_IV_LEN;
    let encryption = if short {
        ContentEncryption::new(cipher, &[written, &[0; SHORT_IV_LEN]].concat())
    } else {
        ContentEncryption::new(cipher, written)
    };
    let encryption = iv.check(encryption)?;

    let place = if fields.is_empty() {
        CiphertextPlace::EncryptedContent
    } else {
        CiphertextPlace::InAlgorithm
    };
    if !profile.layout().ciphertext.contains(&place) {
        let other = match place {
            CiphertextPlace::InAlgorithm => fields.end(),
            CiphertextPlace::EncryptedContent => Ok(()),
        };
        other?;
        return Err(fields.refused(Rule::Missing {
            field: "encryptedContent",
        }));
    }
    let at = match place {
        CiphertextPlace::EncryptedContent => &mut content,
        CiphertextPlace::InAlgorithm => &mut fields,
    };
    let ciphertext = at.next("encryptedContent", read::CONTEXT_0_PRIMITIVE)?;
    fields.end()?;
    content.end()?;
    Ok((encryption, ciphertext))
}
