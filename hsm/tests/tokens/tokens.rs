//! Modules, tokens, PINs.

use std::{path::Path, time::Duration};

use hsm::{HsmError, KeyName, KeyPairKind, KeyRole, Module, Operations, TokenConfig};
use hsm_modules::SOFTHSM;
use pki::Signer;

use crate::common::{SO_PIN, USER_PIN, module, new_token, on_every_module, pin};

#[test]
fn a_token_is_initialized_found_and_opened() {
    on_every_module(|_| {
        let module = module();
        assert!(!module.describe().unwrap().manufacturer.is_empty());
        let made = module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        assert!(made.initialized && made.user_pin_set && !made.pin_locked);
        assert!(module.tokens().unwrap().contains(&made));

        let mut config = TokenConfig::new("kdh");
        config.serial = Some(made.serial.clone());
        let token = module.open(&config, &pin(USER_PIN)).unwrap();
        assert_eq!(token.info(), Some(&made));
        let random = token.random(32).unwrap();
        assert_eq!(random.len(), 32);
        assert_ne!(random, token.random(32).unwrap());
    });
}

#[test]
fn a_module_is_loaded_once() {
    on_every_module(|place| {
        let first = module();
        let library = place.module().library().unwrap();
        let (folder, name) = (library.parent().unwrap(), library.file_name().unwrap());
        let again = folder.join(".").join(name);
        let again = Module::load(&again).unwrap();
        assert_eq!(first.describe().unwrap(), again.describe().unwrap());
    });
}

#[test]
fn what_is_not_a_module_is_refused() {
    for path in ["/nowhere/libsofthsm2.so", "/etc/hostname"] {
        let refused = Module::load(Path::new(path));
        assert!(
            matches!(refused, Err(HsmError::ModuleNotLoaded { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_label_names_one_token() {
    on_every_module(|_| {
        let module = module();
        let initialize = |label: &str| module.initialize_token(label, &pin(SO_PIN), &pin(USER_PIN));
        initialize("kdh").unwrap();
        assert!(
            matches!(initialize("kdh"), Err(HsmError::TokenExists { label }) if label == "kdh")
        );
        for label in ["", " kdh", "kdh ", "schlüssel", &"k".repeat(33)] {
            assert!(
                matches!(initialize(label), Err(HsmError::Name(_))),
                "{label:?}"
            );
        }
        initialize(&"k".repeat(32)).unwrap();
    });
}

#[test]
fn a_token_that_is_not_there_is_not_found() {
    on_every_module(|_| {
        let module = module();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let other_label = TokenConfig::new("kdh2");
        let mut other_serial = TokenConfig::new("kdh");
        other_serial.serial = Some("0123456789abcdef".to_owned());
        for config in [other_label, other_serial] {
            let missing = module.open(&config, &pin(USER_PIN));
            assert!(
                matches!(missing, Err(HsmError::TokenNotFound { .. })),
                "{missing:?}"
            );
        }
    });
}

#[test]
fn one_of_two_tokens_of_a_label_is_named_by_its_serial_number() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        // This crate makes no second one of a label; others do.
        for _ in 0..2 {
            let made = std::process::Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", "kdh"])
                .args(["--so-pin", SO_PIN, "--pin", USER_PIN])
                .output()
                .unwrap();
            assert!(made.status.success());
        }
        let module = module();
        let serials: Vec<String> = module
            .tokens()
            .unwrap()
            .into_iter()
            .filter(|token| token.label == "kdh")
            .map(|token| token.serial)
            .collect();
        assert_eq!(serials.len(), 2);

        let mut config = TokenConfig::new("kdh");
        let ambiguous = module.open(&config, &pin(USER_PIN));
        assert!(
            matches!(ambiguous, Err(HsmError::TokenNotUnique { .. })),
            "{ambiguous:?}"
        );
        for serial in serials {
            config.serial = Some(serial.clone());
            let token = module.open(&config, &pin(USER_PIN)).unwrap();
            assert_eq!(token.info().unwrap().serial, serial);
        }
    });
}

#[test]
fn a_wrong_pin_is_told_and_does_not_lock() {
    on_every_module(|_| {
        let module = module();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let config = TokenConfig::new("kdh");
        for wrong in ["4321", "1", ""] {
            let refused = module.open(&config, &pin(wrong));
            assert!(
                matches!(&refused, Err(HsmError::PinIncorrect { token }) if token == "kdh"),
                "{refused:?}"
            );
            assert!(!refused.unwrap_err().is_retryable());
        }
        assert!(
            !module
                .tokens()
                .unwrap()
                .iter()
                .any(|token| token.pin_locked)
        );
        module.open(&config, &pin(USER_PIN)).unwrap();
    });
}

#[test]
fn a_token_is_open_once_and_can_be_opened_again_when_it_is_closed() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let open = || module().open(&TokenConfig::new("kdh"), &pin(USER_PIN));
        assert!(matches!(open(), Err(HsmError::TokenInUse { label }) if label == "kdh"));

        // A key keeps its token open.
        let name = KeyName::new("host-tls").unwrap();
        token
            .generate_key_pair(KeyRole::TlsServer, &name, KeyPairKind::P256)
            .unwrap();
        let key = token.signing_key(KeyRole::TlsServer, &name).unwrap();
        drop(token);
        key.sign(b"message").unwrap();
        assert!(matches!(open(), Err(HsmError::TokenInUse { .. })));

        drop(key);
        open()
            .unwrap()
            .signing_key(KeyRole::TlsServer, &name)
            .unwrap();
    });
}

