//! Initial keys of DUKPT: those of the standards, and those that OpenSSL makes.

use cryptoki::{
    mechanism::{Mechanism, MechanismType, ekdf::AesCbcDeriveParams},
    object::Attribute,
};
use hsm::{
    HsmError, InitialKey, InitialKeyId, Kcv, KeyName, KeyRole, KnSource, SecretKey, Token,
    TokenConfig, TokenGroup,
};
use hsm_modules::{KRYOPTIC_BARE, LIMITING, NSS, Place, makers::openssl};
use mechanisms::AES_ECB_ENCRYPT_DATA;
use tr34::KeyKind;

use crate::{
    combining::{combine, component, kcv_of, xor},
    common::{
        USER_PIN, as_held, block_on, faulty, new_token, new_token_of, on_every_module, pin,
        sealable_kinds, with_faults,
    },
    raw,
    replicas::News,
    sealing::import_raw,
    storage::Lab,
};

const AES: [KeyKind; 3] = [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256];

/// ANSI X9.24-3-2017, supplement, and ANSI X9.24-1-2009 A.4. Of AES-192 there is none.
const EXAMPLES: [(KeyKind, &str, &str, &str); 3] = [
    (
        KeyKind::Aes128,
        "FEDCBA9876543210F1F1F1F1F1F1F1F1",
        "1234567890123456",
        "1273671EA26AC29AFA4D1084127652A1",
    ),
    (
        KeyKind::Aes256,
        "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1",
        "1234567890123456",
        "CE9CE0C101D1138F97FB6CAD4DF045A7083D4EAE2D35A31789D01CCF0949550F",
    ),
    (
        KeyKind::Tdea2,
        "0123456789ABCDEFFEDCBA9876543210",
        "FFFF9876543210E0",
        "6AC292FAA1315B4D858AB3A3D7D5933A",
    ),
];

fn key_name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

/// What makes a key of known value a BDK.
const BDK: [Attribute; 2] = [Attribute::Extractable(false), Attribute::Derive(true)];

/// A BDK of known value.
pub(crate) fn create_bdk(token: &Token, kind: KeyKind, value: &[u8]) -> SecretKey {
    let name = key_name(&format!("bdk.{}", kind.name().to_lowercase()));
    import_raw(&name, kind, value, &BDK);
    token.secret_key(KeyRole::Bdk, &name).unwrap()
}

pub(crate) fn id(digits: &str) -> InitialKeyId {
    InitialKeyId::new(hex::decode(digits).unwrap().try_into().unwrap())
}

/// The kinds of initial key that a module derives.
pub(crate) fn derived(place: &Place) -> Vec<KeyKind> {
    let mut kinds = AES.to_vec();
    if place.module().name == KRYOPTIC_BARE.name {
        kinds.retain(|kind| *kind != KeyKind::Aes192);
    }
    if place.module().name == NSS.name {
        kinds.push(KeyKind::Tdea2);
    }
    kinds
}

fn check_values(token: &Token, keys: &[InitialKey], len: usize) -> Result<Vec<Kcv>, HsmError> {
    let tokens = TokenGroup::from(token.clone());
    block_on(tokens.initial_key_check_values(keys.to_vec(), len))
}

/// The initial key, by OpenSSL and what the standards say.
pub(crate) fn by_openssl(bdk: &[u8], kind: KeyKind, id: InitialKeyId) -> Vec<u8> {
    let encrypt = |cipher: &str, key: &[u8], data: &[u8]| {
        let key = hex::encode(key);
        openssl(&["enc", cipher, "-nopad", "-K", &key], data)
    };
    if kind == KeyKind::Tdea2 {
        let variant: Vec<u8> = bdk
            .iter()
            .zip([0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0].iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        let half = |key| encrypt("-des-ede", key, id.as_bytes());
        return [half(bdk), half(&variant)].concat();
    }
    let what = match kind {
        KeyKind::Aes128 => "8001_0002_0080",
        KeyKind::Aes192 => "8001_0003_00C0",
        _ => "8001_0004_0100",
    };
    let what = hex::decode(what.replace('_', "")).unwrap();
    let blocks = [1, 2].map(|counter| [&[1, counter], &what[..], id.as_bytes()].concat());
    let cipher = format!("-aes-{}-ecb", bdk.len() * 8);
    let mut key = encrypt(&cipher, bdk, &blocks.concat());
    key.truncate(kind.key_len());
    key
}

#[test]
fn initial_keys_are_the_standards_or_refused_by_name() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let derived = derived(place);
        for (kind, bdk, of, expected) in EXAMPLES {
            if kind == KeyKind::Tdea2 && !place.module().can.tdea {
                continue;
            }
            let bdk = hex::decode(bdk).unwrap();
            let key = InitialKey::new(&create_bdk(&token, kind, &bdk), kind, id(of)).unwrap();
            let before = raw::count_objects();
            let found = check_values(&token, &[key], Kcv::LEN);
            if derived.contains(&kind) {
                let expected = hex::decode(expected).unwrap();
                assert_eq!(found.unwrap(), [kcv_of(kind, &expected)], "{kind}");
                assert_eq!(by_openssl(&bdk, kind, id(of)), expected, "{kind}");
            } else {
                // SoftHSM has no XOR of keys.
                assert_eq!(
                    found.unwrap_err().to_string(),
                    "deriving an initial key of the kind TDEA-2KEY inside is not possible with this \
                     module, which lacks CKM_XOR_BASE_AND_DATA and CKM_CONCATENATE_BASE_AND_KEY"
                );
            }
            assert_eq!(raw::count_objects(), before, "the initial key is gone");
        }
    });
}

