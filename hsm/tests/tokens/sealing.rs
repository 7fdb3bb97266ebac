//! Sealing, self-test, capabilities, check values.

use cryptoki::object::{Attribute, KeyType};
use hsm::{HsmError, KeyName, KeyPairKind, KeyRole, SealRequest, SecretKey, Token};
use hsm_modules::{KRYOPTIC, KRYOPTIC_UNFIT, NSS, SOFTHSM};
use pki::PublicKey;
use tr34::{ContentCipher, IssuerAndSerial, Kbh, KeyBlockFrame, KeyKind, OaepHash, Profile};

use crate::{
    common::{as_held, kinds, new_token, on_every_module, sealable_kinds},
    raw, software,
};

const MISSING: [&str; 2] = [
    "CKM_CONCATENATE_DATA_AND_BASE",
    "CKM_CONCATENATE_BASE_AND_DATA",
];

/// DER of the name `CN=Test CA`.
pub(crate) const ISSUER: [u8; 20] = *b"\x30\x12\x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07Test CA";

pub(crate) fn header_of(kind: KeyKind) -> Kbh {
    let header = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => "D0000K0TB00E0000",
        _ => "D0000K0AB00E0000",
    };
    Kbh::parse(header.as_bytes()).unwrap()
}

pub(crate) fn frame_with_serial(kind: KeyKind, serial_len: usize) -> KeyBlockFrame {
    let kdh = IssuerAndSerial::new(&ISSUER, &vec![0x11; serial_len]).unwrap();
    KeyBlockFrame::new(Profile::X9_2019, &kdh, &header_of(kind), kind.key_len())
}

/// A frame in which the key is aligned.
pub(crate) fn frame(kind: KeyKind) -> KeyBlockFrame {
    (1..=20)
        .map(|serial_len| frame_with_serial(kind, serial_len))
        .find(|frame| frame.prefix().len().is_multiple_of(16))
        .unwrap()
}

/// With a Ke as strong as the key.
pub(crate) fn request<'a>(
    kind: KeyKind,
    frame: &'a KeyBlockFrame,
    recipient: &'a PublicKey,
    oaep: OaepHash,
) -> SealRequest<'a> {
    SealRequest {
        frame,
        recipient,
        cipher: ContentCipher::for_key(kind),
        oaep,
    }
}

/// A key of a known value.
pub(crate) fn import(token: &Token, label: &str, kind: KeyKind, value: &[u8]) -> SecretKey {
    let name = KeyName::new(label).unwrap();
    import_raw(&name, kind, value, &[]);
    token.secret_key(KeyRole::TransportKey, &name).unwrap()
}

pub(crate) fn import_raw(name: &KeyName, kind: KeyKind, value: &[u8], changes: &[Attribute]) {
    let key_type = match kind {
        KeyKind::Tdea2 => KeyType::DES2,
        KeyKind::Tdea3 => KeyType::DES3,
        _ => KeyType::AES,
    };
    let mut template = raw::changed(raw::transport_attributes(name), changes);
    template.push(Attribute::KeyType(key_type));
    template.push(Attribute::Value(value.to_vec()));
    raw::session().create_object(&template).unwrap();
}

pub(crate) fn value(kind: KeyKind) -> Vec<u8> {
    (0..kind.key_len())
        .map(|position| u8::try_from(position * 7 + 1).unwrap())
        .collect()
}

#[test]
fn what_is_sealed_opens_in_independent_software() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        let mut cases = vec![(KeyKind::Aes128, ContentCipher::Aes256Cbc)];
        for kind in sealable_kinds(place) {
            cases.push((kind, ContentCipher::for_key(kind)));
        }
        if place.module().can.tdea_ke() {
            for kind in [KeyKind::Tdea2, KeyKind::Tdea3] {
                cases.push((kind, ContentCipher::DesEde3Cbc));
            }
        }
        for (kind, cipher) in cases {
            let key = import(&token, "kn.test", kind, &value(kind));
            let before = raw::count_objects();
            let frame = frame(kind);
            let mut kes = Vec::new();
            for _ in 0..3 {
                let sealed = token
                    .seal(
                        &key,
                        &SealRequest {
                            frame: &frame,
                            recipient: &software::public_half(&recipient),
                            cipher,
                            oaep: OaepHash::Sha1,
                        },
                    )
                    .unwrap();
                let (ke, block) = software::open(&recipient, &sealed);
                assert_eq!(ke.len(), cipher.key_len());
                let kn = as_held(place, kind, &value(kind));
                assert_eq!(block, [frame.prefix(), &kn, frame.suffix()].concat());
                kes.push((ke, sealed.encryption));
            }
            assert_eq!(
                raw::count_objects(),
                before,
                "Ke and the recipient's key are gone"
            );
            assert!(kes[0] != kes[1] && kes[1] != kes[2] && kes[0] != kes[2]);
            token.destroy_key(key.name()).unwrap();
        }
    });
}

