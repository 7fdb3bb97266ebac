//! The keys in the token: swapped as one act, and cleared up after one that was cut off.

use hsm::{ClearKey, Kcv, KcvMethod, KeyClass, KeyName, StagedKey, Token};
use krd_client::{Delivery, HexBytes, Keyring, KrdError, PendingReport, SlotName};
use tr34::KeyKind;

use crate::{
    host::TODAY,
    tokens::{new_token, on_every_module},
    world::{HEADER, header},
};

/// A key of sixteen such bytes, with its check value.
fn stage(token: &Token, byte: u8) -> (StagedKey, Kcv) {
    let key = ClearKey::copy_from(&[byte; 16]);
    let staged = token.load_clear_key(&key, KeyKind::Aes128).unwrap();
    let kcv = staged.kcv(Kcv::LEN).unwrap();
    (staged, kcv)
}

fn delivery(slot: &str, key_version: u32) -> Delivery {
    Delivery {
        slot: slot.parse().unwrap(),
        id: format!("delivery-{slot}-{key_version}"),
        key_version,
        header: header(HEADER),
        kdh: TODAY.kdh.issuer_and_serial().unwrap(),
    }
}

fn report(delivery: &Delivery) -> PendingReport {
    PendingReport {
        delivery_id: delivery.id.clone(),
        statement: HexBytes(vec![1]),
        signature: HexBytes(vec![2]),
    }
}

/// Loads version `key_version` of a slot with a key of its own.
fn load(token: &Token, slot: &str, key_version: u32) -> Kcv {
    let (staged, kcv) = stage(token, u8::try_from(key_version).unwrap());
    let delivery = delivery(slot, key_version);
    Keyring::new(token)
        .commit(staged, &delivery, &kcv, report(&delivery))
        .unwrap();
    kcv
}

/// Every secret key in the token, by label and id.
fn secret_keys(token: &Token) -> Vec<(String, Vec<u8>)> {
    let keys = token.list_keys().unwrap().into_iter();
    let secret = keys.filter(|key| key.class == KeyClass::Secret);
    secret.map(|key| (key.label, key.id)).collect()
}

fn named(slot: &str, key_version: u32) -> (String, Vec<u8>) {
    let delivery = delivery(slot, key_version);
    let name = delivery
        .slot
        .key_name(delivery.key_version, &delivery.id)
        .unwrap();
    (name.label().to_owned(), name.id().to_vec())
}

fn tmk() -> SlotName {
    "tmk".parse().unwrap()
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        assert_eq!(keyring.slot(&tmk()).unwrap().held, None);
        let first = load(&token, "tmk", 1);
        assert_eq!(secret_keys(&token), [named("tmk", 1)]);
        let second = load(&token, "tmk", 2);
        assert_ne!(first, second);
        assert_eq!(secret_keys(&token), [named("tmk", 2)]);

        let record = keyring.slot(&tmk()).unwrap();
        let held = record.held.unwrap();
        assert_eq!((held.key_version, held.confirmed), (2, false));
        assert_eq!(held.header, HEADER);
        assert_eq!(keyring.kcv(&tmk(), &held).unwrap(), Some(second));
        assert!(keyring.is_intact(&tmk(), &held).unwrap());
        assert_eq!(record.report.unwrap().delivery_id, "delivery-tmk-2");
        assert_eq!(keyring.sweep().unwrap(), 0);
    });
}

#[test]
fn what_was_cut_off_before_the_record_leaves_the_old_key() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        load(&token, "tmk", 1);
        // As commit does, up to the moment before the record.
        let (staged, _) = stage(&token, 2);
        let (label, id) = named("tmk", 2);
        let _new = staged
            .commit(&KeyName::with_id(&label, &id).unwrap())
            .unwrap();
        assert_eq!(secret_keys(&token).len(), 2);

        assert_eq!(keyring.sweep().unwrap(), 1);
        assert_eq!(secret_keys(&token), [named("tmk", 1)]);
        let held = keyring.slot(&tmk()).unwrap().held.unwrap();
        assert!(keyring.is_intact(&tmk(), &held).unwrap());
        load(&token, "tmk", 2);
    });
}

#[test]
fn what_was_cut_off_behind_the_record_leaves_the_new_key() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        load(&token, "tmk", 2);
        // As if the old one had not been destroyed any more.
        let (staged, _) = stage(&token, 1);
        let (label, id) = named("tmk", 1);
        let _old = staged
            .commit(&KeyName::with_id(&label, &id).unwrap())
            .unwrap();

        assert_eq!(keyring.sweep().unwrap(), 1);
        assert_eq!(secret_keys(&token), [named("tmk", 2)]);
    });
}

