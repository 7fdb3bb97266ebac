//! Blocks that an independent implementation has made are opened in software, by what this crate says of
//! their bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aes::cipher::{
    Array, BlockCipherEncrypt, BlockModeDecrypt as _, KeyInit, KeyIvInit as _,
    block_padding::NoPadding,
};
use cmac::{Cmac, Mac as _};
use tr31::{BlockKey, Derivation, KeyBlock, OptionalBlock, Protected, Version};
use tr34::KeyKind;

/// The lines of the file: version, kind of the KBPK, of the key, and the block.
fn made() -> Vec<(Version, KeyKind, KeyKind, &'static str)> {
    let lines = include_str!("data/psec.txt").lines();
    let blocks = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let [version, kbpk_len, algorithm, key_len, block] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let version = match version {
            "B" => Version::B,
            _ => Version::D,
        };
        let kbpk = match version {
            Version::B => "T",
            Version::D => "A",
        };
        (
            version,
            kind(kbpk, kbpk_len),
            kind(algorithm, key_len),
            block,
        )
    });
    blocks.collect()
}

fn kind(algorithm: &str, len: &str) -> KeyKind {
    match (algorithm, len) {
        ("T", "16") => KeyKind::Tdea2,
        ("T", "24") => KeyKind::Tdea3,
        ("A", "16") => KeyKind::Aes128,
        ("A", "24") => KeyKind::Aes192,
        _ => KeyKind::Aes256,
    }
}

fn bytes(kind: KeyKind, offset: usize) -> Vec<u8> {
    (0..kind.key_len())
        .map(|position| u8::try_from((position * 89 + offset) % 251).unwrap())
        .collect()
}

fn mac(kind: KeyKind, key: &[u8], message: &[u8]) -> Vec<u8> {
    macro_rules! mac {
        ($cipher:ty) => {{
            let mut mac = Cmac::<$cipher>::new_from_slice(key).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match kind {
        KeyKind::Tdea2 => mac!(des::TdesEde2),
        KeyKind::Tdea3 => mac!(des::TdesEde3),
        KeyKind::Aes128 => mac!(aes::Aes128),
        KeyKind::Aes192 => mac!(aes::Aes192),
        KeyKind::Aes256 => mac!(aes::Aes256),
    }
}

fn encrypt(kind: KeyKind, key: &[u8], blocks: &[u8]) -> Vec<u8> {
    fn with<C: BlockCipherEncrypt + KeyInit>(key: &[u8], blocks: &[u8]) -> Vec<u8> {
        let cipher = C::new_from_slice(key).unwrap();
        let encrypted = blocks.chunks(C::block_size()).flat_map(|block| {
            let mut block = Array::try_from(block).unwrap();
            cipher.encrypt_block(&mut block);
            block.to_vec()
        });
        encrypted.collect()
    }
    match kind {
        KeyKind::Tdea2 => with::<des::TdesEde2>(key, blocks),
        KeyKind::Tdea3 => with::<des::TdesEde3>(key, blocks),
        KeyKind::Aes128 => with::<aes::Aes128>(key, blocks),
        KeyKind::Aes192 => with::<aes::Aes192>(key, blocks),
        KeyKind::Aes256 => with::<aes::Aes256>(key, blocks),
    }
}

fn decrypt(kind: KeyKind, key: &[u8], iv: &[u8], payload: &[u8]) -> Vec<u8> {
    macro_rules! decrypt {
        ($cipher:ty) => {{
            let mode = cbc::Decryptor::<$cipher>::new_from_slices(key, iv).unwrap();
            let mut clear = payload.to_vec();
            mode.decrypt_padded::<NoPadding>(&mut clear).unwrap();
            clear
        }};
    }
    match kind {
        KeyKind::Tdea2 => decrypt!(des::TdesEde2),
        KeyKind::Tdea3 => decrypt!(des::TdesEde3),
        KeyKind::Aes128 => decrypt!(aes::Aes128),
        KeyKind::Aes192 => decrypt!(aes::Aes192),
        KeyKind::Aes256 => decrypt!(aes::Aes256),
    }
}

/// By CMAC, and by who has the cipher only, who comes to the same.
fn derive(kbpk: KeyKind, version: Version, purpose: BlockKey) -> Vec<u8> {
    let key = bytes(kbpk, 9 * 151 + 7);
    let derivation = Derivation::new(version, kbpk, purpose).unwrap();
    let inputs = derivation.inputs();
    for (input, counter) in inputs.iter().zip(1..) {
        let (label, context) = (derivation.label(), derivation.context());
        let expected = [&[counter], &label[..], &[0], &context].concat();
        assert_eq!(input[..], expected[..]);
    }
    let macs = inputs.iter().flat_map(|input| mac(kbpk, &key, input));
    let mut derived: Vec<u8> = macs.collect();
    let l = encrypt(kbpk, &key, &vec![0; version.block_len()]);
    assert_eq!(encrypt(kbpk, &key, &derivation.cipher_blocks(&l)), derived);
    derived.truncate(kbpk.key_len());
    derived
}

#[test]
fn what_psec_makes_opens() {
    assert_eq!(made().len(), 32);
    for (version, kbpk, kind, text) in made() {
        let block = KeyBlock::parse(text.as_bytes()).unwrap();
        assert_eq!(block.to_string(), text);
        assert_eq!(block.version(), version);
        assert!(block.has_room_for(kind));
        assert_eq!(block.header().key_kind(kind.key_len()), Ok(kind));

        let encryption = derive(kbpk, version, BlockKey::Encryption);
        let clear = decrypt(kbpk, &encryption, block.mac(), block.payload());
        let authentication = derive(kbpk, version, BlockKey::Authentication);
        let message = [block.authenticated_header(), &clear].concat();
        assert_eq!(mac(kbpk, &authentication, &message), block.mac());

        let (length, rest) = clear.split_at(KeyBlock::KEY_OFFSET);
        assert_eq!(length, KeyBlock::key_length_field(kind));
        assert_eq!(rest[..kind.key_len()], bytes(kind, 3 * 151 + 7));
    }
}

#[test]
fn a_block_is_written_from_its_parts_as_psec_writes_it() {
    for (.., text) in made() {
        let read = KeyBlock::parse(text.as_bytes()).unwrap();
        let protected = Protected {
            payload: read.payload(),
            mac: read.mac(),
        };
        let made = KeyBlock::new(read.header(), read.optional_blocks(), protected).unwrap();
        assert_eq!((made.to_string().as_str(), &made), (text, &read));
    }
}

#[test]
fn optional_blocks_are_read_in_their_order() {
    let (.., text) = *made().last().unwrap();
    let block = KeyBlock::parse(text.as_bytes()).unwrap();
    let ids: Vec<_> = block
        .optional_blocks()
        .iter()
        .map(OptionalBlock::id)
        .collect();
    assert_eq!(ids, ["KS", "LB", OptionalBlock::PADDING]);
    assert_eq!(block.optional_blocks()[0].data(), "00604B120F9292800000");
    assert_eq!(block.optional_blocks()[1].data(), "x".repeat(300));
}