#[test]
fn keys_and_frames_off_the_block_boundary_are_sealed_or_refused_by_name() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        let mut unaligned = 0;
        for kind in kinds(place) {
            let key = import(
                &token,
                &format!("kn.{}", kind.name().to_lowercase()),
                kind,
                &value(kind),
            );
            for serial_len in 1..=20 {
                let frame = frame_with_serial(kind, serial_len);
                if kind.key_len() != 24 && frame.prefix().len().is_multiple_of(16) {
                    continue;
                }
                unaligned += 1;
                let result = token.seal(
                    &key,
                    &request(
                        kind,
                        &frame,
                        &software::public_half(&recipient),
                        OaepHash::Sha1,
                    ),
                );
                match result {
                    Ok(sealed) => {
                        assert!(place.module().can.unaligned);
                        let (_, block) = software::open(&recipient, &sealed);
                        let kn = as_held(place, kind, &value(kind));
                        let expected = [frame.prefix(), &kn, frame.suffix()].concat();
                        assert_eq!(block, expected);
                    }
                    Err(HsmError::Unsupported { missing, .. }) => {
                        assert!(!place.module().can.unaligned);
                        assert_eq!(missing, MISSING);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(unaligned > 50);
    });
}

/// A bank's keys outlive its modules: one that was brought in when the module could only splice has no
/// `CKA_DERIVE`.
#[test]
fn a_key_that_may_not_be_derived_from_is_spliced_or_refused_by_name() {
    hsm_modules::on(&[&KRYOPTIC, &NSS], |place| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        let mut cases = vec![(KeyKind::Aes128, ContentCipher::Aes128Cbc)];
        if place.module().can.tdea_ke() {
            // Of 24 bytes, too: they are whole blocks of TDEA.
            cases.extend([
                (KeyKind::Tdea2, ContentCipher::DesEde3Cbc),
                (KeyKind::Tdea3, ContentCipher::DesEde3Cbc),
            ]);
        }
        for (kind, cipher) in cases {
            let name = KeyName::new("kn.old").unwrap();
            import_raw(&name, kind, &value(kind), &[Attribute::Derive(false)]);
            let key = token.secret_key(KeyRole::TransportKey, &name).unwrap();
            let mut spliced = 0;
            for serial_len in 1..=20 {
                let frame = frame_with_serial(kind, serial_len);
                let result = token.seal(
                    &key,
                    &SealRequest {
                        frame: &frame,
                        recipient: &software::public_half(&recipient),
                        cipher,
                        oaep: OaepHash::Sha1,
                    },
                );
                if frame.prefix().len().is_multiple_of(cipher.block_len()) {
                    let (_, block) = software::open(&recipient, &result.unwrap());
                    let kn = as_held(place, kind, &value(kind));
                    assert_eq!(block, [frame.prefix(), &kn, frame.suffix()].concat());
                    spliced += 1;
                } else {
                    let refused = matches!(
                        &result,
                        Err(HsmError::UsageNotAllowed {
                            usage: "CKA_DERIVE",
                            ..
                        })
                    );
                    assert!(refused, "{result:?}");
                }
            }
            assert!(spliced >= 20 / cipher.block_len(), "{kind}: {spliced}");
            token.destroy_key(&name).unwrap();
        }
    });
}

