//! The ciphers under Ke in the words of PKCS#11.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType},
};
use tr34::{ContentCipher, ContentEncryption};

use crate::{
    HsmError,
    error::CallResult,
    keys::generate_aes,
    session::Session,
    template::{Lives, Template},
    worker::Ephemeral,
};

/// A mechanism and its name.
pub(crate) type Named = (MechanismType, &'static str);

/// What makes a Ke.
pub(crate) const fn key_gen(cipher: ContentCipher) -> Named {
    match cipher {
        ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => {
            (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN")
        }
        ContentCipher::DesEde3Cbc => (MechanismType::DES3_KEY_GEN, "CKM_DES3_KEY_GEN"),
    }
}

/// Whole blocks.
pub(crate) const fn cbc(cipher: ContentCipher) -> Named {
    match cipher {
        ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => {
            (MechanismType::AES_CBC, "CKM_AES_CBC")
        }
        ContentCipher::DesEde3Cbc => (MechanismType::DES3_CBC, "CKM_DES3_CBC"),
    }
}

/// With PKCS#7 padding.
pub(crate) const fn cbc_pad(cipher: ContentCipher) -> Named {
    match cipher {
        ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => {
            (MechanismType::AES_CBC_PAD, "CKM_AES_CBC_PAD")
        }
        ContentCipher::DesEde3Cbc => (MechanismType::DES3_CBC_PAD, "CKM_DES3_CBC_PAD"),
    }
}

/// [`cbc`] with its IV.
pub(crate) const fn blocks(encryption: &ContentEncryption) -> Mechanism<'static> {
    match encryption {
        ContentEncryption::Aes128Cbc(iv) | ContentEncryption::Aes256Cbc(iv) => {
            Mechanism::AesCbc(*iv)
        }
        ContentEncryption::DesEde3Cbc(iv) => Mechanism::Des3Cbc(*iv),
    }
}

/// [`cbc_pad`] with its IV.
pub(crate) const fn padded(encryption: &ContentEncryption) -> Mechanism<'static> {
    match encryption {
        ContentEncryption::Aes128Cbc(iv) | ContentEncryption::Aes256Cbc(iv) => {
            Mechanism::AesCbcPad(*iv)
        }
        ContentEncryption::DesEde3Cbc(iv) => Mechanism::Des3CbcPad(*iv),
    }
}

/// The type of a Ke.
pub(crate) const fn key_type(cipher: ContentCipher) -> KeyType {
    match cipher {
        ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => KeyType::AES,
        ContentCipher::DesEde3Cbc => KeyType::DES3,
    }
}

/// A Ke, for as long as it is in scope.
pub(crate) fn generate_ke<'s>(
    session: &'s Session,
    template: &Template,
    cipher: ContentCipher,
) -> cryptoki::error::Result<Ephemeral<'s>> {
    match cipher {
        ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => {
            generate_aes(session, template, cipher.key_len())
        }
        ContentCipher::DesEde3Cbc => {
            let mut attributes = template.attributes(Lives::InSession);
            attributes.push(Attribute::KeyType(key_type(cipher)));
            let key = session.generate_key(&Mechanism::Des3KeyGen, &attributes)?;
            Ok(Ephemeral::new(session, key))
        }
    }
}

/// The cipher with an IV from the token.
pub(crate) fn with_random_iv(
    session: &Session,
    cipher: ContentCipher,
    operation: &'static str,
) -> Result<ContentEncryption, HsmError> {
    let mut iv = vec![0; cipher.block_len()];
    session.generate_random_slice(&mut iv).during(operation)?;
    with_iv(cipher, &iv, operation)
}

/// The cipher with the last block of what went before.
pub(crate) fn chained(
    cipher: ContentCipher,
    ciphertext: &[u8],
    operation: &'static str,
) -> Result<ContentEncryption, HsmError> {
    let start = ciphertext.len().saturating_sub(cipher.block_len());
    with_iv(cipher, &ciphertext[start..], operation)
}

fn with_iv(
    cipher: ContentCipher,
    iv: &[u8],
    operation: &'static str,
) -> Result<ContentEncryption, HsmError> {
    cipher.with_iv(iv).map_err(|_| HsmError::BadAnswer {
        operation,
        what: "less than a block".to_owned(),
    })
}
