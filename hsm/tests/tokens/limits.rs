//! Keys limited to mechanisms: `CKA_ALLOWED_MECHANISMS`.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, AttributeType, KeyType, ObjectClass},
    session::Session,
};
use hsm::{ClearKey, HsmError, KeyName, KeyPairKind, KeyRole, Token};
use hsm_modules::{LIMITING, NSS, Place, faults::Faults};
use pki::Signer;
use tr34::{KeyKind, OaepHash};

use crate::{
    combining::{combine, component, kcv_of, xor},
    common::{faulty, kinds, new_token, new_token_of, with_faults, with_faults_on},
    raw,
};

const RSA_2048: KeyPairKind = KeyPairKind::Rsa { bits: 2048 };

fn name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

/// What a key with a value of its own is limited to.
fn limit(session: &Session, class: ObjectClass, name: &KeyName) -> Vec<MechanismType> {
    let template = [&[Attribute::Class(class)], &raw::named(name)[..]].concat();
    let key = session.find_objects(&template).unwrap()[0];
    let read = session.get_attributes(key, &[AttributeType::AllowedMechanisms]);
    match read.unwrap().pop() {
        Some(Attribute::AllowedMechanisms(allowed)) => allowed,
        _ => Vec::new(),
    }
}

/// Modules give them in an order of their own.
fn sorted(mut mechanisms: Vec<MechanismType>) -> Vec<u64> {
    let mut numbers: Vec<u64> = mechanisms.drain(..).map(|mechanism| *mechanism).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn pairs_are_limited_to_what_their_role_uses() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        let sha256_rsa = MechanismType::SHA256_RSA_PKCS;
        let cases = [
            (KeyRole::RootCa, RSA_2048, vec![sha256_rsa]),
            (
                KeyRole::IssuingCa,
                KeyPairKind::P256,
                vec![MechanismType::ECDSA],
            ),
            (KeyRole::KdhSigning, RSA_2048, vec![sha256_rsa]),
            (
                KeyRole::TlsServer,
                KeyPairKind::P256,
                vec![MechanismType::ECDSA],
            ),
            (
                KeyRole::KrdEncryption,
                RSA_2048,
                vec![sha256_rsa, MechanismType::RSA_PKCS_OAEP],
            ),
        ];
        for (number, (role, kind, expected)) in cases.into_iter().enumerate() {
            let name = name(&format!("pair-{number}"));
            let public_key = token.generate_key_pair(role, &name, kind).unwrap();
            let session = raw::session();
            let found = limit(&session, ObjectClass::PRIVATE_KEY, &name);
            assert_eq!(sorted(found), sorted(expected), "{role}");
            let key = token.signing_key(role, &name).unwrap();
            let signature = key.sign(b"message").unwrap();
            public_key.verify(b"message", &signature).unwrap();
        }
        for key in token.key_strengths().unwrap() {
            assert!(key.weaknesses.is_empty(), "{key:?}");
            assert!(key.allowed_mechanisms.is_some(), "{key:?}");
        }
        token.capabilities().unwrap().limiting.unwrap();
    });
}

#[test]
fn a_signing_key_signs_nothing_but_its_digests() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        let name = name("kdh-signing");
        token
            .generate_key_pair(KeyRole::KdhSigning, &name, RSA_2048)
            .unwrap();
        let session = raw::session();
        let private = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        let key = session.find_objects(&private).unwrap()[0];
        for mechanism in [Mechanism::RsaPkcs, Mechanism::Sha1RsaPkcs] {
            let signed = session.sign(&mechanism, key, b"message");
            assert!(signed.is_err(), "{mechanism:?}");
        }
        session
            .sign(&Mechanism::Sha256RsaPkcs, key, b"message")
            .unwrap();
    });
}

/// The master key of some components, and its limit.
fn combined(token: &Token, kind: KeyKind, label: &str) -> Vec<MechanismType> {
    let name = name(label);
    combine(
        token,
        kind,
        &name,
        &[component(kind, 0), component(kind, 1)],
    );
    limit(&raw::session(), ObjectClass::SECRET_KEY, &name)
}

