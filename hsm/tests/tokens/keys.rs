//! Key pairs: made, found, checked against their role, used, destroyed.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectClass},
};
use hsm::{HsmError, KeyClass, KeyName, KeyPairKind, KeyRole, Token, TokenConfig};
use hsm_modules::Peculiarity;
use pki::{PublicKey, PublicKeyKind, Signer};

use crate::{
    common::{USER_PIN, module, new_token, on_every_module, pin, without_history},
    raw, software,
};

const RSA_2048: KeyPairKind = KeyPairKind::Rsa { bits: 2048 };

fn name() -> KeyName {
    KeyName::new("kdh-signing").unwrap()
}

/// A pair with `changes` to what the crate would ask for.
fn generate_raw(name: &KeyName, changes: &[Attribute]) -> cryptoki::error::Result<()> {
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
        .map(drop)
}

#[test]
fn rsa_and_p256_keys_sign() {
    on_every_module(|_| {
        let token = new_token("kdh");
        for (label, role, kind, expected) in [
            (
                "kdh-signing",
                KeyRole::KdhSigning,
                RSA_2048,
                PublicKeyKind::Rsa { bits: 2048 },
            ),
            (
                "host-tls",
                KeyRole::TlsServer,
                KeyPairKind::P256,
                PublicKeyKind::P256,
            ),
        ] {
            let name = KeyName::new(label).unwrap();
            let public_key = token.generate_key_pair(role, &name, kind).unwrap();
            assert_eq!(public_key.kind(), expected);
            let key = token.signing_key(role, &name).unwrap();
            assert_eq!(key.public_key(), &public_key);
            // P-256's numbers vary in length: many signatures, to meet short ones.
            for round in 0..64_u8 {
                let message = vec![round; usize::from(round) * 10];
                let signature = key.sign(&message).unwrap();
                public_key.verify(&message, &signature).unwrap();
                public_key.verify(b"another", &signature).unwrap_err();
            }
        }
    });
}

#[test]
fn key_pairs_have_the_attributes_of_their_role() {
    on_every_module(|_| {
        let token = new_token("kdh");
        token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        let krd = KeyName::new("krd-encryption").unwrap();
        token
            .generate_key_pair(KeyRole::KrdEncryption, &krd, RSA_2048)
            .unwrap();

        let keys = token.list_keys().unwrap();
        let attributes = |name: &KeyName, class| {
            let key = keys
                .iter()
                .find(|key| key.label == name.label() && key.class == class);
            let key = key.unwrap();
            assert_eq!(
                (key.id.as_slice(), key.kind.as_str()),
                (name.id(), "RSA-2048")
            );
            key.attributes.clone()
        };
        let guarded = [
            "CKA_PRIVATE",
            "CKA_SENSITIVE",
            "CKA_ALWAYS_SENSITIVE",
            "CKA_NEVER_EXTRACTABLE",
        ];
        assert_eq!(
            attributes(&name(), KeyClass::Private),
            [&guarded[..], &["CKA_SIGN"]].concat()
        );
        assert_eq!(
            attributes(&krd, KeyClass::Private),
            [&guarded[..], &["CKA_MODIFIABLE", "CKA_SIGN", "CKA_UNWRAP"]].concat()
        );
        for name in [&name(), &krd] {
            let public = attributes(name, KeyClass::Public);
            assert_eq!(without_history(&public), ["CKA_VERIFY"]);
        }
    });
}

#[test]
fn roles_have_their_kinds_of_key() {
    on_every_module(|_| {
        let token = new_token("kdh");
        for (role, kind) in [
            (KeyRole::KdhSigning, KeyPairKind::P256),
            (KeyRole::KrdEncryption, KeyPairKind::P256),
            (KeyRole::KrdAuthentication, RSA_2048),
            (KeyRole::TlsServer, RSA_2048),
            (KeyRole::Operator, RSA_2048),
            (KeyRole::Custodian, RSA_2048),
            (KeyRole::Audit, RSA_2048),
            (KeyRole::RootCa, KeyPairKind::Rsa { bits: 1024 }),
            (KeyRole::IssuingCa, KeyPairKind::Rsa { bits: 8192 }),
            (KeyRole::TransportKey, RSA_2048),
            (KeyRole::LoadedKey, KeyPairKind::P256),
        ] {
            let refused = token.generate_key_pair(role, &name(), kind);
            assert!(
                matches!(&refused, Err(HsmError::WrongRole { role: refused, .. }) if *refused == role),
                "{refused:?}"
            );
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn a_name_is_given_once() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let generate = |role, kind| token.generate_key_pair(role, &name(), kind);
        generate(KeyRole::KdhSigning, RSA_2048).unwrap();
        let before = raw::count_objects();
        let refused = generate(KeyRole::TlsServer, KeyPairKind::P256);
        assert!(
            matches!(refused, Err(HsmError::KeyExists { .. })),
            "{refused:?}"
        );
        assert_eq!(raw::count_objects(), before);
    });
}

#[test]
fn exactly_one_key_is_found() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let find = || token.signing_key(KeyRole::KdhSigning, &name());
        assert!(matches!(find(), Err(HsmError::KeyNotFound { label }) if label == "kdh-signing"));

        // The label alone is not enough.
        let other_id = KeyName::with_id("kdh-signing", b"other").unwrap();
        token
            .generate_key_pair(KeyRole::KdhSigning, &other_id, RSA_2048)
            .unwrap();
        assert!(matches!(find(), Err(HsmError::KeyNotFound { .. })));

        generate_raw(&name(), &[]).unwrap();
        find().unwrap();
        generate_raw(&name(), &[]).unwrap();
        if place.module().can.is(Peculiarity::OneKeyPerId) {
            find().unwrap();
            return;
        }
        // What was found once is not taken for granted by another session.
        let config = TokenConfig::new("kdh");
        drop(token);
        let token = module().open(&config, &pin(USER_PIN)).unwrap();
        let ambiguous = token.signing_key(KeyRole::KdhSigning, &name());
        assert!(
            matches!(ambiguous, Err(HsmError::KeyNotUnique { .. })),
            "{ambiguous:?}"
        );
    });
}

