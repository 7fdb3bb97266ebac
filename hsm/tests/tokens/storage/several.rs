//! Tokens that hold the same pairs of storage keys, by one of which a key is made and by another one used.

use cryptoki::{
    context::Pkcs11,
    object::{Attribute, KeyType, ObjectClass},
};
use hsm::{
    HsmError, KeyName, KeyPairKind, KeyRole, Module, StorageNumber, Token, TokenConfig, TokenGroup,
};
use hsm_modules::{Place, faults::Faults};
use tr34::KeyKind;

use super::{ONE, new_key, record, row};
use crate::{
    common::{USER_PIN, block_on, faulty, new_token_of, pin, with_faults},
    raw,
    replicas::News,
};

/// The tokens `one` and `two` behind the module with faults, which take pairs that were made elsewhere: no token
/// here gives another one what it has, as the HSMs of one maker do.
struct Lab {
    module: Module,
    faults: Faults,
}

impl Lab {
    fn new(place: &Place) -> Self {
        let (module, faults) = faulty(place);
        for label in ["one", "two"] {
            new_token_of(&module, label);
        }
        Self { module, faults }
    }

    fn open(&self, label: &str) -> Token {
        let mut config = TokenConfig::new(label);
        config.accept_imported_keys = true;
        self.module.open_or_await(&config, &pin(USER_PIN)).unwrap()
    }

    fn tell(&mut self, command: &str) {
        self.faults.tell(command).unwrap();
    }

    /// A key of this value, of a pair, in one of the tokens, which is open.
    fn bring(token: &str, label: &str, value: u8) {
        let name = KeyName::new(label).unwrap();
        let wraps = label.starts_with("ksk.");
        let mut template = raw::named(&name);
        template.extend([
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Value(vec![value; 32]),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Sign(!wraps),
            Attribute::Verify(false),
            Attribute::Wrap(wraps),
            Attribute::Unwrap(wraps),
            Attribute::Derive(false),
        ]);
        let pkcs11 = Pkcs11::new(hsm_modules::faults::faulty_module().unwrap()).unwrap();
        let slots = pkcs11.get_slots_with_initialized_token().unwrap();
        let slot = slots
            .into_iter()
            .find(|slot| pkcs11.get_token_info(*slot).unwrap().label() == token)
            .unwrap();
        let session = pkcs11.open_rw_session(slot).unwrap();
        session.create_object(&template).unwrap();
    }

    /// The pair of this number in each, of these values.
    fn bring_pairs(number: u32, values: [[u8; 2]; 2]) {
        for (token, [key, mac]) in ["one", "two"].into_iter().zip(values) {
            Self::bring(token, &format!("ksk.{number}"), key);
            Self::bring(token, &format!("ksm.{number}"), mac);
        }
    }
}

/// The key that is not the same in both, and where.
fn differing(numbers: Result<Vec<StorageNumber>, HsmError>) -> (String, bool) {
    match numbers {
        Err(HsmError::KeyDiffers { label, token }) => (label, token.starts_with("two")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_made_the_other_one_opens_and_both_are_rid_of_a_pair_at_once() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let tokens = ["one", "two"].map(|label| lab.open(label));
        let [one, two] = tokens.clone();
        Lab::bring_pairs(1, [[1, 2]; 2]);
        Lab::bring_pairs(2, [[3, 4]; 2]);
        let group = TokenGroup::new(one, vec![two.clone()]);
        let second = ONE.next().unwrap();
        assert_eq!(group.storage_numbers().unwrap(), [ONE, second]);

        let alone = tokens.map(TokenGroup::from);
        for (maker, user) in [(0, 1), (1, 0)] {
            let keys = vec![new_key(KeyKind::Aes128)];
            let made = block_on(alone[maker].make_keys(ONE, keys, record)).unwrap();
            let made = row(ONE, 0, KeyKind::Aes128, made.into_iter().next().unwrap());
            let records = vec![(made.record, Some(made.kn))];
            block_on(alone[user].rewrap(second, records, |_, _| Vec::new())).unwrap();
        }

        lab.tell("remove two");
        two.list_keys().unwrap_err();
        let news = News::of(&two);
        for _ in 0..2 {
            let keys = vec![new_key(KeyKind::Aes128)];
            block_on(group.make_keys(second, keys, record)).unwrap();
        }
        let left = group.destroy_storage_keys(ONE).unwrap_err();
        assert!(left.is_retryable(), "{left}");
        assert_eq!(group.storage_numbers().unwrap(), [second]);
        lab.tell("insert two");
        news.is_back();
        group.destroy_storage_keys(ONE).unwrap();
        let nothing = group.destroy_storage_keys(ONE).unwrap_err();
        assert!(
            matches!(&nothing, HsmError::KeyNotFound { label } if label == "ksk.1"),
            "{nothing}"
        );
        assert_eq!(two.list_keys().unwrap().len(), 2);
    });
}