#[test]
fn a_staged_key_goes_with_the_act_that_staged_it() {
    on_every_module(|_| {
        let token = new_token("krd");
        let (staged, _) = stage(&token, 1);
        drop(staged);
        assert_eq!(secret_keys(&token), []);
        assert_eq!(Keyring::new(&token).sweep().unwrap(), 0);
    });
}

#[test]
fn slots_do_not_touch_each_other() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        load(&token, "tmk", 1);
        load(&token, "tmk.2", 1);
        load(&token, "pin", 1);
        load(&token, "tmk", 2);
        // Not a loaded key by its name.
        let (staged, _) = stage(&token, 9);
        let _other = staged.commit(&KeyName::new("storage").unwrap()).unwrap();
        assert_eq!(keyring.sweep().unwrap(), 0);
        let mut keys: Vec<String> = secret_keys(&token).into_iter().map(|key| key.0).collect();
        keys.sort();
        assert_eq!(keys, ["kn.pin", "kn.tmk", "kn.tmk.2", "storage"]);
        let slots: Vec<String> = keyring
            .slots()
            .unwrap()
            .into_iter()
            .map(|record| record.slot.to_string())
            .collect();
        assert_eq!(slots, ["pin", "tmk", "tmk.2"]);
    });
}

#[test]
fn a_record_that_does_not_read_costs_no_key() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        load(&token, "tmk", 1);
        for content in [&b"{"[..], br#"{"format":2,"content":{}}"#] {
            token.store_record("krd.slot.tmk", content).unwrap();
            assert!(matches!(keyring.sweep(), Err(KrdError::Record(_))));
            assert_eq!(secret_keys(&token), [named("tmk", 1)]);
        }
    });
}

#[test]
fn a_lost_or_exchanged_key_is_noticed() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        load(&token, "tmk", 1);
        let held = keyring.slot(&tmk()).unwrap().held.unwrap();
        let (label, id) = named("tmk", 1);
        let name = KeyName::with_id(&label, &id).unwrap();
        token.destroy_key(&name).unwrap();
        assert_eq!(keyring.kcv(&tmk(), &held).unwrap(), None);
        assert!(!keyring.is_intact(&tmk(), &held).unwrap());
        let (staged, other) = stage(&token, 7);
        let _exchanged = staged.commit(&name).unwrap();
        assert_eq!(keyring.kcv(&tmk(), &held).unwrap(), Some(other));
        assert!(!keyring.is_intact(&tmk(), &held).unwrap());
    });
}

#[test]
fn reports_are_settled_for_their_own_delivery() {
    on_every_module(|_| {
        let token = new_token("krd");
        let keyring = Keyring::new(&token);
        let state = || {
            let record = keyring.slot(&tmk()).unwrap();
            let held = record.held.unwrap();
            (held.key_version, held.confirmed, record.report.is_some())
        };
        load(&token, "tmk", 1);
        assert_eq!(state(), (1, false, true));
        keyring.settle_report(&tmk(), true).unwrap();
        assert_eq!(state(), (1, true, false));
        // Version 2 came out with a wrong check value: version 1 stays as it is.
        keyring
            .keep_report(&tmk(), report(&delivery("tmk", 2)))
            .unwrap();
        assert_eq!(state(), (1, true, true));
        keyring.settle_report(&tmk(), false).unwrap();
        assert_eq!(state(), (1, true, false));
        // Version 2 was loaded and the host does not know its delivery any more.
        load(&token, "tmk", 2);
        keyring.settle_report(&tmk(), false).unwrap();
        assert_eq!(state(), (2, false, false));
    });
}

#[test]
fn check_values_are_those_of_the_key_kind() {
    on_every_module(|place| {
        let token = new_token("krd");
        for (kind, method) in [
            (KeyKind::Aes128, KcvMethod::AesCmac),
            (KeyKind::Aes256, KcvMethod::AesCmac),
            (KeyKind::Tdea2, KcvMethod::TdeaEcb),
        ] {
            if kind == KeyKind::Tdea2 && !place.module().can.tdea {
                continue;
            }
            let key = ClearKey::copy_from(&vec![0x31; kind.key_len()]);
            let staged = token.load_clear_key(&key, kind).unwrap();
            assert_eq!(staged.kcv(Kcv::LEN).unwrap().method(), method);
        }
    });
}
