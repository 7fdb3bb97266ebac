//! Pairs of storage keys: made, found, refused, destroyed.

use cryptoki::{mechanism::Mechanism, object::Attribute};
use hsm::{ClearKey, Health, HsmError, KeyName, KeyRole, StorageNumber, Token, TokenGroup};
use hsm_modules::Peculiarity;
use tr34::KeyKind;

use super::{Lab, ONE, new_key, record};
use crate::{
    combining::{component, kcv_of, xor},
    common::{block_on, faulty, new_token, new_token_of, on_every_module, with_faults},
    raw,
};

fn number(number: u32) -> StorageNumber {
    StorageNumber::new(number).unwrap()
}

fn name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

/// What the crate would ask for, without a limit, with changes.
fn generate_raw(name: &KeyName, usages: [bool; 2], changes: &[Attribute]) {
    let [wraps, signs] = usages;
    let mut template = raw::named(name);
    template.extend([
        Attribute::ValueLen(32.into()),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(signs),
        Attribute::Verify(false),
        Attribute::Wrap(wraps),
        Attribute::Unwrap(wraps),
        Attribute::Derive(false),
    ]);
    let template = raw::changed(template, changes);
    let made = raw::session().generate_key(&Mechanism::AesKeyGen, &template);
    made.unwrap();
}

const WRAPS: [bool; 2] = [true, false];
const SIGNS: [bool; 2] = [false, true];

fn exists(made: Result<(), HsmError>) -> String {
    match made {
        Err(HsmError::KeyExists { label }) => label,
        other => panic!("{other:?}"),
    }
}

fn not_found(error: HsmError) -> String {
    match error {
        HsmError::KeyNotFound { label } => label,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pairs_are_made_inside_found_by_their_number_and_destroyed() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let group = TokenGroup::from(token.clone());
        assert_eq!(group.storage_numbers().unwrap(), []);
        for made in [2, 1, 10] {
            token.make_storage_keys(number(made)).unwrap();
        }
        let found = group.storage_numbers().unwrap();
        assert_eq!(found, [1, 2, 10].map(number));
        assert_eq!(raw::count_objects(), 6);

        let limits = !place.module().can.is(Peculiarity::NoLimits);
        let keys = token.key_strengths().unwrap();
        for (label, role, usages, mechanism) in [
            (
                "ksk.2",
                KeyRole::Storage,
                &["CKA_WRAP", "CKA_UNWRAP"][..],
                "CKM_AES_KEY_WRAP",
            ),
            (
                "ksm.2",
                KeyRole::StorageMac,
                &["CKA_SIGN"][..],
                "CKM_AES_CMAC",
            ),
        ] {
            let strength = keys.iter().find(|key| key.key.label == label).unwrap();
            assert_eq!((strength.role, &*strength.key.kind), (role, "AES-256"));
            assert_eq!(strength.weaknesses, [""; 0]);
            let guarded = [
                "CKA_PRIVATE",
                "CKA_SENSITIVE",
                "CKA_ALWAYS_SENSITIVE",
                "CKA_NEVER_EXTRACTABLE",
            ];
            assert_eq!(strength.key.attributes, [&guarded[..], usages].concat());
            let limit = strength.allowed_mechanisms.as_deref();
            let expected = [mechanism.to_owned()];
            assert_eq!(limit, limits.then_some(&expected[..]), "{label}");
        }

        assert_eq!(exists(token.make_storage_keys(number(2))), "ksk.2");
        group.destroy_storage_keys(number(2)).unwrap();
        let again = group.destroy_storage_keys(number(2)).unwrap_err();
        assert_eq!(not_found(again), "ksk.2");
        assert_eq!(group.storage_numbers().unwrap(), [1, 10].map(number));
        let gone = block_on(group.authenticate(number(2), vec![Vec::new()]));
        assert_eq!(not_found(gone.unwrap_err()), "ksm.2");
        assert_eq!(raw::count_objects(), 4);
        // As a number that was never there.
        token.make_storage_keys(number(2)).unwrap();
        assert_eq!(group.storage_numbers().unwrap().len(), 3);
    });
}

#[test]
fn half_a_pair_counts_for_nothing_and_nothing_is_made_beside_it() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let group = TokenGroup::from(token.clone());
        generate_raw(&name("ksk.1"), WRAPS, &[]);
        generate_raw(&name("ksm.2"), SIGNS, &[]);
        // Names that look like one.
        for label in [
            "ksk.0",
            "ksk.03",
            "ksm.03",
            "ksk.",
            "ksk.-4",
            "ksk.4294967296",
        ] {
            generate_raw(&name(label), WRAPS, &[]);
        }
        let other_id = KeyName::with_id("ksk.2", &[7]).unwrap();
        generate_raw(&other_id, WRAPS, &[]);
        let before = raw::count_objects();
        assert_eq!(group.storage_numbers().unwrap(), []);
        assert_eq!(exists(token.make_storage_keys(number(1))), "ksk.1");
        assert_eq!(exists(token.make_storage_keys(number(2))), "ksm.2");
        assert_eq!(raw::count_objects(), before);
        let made = block_on(group.make_keys(ONE, vec![new_key(KeyKind::Aes128)], record));
        assert_eq!(not_found(made.unwrap_err()), "ksm.1");
        for half in [1, 2] {
            group.destroy_storage_keys(number(half)).unwrap();
        }
        assert_eq!(raw::count_objects(), before - 2);
    });
}