/// Each kind from each BDK that is strong enough, for several terminals at once.
#[test]
fn initial_keys_are_those_that_openssl_derives() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let kinds = derived(place);
        for under in kinds.clone() {
            let value = component(under, 3);
            let bdk = create_bdk(&token, under, &value);
            for kind in AES.into_iter().chain([KeyKind::Tdea2]) {
                let ids = ["0000000000000000", "89ABCDEF01234560", "FFFFFFFFFFFFFFE0"].map(id);
                let keys = ids.map(|id| InitialKey::new(&bdk, kind, id));
                let Ok(keys) = keys.into_iter().collect::<Result<Vec<_>, _>>() else {
                    continue;
                };
                if !kinds.contains(&kind) {
                    let refused = check_values(&token, &keys, 5).unwrap_err().to_string();
                    assert!(
                        refused.ends_with("lacks CKM_EXTRACT_KEY_FROM_KEY"),
                        "{refused}"
                    );
                    continue;
                }
                let found = check_values(&token, &keys, 5).unwrap();
                for (id, found) in ids.into_iter().zip(found) {
                    let expected = kcv_of(kind, &by_openssl(&value, kind, id));
                    assert_eq!(found.value().len(), 5);
                    assert_eq!(found.value()[..3], *expected.value(), "{kind} of {under}");
                }
            }
        }
        for key in token.key_strengths().unwrap() {
            assert_eq!((key.role, &key.weaknesses[..]), (KeyRole::Bdk, &[][..]));
        }
    });
}

/// Which opens the key block in software, and finds the initial key in it.
#[test]
fn an_initial_key_is_sealed_for_a_terminal() {
    on_every_module(|place| {
        let lab = Lab::of(new_token("kdh"));
        let sealable = sealable_kinds(place);
        for kind in derived(place) {
            let value = component(kind, 3);
            let bdk = create_bdk(&lab.token, kind, &value);
            let key = InitialKey::new(&bdk, kind, id("89ABCDEF01234560")).unwrap();
            let before = raw::count_objects();
            let delivered = lab.deliver_of(&KnSource::Derived(key.clone()), None);
            if sealable.contains(&kind) {
                let expected = as_held(place, kind, &by_openssl(&value, kind, key.id()));
                assert_eq!(delivered.unwrap(), expected, "{kind}");
            } else {
                let refused = delivered.unwrap_err().to_string();
                assert!(refused.contains("sealing a key of 24 bytes"), "{refused}");
            }
            assert_eq!(raw::count_objects(), before, "{kind}");

            lab.token.destroy_key(bdk.name()).unwrap();
            let refused = lab.deliver_of(&KnSource::Derived(key), None).unwrap_err();
            let label = bdk.name().label();
            let expected = format!("no key is called {label}");
            assert!(
                refused.to_string() == expected || !sealable.contains(&kind),
                "{refused}"
            );
        }
    });
}