#[test]
fn master_keys_are_limited_to_their_check_value_and_to_sealing() {
    hsm_modules::on(&LIMITING, |place| {
        let token = new_token("kdh");
        for kind in kinds(place) {
            let label = format!("kn.{}", kind.to_string().to_lowercase());
            let mut expected = vec![match kind {
                KeyKind::Tdea2 | KeyKind::Tdea3 => MechanismType::DES3_ECB,
                _ => MechanismType::AES_CMAC,
            }];
            if place.module().can.sealing == "concatenate" {
                expected.push(MechanismType::CONCATENATE_DATA_AND_BASE);
            }
            assert_eq!(
                sorted(combined(&token, kind, &label)),
                sorted(expected),
                "{kind}"
            );
            let key = token
                .secret_key(KeyRole::TransportKey, &name(&label))
                .unwrap();
            token.kcv(&key).unwrap();
        }
    });
}

/// A pair as the crate would ask for it, with this limit.
fn generate_raw(name: &KeyName, changes: &[Attribute]) {
    let public = [
        raw::named(name),
        vec![
            Attribute::ModulusBits(2048.into()),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ],
    ]
    .concat();
    let private = raw::changed(raw::signing_attributes(name), changes);
    raw::session()
        .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
        .unwrap();
}

fn require_excess<T: std::fmt::Debug>(found: Result<T, HsmError>, mechanism: &str) {
    match found {
        Err(HsmError::WeakKey { attribute, how, .. }) => {
            assert_eq!(attribute, "CKA_ALLOWED_MECHANISMS");
            assert!(how.contains(mechanism), "{how}");
        }
        other => panic!("{mechanism}: {other:?}"),
    }
}

#[test]
fn a_signing_key_that_allows_more_than_its_role_is_refused() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        let vendors = MechanismType::new_vendor_defined(0x8000_0001).unwrap();
        let cases = [
            (MechanismType::RSA_PKCS, "CKM_RSA_PKCS"),
            (MechanismType::SHA1_RSA_PKCS, "CKM_SHA1_RSA_PKCS"),
            (MechanismType::SHA512_RSA_PKCS, "CKM_SHA512_RSA_PKCS"),
            (MechanismType::RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS"),
            (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"),
            (MechanismType::RSA_X_509, "CKM_RSA_X_509"),
            (vendors, "no name here"),
        ];
        for (number, (more, expected)) in cases.into_iter().enumerate() {
            let name = name(&format!("weak-{number}"));
            let allowed = vec![MechanismType::SHA256_RSA_PKCS, more];
            generate_raw(&name, &[Attribute::AllowedMechanisms(allowed)]);
            require_excess(token.signing_key(KeyRole::KdhSigning, &name), expected);
        }
        let strengths = token.key_strengths().unwrap();
        assert_eq!(strengths.len(), 7);
        for key in strengths {
            let [weakness] = &key.weaknesses[..] else {
                panic!("{key:?}");
            };
            assert!(weakness.starts_with("CKA_ALLOWED_MECHANISMS allows"));
        }
    });
}

#[test]
fn a_signing_key_that_allows_no_more_or_is_not_limited_is_accepted() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        let exact = vec![MechanismType::SHA256_RSA_PKCS];
        for (label, changes) in [
            ("limited", vec![Attribute::AllowedMechanisms(exact)]),
            ("unlimited", vec![]),
        ] {
            generate_raw(&name(label), &changes);
            let key = token
                .signing_key(KeyRole::KdhSigning, &name(label))
                .unwrap();
            key.sign(b"message").unwrap();
        }
    });
}