#[test]
fn pairs_that_are_not_the_same_in_each_are_refused_or_left_out() {
    with_faults(|place| {
        let lab = Lab::new(place);
        let group = TokenGroup::new(lab.open("one"), vec![lab.open("two")]);
        // In one token only, and half of it in the other.
        Lab::bring("one", "ksk.1", 1);
        Lab::bring("one", "ksm.1", 2);
        assert_eq!(group.storage_numbers().unwrap(), []);
        Lab::bring("two", "ksk.1", 1);
        assert_eq!(group.storage_numbers().unwrap(), []);
        Lab::bring("two", "ksm.1", 2);
        assert_eq!(group.storage_numbers().unwrap(), [ONE]);

        for (label, values) in [
            ("ksk.2", [[3, 4], [5, 4]]),
            ("ksm.2", [[3, 4], [3, 5]]),
            ("ksk.2", [[3, 4], [4, 3]]),
        ] {
            Lab::bring_pairs(2, values);
            let found = differing(group.storage_numbers());
            assert_eq!(found, (label.to_owned(), true));
            group.destroy_storage_keys(ONE.next().unwrap()).unwrap();
        }
        assert_eq!(group.storage_numbers().unwrap(), [ONE]);
    });
}

/// What becomes of a token that was away, with these keys under the names of the pair.
fn returns(place: &Place, keys: &[(&str, u8)], why_not: Option<&str>) {
    let mut lab = Lab::new(place);
    let (one, two) = (lab.open("one"), lab.open("two"));
    for (label, value) in [("ksk.1", 1), ("ksm.1", 2)] {
        Lab::bring("one", label, value);
    }
    for (label, value) in keys {
        Lab::bring("two", label, *value);
    }
    drop(two);
    lab.tell("remove two");
    let two = lab.open("two");
    let group = TokenGroup::new(one, vec![two.clone()]);
    assert_eq!(group.storage_numbers().unwrap(), [ONE]);
    let news = News::of(&two);
    lab.tell("insert two");
    match why_not {
        None => {
            news.is_back();
            assert_eq!(group.storage_numbers().unwrap(), [ONE]);
        }
        Some(why) => {
            news.stays_lost(why);
            // Another host has destroyed the pair: nobody asks for it any more.
            group.require_storage_keys_no_more(ONE);
            news.is_back();
        }
    }
}

#[test]
fn one_that_comes_back_with_the_same_pair_takes_part() {
    with_faults(|place| returns(place, &[("ksk.1", 1), ("ksm.1", 2)], None));
}

#[test]
fn one_that_comes_back_with_another_storage_key_stays_lost() {
    let why = "key ksk.1 is another one in token two";
    with_faults(|place| returns(place, &[("ksk.1", 7), ("ksm.1", 2)], Some(why)));
}

#[test]
fn one_that_comes_back_with_another_mac_key_stays_lost() {
    let why = "key ksm.1 is another one in token two";
    with_faults(|place| returns(place, &[("ksk.1", 1), ("ksm.1", 7)], Some(why)));
}

#[test]
fn one_that_comes_back_with_half_a_pair_stays_lost() {
    let why = "no key is called ksm.1";
    with_faults(|place| returns(place, &[("ksk.1", 1)], Some(why)));
}

/// A pair that was outside has copies.
#[test]
fn a_pair_that_was_brought_in_is_refused_where_that_is_not_accepted() {
    with_faults(|place| {
        let lab = Lab::new(place);
        let config = TokenConfig::new("one");
        let one = lab.module.open(&config, &pin(USER_PIN)).unwrap();
        Lab::bring("one", "ksk.1", 1);
        Lab::bring("one", "ksm.1", 2);
        let group = TokenGroup::from(one.clone());
        let refused = group.storage_numbers().unwrap_err();
        assert!(
            matches!(
                &refused,
                HsmError::WeakKey {
                    attribute: "CKA_ALWAYS_SENSITIVE",
                    ..
                }
            ),
            "{refused}"
        );
        // And one of another role by the name.
        group.destroy_storage_keys(ONE).unwrap();
        let pair = KeyPairKind::Rsa { bits: 2048 };
        let name = KeyName::new("ksk.1").unwrap();
        one.generate_key_pair(KeyRole::KdhSigning, &name, pair)
            .unwrap();
        assert_eq!(group.storage_numbers().unwrap(), []);
        let taken = one.make_storage_keys(ONE).unwrap_err();
        assert!(matches!(taken, HsmError::KeyExists { .. }), "{taken}");
    });
}
