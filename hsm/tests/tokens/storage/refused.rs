//! What is not as it was is refused before it is used, with the reason.

use hsm::{
    Authenticated, HsmError, KeyName, KeyRole, KnSource, Mac, NewKey, StorageError, StorageNumber,
    StoredKn,
};
use tr34::KeyKind;

use super::{Lab, ONE, Row, new_key, record};
use crate::{
    common::{block_on, faulty, kinds, new_token_of, on_every_module, with_faults},
    raw,
    sealing::{frame, import, value},
};

const KIND: KeyKind = KeyKind::Aes128;

fn storage(error: HsmError) -> StorageError {
    match error {
        HsmError::Storage(error) => error,
        other => panic!("{other:?}"),
    }
}

/// `row` with other bytes for its key, and the MAC of a record that says so: as if somebody had the MAC key.
fn with_wrapped(lab: &Lab, row: &Row, wrapped: Vec<u8>) -> Row {
    let bytes = record(0, &row.kcv, &wrapped);
    let number = row.record.number;
    let macs = block_on(lab.group.authenticate(number, vec![bytes.clone()])).unwrap();
    Row {
        kn: StoredKn {
            wrapped,
            ..row.kn.clone()
        },
        record: Authenticated {
            number,
            bytes,
            mac: macs[0],
        },
        kcv: row.kcv.clone(),
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// What was changed, the row, and why it is refused.
type Case = (&'static str, Row, StorageError);

/// Of pair 1, of which `other` is too.
fn changed_beside(lab: &Lab, row: &Row, other: &Row, two: StorageNumber) -> Vec<Case> {
    let wrong_mac = StorageError::WrongMac;
    let mut cases: Vec<Case> = Vec::new();
    // What stands beside the key. As read from a database: the record says what the columns say.
    let mut beside = |what, bytes: Vec<u8>| {
        let mut changed = row.clone();
        changed.record.bytes = bytes;
        cases.push((what, changed, wrong_mac(ONE)));
    };
    let bytes = &row.record.bytes;
    beside("another key", record(0, &row.kcv, &other.kn.wrapped));
    beside("another number", record(1, &row.kcv, &row.kn.wrapped));
    beside(
        "another check value",
        record(0, &other.kcv, &row.kn.wrapped),
    );
    beside("a bit of it", flipped(bytes, 0));
    beside("its last byte is gone", bytes[..bytes.len() - 1].to_vec());
    beside("a byte too many", [bytes, &[0][..]].concat());
    beside("nothing", Vec::new());

    let mut with_mac = |what, mac: Mac| {
        let mut changed = row.clone();
        changed.record.mac = mac;
        cases.push((what, changed, wrong_mac(ONE)));
    };
    let mac = row.record.mac.as_bytes();
    with_mac("first bit", Mac::new(&flipped(mac, 0)).unwrap());
    with_mac("last bit", Mac::new(&flipped(mac, 127)).unwrap());
    with_mac("another row's", other.record.mac);
    with_mac("none", Mac::new(&[0; 16]).unwrap());
    let by_two = block_on(lab.group.authenticate(two, vec![bytes.clone()])).unwrap();
    with_mac("another pair's", by_two[0]);

    // Whole rows.
    let mut moved = row.clone();
    (moved.record.number, moved.kn.number) = (two, two);
    cases.push(("said to be of another pair", moved, wrong_mac(two)));
    let mut mixed = row.clone();
    mixed.kn.number = two;
    let other_pair = StorageError::OtherPair {
        record: ONE,
        key: two,
    };
    cases.push(("a key of another pair", mixed, other_pair));
    cases
}

/// Of pair 1; `under_two` is of the other.
fn changed_inside(lab: &Lab, row: &Row, under_two: &Row) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    // The wrapped key, with a MAC that fits, so that it is the key wrap that sees it.
    let wrapped = &row.kn.wrapped;
    let mut unopened = |what, wrapped: Vec<u8>| {
        let changed = with_wrapped(lab, row, wrapped);
        cases.push((what, changed, StorageError::DoesNotOpen(ONE)));
    };
    unopened("its first bit", flipped(wrapped, 0));
    unopened("its middle", flipped(wrapped, wrapped.len() * 4));
    unopened("its last bit", flipped(wrapped, wrapped.len() * 8 - 1));
    unopened("zeros", vec![0; wrapped.len()]);
    unopened("another pair's", under_two.kn.wrapped.clone());
    for (what, wrapped, found) in [
        ("empty", Vec::new(), 0),
        ("truncated", wrapped[..23].to_vec(), 23),
        ("a block less", wrapped[..16].to_vec(), 16),
        ("too long", [wrapped, &[0][..]].concat(), 25),
        ("a block more", [wrapped, &[0; 8][..]].concat(), 32),
    ] {
        let len = StorageError::WrappedLen {
            kind: KIND,
            expected: 24,
            found,
        };
        cases.push((what, with_wrapped(lab, row, wrapped), len));
    }
    let mut longer = row.clone();
    longer.kn.kind = KeyKind::Aes256;
    let len = StorageError::WrappedLen {
        kind: KeyKind::Aes256,
        expected: 40,
        found: 24,
    };
    cases.push(("another kind", longer, len));
    cases
}

#[test]
fn a_row_that_was_changed_is_refused_for_what_was_changed() {
    on_every_module(|_| {
        let lab = Lab::new();
        let two = ONE.next().unwrap();
        lab.token.make_storage_keys(two).unwrap();
        assert_eq!(lab.group.storage_numbers().unwrap(), [ONE, two]);
        let rows = lab.make(ONE, &[KIND; 2]);
        let (row, other) = (&rows[0], &rows[1]);
        let under_two = lab.make(two, &[KIND]).remove(0);

        let cases = [
            changed_beside(&lab, row, other, two),
            changed_inside(&lab, row, &under_two),
        ];

        let before = raw::count_objects();
        for (what, changed, reason) in cases.iter().flatten() {
            let refused = lab.deliver(changed).unwrap_err();
            assert_eq!(storage(refused), *reason, "{what}");
            // In a batch, behind a sound one.
            let sound = (other.record.clone(), Some(other.kn.clone()));
            let batch = vec![sound, (changed.record.clone(), Some(changed.kn.clone()))];
            let refused = block_on(lab.group.rewrap(two, batch, |_, _| Vec::new())).unwrap_err();
            let at = StorageError::At {
                index: 1,
                error: Box::new(reason.clone()),
            };
            assert_eq!(storage(refused), at, "{what}");
            let batch = vec![other.record.clone(), changed.record.clone()];
            let verified = block_on(lab.group.verify_macs(batch));
            match reason {
                StorageError::WrongMac(_) => {
                    assert_eq!(storage(verified.unwrap_err()), at, "{what}");
                }
                _ => verified.unwrap(),
            }
        }
        assert_eq!(raw::count_objects(), before, "nothing is left of any");
        lab.deliver(row).unwrap();
    });
}

/// What a module may say when it cannot, of a row that is as it was.
#[test]
fn an_hsm_that_could_not_is_not_taken_for_a_row_that_was_changed() {
    with_faults(|place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        token.make_storage_keys(ONE).unwrap();
        let two = ONE.next().unwrap();
        token.make_storage_keys(two).unwrap();
        let lab = Lab::of(token);
        let row = lab.make(ONE, &[KIND]).remove(0);
        let rewrap = || {
            let batch = vec![(row.record.clone(), Some(row.kn.clone()))];
            block_on(lab.group.rewrap(two, batch, |_, _| Vec::new()))
        };
        // What the module can do is found out before.
        lab.deliver(&row).unwrap();
        // CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY; and of what does not open,
        // CKR_WRAPPED_KEY_INVALID.
        for (code, is_retryable) in [
            ("0x5", true),
            ("0x6", true),
            ("0x30", true),
            ("0x31", true),
            ("0x110", false),
        ] {
            faults
                .tell(&format!("fail C_UnwrapKey {code} 1 forever"))
                .unwrap();
            for failed in [lab.deliver(&row).map(drop), rewrap().map(drop)] {
                let failed = failed.unwrap_err();
                assert!(!matches!(failed, HsmError::Storage(_)), "{code}: {failed}");
                assert_eq!(failed.is_retryable(), is_retryable, "{code}: {failed}");
            }
            faults.tell("clear").unwrap();
            // Once is no more than once.
            faults.tell(&format!("fail C_UnwrapKey {code} 1")).unwrap();
            rewrap().unwrap();
        }
        // What it says of the MAC.
        faults.tell("fail C_Sign 0x30 1").unwrap();
        assert!(rewrap().unwrap_err().is_retryable());
        rewrap().unwrap();
    });
}

#[test]
fn a_key_without_its_record_or_of_another_role_is_refused() {
    on_every_module(|_| {
        let lab = Lab::new();
        let row = lab.make(ONE, &[KIND]).remove(0);
        let without = lab.deliver_of(&KnSource::Stored(row.kn.clone()), None);
        assert_eq!(storage(without.unwrap_err()), StorageError::NoRecord);

        // A master key's record is verified as well, if it has one.
        let key = import(&lab.token, "kn.test", KIND, &value(KIND));
        let key = KnSource::InToken(key);
        let beside = Some(&row.record);
        assert_eq!(lab.deliver_of(&key, beside).unwrap(), value(KIND));
        assert_eq!(lab.deliver_of(&key, None).unwrap(), value(KIND));
        let mut changed = row.record.clone();
        changed.bytes[0] ^= 1;
        let refused = lab.deliver_of(&key, Some(&changed)).unwrap_err();
        assert_eq!(storage(refused), StorageError::WrongMac(ONE));

        // The storage keys themselves are no Kn.
        for (role, label) in [(KeyRole::Storage, "ksk.1"), (KeyRole::StorageMac, "ksm.1")] {
            let name = KeyName::new(label).unwrap();
            let key = KnSource::InToken(lab.token.secret_key(role, &name).unwrap());
            let refused = lab.deliver_of(&key, None).unwrap_err();
            let wrong = matches!(refused, HsmError::WrongRole { role: found, .. } if found == role);
            assert!(wrong, "{refused}");
        }
    });
}

#[test]
fn what_the_hsm_does_not_have_or_cannot_do_is_named() {
    on_every_module(|place| {
        let lab = Lab::new();
        for kcv_len in [0, 2, 6, 16] {
            let key = NewKey {
                kind: KIND,
                kcv_len,
            };
            let made = lab.try_make(ONE, vec![new_key(KIND), key]);
            assert_eq!(storage(made.unwrap_err()), StorageError::KcvLen(kcv_len));
        }
        for kcv_len in 3..=5 {
            let key = NewKey {
                kind: KIND,
                kcv_len,
            };
            let made = lab.try_make(ONE, vec![key]).unwrap();
            assert_eq!(made[0].kcv.value().len(), kcv_len);
        }

        let no_pair = |error: HsmError, label: &str| {
            let missing =
                matches!(&error, HsmError::KeyNotFound { label: found } if found == label);
            assert!(missing, "{error}");
        };
        let nine = StorageNumber::new(9).unwrap();
        let row = lab.make(ONE, &[KIND]).remove(0);
        let made = lab.try_make(nine, vec![new_key(KIND)]);
        no_pair(made.unwrap_err(), "ksk.9");
        let macs = block_on(lab.group.authenticate(nine, vec![Vec::new()]));
        no_pair(macs.unwrap_err(), "ksm.9");
        let rows = vec![(row.record.clone(), Some(row.kn.clone()))];
        let rewrapped = block_on(lab.group.rewrap(nine, rows, |_, _| Vec::new()));
        no_pair(rewrapped.unwrap_err(), "ksk.9");
        let mut of_nine = row.clone();
        (of_nine.record.number, of_nine.kn.number) = (nine, nine);
        no_pair(lab.deliver(&of_nine).unwrap_err(), "ksm.9");

        let frame = frame(KIND);
        let sealable = lab.request(KIND, &frame);
        lab.group.verify_storable(KIND, &sealable).unwrap();
        for kind in [KeyKind::Tdea2, KeyKind::Tdea3] {
            let made = lab.try_make(ONE, vec![new_key(kind)]).map(drop);
            if kinds(place).contains(&kind) {
                made.unwrap();
                continue;
            }
            let frame = crate::sealing::frame(kind);
            let storable = lab.group.verify_storable(kind, &lab.request(kind, &frame));
            for refused in [made, storable] {
                let Err(HsmError::Unsupported { operation, missing }) = refused else {
                    panic!("{refused:?}");
                };
                assert_eq!(operation, format!("storing a key of the kind {kind}"));
                assert!(missing[0].ends_with("_KEY_GEN"), "{missing:?}");
            }
        }
    });
}

#[test]
fn numbers_and_macs_have_their_bounds() {
    assert_eq!(StorageNumber::new(0), Err(StorageError::Number));
    assert_eq!(StorageNumber::new(1), Ok(ONE));
    assert_eq!(StorageNumber::new(u32::MAX).unwrap().next(), None);
    for len in [0, 15, 17, 32] {
        assert_eq!(Mac::new(&vec![0; len]), Err(StorageError::MacLen(len)));
    }
    assert_eq!(Mac::new(&[7; Mac::LEN]).unwrap().as_bytes(), &[7; 16]);
}