#[test]
fn a_terminals_key_that_allows_more_than_its_role_is_refused() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("krd");
        for (number, more) in [MechanismType::RSA_PKCS, MechanismType::RSA_X_509]
            .into_iter()
            .enumerate()
        {
            let name = name(&format!("weak-{number}"));
            let allowed = vec![MechanismType::RSA_PKCS_OAEP, more];
            generate_raw(
                &name,
                &[
                    Attribute::Modifiable(true),
                    Attribute::Unwrap(true),
                    Attribute::AllowedMechanisms(allowed),
                ],
            );
            require_excess(token.decryption_key(&name), &more.to_string());
        }
    });
}

#[test]
fn a_master_key_that_allows_more_than_its_role_is_refused() {
    hsm_modules::on(&LIMITING, |_| {
        let token = new_token("kdh");
        for (number, more) in [
            MechanismType::AES_ECB,
            MechanismType::AES_CBC_PAD,
            MechanismType::AES_KEY_WRAP,
            MechanismType::AES_CBC_ENCRYPT_DATA,
            MechanismType::XOR_BASE_AND_DATA,
        ]
        .into_iter()
        .enumerate()
        {
            let name = name(&format!("weak-{number}"));
            let mut template = raw::transport_attributes(&name);
            template.extend([
                Attribute::KeyType(KeyType::AES),
                Attribute::Value(vec![0x5a; 16]),
                Attribute::AllowedMechanisms(vec![MechanismType::AES_CMAC, more]),
            ]);
            raw::session().create_object(&template).unwrap();
            let found = token.secret_key(KeyRole::TransportKey, &name);
            require_excess(found, &more.to_string());
        }
    });
}

/// `CKR_ATTRIBUTE_TYPE_INVALID`, `CKR_ATTRIBUTE_VALUE_INVALID`, `CKR_ATTRIBUTE_READ_ONLY`,
/// `CKR_TEMPLATE_INCONSISTENT`, `CKR_GENERAL_ERROR`.
const REFUSALS: [&str; 5] = ["0x12", "0x13", "0x10", "0xD1", "0x5"];

/// How a module refuses a key.
#[derive(Clone, Copy)]
struct Refusal {
    code: &'static str,
    times: u32,
    /// Nor does it keep the limit of a throw-away key.
    of_any_limit: bool,
}

impl Refusal {
    /// By these calls; the second one makes or uses the throw-away key.
    fn tell(self, faults: &mut Faults, making: (&str, u32), throw_away: (&str, u32)) {
        let Self { code, times, .. } = self;
        let (function, nth) = making;
        let fail = format!("fail {function} {code} {nth} {times}");
        faults.tell(&fail).unwrap();
        if self.of_any_limit {
            let (function, nth) = throw_away;
            faults.tell(&format!("fail {function} 0x12 {nth}")).unwrap();
        }
    }

    fn suffix(self) -> String {
        self.code.to_lowercase()
    }
}

#[test]
fn a_module_that_does_not_know_limits_makes_keys_without() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        for code in REFUSALS {
            let refusal = Refusal {
                code,
                times: 3,
                of_any_limit: true,
            };
            for making in [pair, master_key] {
                making(place, &token, &mut faults, refusal).unwrap();
            }
        }
        for key in token.key_strengths().unwrap() {
            assert_eq!(key.allowed_mechanisms, None, "{key:?}");
            assert!(key.weaknesses.is_empty(), "{key:?}");
        }
    });
}

/// As SoftHSM does while another thread looks for keys.
#[test]
fn a_module_that_refuses_a_key_by_chance_makes_none_without_its_limit() {
    with_faults_on(&LIMITING, |place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        let mut made = 0;
        for code in REFUSALS {
            for making in [pair, master_key] {
                let mut refused = |times| {
                    let of_any_limit = false;
                    let refusal = Refusal {
                        code,
                        times,
                        of_any_limit,
                    };
                    making(place, &token, &mut faults, refusal)
                };
                let error = refused(3).unwrap_err();
                assert!(matches!(error, HsmError::Call { .. }), "{error:?}");
                assert_eq!(token.key_strengths().unwrap().len(), made, "{code}");
                refused(2).unwrap();
                made += 1;
            }
        }
        for key in token.key_strengths().unwrap() {
            assert!(key.allowed_mechanisms.is_some(), "{key:?}");
            assert!(key.weaknesses.is_empty(), "{key:?}");
        }
    });
}