#[test]
fn a_deadline_in_the_past_is_unavailable_and_retryable() {
    on_every_module(|_| {
        let module = module();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let mut config = TokenConfig::new("kdh");
        config.deadline = Duration::ZERO;
        let token = module.open(&config, &pin(USER_PIN)).unwrap();
        let late = token.random(1).unwrap_err();
        assert!(late.is_retryable());
        assert_eq!(
            late.to_string(),
            "random: the HSM is unavailable (deadline)"
        );
    });
}

#[test]
fn many_threads_share_a_token() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let name = KeyName::new("host-tls").unwrap();
        token
            .generate_key_pair(KeyRole::TlsServer, &name, KeyPairKind::P256)
            .unwrap();
        let key = token.signing_key(KeyRole::TlsServer, &name).unwrap();
        std::thread::scope(|scope| {
            for number in 0..16_u8 {
                let key = &key;
                scope.spawn(move || {
                    for round in 0..8_u8 {
                        let message = [number, round];
                        let signature = key.sign(&message).unwrap();
                        key.public_key().verify(&message, &signature).unwrap();
                    }
                });
            }
        });
    });
}

/// By name, each with its mechanism, and nothing of what they were called with.
#[test]
fn calls_are_counted_for_whoever_asks() {
    on_every_module(|_| {
        let (mine, others) = (Operations::default(), Operations::default());
        let counted = module().counted_by(&mine);
        counted
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let counts = mine.take();
        assert_eq!((counts["C_InitToken"], counts["C_InitPIN"]), (1, 1));
        assert!(mine.take().is_empty());

        let token = counted
            .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
            .unwrap();
        assert_eq!(mine.take()["C_Login"], 1);
        let name = KeyName::new("audit").unwrap();
        let role = KeyRole::Audit;
        token
            .generate_key_pair(role, &name, KeyPairKind::P256)
            .unwrap();
        let counts = mine.take();
        let made: Vec<_> = counts
            .keys()
            .filter(|name| name.starts_with("C_GenerateKeyPair(CKM_E"))
            .collect();
        assert_eq!(made.len(), 1, "{counts:?}");
        let key = token.signing_key(role, &name).unwrap();
        key.sign(b"once").unwrap();
        key.sign(b"twice").unwrap();
        assert_eq!(mine.take()["C_Sign(CKM_ECDSA)"], 2);
        token.random(8).unwrap();
        assert_eq!(mine.take()["C_GenerateRandom"], 1);

        // Who uses the module besides is counted elsewhere.
        drop((key, token));
        let elsewhere = module().counted_by(&others);
        let token = elsewhere
            .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
            .unwrap();
        mine.take();
        token.random(8).unwrap();
        assert!(mine.take().is_empty());
        assert_eq!(others.take()["C_GenerateRandom"], 1);
    });
}

#[test]
fn core_dumps_are_off_for_good() {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
    // For its own process, not for a token.
    on_every_module(|_| {
        hsm::forbid_core_dumps().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    });
}