#[test]
fn a_key_weaker_than_its_role_is_refused() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let cases = [
            (Attribute::Extractable(true), "CKA_EXTRACTABLE"),
            (Attribute::Sensitive(false), "CKA_SENSITIVE"),
            (Attribute::Private(false), "CKA_PRIVATE"),
            (Attribute::Modifiable(true), "CKA_MODIFIABLE"),
            (Attribute::Sign(false), "CKA_SIGN"),
            (Attribute::SignRecover(true), "CKA_SIGN_RECOVER"),
            (Attribute::Decrypt(true), "CKA_DECRYPT"),
            (Attribute::Unwrap(true), "CKA_UNWRAP"),
            (Attribute::Derive(true), "CKA_DERIVE"),
        ];
        for (number, (change, attribute)) in cases.into_iter().enumerate() {
            let name = KeyName::new(&format!("weak-{number}")).unwrap();
            // NSS makes no RSA key that may be derived from.
            if generate_raw(&name, &[change]).is_err() {
                assert_eq!(attribute, "CKA_DERIVE");
                continue;
            }
            assert_eq!(
                weakness(token.signing_key(KeyRole::KdhSigning, &name)),
                attribute
            );
        }
    });
}

fn weakness<T: std::fmt::Debug>(result: Result<T, HsmError>) -> &'static str {
    match result {
        Err(HsmError::WeakKey { attribute, .. }) => attribute,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_that_was_outside_is_refused_unless_that_is_accepted() {
    on_every_module(|_| {
        let token = new_token("kdh");
        raw::import_rsa(&raw::signing_attributes(&name()), &software::recipient());
        let imported = token.signing_key(KeyRole::KdhSigning, &name());
        assert_eq!(weakness(imported), "CKA_ALWAYS_SENSITIVE");

        drop(token);
        let mut config = TokenConfig::new("kdh");
        config.accept_imported_keys = true;
        let token = module().open(&config, &pin(USER_PIN)).unwrap();
        let key = token.signing_key(KeyRole::KdhSigning, &name()).unwrap();
        let signature = key.sign(b"message").unwrap();
        key.public_key().verify(b"message", &signature).unwrap();
    });
}

#[test]
fn a_terminals_key_is_retired_from_signing() {
    on_every_module(|_| {
        let token = new_token("krd");
        let name = KeyName::new("krd-encryption").unwrap();
        let public_key = token
            .generate_key_pair(KeyRole::KrdEncryption, &name, RSA_2048)
            .unwrap();
        let signing = token.signing_key(KeyRole::KrdEncryption, &name).unwrap();
        let signature = signing.sign(b"request").unwrap();
        public_key.verify(b"request", &signature).unwrap();
        assert!(token.decryption_key(&name).unwrap().may_sign());

        assert!(token.retire_signing(&name).unwrap());

        let key = token.decryption_key(&name).unwrap();
        assert!(!key.may_sign());
        assert_eq!(key.public_key(), &public_key);
        let refused = token.signing_key(KeyRole::KrdEncryption, &name);
        assert!(
            matches!(
                refused,
                Err(HsmError::UsageNotAllowed {
                    usage: "CKA_SIGN",
                    ..
                })
            ),
            "{refused:?}"
        );
        match signing.sign(b"request").unwrap_err() {
            HsmError::Call {
                operation,
                function,
                code,
                label,
            } => {
                assert_eq!((operation, function.as_str()), ("sign", "C_SignInit"));
                // The other is what NSS says of whatever a key may not do.
                let codes = [
                    "CKR_KEY_FUNCTION_NOT_PERMITTED",
                    "CKR_KEY_TYPE_INCONSISTENT",
                ];
                assert!(codes.contains(&code.as_str()), "{code}");
                assert_eq!(label.as_deref(), Some("krd-encryption"));
            }
            other => panic!("{other:?}"),
        }
        // Once more is no error.
        assert!(token.retire_signing(&name).unwrap());
    });
}

#[test]
fn signing_and_other_keys_are_not_mixed_up() {
    on_every_module(|_| {
        let token = new_token("kdh");
        token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        for role in [KeyRole::TransportKey, KeyRole::LoadedKey] {
            assert!(matches!(
                token.signing_key(role, &name()),
                Err(HsmError::WrongRole { .. })
            ));
            assert!(matches!(
                token.secret_key(role, &name()),
                Err(HsmError::KeyNotFound { .. })
            ));
        }
        assert!(matches!(
            token.secret_key(KeyRole::KdhSigning, &name()),
            Err(HsmError::WrongRole { .. })
        ));
        assert_eq!(weakness(token.decryption_key(&name())), "CKA_MODIFIABLE");
        assert_eq!(weakness(token.retire_signing(&name())), "CKA_MODIFIABLE");
    });
}

#[test]
fn a_destroyed_key_is_gone_for_every_session() {
    on_every_module(|_| {
        let token = new_token("kdh");
        assert!(matches!(
            token.destroy_key(&name()),
            Err(HsmError::KeyNotFound { .. })
        ));

        let first = token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        let key = token.signing_key(KeyRole::KdhSigning, &name()).unwrap();
        // Every worker has used it.
        sign_a_lot(&key, &first);
        token.destroy_key(&name()).unwrap();
        assert_eq!(raw::count_objects(), 0);
        assert!(matches!(
            key.sign(b"message"),
            Err(HsmError::KeyNotFound { .. })
        ));

        let second = token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        let key = token.signing_key(KeyRole::KdhSigning, &name()).unwrap();
        sign_a_lot(&key, &second);
    });
}

fn sign_a_lot(key: &hsm::SigningKey, public_key: &PublicKey) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let signature = key.sign(b"message").unwrap();
                    public_key.verify(b"message", &signature).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_key_that_another_program_replaced_is_looked_up_again() {
    on_every_module(|_| {
        let token = one_worker_token();
        token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        let key = token.signing_key(KeyRole::KdhSigning, &name()).unwrap();
        let session = raw::session();
        for handle in raw::objects(&session) {
            session.destroy_object(handle).unwrap();
        }
        // The stale handle is met once, and forgotten.
        assert!(matches!(key.sign(b"message"), Err(HsmError::Call { .. })));
        assert!(matches!(
            key.sign(b"message"),
            Err(HsmError::KeyNotFound { .. })
        ));
    });
}

fn one_worker_token() -> Token {
    drop(new_token("kdh"));
    let mut config = TokenConfig::new("kdh");
    config.workers = 1;
    module().open(&config, &pin(USER_PIN)).unwrap()
}

#[test]
fn no_private_value_can_be_read() {
    on_every_module(|_| {
        let token = new_token("kdh");
        token
            .generate_key_pair(KeyRole::KdhSigning, &name(), RSA_2048)
            .unwrap();
        let session = raw::session();
        let private = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        let key = session.find_objects(&private).unwrap()[0];
        let values = session
            .get_attributes(
                key,
                &[AttributeType::PrivateExponent, AttributeType::Prime1],
            )
            .unwrap();
        assert!(values.is_empty());
    });
}

/// The program that the tests with OpenSSL's keys use.
#[test]
fn an_imported_terminal_key_is_found_only_where_that_is_accepted() {
    on_every_module(|place| {
        drop(new_token("krd"));
        let directory = tempfile::tempdir().unwrap();
        let (key, pin_file) = (
            directory.path().join("key.der"),
            directory.path().join("pin"),
        );
        let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recipient.pem");
        run(std::process::Command::new("openssl")
            .args(["rsa", "-traditional", "-outform", "DER", "-in", pem, "-out"])
            .arg(&key));
        std::fs::write(&pin_file, format!("{USER_PIN}\n")).unwrap();
        run(std::process::Command::new(example("import-rsa-key"))
            .arg(place.module().library().unwrap())
            .arg("krd")
            .arg(&pin_file)
            .arg("krd-encryption")
            .arg(&key));

        let name = KeyName::new("krd-encryption").unwrap();
        let mut config = TokenConfig::new("krd");
        let token = module().open(&config, &pin(USER_PIN)).unwrap();
        assert_eq!(
            weakness(token.decryption_key(&name)),
            "CKA_ALWAYS_SENSITIVE"
        );
        drop(token);
        config.accept_imported_keys = true;
        let token = module().open(&config, &pin(USER_PIN)).unwrap();
        let key = token.decryption_key(&name).unwrap();
        assert_eq!(
            *key.public_key(),
            software::public_half(&software::recipient())
        );
        assert!(token.retire_signing(&name).unwrap());
    });
}

fn run(command: &mut std::process::Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Cargo builds a crate's examples before it runs its tests, unless told which tests.
fn example(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(std::path::Path::parent).unwrap();
    let example = target.join("examples").join(name);
    assert!(example.exists(), "cargo build -p hsm --examples");
    example
}
