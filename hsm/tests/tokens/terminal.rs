//! The terminal's side.

use hsm::{
    ClearKey, DecryptionKey, ExpectedKeyBlock, HsmError, InProcessMemoryConsent, Kcv, KcvMethod,
    KeyName, KeyPairKind, KeyRole, SealRequest, Token,
};
use hsm_modules::{KRYOPTIC, KRYOPTIC_BARE, NSS, TestModule};
use pki::PublicKey;
use tr34::{
    ContentCipher, ContentEncryption, EnvelopedKeyBlock, IssuerAndSerial, KeyBlock, KeyBlockFrame,
    KeyKind, OaepHash, Profile,
};

use crate::{
    common::{kinds, new_token, on_every_module, without_history},
    raw,
    sealing::{ISSUER, frame, frame_with_serial, header_of, import},
    software,
};

/// The modules that open key blocks inside.
static INSIDE: [&TestModule; 3] = [&KRYOPTIC, &KRYOPTIC_BARE, &NSS];

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
    encryption: ContentEncryption,
    ciphertext: Vec<u8>,
) -> EnvelopedKeyBlock {
    let recipient = IssuerAndSerial::new(&ISSUER, &[1]).unwrap();
    EnvelopedKeyBlock::new(recipient, oaep, encrypted_key, encryption, ciphertext).unwrap()
}

/// Three keys of odd parity.
const TDEA_KE: [u8; 24] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10\
    \x08\x19\x2a\x3b\x4c\x5d\x6e\x7f";

/// An IV of nines.
fn under(cipher: ContentCipher) -> ContentEncryption {
    cipher.with_iv(&vec![9; cipher.block_len()]).unwrap()
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
            sealed.encryption,
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
            KeyBlock::parse(Profile::X9_2019, block.expose_clear())
                .unwrap()
                .expose_clear(),
            kn
        );
        assert_eq!(raw::count_objects(), before, "Ke is gone");
    });
}

