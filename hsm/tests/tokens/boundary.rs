//! What crosses between the process and the module, as `OpenSC`'s `pkcs11-spy` writes it down.

use std::fs;

use hsm::{
    ClearKey, Completion, ExpectedKeyBlock, ExportForm, Kcv, KnSource, Module, SumId, SumTarget,
    TokenConfig,
};
use hsm_modules::{Place, spy};
use time::OffsetDateTime;
use tr34::{KeyKind, OaepHash};

use crate::{
    combining::{combine, component, kcv_of, xor},
    common::{
        SO_PIN, USER_PIN, as_held, new_token_of, pin, sealable_kinds, spy_log,
        with_spy_on_every_module,
    },
    exporting, importing,
    sealing::{frame, request},
    software, storage,
    terminal::{in_software, terminal},
};

/// Every byte string in the log, whatever call it belongs to, and the log.
fn crossed(place: &Place) -> (Vec<Vec<u8>>, String) {
    let log = fs::read(spy_log(place)).unwrap();
    let log = String::from_utf8_lossy(&log).into_owned();
    let mut strings: Vec<Vec<u8>> = Vec::new();
    for line in log.lines() {
        // "00000010  A6 A6 ...  text": an offset, up to 16 bytes, and the bytes as text.
        let Some((offset, rest)) = line.trim_start().split_once("  ") else {
            continue;
        };
        if offset.len() != 8 || !offset.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            continue;
        }
        if offset == "00000000" {
            strings.push(Vec::new());
        }
        let bytes = rest
            .split(' ')
            .map_while(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok())?)
            .take(16);
        strings.last_mut().unwrap().extend(bytes);
    }
    (strings, log)
}

fn holds(strings: &[Vec<u8>], secret: &[u8]) -> bool {
    strings
        .iter()
        .any(|string| string.windows(secret.len()).any(|window| window == secret))
}

/// The terminal's side: what comes is the key token's content, what is known afterwards the check value.
#[test]
fn neither_kn_nor_ke_crosses_when_a_key_block_is_opened_inside() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        module
            .initialize_token("krd", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let token = module
            .open(&TokenConfig::new("krd"), &pin(USER_PIN))
            .unwrap();
        let key = terminal(&token);
        if place.module().can.opening.is_empty() {
            // Refused, and that is tested with the others.
            return;
        }
        let (kn, ke) = (*b"sixteen byte key", [0x5e; 16]);
        let envelope = in_software(key.public_key(), &frame(KeyKind::Aes128), &kn, &ke);
        let expected = [ExpectedKeyBlock {
            kind: KeyKind::Aes128,
            frame: frame(KeyKind::Aes128),
        }];
        let staged = token.open_inside(&key, &envelope, &expected).unwrap();
        assert_eq!(
            staged.kcv(Kcv::LEN).unwrap().value(),
            software::kcv(KeyKind::Aes128, &kn)
        );
        staged
            .commit(&hsm::KeyName::new("kn.loaded").unwrap())
            .unwrap();

        let (strings, log) = crossed(place);
        assert!(holds(&strings, envelope.encrypted_key()), "{log}");
        for secret in [&kn, &ke] {
            for half in secret.chunks(8) {
                assert!(!holds(&strings, half));
            }
        }
        assert_eq!(log.matches("C_DecryptInit").count(), 0);
    });
}

/// Over two sittings: neither the key nor what is kept between them.
#[test]
fn no_sum_crosses_when_components_come_at_several_sittings() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let open = || {
            module
                .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
                .unwrap()
        };
        let kind = KeyKind::Aes256;
        let components: Vec<_> = (1..=3).map(|number| component(kind, number)).collect();
        let id = SumId::new([7; 32], 1);
        let target = SumTarget {
            name: hsm::KeyName::new("kn.test").unwrap(),
            kind,
            kcv: kcv_of(kind, &xor(&components)),
        };
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = open();
        if token.keeps_records().unwrap().is_err() {
            // Refused, and that is tested with the others.
            return;
        }
        let clear = |number: usize| ClearKey::copy_from(&components[number - 1]);
        let mut sum = token
            .begin_stored_sum(id, target, now + time::Duration::HOUR)
            .unwrap();
        sum.add(clear(1), 1, "Anna").unwrap();
        sum.add(clear(2), 2, "Ben").unwrap();
        drop((sum, token));
        let mut sum = open().resume_stored_sum(&id, now).unwrap().unwrap();
        let made = sum.complete(clear(3), 3, "Carl").unwrap();
        assert!(matches!(made, Completion::Key(_)));

        let (strings, log) = crossed(place);
        assert!(holds(&strings, &components[0]), "{log}");
        for sum in [&components[..], &components[..2], &components[1..]] {
            for half in xor(sum).chunks(8) {
                assert!(!holds(&strings, half));
            }
        }
    });
}

