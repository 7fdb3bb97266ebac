//! What is stored comes back, and nothing else does.

use hsm::Authenticated;
use tr34::{KeyKind, OaepHash};

use super::{Lab, ONE, Row};
use crate::{
    common::{block_on, kinds, on_every_module, sealable_kinds},
    raw, software,
};

#[test]
fn a_stored_key_comes_back_and_seals_to_the_same_kn() {
    on_every_module(|place| {
        let lab = Lab::new();
        assert_eq!(lab.group.storage_numbers().unwrap(), [ONE]);
        assert_eq!(
            lab.token.capabilities().unwrap().storing.unwrap(),
            kinds(place)
        );
        let rows = lab.make(ONE, &kinds(place));
        let records = rows.iter().map(|row| row.record.clone()).collect();
        block_on(lab.group.verify_macs(records)).unwrap();
        let before = raw::count_objects();
        for row in &rows {
            if !sealable_kinds(place).contains(&row.kn.kind) {
                continue;
            }
            let kn = lab.deliver(row).unwrap();
            assert_eq!(kn.len(), row.kn.kind.key_len());
            assert_eq!(software::kcv(row.kn.kind, &kn), row.kcv.value());
            assert_eq!(lab.deliver(row).unwrap(), kn, "and again");
        }
        assert_eq!(raw::count_objects(), before);
    });
}

/// The caller finds equal keys by it.
#[test]
fn what_is_wrapped_twice_is_equal_and_no_two_keys_are() {
    on_every_module(|place| {
        let lab = Lab::new();
        for kind in kinds(place) {
            let rows = lab.make(ONE, &[kind; 8]);
            let wrapped = |rows: &[Row]| -> Vec<Vec<u8>> {
                rows.iter().map(|row| row.kn.wrapped.clone()).collect()
            };
            let mut once = wrapped(&rows);
            assert_eq!(wrapped(&lab.rewrap(ONE, &rows)), once);
            once.sort();
            once.dedup();
            assert_eq!(once.len(), 8);
        }
    });
}

#[test]
fn records_come_under_another_pair_with_their_keys_or_without_one() {
    on_every_module(|place| {
        let lab = Lab::new();
        let two = ONE.next().unwrap();
        lab.token.make_storage_keys(two).unwrap();
        let kinds = sealable_kinds(place);
        let rows = lab.make(ONE, &kinds);
        let kns: Vec<_> = rows.iter().map(|row| lab.deliver(row).unwrap()).collect();
        let moved = lab.rewrap(two, &rows);
        for ((old, new), kn) in rows.iter().zip(&moved).zip(&kns) {
            assert_ne!(old.kn.wrapped, new.kn.wrapped);
            assert_eq!(lab.deliver(new).unwrap(), *kn);
        }

        let bytes = b"a key that is derived".to_vec();
        let macs = block_on(lab.group.authenticate(ONE, vec![bytes.clone()])).unwrap();
        let record = Authenticated {
            number: ONE,
            bytes: bytes.clone(),
            mac: macs[0],
        };
        let bound = bytes.clone();
        let bind = move |index: usize, wrapped: Option<&[u8]>| {
            assert_eq!((index, wrapped), (0, None));
            bound.clone()
        };
        let rewrapped = block_on(lab.group.rewrap(two, vec![(record, None)], bind)).unwrap();
        assert_eq!(rewrapped[0].wrapped, None);
        let by_two = block_on(lab.group.authenticate(two, vec![bytes])).unwrap();
        assert_eq!(rewrapped[0].mac, by_two[0]);
        assert_ne!(by_two[0], macs[0]);

        // The pair from which everything has moved goes, and with it what somebody kept of it.
        lab.group.destroy_storage_keys(ONE).unwrap();
        lab.deliver(&rows[0]).unwrap_err();
        for (new, kn) in moved.iter().zip(&kns) {
            assert_eq!(lab.deliver(new).unwrap(), *kn);
        }
        assert_eq!(lab.group.storage_numbers().unwrap(), [two]);
    });
}

/// A million keys need no more room in the HSM than one.
#[test]
fn of_a_thousand_keys_the_token_keeps_none() {
    const BATCH: usize = 50;
    on_every_module(|_| {
        let lab = Lab::new();
        let two = ONE.next().unwrap();
        lab.token.make_storage_keys(two).unwrap();
        lab.token.self_test(OaepHash::Sha1).unwrap();
        let before = raw::count_objects();
        for _ in 0..1000 / BATCH {
            let rows = lab.make(ONE, &[KeyKind::Aes128; BATCH]);
            let moved = lab.rewrap(two, &rows);
            lab.deliver(&moved[0]).unwrap();
            assert_eq!(raw::count_objects(), before);
        }
    });
}
