//! The terminal's side.

use hsm::{
    ClearKey, DecryptionKey, ExpectedKeyBlock, HsmError, InProcessMemoryConsent, Kcv, KcvMethod,
    KeyName, KeyPairKind, KeyRole, SealRequest, Token,
};
use hsm_modules::{KRYOPTIC, KRYOPTIC_BARE, TestModule};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, IssuerAndSerial, KeyBlock, KeyBlockFrame, KeyKind, OaepHash,
};

use crate::{
    common::{kinds, new_token, on_every_module, without_history},
    raw,
    sealing::{ISSUER, frame, frame_with_serial, header_of, import},
    software,
};

/// The modules that open key blocks inside.
static INSIDE: [&TestModule; 2] = [&KRYOPTIC, &KRYOPTIC_BARE];

fn flip(bytes: &[u8], position: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[position] ^= 0x80;
    bytes
}

fn consent() -> InProcessMemoryConsent {
    InProcessMemoryConsent::from_configuration("accepted").unwrap()
}

/// A terminal that has made its certificate request.
pub(crate) fn terminal(token: &Token) -> DecryptionKey {
    let name = KeyName::new("krd-encryption").unwrap();
    token
        .generate_key_pair(
            KeyRole::KrdEncryption,
            &name,
            KeyPairKind::Rsa { bits: 2048 },
        )
        .unwrap();
    token.retire_signing(&name).unwrap();
    token.decryption_key(&name).unwrap()
}

fn enveloped(
    encrypted_key: Vec<u8>,
    oaep: OaepHash,
    iv: [u8; 16],
    ciphertext: Vec<u8>,
) -> EnvelopedKeyBlock {
    enveloped_with(
        ContentCipher::Aes128Cbc,
        encrypted_key,
        oaep,
        iv,
        ciphertext,
    )
}

fn enveloped_with(
    cipher: ContentCipher,
    encrypted_key: Vec<u8>,
    oaep: OaepHash,
    iv: [u8; 16],
    ciphertext: Vec<u8>,
) -> EnvelopedKeyBlock {
    let recipient = IssuerAndSerial::new(&ISSUER, &[1]).unwrap();
    EnvelopedKeyBlock::new(recipient, oaep, encrypted_key, cipher, iv, ciphertext).unwrap()
}

#[test]
fn what_is_sealed_for_a_terminal_it_opens() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        let kn = *b"sixteen byte key";
        let master = import(&token, "kn.test", KeyKind::Aes128, &kn);
        let frame = frame(KeyKind::Aes128);
        let sealed = token
            .seal(
                &master,
                &SealRequest {
                    frame: &frame,
                    recipient: key.public_key(),
                    cipher: ContentCipher::Aes128Cbc,
                    oaep: OaepHash::Sha1,
                },
            )
            .unwrap();
        let before = raw::count_objects();
        let envelope = enveloped(
            sealed.encrypted_key,
            OaepHash::Sha1,
            sealed.iv,
            sealed.ciphertext,
        );
        let block = token
            .open_in_process_memory(&key, &envelope, consent())
            .unwrap();
        assert_eq!(
            block.expose_clear(),
            [frame.prefix(), &kn, frame.suffix()].concat()
        );
        assert_eq!(
            KeyBlock::parse(block.expose_clear())
                .unwrap()
                .expose_clear(),
            kn
        );
        assert_eq!(raw::count_objects(), before, "Ke is gone");
    });
}

#[test]
fn what_is_sealed_in_software_opens() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        for (ke, block) in [(&[5_u8; 16][..], &b"a block"[..]), (&[6; 32], &[7; 48])] {
            let iv = [9; 16];
            let (encrypted_key, ciphertext) = software::seal(key.public_key(), ke, &iv, block);
            let envelope = enveloped(encrypted_key, OaepHash::Sha1, iv, ciphertext);
            let opened = token
                .open_in_process_memory(&key, &envelope, consent())
                .unwrap();
            assert_eq!(opened.expose_clear(), block);
        }
    });
}