fn pair(_: &Place, token: &Token, faults: &mut Faults, refusal: Refusal) -> Result<(), HsmError> {
    let name = name(&format!("kdh-signing.{}", refusal.suffix()));
    refusal.tell(faults, ("C_GenerateKeyPair", 1), ("C_GenerateKey", 1));
    token.generate_key_pair(KeyRole::KdhSigning, &name, RSA_2048)?;
    token.signing_key(KeyRole::KdhSigning, &name).map(drop)
}

/// One that comes in components.
fn master_key(
    place: &Place,
    token: &Token,
    faults: &mut Faults,
    refusal: Refusal,
) -> Result<(), HsmError> {
    // After the key for the check value, and the two parts of the sum that are compared.
    let (making, throw_away) = match place.module().can.combining {
        "xor" => (("C_DeriveKey", 4), ("C_EncryptInit", 1)),
        _ => (("C_UnwrapKey", 2), ("C_GenerateKey", 8)),
    };
    let kind = KeyKind::Aes128;
    let kn = name(&format!("kn.{}", refusal.suffix()));
    let mut combination = token.combine_components(kind).unwrap();
    let components = [component(kind, 0), component(kind, 1)];
    for component in &components {
        combination.add(ClearKey::copy_from(component)).unwrap();
    }
    refusal.tell(faults, making, throw_away);
    let kcv = kcv_of(kind, &xor(&components));
    combination.finish(&kn, &kcv)?;
    token.secret_key(KeyRole::TransportKey, &kn).map(drop)
}

/// By itself, without a fault.
#[test]
fn a_module_that_keeps_no_limits_keeps_keys_without() {
    hsm_modules::on(&[&NSS], |_| {
        let token = new_token("kdh");
        let pair = name("kdh-signing");
        token
            .generate_key_pair(KeyRole::KdhSigning, &pair, RSA_2048)
            .unwrap();
        for kind in [KeyKind::Aes128, KeyKind::Tdea3] {
            let label = format!("kn.{}", kind.to_string().to_lowercase());
            assert_eq!(combined(&token, kind, &label), []);
        }
        let strengths = token.key_strengths().unwrap();
        assert_eq!(strengths.len(), 3);
        for key in strengths {
            assert_eq!(key.allowed_mechanisms, None, "{key:?}");
            assert!(key.weaknesses.is_empty(), "{key:?}");
        }
        let why_not = token.capabilities().unwrap().limiting.unwrap_err();
        assert!(why_not.to_string().contains("limit"), "{why_not}");
    });
}

#[test]
fn another_error_makes_no_second_try() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        // CKR_DEVICE_ERROR, CKR_FUNCTION_FAILED, CKR_MECHANISM_INVALID, CKR_TEMPLATE_INCOMPLETE.
        for code in ["0x30", "0x6", "0x70", "0xD0"] {
            let before = faults.count("C_GenerateKeyPair").unwrap();
            faults
                .tell(&format!("fail C_GenerateKeyPair {code} 1"))
                .unwrap();
            token
                .generate_key_pair(KeyRole::KdhSigning, &name("kdh-signing"), RSA_2048)
                .unwrap_err();
            assert_eq!(faults.count("C_GenerateKeyPair").unwrap(), before + 1);
        }
    });
}

#[test]
fn a_check_says_that_a_module_does_not_know_limits() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        // All that a check tries before.
        token.self_test(OaepHash::Sha1).unwrap();
        token.opening().unwrap().unwrap_or_default();
        drop(token.combine_components(KeyKind::Aes128).unwrap());
        faults.tell("fail C_GenerateKey 0x12 1").unwrap();
        let why_not = token.capabilities().unwrap().limiting.unwrap_err();
        let why_not = why_not.to_string();
        assert!(why_not.contains("CKR_ATTRIBUTE_TYPE_INVALID"), "{why_not}");
    });
}
