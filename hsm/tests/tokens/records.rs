//! Records in the token.

use cryptoki::object::{Attribute, ObjectClass};
use hsm::HsmError;
use hsm_modules::{NSS, TERMINALS};

use crate::{common::new_token, raw};

#[test]
fn a_record_is_written_replaced_and_destroyed() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        assert_eq!(token.load_record("crl").unwrap(), None);
        token.store_record("crl", b"one").unwrap();
        assert_eq!(token.load_record("crl").unwrap().unwrap(), b"one");
        token.store_record("crl", b"").unwrap();
        assert_eq!(token.load_record("crl").unwrap().unwrap(), b"");
        let large = vec![7; 10_000];
        token.store_record("crl", &large).unwrap();
        assert_eq!(token.load_record("crl").unwrap().unwrap(), large);
        assert_eq!(raw::count_objects(), 1);

        token.destroy_record("crl").unwrap();
        assert_eq!(token.load_record("crl").unwrap(), None);
        assert_eq!(raw::count_objects(), 0);
        token.destroy_record("crl").unwrap();
    });
}

#[test]
fn records_are_listed_by_prefix() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        for label in ["slot.b", "slot.a", "kdh", "slot"] {
            token.store_record(label, b"x").unwrap();
            token.store_record(label, b"y").unwrap();
        }
        assert_eq!(token.list_records("slot.").unwrap(), ["slot.a", "slot.b"]);
        assert_eq!(token.list_records("").unwrap().len(), 4);
        assert!(token.list_records("other").unwrap().is_empty());
    });
}

/// What a crash between writing the new and destroying the old one leaves.
#[test]
fn of_two_records_the_newer_is_read_whichever_was_written_first() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        let session = raw::session();
        let write = |number: u64, content: &[u8]| {
            let value = [&number.to_be_bytes()[..], content].concat();
            let object = session.create_object(&record("crl", value)).unwrap();
            let _ = object;
        };
        write(7, b"new");
        write(6, b"old");
        write(5, b"older");
        assert_eq!(token.load_record("crl").unwrap().unwrap(), b"new");
        assert_eq!(token.list_records("").unwrap(), ["crl"]);

        token.store_record("crl", b"newest").unwrap();
        assert_eq!(token.load_record("crl").unwrap().unwrap(), b"newest");
        assert_eq!(raw::count_objects(), 1);
    });
}

#[test]
fn what_is_no_record_is_told_and_kept() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        let session = raw::session();
        session.create_object(&record("crl", vec![0; 7])).unwrap();
        for result in [
            token.load_record("crl").map(|_| ()),
            token.store_record("crl", b"x"),
        ] {
            assert!(
                matches!(result, Err(HsmError::BadAnswer { .. })),
                "{result:?}"
            );
        }
        assert_eq!(raw::count_objects(), 1);
    });
}

#[test]
fn data_of_other_programs_is_left_alone() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        let other = raw::changed(
            record("crl", vec![0; 20]),
            &[Attribute::Application(b"other".to_vec())],
        );
        raw::session().create_object(&other).unwrap();
        assert_eq!(token.load_record("crl").unwrap(), None);
        token.store_record("crl", b"mine").unwrap();
        token.destroy_record("crl").unwrap();
        assert_eq!(raw::count_objects(), 1);
    });
}

#[test]
fn labels_outside_of_the_scheme_are_refused() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("krd");
        for label in ["", "A", "a b", "ä", &"a".repeat(65)] {
            for result in [
                token.load_record(label).map(|_| ()),
                token.store_record(label, b"x"),
                token.destroy_record(label),
            ] {
                assert!(
                    matches!(result, Err(HsmError::Name(_))),
                    "{label}: {result:?}"
                );
            }
        }
        token.store_record(&"a".repeat(64), b"x").unwrap();
    });
}

fn record(label: &str, value: Vec<u8>) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Application(b"kdh-record".to_vec()),
        Attribute::Label(label.into()),
        Attribute::Value(value),
    ]
}

#[test]
fn a_token_that_keeps_no_data_says_so() {
    hsm_modules::on(&[&NSS], |_| {
        let token = new_token("krd");
        assert_eq!(token.load_record("crl").unwrap(), None);
        match token.store_record("crl", b"one") {
            Err(HsmError::Call {
                operation,
                function,
                code,
                ..
            }) => {
                assert_eq!(
                    (operation, &*function),
                    ("store a record", "C_CreateObject")
                );
                assert_eq!(code, "CKR_ATTRIBUTE_VALUE_INVALID");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(raw::count_objects(), 0);
    });
}