#[test]
fn what_no_bdk_of_its_kind_derives_is_refused() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let bdk_128 = create_bdk(&token, KeyKind::Aes128, &component(KeyKind::Aes128, 3));
        let refused = |bdk: &SecretKey, kind, of| {
            let refused = InitialKey::new(bdk, kind, id(of));
            refused.unwrap_err().to_string()
        };
        for kind in [KeyKind::Aes192, KeyKind::Aes256] {
            assert_eq!(
                refused(&bdk_128, kind, "1234567890123456"),
                format!(
                    "an initial key of the kind {kind} is not derived from bdk.aes-128, which is of the \
                     kind AES-128 and weaker: derive a shorter key, or have a stronger BDK brought in"
                )
            );
        }
        let other_cipher = |kind, under: &str, of: &str| {
            format!(
                "an initial key of the kind {kind} is not derived from {of}, which is of the kind {under}: \
                 AES keys derive AES keys, and two-key TDEA keys such keys"
            )
        };
        for kind in [KeyKind::Tdea2, KeyKind::Tdea3] {
            let expected = other_cipher(kind, "AES-128", "bdk.aes-128");
            assert_eq!(refused(&bdk_128, kind, "12345678901234E0"), expected);
        }
        if place.module().can.tdea {
            for under in [KeyKind::Tdea2, KeyKind::Tdea3] {
                let bdk = create_bdk(&token, under, &component(under, 3));
                let expected = other_cipher(KeyKind::Aes128, bdk.kind().name(), bdk.name().label());
                assert_eq!(refused(&bdk, KeyKind::Aes128, "1234567890123456"), expected);
                let id = "FFFF9876543210E1";
                let expected = match under {
                    KeyKind::Tdea2 => format!(
                        "{id} has bits of the transaction counter set: the last five bits of an initial \
                         key's serial number are zeros"
                    ),
                    _ => other_cipher(KeyKind::Tdea2, "TDEA-3KEY", "bdk.tdea-3key"),
                };
                assert_eq!(refused(&bdk, KeyKind::Tdea2, id), expected);
            }
        }

        // A key of another role is none, by whatever name it goes.
        let name = key_name("kn.test");
        import_raw(&name, KeyKind::Aes128, &component(KeyKind::Aes128, 4), &[]);
        let kn = token.secret_key(KeyRole::TransportKey, &name).unwrap();
        assert_eq!(
            refused(&kn, KeyKind::Aes128, "1234567890123456"),
            "derive an initial key is not for a key of the role transport key"
        );
    });
}

#[test]
fn a_bdk_that_is_no_more_what_it_was_is_refused() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let (kind, longer) = (KeyKind::Aes128, KeyKind::Aes256);
        let bdk = create_bdk(&token, kind, &component(kind, 3));
        let key = InitialKey::new(&bdk, kind, id("1234567890123456")).unwrap();
        let refused = || {
            let refused = check_values(&token, std::slice::from_ref(&key), Kcv::LEN);
            refused.unwrap_err().to_string()
        };
        for len in [2, 6] {
            let refused = check_values(&token, std::slice::from_ref(&key), len).unwrap_err();
            let expected = format!("a key check value has 3 to 5 bytes, not {len}");
            assert_eq!(refused.to_string(), expected);
        }
        token.destroy_key(bdk.name()).unwrap();
        assert_eq!(refused(), "no key is called bdk.aes-128");

        // Of another kind.
        import_raw(bdk.name(), longer, &component(longer, 3), &BDK);
        assert_eq!(refused(), "bdk.aes-128 is of the kind AES-256, not AES-128");
        let announced = token.announced_key(KeyRole::Bdk, bdk.name(), kind);
        assert_eq!(
            announced.unwrap_err().to_string(),
            "bdk.aes-128 is of the kind AES-256, not AES-128"
        );
        token
            .announced_key(KeyRole::Bdk, bdk.name(), longer)
            .unwrap();
        token.destroy_key(bdk.name()).unwrap();

        // One that may do more than derive, or that may be taken out.
        for (change, attribute) in [
            (Attribute::Extractable(true), "CKA_EXTRACTABLE"),
            (Attribute::Sensitive(false), "CKA_SENSITIVE"),
            (Attribute::Private(false), "CKA_PRIVATE"),
            (Attribute::Encrypt(true), "CKA_ENCRYPT"),
            (Attribute::Decrypt(true), "CKA_DECRYPT"),
            (Attribute::Sign(true), "CKA_SIGN"),
            (Attribute::Verify(true), "CKA_VERIFY"),
            (Attribute::Wrap(true), "CKA_WRAP"),
            (Attribute::Unwrap(true), "CKA_UNWRAP"),
            (Attribute::Derive(false), "CKA_DERIVE"),
        ] {
            let changes = raw::changed(BDK.to_vec(), &[change]);
            import_raw(bdk.name(), kind, &component(kind, 3), &changes);
            let refused = refused();
            let expected = format!("key bdk.aes-128 is weaker than its role: {attribute} is");
            assert!(refused.starts_with(&expected), "{refused}");
            token.destroy_key(bdk.name()).unwrap();
        }
        // A master key by this name.
        import_raw(bdk.name(), kind, &component(kind, 3), &[]);
        let refused = refused();
        assert!(refused.contains("CKA_EXTRACTABLE is set"), "{refused}");
    });
}