#[test]
fn requests_that_do_not_fit_their_key_are_refused() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let recipient = software::public_half(&software::recipient());
        let key = import(&token, "kn.test", KeyKind::Aes128, &value(KeyKind::Aes128));
        let seal = |key: &SecretKey, frame: &KeyBlockFrame, recipient: &pki::PublicKey| {
            token.seal(
                key,
                &SealRequest {
                    frame,
                    recipient,
                    cipher: ContentCipher::Aes128Cbc,
                    oaep: OaepHash::Sha1,
                },
            )
        };

        let longer = seal(&key, &frame(KeyKind::Aes256), &recipient);
        assert!(
            matches!(
                longer,
                Err(HsmError::KeyLength {
                    expected: 32,
                    found: 16
                })
            ),
            "{longer:?}"
        );

        let ec = KeyName::new("host-tls").unwrap();
        let ec = token
            .generate_key_pair(KeyRole::TlsServer, &ec, KeyPairKind::P256)
            .unwrap();
        let not_rsa = seal(&key, &frame(KeyKind::Aes128), &ec);
        assert!(
            matches!(not_rsa, Err(HsmError::Unsupported { .. })),
            "{not_rsa:?}"
        );

        let loaded = hsm::ClearKey::copy_from(&value(KeyKind::Aes128));
        let loaded = token.load_clear_key(&loaded, KeyKind::Aes128).unwrap();
        let loaded = loaded.commit(&KeyName::new("kn.loaded").unwrap()).unwrap();
        let wrong_role = seal(&loaded, &frame(KeyKind::Aes128), &recipient);
        assert!(
            matches!(wrong_role, Err(HsmError::WrongRole { .. })),
            "{wrong_role:?}"
        );

        token.destroy_key(key.name()).unwrap();
        let gone = seal(&key, &frame(KeyKind::Aes128), &recipient);
        assert!(
            matches!(gone, Err(HsmError::KeyNotFound { .. })),
            "{gone:?}"
        );
    });
}

/// Whatever a host's configuration says.
#[test]
fn no_aes_key_is_sealed_under_tdea_nor_any_key_under_a_weaker_one() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let recipient = software::public_half(&software::recipient());
        let mut refused = 0;
        for kind in kinds(place) {
            let label = format!("kn.{}", kind.name().to_lowercase());
            let key = import(&token, &label, kind, &value(kind));
            let before = raw::count_objects();
            for cipher in ContentCipher::ALL {
                if cipher.carries(kind) {
                    continue;
                }
                let request = SealRequest {
                    frame: &frame(kind),
                    recipient: &recipient,
                    cipher,
                    oaep: OaepHash::Sha1,
                };
                for result in [
                    token.seal(&key, &request).map(drop),
                    token.verify_sealable(&key, &request),
                ] {
                    let weak = matches!(
                        result,
                        Err(HsmError::WeakCipher { kind: k, cipher: c }) if (k, c) == (kind, cipher)
                    );
                    assert!(weak, "{kind} under {cipher}: {result:?}");
                }
                refused += 1;
            }
            assert_eq!(raw::count_objects(), before);
        }
        assert!(refused >= 5, "{refused}");
    });
}

#[test]
fn tdea_keys_are_sealed_under_tdea_or_refused_by_name() {
    on_every_module(|place| {
        let can = &place.module().can;
        let token = new_token("kdh");
        let report = token.self_test(OaepHash::Sha1).unwrap();
        let ciphers = report.ciphers();
        assert_eq!(ciphers.contains(&ContentCipher::DesEde3Cbc), can.tdea_ke());
        if can.tdea_ke() {
            return;
        }
        let missing = report.verify_cipher(ContentCipher::DesEde3Cbc).unwrap_err();
        let missing = missing.to_string();
        let way = format!("{} of TDEA-2KEY under DES-EDE3-CBC", can.sealing);
        assert!(missing.contains(&way), "{missing}");
        assert!(missing.contains("CKM_DES3_CBC"), "{missing}");
        if !can.unaligned {
            assert!(missing.contains("concatenate needs"), "{missing}");
        }
        if !can.tdea {
            return;
        }
        let recipient = software::public_half(&software::recipient());
        for kind in [KeyKind::Tdea2, KeyKind::Tdea3] {
            let label = format!("kn.{}", kind.name().to_lowercase());
            let key = import(&token, &label, kind, &value(kind));
            let before = raw::count_objects();
            for serial_len in 1..=20 {
                let refused = token.seal(
                    &key,
                    &SealRequest {
                        frame: &frame_with_serial(kind, serial_len),
                        recipient: &recipient,
                        cipher: ContentCipher::DesEde3Cbc,
                        oaep: OaepHash::Sha1,
                    },
                );
                let error = refused.unwrap_err();
                let named = matches!(&error, HsmError::Unsupported { missing, .. }
                    if *missing == ["CKM_DES3_CBC"] || *missing == MISSING);
                assert!(named, "{error}");
            }
            assert_eq!(raw::count_objects(), before);
        }
    });
}