#[test]
fn neither_kn_nor_ke_crosses_when_components_become_a_sealed_key() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let token = module
            .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
            .unwrap();
        token.capabilities().unwrap();
        let (_, log) = crossed(place);
        let opened = log.matches("C_DecryptInit").count();
        let recipient = software::recipient();

        for kind in [KeyKind::Aes128, KeyKind::Tdea2, KeyKind::Aes256] {
            if kind == KeyKind::Tdea2 && !place.module().can.tdea {
                continue;
            }
            let components: Vec<_> = (1..=3).map(|number| component(kind, number)).collect();
            let name = hsm::KeyName::new("kn.test").unwrap();
            let key = combine(&token, kind, &name, &components);
            let sealed = token
                .seal(
                    &key,
                    &request(
                        kind,
                        &frame(kind),
                        &software::public_half(&recipient),
                        OaepHash::Sha1,
                    ),
                )
                .unwrap();
            token.kcv(&key).unwrap();
            token.destroy_key(&name).unwrap();

            let (ke, block) = software::open(&recipient, &sealed);
            let kn = as_held(place, kind, &xor(&components));
            assert!(block.windows(kn.len()).any(|window| window == kn));

            let (strings, log) = crossed(place);
            // The reader of the log sees what does cross. (Not in parameters of mechanisms, of which the
            // spy writes down few: the other components may be there, the sum is known to nobody.)
            assert!(holds(&strings, &components[0]), "{log}");
            assert!(holds(&strings, &sealed.encrypted_key));
            for secret in [&kn, &ke] {
                for half in secret.chunks(8) {
                    assert!(!holds(&strings, half), "{kind}");
                }
            }
            // Partial sums, in either order of the components.
            for sum in [&components[..2], &components[1..]] {
                for half in xor(sum).chunks(8) {
                    assert!(!holds(&strings, half), "{kind}");
                }
            }
        }
        // The self-test decrypts with keys that it unwrapped; nothing else decrypts at all.
        assert!(opened > 0);
        let (_, log) = crossed(place);
        assert_eq!(log.matches("C_DecryptInit").count(), opened);
    });
}

/// Nothing of a key that arrives encrypted crosses, nor of the transport key, nor of what else it is opened with.
#[test]
fn neither_kn_nor_what_it_came_under_crosses_when_a_key_is_imported() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        module
            .initialize_token("kdh", &pin(SO_PIN), &pin(USER_PIN))
            .unwrap();
        let token = module
            .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
            .unwrap();
        // The trials know their keys.
        token.capabilities().unwrap();
        let decrypted = crossed(place).1.matches("C_DecryptInit").count();

        for (import, marker, secrets) in importing::one_of_each_form(&token, place) {
            let key = token.import_key(&import, &importing::kn()).unwrap();
            token.kcv(&key).unwrap();
            token.destroy_key(&importing::kn()).unwrap();
            let (strings, log) = crossed(place);
            let form = import.wrapped.form();
            // The reader of the log sees what does cross.
            assert!(holds(&strings, &marker), "{form}: {log}");
            for secret in secrets {
                for half in secret.chunks(8) {
                    assert!(!holds(&strings, half), "{form}");
                }
            }
            assert_eq!(log.matches("C_DecryptInit").count(), decrypted, "{form}");
        }
    });
}

/// From its making on: made, stored, delivered, brought under another storage key, delivered again.
#[test]
fn neither_kn_nor_a_storage_key_crosses_when_keys_are_made_stored_and_delivered() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        let lab = storage::Lab::of(new_token_of(&module, "kdh"));
        lab.token.capabilities().unwrap();
        let (_, log) = crossed(place);
        let opened = log.matches("C_DecryptInit").count();
        let two = storage::ONE.next().unwrap();
        for number in [storage::ONE, two] {
            lab.token.make_storage_keys(number).unwrap();
        }
        lab.group.storage_numbers().unwrap();

        let kinds = sealable_kinds(place);
        let rows = lab.make(storage::ONE, &kinds);
        let moved = lab.rewrap(two, &rows);
        for (row, moved) in rows.iter().zip(&moved) {
            let kn = lab.deliver(row).unwrap();
            assert_eq!(lab.deliver(moved).unwrap(), kn);
            let (strings, log) = crossed(place);
            // The reader of the log sees what does cross.
            assert!(holds(&strings, &row.kn.wrapped), "{log}");
            assert!(holds(&strings, &moved.kn.wrapped));
            assert!(holds(&strings, &row.record.bytes));
            for half in kn.chunks(8) {
                assert!(!holds(&strings, half), "{}", row.kn.kind);
            }
        }
        let (_, log) = crossed(place);
        assert_eq!(log.matches("C_DecryptInit").count(), opened);
    });
}

/// Derived, delivered and exported; and others exported, from wherever they come.
#[test]
fn neither_kn_nor_what_it_comes_of_or_goes_under_crosses_when_keys_are_derived_and_exported() {
    with_spy_on_every_module(|place| {
        let module = Module::load(&spy().unwrap()).unwrap();
        let lab = storage::Lab::of(new_token_of(&module, "kdh"));
        // The trials know their keys.
        lab.token.capabilities().unwrap();
        let opened = crossed(place).1.matches("C_DecryptInit").count();
        // Past the spy.
        let mut secrets = exporting::shared_keys(&lab.token);
        let keys = exporting::one_of_each(&lab.token, place);
        let sealable = sealable_kinds(place);
        for (export, value) in &keys {
            let kind = export.kn.kind();
            secrets.extend(value.clone());
            if let KnSource::Derived(_) = &export.kn {
                secrets.push(component(kind, 3));
                if sealable.contains(&kind) {
                    lab.deliver_of(&export.kn, None).unwrap();
                }
            }
        }
        let exports: Vec<_> = keys.into_iter().map(|(export, _)| export).collect();
        let tr31 = lab.token.capabilities().unwrap().exports;
        let tr31 = tr31
            .iter()
            .any(|(form, outcome)| *form == ExportForm::Tr31 && outcome.is_ok());
        for under in [exporting::ZMK, exporting::KBPK] {
            if under == exporting::KBPK && !tr31 {
                // Refused, and that is tested with the others.
                continue;
            }
            let exported = exporting::exported_under(&lab.token, under, &exports).unwrap();
            let (strings, log) = crossed(place);
            // The reader of the log sees what does cross.
            let marker = exported.last().unwrap();
            assert!(holds(&strings, marker.mac.as_bytes()), "{log}");
            for secret in &secrets {
                for half in secret.chunks(8) {
                    assert!(!holds(&strings, half), "{under}");
                }
            }
            assert_eq!(log.matches("C_DecryptInit").count(), opened, "{under}");
        }
    });
}
