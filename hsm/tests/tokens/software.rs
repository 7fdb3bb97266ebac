//! The same things by independent software: what the HSM computes has to agree with it.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit,
        KeyIvInit,
        block_padding::{NoPadding, Pkcs7},
    },
};
use cmac::{Cmac, Mac};
use des::{TdesEde2, TdesEde3};
use hsm::SealedKeyBlock;
use pki::PublicKey;
use rsa::{
    Oaep, PrivateKey, pkcs8::DecodePrivateKey, pkcs8::EncodePublicKey, traits::PublicKeyParts,
};
use sha1::Sha1;
use tr34::{ContentEncryption, KeyKind};

/// An RSA key in software. It protects nothing.
pub(crate) fn recipient() -> PrivateKey {
    PrivateKey::from_pkcs8_pem(include_str!("../data/recipient.pem")).unwrap()
}

pub(crate) fn public_half(key: &PrivateKey) -> PublicKey {
    let spki = key.to_public_key().to_public_key_der().unwrap();
    PublicKey::from_spki_der(spki.as_bytes()).unwrap()
}

/// Ke and the clear key block.
pub(crate) fn open(key: &PrivateKey, sealed: &SealedKeyBlock) -> (Vec<u8>, Vec<u8>) {
    assert_eq!(sealed.encrypted_key.len(), key.size());
    let ke = key
        .decrypt(Oaep::<Sha1>::new(), &sealed.encrypted_key)
        .unwrap();
    let block = decrypt(&ke, &sealed.encryption, &sealed.ciphertext);
    (ke, block)
}

fn decrypt(key: &[u8], encryption: &ContentEncryption, ciphertext: &[u8]) -> Vec<u8> {
    match encryption {
        ContentEncryption::Aes128Cbc(iv) => decrypt_cbc::<Aes128>(key, iv, ciphertext),
        ContentEncryption::Aes256Cbc(iv) => decrypt_cbc::<Aes256>(key, iv, ciphertext),
        ContentEncryption::DesEde3Cbc(iv) => decrypt_cbc::<TdesEde3>(key, iv, ciphertext),
    }
}

fn decrypt_cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Vec<u8> {
    cbc::Decryptor::<C>::new_from_slices(key, iv)
        .unwrap()
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .unwrap()
}

/// Ke under OAEP with SHA-1, and `block` under Ke.
pub(crate) fn seal(
    recipient: &PublicKey,
    ke: &[u8],
    encryption: &ContentEncryption,
    block: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let ciphertext = match encryption {
        ContentEncryption::Aes128Cbc(iv) => encrypt_cbc::<Aes128>(ke, iv, block),
        ContentEncryption::Aes256Cbc(iv) => encrypt_cbc::<Aes256>(ke, iv, block),
        ContentEncryption::DesEde3Cbc(iv) => encrypt_cbc::<TdesEde3>(ke, iv, block),
    };
    (encrypt_key(recipient, ke), ciphertext)
}

pub(crate) fn encrypt_key(recipient: &PublicKey, ke: &[u8]) -> Vec<u8> {
    use rsa::pkcs8::DecodePublicKey;
    let recipient = rsa::PublicKey::from_public_key_der(recipient.as_spki_der()).unwrap();
    recipient.oaep_encrypt::<Sha1>(ke).unwrap()
}

/// By AES with a key of this length.
pub(crate) fn encrypt_by_length(ke: &[u8], iv: &[u8], block: &[u8]) -> Vec<u8> {
    match ke.len() {
        16 => encrypt_cbc::<Aes128>(ke, iv, block),
        24 => encrypt_cbc::<Aes192>(ke, iv, block),
        _ => encrypt_cbc::<Aes256>(ke, iv, block),
    }
}

fn encrypt_cbc<C: BlockCipherEncrypt + KeyInit>(key: &[u8], iv: &[u8], block: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<C>::new_from_slices(key, iv)
        .unwrap()
        .encrypt_padded_vec::<Pkcs7>(block)
}

/// The first three bytes.
pub(crate) fn kcv(kind: KeyKind, key: &[u8]) -> [u8; 3] {
    let zeros = [0; 16];
    let full: Vec<u8> = match kind {
        KeyKind::Aes128 => cmac::<Cmac<Aes128>>(key, &zeros),
        KeyKind::Aes192 => cmac::<Cmac<Aes192>>(key, &zeros),
        KeyKind::Aes256 => cmac::<Cmac<Aes256>>(key, &zeros),
        KeyKind::Tdea2 => ecb::<TdesEde2>(key),
        KeyKind::Tdea3 => ecb::<TdesEde3>(key),
    };
    full[..3].try_into().unwrap()
}

/// The AES-CMAC with a key of 256 bits.
pub(crate) fn cmac_256(key: &[u8], message: &[u8]) -> Vec<u8> {
    cmac::<Cmac<Aes256>>(key, message)
}

/// Whole blocks, with a key of 256 bits.
pub(crate) fn decrypt_blocks(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let mode = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).unwrap();
    mode.decrypt_padded_vec::<NoPadding>(ciphertext).unwrap()
}

fn cmac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn ecb<C: BlockCipherEncrypt + KeyInit>(key: &[u8]) -> Vec<u8> {
    let mut block = aes::cipher::Block::<C>::default();
    C::new_from_slice(key).unwrap().encrypt_block(&mut block);
    block.to_vec()
}