#[test]
fn a_hash_that_the_module_does_not_know_leaves_nothing_behind() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let token = new_token("kdh");
        let key = import(&token, "kn.test", KeyKind::Aes128, &value(KeyKind::Aes128));
        let before = raw::count_objects();
        let refused = token.seal(
            &key,
            &SealRequest {
                frame: &frame(KeyKind::Aes128),
                recipient: &software::public_half(&software::recipient()),
                cipher: ContentCipher::Aes128Cbc,
                oaep: OaepHash::Sha256,
            },
        );
        match refused {
            Err(HsmError::SelfTest { what }) => {
                assert!(
                    what.contains("C_WrapKey failed with CKR_ARGUMENTS_BAD"),
                    "{what}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(raw::count_objects(), before);
    });
}

#[test]
fn a_master_key_weaker_than_its_role_is_refused() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let cases = [
            (Attribute::Private(false), "CKA_PRIVATE"),
            (Attribute::Sensitive(false), "CKA_SENSITIVE"),
            (Attribute::Extractable(false), "CKA_EXTRACTABLE"),
            (Attribute::Encrypt(true), "CKA_ENCRYPT"),
            (Attribute::Decrypt(true), "CKA_DECRYPT"),
            (Attribute::Sign(true), "CKA_SIGN"),
            (Attribute::Verify(true), "CKA_VERIFY"),
            (Attribute::Wrap(true), "CKA_WRAP"),
            (Attribute::Unwrap(true), "CKA_UNWRAP"),
        ];
        for (number, (change, expected)) in cases.into_iter().enumerate() {
            let name = KeyName::new(&format!("weak-{number}")).unwrap();
            import_raw(&name, KeyKind::Aes128, &value(KeyKind::Aes128), &[change]);
            match token.secret_key(KeyRole::TransportKey, &name) {
                Err(HsmError::WeakKey { attribute, .. }) => assert_eq!(attribute, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_key_that_became_weaker_is_refused_when_it_is_looked_up_again() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let key = import(&token, "kn.test", KeyKind::Aes128, &value(KeyKind::Aes128));
        let session = raw::session();
        let object = session.find_objects(&raw::named(key.name())).unwrap()[0];
        session
            .update_attributes(object, &[Attribute::Decrypt(true)])
            .unwrap();
        // Destroying any key makes every session look again.
        import(&token, "kn.other", KeyKind::Aes128, &value(KeyKind::Aes128));
        token
            .destroy_key(&KeyName::new("kn.other").unwrap())
            .unwrap();
        let refused = token.kcv(&key);
        assert!(
            matches!(
                refused,
                Err(HsmError::WeakKey {
                    attribute: "CKA_DECRYPT",
                    ..
                })
            ),
            "{refused:?}"
        );
    });
}

#[test]
fn check_values_equal_those_of_independent_software() {
    on_every_module(|place| {
        let token = new_token("kdh");
        for kind in kinds(place) {
            let key = import(&token, "kn.test", kind, &value(kind));
            let kcv = token.kcv(&key).unwrap();
            assert_eq!(kcv.value(), software::kcv(kind, &value(kind)), "{kind}");
            assert_eq!(raw::count_objects(), 1, "the copy is gone");
            token.destroy_key(key.name()).unwrap();
        }
    });
}