#[test]
fn every_fault_of_decryption_looks_the_same() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        let before = raw::count_objects();
        let iv = [9; 16];
        // No cut of it ends like padding.
        let block: Vec<u8> = (0..40).collect();
        let (encrypted_key, ciphertext) = software::seal(key.public_key(), &[5; 16], &iv, &block);
        let good = |ciphertext: &[u8]| {
            enveloped(
                encrypted_key.clone(),
                OaepHash::Sha1,
                iv,
                ciphertext.to_vec(),
            )
        };
        let with_key = |encrypted_key: Vec<u8>| {
            enveloped(encrypted_key, OaepHash::Sha1, iv, ciphertext.clone())
        };

        let opens = || {
            token
                .open_in_process_memory(&key, &good(&ciphertext), consent())
                .is_ok()
        };
        assert!(opens());
        let others = software::public_half(&software::recipient());
        let cases = [
            ("Ke, first byte", with_key(flip(&encrypted_key, 0))),
            ("Ke, last byte", with_key(flip(&encrypted_key, 255))),
            ("Ke of zeros", with_key(vec![0; 256])),
            ("Ke above the modulus", with_key(vec![0xff; 256])),
            ("Ke of another modulus length", with_key(vec![1; 384])),
            (
                "Ke for another terminal",
                with_key(software::encrypt_key(&others, &[5; 16])),
            ),
            (
                "Ke of no AES length",
                with_key(software::encrypt_key(key.public_key(), &[5; 15])),
            ),
            (
                "an empty Ke",
                with_key(software::encrypt_key(key.public_key(), &[])),
            ),
            (
                "another Ke",
                with_key(software::encrypt_key(key.public_key(), &[4; 16])),
            ),
            (
                "another hash",
                enveloped(
                    encrypted_key.clone(),
                    OaepHash::Sha256,
                    iv,
                    ciphertext.clone(),
                ),
            ),
            ("padding", good(&flip(&ciphertext, ciphertext.len() - 1))),
            ("the last block cut off", good(&ciphertext[..32])),
        ];
        for (what, envelope) in cases {
            let failed = token.open_in_process_memory(&key, &envelope, consent());
            assert!(
                matches!(failed, Err(HsmError::OpeningFailed)),
                "{what}: {failed:?}"
            );
            let error = failed.unwrap_err();
            assert_eq!(error.to_string(), "the key block does not open");
            assert!(!error.is_retryable());
        }
        assert_eq!(raw::count_objects(), before);
        assert!(opens());
    });
}

/// CBC does not notice: the block's own checks have to.
#[test]
fn a_flipped_bit_inside_opens_to_another_block() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        let (encrypted_key, mut ciphertext) =
            software::seal(key.public_key(), &[5; 16], &[9; 16], &[1; 40]);
        ciphertext[0] ^= 1;
        let envelope = enveloped(encrypted_key, OaepHash::Sha1, [9; 16], ciphertext);
        let block = token
            .open_in_process_memory(&key, &envelope, consent())
            .unwrap();
        assert_ne!(block.expose_clear(), [1; 40]);
        KeyBlock::parse(block.expose_clear()).unwrap_err();
    });
}

#[test]
fn a_missing_key_is_told_from_a_bad_block() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        token.destroy_key(key.name()).unwrap();
        let envelope = enveloped(vec![1; 256], OaepHash::Sha1, [0; 16], vec![0; 32]);
        let missing = token.open_in_process_memory(&key, &envelope, consent());
        assert!(
            matches!(missing, Err(HsmError::KeyNotFound { .. })),
            "{missing:?}"
        );
    });
}

#[test]
fn only_the_written_word_is_consent() {
    for word in ["", "Accepted", "yes", "true", "accepted ", "refused"] {
        assert!(
            InProcessMemoryConsent::from_configuration(word).is_none(),
            "{word}"
        );
    }
}