#[test]
fn what_is_sealed_in_software_opens() {
    on_every_module(|place| {
        let token = new_token("krd");
        let key = terminal(&token);
        let mut cases = vec![(&[5_u8; 16][..], &b"a block"[..]), (&[6; 32], &[7; 48])];
        if place.module().can.tdea {
            cases.extend([(&TDEA_KE[..], &b"a block"[..]), (&TDEA_KE, &[7; 48])]);
        }
        for (ke, block) in cases {
            let iv = under(cipher_of(ke));
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
        let iv = under(ContentCipher::Aes128Cbc);
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

        // Under an AES that its length makes, whatever it is said to be.
        let [aes_128, aes_256] = [ContentCipher::Aes128Cbc, ContentCipher::Aes256Cbc].map(under);
        let of_len = |len: usize, said| {
            let ke = vec![5; len];
            let ciphertext = software::encrypt_by_length(&ke, iv.iv(), &block);
            let encrypted_key = software::encrypt_key(key.public_key(), &ke);
            enveloped(encrypted_key, OaepHash::Sha1, said, ciphertext)
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
            ("a longer Ke than its cipher's", of_len(32, aes_128)),
            ("a shorter Ke than its cipher's", of_len(16, aes_256)),
            ("a Ke of AES-192", of_len(24, aes_256)),
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
        let iv = under(ContentCipher::Aes128Cbc);
        let (encrypted_key, mut ciphertext) =
            software::seal(key.public_key(), &[5; 16], &iv, &[1; 40]);
        ciphertext[0] ^= 1;
        let envelope = enveloped(encrypted_key, OaepHash::Sha1, iv, ciphertext);
        let block = token
            .open_in_process_memory(&key, &envelope, consent())
            .unwrap();
        assert_ne!(block.expose_clear(), [1; 40]);
        KeyBlock::parse(Profile::X9_2019, block.expose_clear()).unwrap_err();
    });
}

#[test]
fn a_missing_key_is_told_from_a_bad_block() {
    on_every_module(|_| {
        let token = new_token("krd");
        let key = terminal(&token);
        token.destroy_key(key.name()).unwrap();
        let iv = under(ContentCipher::Aes128Cbc);
        let envelope = enveloped(vec![1; 256], OaepHash::Sha1, iv, vec![0; 32]);
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
            assert_eq!(staged.kcv(Kcv::LEN).unwrap(), expected);
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
    recipient: &PublicKey,
    frame: &KeyBlockFrame,
    kn: &[u8],
    ke: &[u8],
) -> EnvelopedKeyBlock {
    let iv = under(cipher_of(ke));
    let block = [frame.prefix(), kn, frame.suffix()].concat();
    let (encrypted_key, ciphertext) = software::seal(recipient, ke, &iv, &block);
    enveloped(encrypted_key, OaepHash::Sha1, iv, ciphertext)
}

fn cipher_of(ke: &[u8]) -> ContentCipher {
    match ke.len() {
        16 => ContentCipher::Aes128Cbc,
        24 => ContentCipher::DesEde3Cbc,
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
                let envelope = in_software(key.public_key(), &frame, &kn, &[5; 32]);
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
                assert_eq!(
                    staged.kcv(Kcv::LEN).unwrap().value(),
                    software::kcv(kind, &kn)
                );
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
        let envelope = in_software(key.public_key(), &frame, &value_of(kind), &[5; 32]);
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
    hsm_modules::on(&[&KRYOPTIC, &NSS], |_| {
        let token = new_token("krd");
        let key = terminal(&token);
        for serial_len in 1..=20 {
            let candidates: Vec<_> = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256]
                .map(|kind| expect(kind, &frame_with_serial(kind, serial_len)))
                .into();
            for candidate in &candidates {
                let kn = value_of(candidate.kind);
                let envelope = in_software(key.public_key(), &candidate.frame, &kn, &[5; 16]);
                let staged = token.open_inside(&key, &envelope, &candidates).unwrap();
                assert_eq!(staged.kind(), candidate.kind);
                let kcv = software::kcv(candidate.kind, &kn);
                assert_eq!(staged.kcv(Kcv::LEN).unwrap().value(), kcv);
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
        let envelope = in_software(key.public_key(), &frame, &kn, &ke);
        let before = raw::count_objects();
        let opens = |envelope: &EnvelopedKeyBlock, expected: &[ExpectedKeyBlock]| {
            token.open_inside(&key, envelope, expected)
        };
        drop(opens(&envelope, &[expect(kind, &frame)]).unwrap());

        let with = |ke: &[u8], oaep, iv, ciphertext: &[u8]| {
            let encrypted = software::encrypt_key(key.public_key(), ke);
            enveloped(encrypted, oaep, iv, ciphertext.to_vec())
        };
        let ciphertext = envelope.ciphertext().to_vec();
        let cut = &ciphertext[..ciphertext.len() - 16];
        let longer = [&ciphertext[..], &[0; 16]].concat();
        let (sha1, iv) = (OaepHash::Sha1, under(ContentCipher::Aes128Cbc));
        let aes_256 = under(ContentCipher::Aes256Cbc);
        let expected = vec![expect(kind, &frame)];
        let other_iv = ContentCipher::Aes128Cbc.with_iv(&[8; 16]).unwrap();
        let mut cases = vec![
            ("another Ke", with(&[6; 16], sha1, iv, &ciphertext)),
            ("a longer Ke", with(&[5; 32], sha1, iv, &ciphertext)),
            ("a Ke of no AES", with(&[5; 15], sha1, iv, &ciphertext)),
            ("an empty Ke", with(&[], sha1, iv, &ciphertext)),
            (
                "a longer cipher than Ke",
                with(&ke, sha1, aes_256, &ciphertext),
            ),
            ("another IV", with(&ke, sha1, other_iv, &ciphertext)),
            ("another hash", with(&ke, OaepHash::Sha256, iv, &ciphertext)),
            ("a block less", with(&ke, sha1, iv, cut)),
            ("a block more", with(&ke, sha1, iv, &longer)),
            (
                "Ke for another terminal",
                enveloped(vec![0x11; 256], sha1, iv, ciphertext.clone()),
            ),
        ];
        for position in 0..ciphertext.len() {
            let flipped = flip(&ciphertext, position);
            cases.push(("a flipped bit", with(&ke, sha1, iv, &flipped)));
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
            KeyBlockFrame::new(Profile::X9_2019, &kdh, &header_of(kind), kind.key_len())
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

/// With as many cases as there are ways for a hostile host to lie about Ke, all with one answer.
#[test]
fn a_key_block_under_tdea_opens_in_process_memory_or_does_not_open() {
    on_every_module(|place| {
        let token = new_token("krd");
        let key = terminal(&token);
        let kind = KeyKind::Tdea2;
        let (frame, kn) = (frame_with_serial(kind, 5), value_of(kind));
        let envelope = in_software(key.public_key(), &frame, &kn, &TDEA_KE);
        let before = raw::count_objects();
        let open =
            |envelope: &EnvelopedKeyBlock| token.open_in_process_memory(&key, envelope, consent());
        if place.module().can.tdea {
            let block = open(&envelope).unwrap();
            let block = KeyBlock::parse(Profile::X9_2019, block.expose_clear()).unwrap();
            assert_eq!(block.expose_clear(), kn, "parity as it came");
        }

        let tdea = under(ContentCipher::DesEde3Cbc);
        let with = |ke: &[u8], iv, ciphertext: &[u8]| {
            let encrypted = software::encrypt_key(key.public_key(), ke);
            enveloped(encrypted, OaepHash::Sha1, iv, ciphertext.to_vec())
        };
        let ciphertext = envelope.ciphertext();
        // A Ke that is cut where its keys begin to repeat.
        let short_ke = |len: usize| {
            let whole: Vec<u8> = TDEA_KE[..len].iter().copied().cycle().take(24).collect();
            let whole = in_software(key.public_key(), &frame, &kn, &whole);
            with(&TDEA_KE[..len], tdea, whole.ciphertext())
        };
        // Two blocks of AES, so that its rules for whole blocks say nothing.
        let even = &ciphertext[..32];
        let other_hash = software::encrypt_key(key.public_key(), &TDEA_KE);
        let cases = [
            ("two-key TDEA", with(&TDEA_KE[..16], tdea, ciphertext)),
            ("two-key TDEA that would fit", short_ke(16)),
            ("single DES", with(&TDEA_KE[..8], tdea, ciphertext)),
            ("single DES that would fit", short_ke(8)),
            ("a Ke of AES-256", with(&[5; 32], tdea, ciphertext)),
            ("a Ke of 23 bytes", with(&TDEA_KE[..23], tdea, ciphertext)),
            ("an empty Ke", with(&[], tdea, ciphertext)),
            ("another Ke", with(&flip(&TDEA_KE, 5), tdea, ciphertext)),
            (
                "a Ke for TDEA called AES-128",
                with(&TDEA_KE, under(ContentCipher::Aes128Cbc), even),
            ),
            (
                "a Ke for TDEA called AES-256",
                with(&TDEA_KE, under(ContentCipher::Aes256Cbc), even),
            ),
            (
                "another hash",
                enveloped(other_hash, OaepHash::Sha256, tdea, ciphertext.to_vec()),
            ),
            (
                "padding",
                with(&TDEA_KE, tdea, &flip(ciphertext, ciphertext.len() - 9)),
            ),
            (
                "the last block cut off",
                with(&TDEA_KE, tdea, &ciphertext[..ciphertext.len() - 8]),
            ),
        ];
        for (what, envelope) in cases {
            let failed = open(&envelope);
            assert!(
                matches!(failed, Err(HsmError::OpeningFailed)),
                "{what}: {failed:?}"
            );
        }
        assert_eq!(raw::count_objects(), before, "no Ke is left");
    });
}

#[test]
fn a_key_block_under_tdea_opens_inside_or_is_refused_by_name() {
    on_every_module(|place| {
        let can = &place.module().can;
        let token = new_token("krd");
        let key = terminal(&token);
        for kind in [KeyKind::Tdea2, KeyKind::Tdea3] {
            // Neither has a parity of its own.
            let (frame, kn) = (frame_with_serial(kind, 5), value_of(kind));
            let envelope = in_software(key.public_key(), &frame, &kn, &TDEA_KE);
            let before = raw::count_objects();
            let result = token.open_inside(&key, &envelope, &[expect(kind, &frame)]);
            if can.tdea_ke() && !can.opening.is_empty() {
                let staged = result.unwrap();
                assert_eq!(
                    staged.kcv(Kcv::LEN).unwrap().value(),
                    software::kcv(kind, &kn)
                );
                drop(staged);
                let other = frame_with_serial(kind, 6);
                let failed = token.open_inside(&key, &envelope, &[expect(kind, &other)]);
                assert!(matches!(failed, Err(HsmError::OpeningFailed)), "{failed:?}");
                for position in 0..envelope.ciphertext().len() {
                    let ciphertext = flip(envelope.ciphertext(), position);
                    let flipped = enveloped(
                        envelope.encrypted_key().to_vec(),
                        OaepHash::Sha1,
                        *envelope.encryption(),
                        ciphertext,
                    );
                    match token.open_inside(&key, &flipped, &[expect(kind, &frame)]) {
                        Err(HsmError::OpeningFailed) => {}
                        // Kn has more blocks than one, and CBC lets who flips a bit of one change it and
                        // the next: that is for the token's signature to find, and for the check value.
                        Ok(other) => {
                            let kcv = software::kcv(kind, &kn);
                            assert_ne!(
                                other.kcv(Kcv::LEN).unwrap().value(),
                                kcv,
                                "byte {position}"
                            );
                        }
                        other => panic!("byte {position}: {other:?}"),
                    }
                }
            } else {
                let what = match result {
                    Err(HsmError::SelfTest { what }) => what,
                    Err(error @ HsmError::Unsupported { .. }) => error.to_string(),
                    other => panic!("{other:?}"),
                };
                assert!(what.contains("CKM_EXTRACT_KEY_FROM_KEY"), "{what}");
                assert!(
                    can.opening.is_empty() || what.contains("CKM_DES3_CBC"),
                    "{what}"
                );
            }
            assert_eq!(raw::count_objects(), before);
        }
    });
}
