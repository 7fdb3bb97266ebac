//! The terminal's side.

use hsm::{
    ClearKey, DecryptionKey, HsmError, InProcessMemoryConsent, Kcv, KcvMethod, KeyName,
    KeyPairKind, KeyRole, SealRequest, Token,
};
use tr34::{ContentCipher, EnvelopedKeyBlock, IssuerAndSerial, KeyBlock, KeyKind, OaepHash};

use crate::{
    common::{kinds, new_token, on_every_module, without_history},
    raw,
    sealing::{ISSUER, frame, import},
    software,
};

fn consent() -> InProcessMemoryConsent {
    InProcessMemoryConsent::from_configuration("accepted").unwrap()
}

/// A terminal that has made its certificate request.
fn terminal(token: &Token) -> DecryptionKey {
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
    let recipient = IssuerAndSerial::new(&ISSUER, &[1]).unwrap();
    EnvelopedKeyBlock::new(
        recipient,
        oaep,
        encrypted_key,
        ContentCipher::Aes128Cbc,
        iv,
        ciphertext,
    )
    .unwrap()
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
        let flip = |bytes: &[u8], position: usize| {
            let mut bytes = bytes.to_vec();
            bytes[position] ^= 0x80;
            bytes
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