#[test]
fn a_loaded_key_is_staged_checked_and_committed() {
    on_every_module(|place| {
        let token = new_token("krd");
        for kind in kinds(place) {
            let value: Vec<u8> = (1..=u8::try_from(kind.key_len()).unwrap()).collect();
            let staged = token
                .load_clear_key(&ClearKey::copy_from(&value), kind)
                .unwrap();
            let expected =
                Kcv::new(KcvMethod::for_key(kind), &software::kcv(kind, &value)).unwrap();
            assert_eq!(staged.kcv().unwrap(), expected);
            assert_eq!(staged.kind(), kind);
            assert!(
                token.list_keys().unwrap().is_empty(),
                "not in the token yet"
            );

            let name = KeyName::with_id("kn.master", b"version 1").unwrap();
            let key = staged.commit(&name).unwrap();
            assert_eq!((key.kind(), key.role()), (kind, KeyRole::LoadedKey));
            assert_eq!(raw::count_objects(), 1, "the staged one is gone");
            assert_eq!(token.kcv(&key).unwrap(), expected);
            assert_eq!(token.secret_key(KeyRole::LoadedKey, &name).unwrap(), key);
            let keys = token.list_keys().unwrap();
            assert_eq!(keys[0].kind, kind.name());
            assert_eq!(
                without_history(&keys[0].attributes),
                [
                    "CKA_PRIVATE",
                    "CKA_SENSITIVE",
                    "CKA_MODIFIABLE",
                    "CKA_UNWRAP"
                ]
            );
            token.destroy_key(&name).unwrap();
        }
    });
}

#[test]
fn versions_of_a_key_live_side_by_side() {
    on_every_module(|_| {
        let token = new_token("krd");
        let commit = |id: &[u8], byte| {
            let staged = token.load_clear_key(&ClearKey::copy_from(&[byte; 16]), KeyKind::Aes128);
            staged
                .unwrap()
                .commit(&KeyName::with_id("kn.master", id).unwrap())
        };
        let first = commit(b"1", 1).unwrap();
        let second = commit(b"2", 2).unwrap();
        assert_ne!(token.kcv(&first).unwrap(), token.kcv(&second).unwrap());
        assert!(matches!(commit(b"2", 3), Err(HsmError::KeyExists { .. })));
        token.destroy_key(first.name()).unwrap();
        token.kcv(&second).unwrap();
        assert!(matches!(
            token.kcv(&first),
            Err(HsmError::KeyNotFound { .. })
        ));
        assert_eq!(raw::count_objects(), 1);
    });
}