#[test]
fn the_self_test_finds_what_the_module_can() {
    on_every_module(|place| {
        let can = &place.module().can;
        let token = new_token("kdh");
        let mut kinds = vec![KeyKind::Aes128, KeyKind::Aes256];
        if can.unaligned {
            kinds.insert(1, KeyKind::Aes192);
        }
        if can.tdea {
            kinds.push(KeyKind::Tdea2);
            kinds.extend(can.unaligned.then_some(KeyKind::Tdea3));
        }
        let report = token.self_test(OaepHash::Sha1).unwrap();
        assert_eq!(report.way().unwrap().to_string(), can.sealing);
        assert_eq!(report.oaep, OaepHash::Sha1);
        assert_eq!(report.kinds(), kinds);

        match token.self_test(OaepHash::Sha256) {
            Ok(report) => {
                assert!(can.oaep_sha256);
                assert_eq!(report.kinds(), kinds);
            }
            Err(HsmError::SelfTest { what }) => {
                assert!(!can.oaep_sha256);
                for reason in [
                    "splice with Sha256 failed",
                    "CKR_ARGUMENTS_BAD",
                    "concatenate needs CKM_CONCATENATE_DATA_AND_BASE and",
                ] {
                    assert!(what.contains(reason), "{what}");
                }
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn capabilities_are_what_the_module_can_do() {
    on_every_module(|place| {
        let can = &place.module().can;
        let token = new_token("kdh");
        let capabilities = token.capabilities().unwrap();
        let sealing = capabilities.sealing.as_ref().unwrap();
        assert_eq!(sealing.to_string(), can.sealing);
        let oaep: &[OaepHash] = if can.oaep_sha256 {
            &[OaepHash::Sha256, OaepHash::Sha1]
        } else {
            &[OaepHash::Sha1]
        };
        assert_eq!(capabilities.oaep, oaep);
        match &capabilities.opening {
            Ok(ways) => {
                let ways: Vec<_> = ways.iter().map(ToString::to_string).collect();
                assert_eq!(ways, can.opening);
            }
            Err(missing) => {
                assert!(can.opening.is_empty(), "{missing}");
                assert!(missing.to_string().contains("CKM_EXTRACT_KEY_FROM_KEY"));
            }
        }
        assert!(capabilities.mechanisms.contains(&"CKM_AES_CBC".to_owned()));
        assert!(
            std::ptr::eq(
                token.self_test(OaepHash::Sha1).unwrap(),
                token.self_test(OaepHash::Sha1).unwrap()
            ),
            "found out once"
        );
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn a_module_that_can_do_nothing_of_it_is_told_what_it_lacks() {
    hsm_modules::on(&[&KRYOPTIC_UNFIT], |_| {
        let token = new_token("kdh");
        for hash in [OaepHash::Sha1, OaepHash::Sha256] {
            match token.self_test(hash) {
                Err(HsmError::SelfTest { what }) => assert_eq!(
                    what,
                    "concatenate needs CKM_CONCATENATE_DATA_AND_BASE and \
                     CKM_CONCATENATE_BASE_AND_DATA; splice needs CKM_AES_CBC"
                ),
                other => panic!("{other:?}"),
            }
        }
        let found = token.capabilities().unwrap();
        assert!(found.sealing.is_err() && found.oaep.is_empty());
        let opening = found.opening.unwrap_err().to_string();
        assert_eq!(
            opening,
            "aligned needs CKM_AES_CBC; extract needs CKM_EXTRACT_KEY_FROM_KEY"
        );
        let combining = found.combining.unwrap_err().to_string();
        assert_eq!(
            combining,
            "xor needs CKM_XOR_BASE_AND_DATA; key-wrap needs CKM_AES_CBC"
        );
        let kind = KeyKind::Aes128;
        let started = token.combine_components(kind);
        assert!(
            matches!(started, Err(HsmError::SelfTest { .. })),
            "{started:?}"
        );
        let key = import(&token, "kn.test", kind, &value(kind));
        let refused = token.seal(
            &key,
            &request(
                kind,
                &frame(kind),
                &software::public_half(&software::recipient()),
                OaepHash::Sha256,
            ),
        );
        assert!(
            matches!(refused, Err(HsmError::SelfTest { .. })),
            "{refused:?}"
        );
        assert_eq!(raw::count_objects(), 1, "nothing but the key");
    });
}