/// As it comes from a ceremony: with a check value like any other, derived from, and limited to that.
#[test]
fn a_bdk_of_components_derives_initial_keys_and_nothing_else() {
    hsm_modules::on(&LIMITING, |place| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes256;
        let (name, components) = (
            key_name("bdk.fleet"),
            [component(kind, 0), component(kind, 1)],
        );
        let made = combine(&token, kind, &name, &components);
        let value = xor(&components);
        assert_eq!((made.role(), made.kind()), (KeyRole::Bdk, kind));
        assert_eq!(token.kcv(&made).unwrap(), kcv_of(kind, &value));
        // SoftHSM states no length of a key that it unwrapped.
        let bdk = token.announced_key(KeyRole::Bdk, &name, kind).unwrap();
        assert_eq!(token.kcv(&bdk).unwrap(), kcv_of(kind, &value));
        let key = InitialKey::new(&bdk, kind, id("1234567890123456")).unwrap();
        let expected = by_openssl(&value, kind, key.id());
        let found = check_values(&token, &[key], Kcv::LEN).unwrap();
        assert_eq!(found, [kcv_of(kind, &expected)]);
        let strengths = token.key_strengths().unwrap();
        assert_eq!((strengths.len(), strengths[0].role), (1, KeyRole::Bdk));
        assert_eq!(strengths[0].weaknesses, [""; 0]);
        let limit = strengths[0].allowed_mechanisms.clone().unwrap();
        assert_eq!(limit, ["CKM_AES_CMAC", "CKM_AES_ECB_ENCRYPT_DATA"]);

        let session = raw::session();
        let object = session.find_objects(&raw::named(&name)).unwrap()[0];
        let other = Mechanism::AesCbcEncryptData(AesCbcDeriveParams::new([0; 16], &[0; 16]));
        let template = [Attribute::ValueLen(16.into()), Attribute::Token(false)];
        session.derive_key(&other, object, &template).unwrap_err();

        // A limit that has another mechanism, or one more.
        for (limit, is_weak) in [
            (vec![MechanismType::AES_CMAC, AES_ECB_ENCRYPT_DATA], false),
            (vec![AES_ECB_ENCRYPT_DATA, MechanismType::AES_CMAC], false),
            (vec![AES_ECB_ENCRYPT_DATA, MechanismType::AES_ECB], true),
            (vec![AES_ECB_ENCRYPT_DATA], true),
            (vec![MechanismType::AES_CBC_ENCRYPT_DATA], true),
            (
                vec![
                    MechanismType::AES_CMAC,
                    AES_ECB_ENCRYPT_DATA,
                    MechanismType::AES_ECB,
                ],
                true,
            ),
        ] {
            let name = key_name("bdk.limited");
            let changes = [&BDK[..], &[Attribute::AllowedMechanisms(limit.clone())]].concat();
            import_raw(&name, kind, &value, &changes);
            let found = token.secret_key(KeyRole::Bdk, &name);
            let refused = matches!(&found, Err(HsmError::WeakKey { attribute, .. })
                if *attribute == "CKA_ALLOWED_MECHANISMS");
            assert_eq!(
                refused,
                is_weak,
                "{} {limit:?}: {found:?}",
                place.module().name
            );
            token.destroy_key(&name).unwrap();
        }
    });
}

/// It would give terminals keys that nobody else derives.
#[test]
fn a_token_that_comes_back_with_another_bdk_stays_lost() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let kind = KeyKind::Aes256;
        let name = key_name("bdk.fleet");
        let components = |last| [component(kind, 0), component(kind, last)];
        let one = new_token_of(&module, "one");
        let two = new_token_of(&module, "two");
        combine(&one, kind, &name, &components(1));
        combine(&two, kind, &name, &components(2));
        // Both are there.
        let group = TokenGroup::new(one.clone(), vec![two.clone()]);
        let kcv = kcv_of(kind, &xor(&components(1)));
        let agreed =
            |group: &TokenGroup, kcv: &Kcv| group.agreed_key(KeyRole::Bdk, &name, kind, kcv);
        let differs = agreed(&group, &kcv).unwrap_err();
        assert!(matches!(differs, HsmError::KeyDiffers { .. }), "{differs}");

        drop((group, two));
        faults.tell("remove two").unwrap();
        let config = TokenConfig::new("two");
        let two = module.open_or_await(&config, &pin(USER_PIN)).unwrap();
        let group = TokenGroup::new(one, vec![two.clone()]);
        let bdk = agreed(&group, &kcv).unwrap();
        // That somebody has another one in mind takes nothing of that back.
        let other = kcv_of(kind, &xor(&components(2)));
        let mismatch = agreed(&group, &other).unwrap_err();
        assert!(
            matches!(mismatch, HsmError::KcvMismatch { .. }),
            "{mismatch}"
        );
        let news = News::of(&two);
        faults.tell("insert two").unwrap();
        news.stays_lost("key bdk.fleet is another one in token two");
        // Nobody derives from it any more.
        group.require_no_more(&bdk);
        news.is_back();
    });
}