#[test]
fn a_staged_key_goes_when_it_is_dropped() {
    on_every_module(|_| {
        let token = new_token("krd");
        let staged = token
            .load_clear_key(&ClearKey::copy_from(&[1; 16]), KeyKind::Aes128)
            .unwrap();
        assert_eq!(raw::count_objects(), 1);
        drop(staged);
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn keys_of_another_length_are_not_loaded() {
    on_every_module(|_| {
        let token = new_token("krd");
        for (kind, len) in [
            (KeyKind::Aes128, 0),
            (KeyKind::Aes128, 15),
            (KeyKind::Aes128, 24),
            (KeyKind::Aes192, 16),
            (KeyKind::Aes256, 33),
            (KeyKind::Tdea2, 24),
            (KeyKind::Tdea3, 16),
        ] {
            let refused = token.load_clear_key(&ClearKey::copy_from(&vec![1; len]), kind);
            assert!(
                matches!(refused, Err(HsmError::KeyLength { found, .. }) if found == len),
                "{kind} {len}"
            );
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

/// As a host with other means would make it.
pub(crate) fn in_software(
    key: &DecryptionKey,
    frame: &KeyBlockFrame,
    kn: &[u8],
    ke: &[u8],
) -> EnvelopedKeyBlock {
    let iv = [9; 16];
    let block = [frame.prefix(), kn, frame.suffix()].concat();
    let (encrypted_key, ciphertext) = software::seal(key.public_key(), ke, &iv, &block);
    enveloped_with(cipher_of(ke), encrypted_key, OaepHash::Sha1, iv, ciphertext)
}

fn cipher_of(ke: &[u8]) -> ContentCipher {
    match ke.len() {
        16 => ContentCipher::Aes128Cbc,
        _ => ContentCipher::Aes256Cbc,
    }
}

fn expect(kind: KeyKind, frame: &KeyBlockFrame) -> ExpectedKeyBlock {
    ExpectedKeyBlock {
        kind,
        frame: frame.clone(),
    }
}

fn value_of(kind: KeyKind) -> Vec<u8> {
    (1..=u8::try_from(kind.key_len()).unwrap()).collect()
}

#[test]
fn a_key_block_opens_inside_wherever_its_key_stands() {
    on_every_module(|place| {
        let can = &place.module().can;
        let token = new_token("krd");
        let key = terminal(&token);
        let mut opened = 0;
        for kind in kinds(place) {
            let kn = value_of(kind);
            for serial_len in 1..=20 {
                let frame = frame_with_serial(kind, serial_len);
                let envelope = in_software(&key, &frame, &kn, &[5; 32]);
                let before = raw::count_objects();
                let result = token.open_inside(&key, &envelope, &[expect(kind, &frame)]);
                let aligned = kind.key_len() != 24 && frame.prefix().len().is_multiple_of(16);
                let ways = if aligned { 1 } else { 2 };
                if can.opening.len() < ways {
                    let what = match result {
                        Err(HsmError::SelfTest { what }) => what,
                        Err(error @ HsmError::Unsupported { .. }) => error.to_string(),
                        other => panic!("{other:?}"),
                    };
                    assert!(what.contains("CKM_EXTRACT_KEY_FROM_KEY"), "{what}");
                    assert_eq!(raw::count_objects(), before);
                    continue;
                }
                let staged = result.unwrap();
                assert_eq!(staged.kind(), kind);
                assert_eq!(staged.kcv().unwrap().value(), software::kcv(kind, &kn));
                assert_eq!(raw::count_objects(), before + 1, "nothing but the key");
                drop(staged);
                assert_eq!(raw::count_objects(), before);
                opened += 1;
            }
        }
        assert_eq!(opened == 0, can.opening.is_empty());
    });
}

#[test]
fn a_key_opened_inside_is_like_any_loaded_one() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("krd");
        let key = terminal(&token);
        let (kind, frame) = (KeyKind::Aes256, frame(KeyKind::Aes256));
        let envelope = in_software(&key, &frame, &value_of(kind), &[5; 32]);
        let expected = [expect(kind, &frame)];
        let staged = token.open_inside(&key, &envelope, &expected).unwrap();
        let name = KeyName::with_id("kn.master", b"version 1").unwrap();
        let loaded = staged.commit(&name).unwrap();
        assert_eq!((loaded.kind(), loaded.role()), (kind, KeyRole::LoadedKey));
        assert_eq!(token.secret_key(KeyRole::LoadedKey, &name).unwrap(), loaded);
        let keys = token.list_keys().unwrap();
        let loaded = keys.iter().find(|key| key.label == "kn.master").unwrap();
        let attributes = [
            "CKA_PRIVATE",
            "CKA_SENSITIVE",
            "CKA_MODIFIABLE",
            "CKA_UNWRAP",
        ];
        assert_eq!(without_history(&loaded.attributes), attributes);
    });
}

/// The first of what the block may be that it is.
#[test]
fn the_kind_of_a_key_is_found_out_by_rebuilding() {
    hsm_modules::on(&[&KRYOPTIC], |_| {
        let token = new_token("krd");
        let key = terminal(&token);
        for serial_len in 1..=20 {
            let candidates: Vec<_> = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256]
                .map(|kind| expect(kind, &frame_with_serial(kind, serial_len)))
                .into();
            for candidate in &candidates {
                let kn = value_of(candidate.kind);
                let envelope = in_software(&key, &candidate.frame, &kn, &[5; 16]);
                let staged = token.open_inside(&key, &envelope, &candidates).unwrap();
                assert_eq!(staged.kind(), candidate.kind);
                let kcv = software::kcv(candidate.kind, &kn);
                assert_eq!(staged.kcv().unwrap().value(), kcv);
            }
        }
    });
}

#[test]
fn a_key_block_that_is_another_does_not_open_inside() {
    hsm_modules::on(&INSIDE, |_| {
        let token = new_token("krd");
        let key = terminal(&token);
        let kind = KeyKind::Aes128;
        let (frame, kn, ke) = (frame(kind), value_of(kind), [5; 16]);
        let envelope = in_software(&key, &frame, &kn, &ke);
        let before = raw::count_objects();
        let opens = |envelope: &EnvelopedKeyBlock, expected: &[ExpectedKeyBlock]| {
            token.open_inside(&key, envelope, expected)
        };
        drop(opens(&envelope, &[expect(kind, &frame)]).unwrap());

        let with = |cipher, ke: &[u8], oaep, iv, ciphertext: &[u8]| {
            let encrypted = software::encrypt_key(key.public_key(), ke);
            enveloped_with(cipher, encrypted, oaep, iv, ciphertext.to_vec())
        };
        let ciphertext = envelope.ciphertext().to_vec();
        let cut = &ciphertext[..ciphertext.len() - 16];
        let longer = [&ciphertext[..], &[0; 16]].concat();
        let (cipher, sha1, iv) = (ContentCipher::Aes128Cbc, OaepHash::Sha1, [9; 16]);
        let expected = vec![expect(kind, &frame)];
        let other_iv = {
            let mut iv = iv;
            iv[15] ^= 1;
            iv
        };
        let mut cases = vec![
            ("another Ke", with(cipher, &[6; 16], sha1, iv, &ciphertext)),
            ("a longer Ke", with(cipher, &[5; 32], sha1, iv, &ciphertext)),
            (
                "a Ke of no AES",
                with(cipher, &[5; 15], sha1, iv, &ciphertext),
            ),
            ("an empty Ke", with(cipher, &[], sha1, iv, &ciphertext)),
            (
                "a longer cipher than Ke",
                with(ContentCipher::Aes256Cbc, &ke, sha1, iv, &ciphertext),
            ),
            ("another IV", with(cipher, &ke, sha1, other_iv, &ciphertext)),
            (
                "another hash",
                with(cipher, &ke, OaepHash::Sha256, iv, &ciphertext),
            ),
            ("a block less", with(cipher, &ke, sha1, iv, cut)),
            ("a block more", with(cipher, &ke, sha1, iv, &longer)),
            (
                "Ke for another terminal",
                enveloped(vec![0x11; 256], sha1, iv, ciphertext.clone()),
            ),
        ];
        for position in 0..ciphertext.len() {
            let flipped = flip(&ciphertext, position);
            cases.push(("a flipped bit", with(cipher, &ke, sha1, iv, &flipped)));
        }
        let sealed_as = |block: &[u8]| {
            let (encrypted, ciphertext) = software::seal(key.public_key(), &ke, &iv, block);
            enveloped(encrypted, sha1, iv, ciphertext)
        };
        let block = [frame.prefix(), &kn, frame.suffix()].concat();
        let mut header = block.clone();
        *header.last_mut().unwrap() = b'1';
        cases.push(("another header", sealed_as(&header)));
        let mut version = block.clone();
        version[4] ^= 1;
        cases.push(("another version or KDH", sealed_as(&version)));
        cases.push(("no key block", sealed_as(&vec![0; block.len()])));
        for (what, envelope) in &cases {
            let failed = opens(envelope, &expected);
            assert!(
                matches!(failed, Err(HsmError::OpeningFailed)),
                "{what}: {failed:?}"
            );
        }

        let other_frame = {
            // Behind three headers, the version, the issuer and a tag.
            let len = frame.prefix()[2 + 3 + 2 + ISSUER.len() + 1];
            let other = vec![0x12; usize::from(len)];
            let kdh = IssuerAndSerial::new(&ISSUER, &other).unwrap();
            KeyBlockFrame::new(&kdh, &header_of(kind), kind.key_len())
        };
        assert_eq!(other_frame.prefix().len(), frame.prefix().len());
        for (what, expected) in [
            ("nothing is expected", vec![]),
            ("another KDH", vec![expect(kind, &other_frame)]),
            (
                "another length",
                vec![expect(
                    KeyKind::Aes256,
                    &crate::sealing::frame(KeyKind::Aes256),
                )],
            ),
        ] {
            let failed = opens(&envelope, &expected);
            assert!(
                matches!(failed, Err(HsmError::OpeningFailed)),
                "{what}: {failed:?}"
            );
        }
        assert_eq!(raw::count_objects(), before);
        drop(opens(&envelope, &expected).unwrap());
    });
}