#[test]
fn a_pair_that_is_weaker_than_it_should_be_is_refused() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let group = TokenGroup::from(token.clone());
        let weakness = |result: Result<Vec<StorageNumber>, HsmError>| match result {
            Err(HsmError::WeakKey {
                attribute, label, ..
            }) => (label, attribute),
            other => panic!("{other:?}"),
        };
        let cases = [
            (Attribute::Extractable(true), "CKA_EXTRACTABLE"),
            (Attribute::Modifiable(true), "CKA_MODIFIABLE"),
            (Attribute::Encrypt(true), "CKA_ENCRYPT"),
            (Attribute::Decrypt(true), "CKA_DECRYPT"),
            (Attribute::Derive(true), "CKA_DERIVE"),
        ];
        let of_wrapping = [(Attribute::Sign(true), "CKA_SIGN")];
        let of_signing = [
            (Attribute::Wrap(true), "CKA_WRAP"),
            (Attribute::Unwrap(true), "CKA_UNWRAP"),
        ];
        let mut next = ONE;
        let mut refused = |usages: [bool; 2], change: &Attribute, attribute: &'static str| {
            let labels = [format!("ksk.{next}"), format!("ksm.{next}")];
            let [key, mac] = labels.clone().map(|label| name(&label));
            let weak = usages == SIGNS;
            let change = std::slice::from_ref(change);
            let [of_key, of_mac] = if weak { [&[], change] } else { [change, &[]] };
            generate_raw(&key, WRAPS, of_key);
            generate_raw(&mac, SIGNS, of_mac);
            let found = weakness(group.storage_numbers());
            assert_eq!(found, (labels[usize::from(weak)].clone(), attribute));
            group.destroy_storage_keys(next).unwrap();
            next = next.next().unwrap();
        };
        for (change, attribute) in &cases {
            refused(WRAPS, change, attribute);
            refused(SIGNS, change, attribute);
        }
        for (change, attribute) in &of_wrapping {
            refused(WRAPS, change, attribute);
        }
        for (change, attribute) in &of_signing {
            refused(SIGNS, change, attribute);
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn a_storage_key_is_not_brought_in() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes256;
        for (label, role) in [("ksk.1", KeyRole::Storage), ("ksm.1", KeyRole::StorageMac)] {
            let components = [component(kind, 1), component(kind, 2)];
            let mut combination = token.combine_components(kind).unwrap();
            for component in &components {
                combination.add(ClearKey::copy_from(component)).unwrap();
            }
            let refused = combination.finish(&name(label), &kcv_of(kind, &xor(&components)));
            let wrong = matches!(
                refused,
                Err(HsmError::WrongRole { role: found, operation: "bringing a key in" }) if found == role
            );
            assert!(wrong, "{refused:?}");
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

/// Somebody with the PIN exchanges a key under its name while the token runs.
fn exchanged(label: &str, usages: [bool; 2]) {
    let lab = Lab::new();
    lab.group.storage_numbers().unwrap();
    let row = lab.make(ONE, &[KeyKind::Aes128]).remove(0);
    lab.deliver(&row).unwrap();
    let session = raw::session();
    let template = raw::named(&name(label));
    let key = session.find_objects(&template).unwrap()[0];
    session.destroy_object(key).unwrap();
    drop(session);
    generate_raw(&name(label), usages, &[]);
    for _ in 0..4 {
        let keys = vec![new_key(KeyKind::Aes128)];
        block_on(lab.group.make_keys(ONE, keys, record)).unwrap_err();
        lab.deliver(&row).unwrap_err();
    }
    match lab.group.health() {
        Health::Lost { reason } => {
            let why = format!("key {label} is another one in token kdh");
            assert!(reason.contains(&why), "{reason}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn another_key_of_the_same_name_opens_nothing() {
    on_every_module(|_| exchanged("ksk.1", WRAPS));
}

#[test]
fn another_mac_key_of_the_same_name_says_nothing() {
    on_every_module(|_| exchanged("ksm.1", SIGNS));
}

#[test]
fn of_a_pair_that_is_not_made_whole_nothing_is_left() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let token: Token = new_token_of(&module, "kdh");
        token.capabilities().unwrap();
        let keys = || token.list_keys().unwrap().len();
        // CKR_DEVICE_MEMORY: while the second key is made, and while the pair is tried.
        for fault in [
            "fail C_GenerateKey 0x31 2",
            "fail C_WrapKey 0x31 1",
            "fail C_Sign 0x31 1 4",
            "fail C_UnwrapKey 0x31 1 forever",
        ] {
            faults.tell(fault).unwrap();
            token.make_storage_keys(ONE).unwrap_err();
            faults.tell("clear").unwrap();
            assert_eq!(keys(), 0, "{fault}");
        }
        token.make_storage_keys(ONE).unwrap();
        assert_eq!(keys(), 2);
    });
}
