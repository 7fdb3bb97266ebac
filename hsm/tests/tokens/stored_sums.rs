//! Sums that are kept in the token between sittings.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use hsm::{
    ClearKey, Completion, HsmError, Kcv, KeyName, KeyRole, Module, StoredSum, SumId, SumTarget,
    Token, TokenConfig,
};
use hsm_modules::{ALL, KRYOPTIC, NSS, Place, SOFTHSM, TERMINALS, faults::Faults};
use time::{Duration, OffsetDateTime};
use tr34::KeyKind;

use crate::{
    combining::{component, kcv_of, xor},
    common::{USER_PIN, faulty, kinds, module, new_token, new_token_of, pin, with_faults_on},
    raw,
};

const PLAN: SumId = SumId::new([0x5f; 32], 1);
const OTHER_PLAN: SumId = SumId::new([0x60; 32], 1);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn expiry() -> OffsetDateTime {
    now() + Duration::hours(72)
}

fn name() -> KeyName {
    KeyName::new("kn.acquirer").unwrap()
}

fn components(kind: KeyKind, count: usize) -> Vec<Vec<u8>> {
    (1..=count).map(|number| component(kind, number)).collect()
}

fn target(kind: KeyKind, components: &[Vec<u8>]) -> SumTarget {
    SumTarget {
        name: name(),
        kind,
        kcv: kcv_of(kind, &xor(components)),
    }
}

fn begin(token: &Token, kind: KeyKind, components: &[Vec<u8>]) -> StoredSum {
    let target = target(kind, components);
    token.begin_stored_sum(PLAN, target, expiry()).unwrap()
}

fn add(sum: &mut StoredSum, number: u32, component: &[u8]) -> Result<Kcv, HsmError> {
    let custodian = format!("Custodian {number}");
    sum.add(ClearKey::copy_from(component), number, &custodian)
}

fn complete(sum: &mut StoredSum, number: u32, last: &[u8]) -> Result<Completion, HsmError> {
    let custodian = format!("Custodian {number}");
    sum.complete(ClearKey::copy_from(last), number, &custodian)
}

fn resume(token: &Token) -> Option<StoredSum> {
    token.resume_stored_sum(&PLAN, now()).unwrap()
}

/// A sum of one component, from an earlier sitting.
fn begun(token: &Token, kind: KeyKind, components: &[Vec<u8>]) {
    let mut sum = begin(token, kind, components);
    add(&mut sum, 1, &components[0]).unwrap();
}

/// What the next process sees.
fn reopen_of(module: &Module, token: Token) -> Token {
    drop(token);
    module
        .open(&TokenConfig::new("kdh"), &pin(USER_PIN))
        .unwrap()
}

fn reopen(token: Token) -> Token {
    reopen_of(&module(), token)
}

fn assert_made(token: &Token, kind: KeyKind, components: &[Vec<u8>]) {
    let key = token.secret_key(KeyRole::TransportKey, &name()).unwrap();
    assert_eq!(key.kind(), kind);
    assert_eq!(token.kcv(&key).unwrap(), kcv_of(kind, &xor(components)));
}

#[test]
fn a_key_grows_over_sittings() {
    hsm_modules::on(&TERMINALS, |place| {
        let mut token = new_token("kdh");
        for kind in kinds(place) {
            for count in [2, 5] {
                let components = components(kind, count);
                let (last, others) = components.split_last().unwrap();
                for (index, component) in others.iter().enumerate() {
                    let number = u32::try_from(index + 1).unwrap();
                    let mut sum = match index {
                        0 => begin(&token, kind, &components),
                        _ => resume(&token).unwrap(),
                    };
                    let kcv = add(&mut sum, number, component).unwrap();
                    assert_eq!(kcv, kcv_of(kind, component));
                    drop(sum);
                    token = reopen(token);
                }
                let listed = token.stored_sums().unwrap();
                assert_eq!(listed.len(), 1);
                assert_eq!(listed[0].id, PLAN);
                assert_eq!(listed[0].target, target(kind, &components));
                assert_eq!(listed[0].expires_at, expiry());
                assert_eq!(listed[0].tries, 0);
                let entered = listed[0].components.iter().zip(1..).zip(others);
                for ((entered, number), component) in entered {
                    assert_eq!(entered.number, number);
                    assert_eq!(entered.custodian, format!("Custodian {number}"));
                    assert_eq!(entered.kcv, kcv_of(kind, component));
                }

                let number = u32::try_from(count).unwrap();
                let mut sum = resume(&token).unwrap();
                match complete(&mut sum, number, last).unwrap() {
                    Completion::Key(key) => assert_eq!(key.name(), &name()),
                    wrong @ Completion::Wrong { .. } => panic!("{wrong:?}"),
                }
                assert_eq!(raw::count_objects(), 1, "nothing but the key is left");
                assert_made(&token, kind, &components);
                assert!(token.stored_sums().unwrap().is_empty());
                token.destroy_key(&name()).unwrap();
            }
        }
    });
}

#[test]
fn what_is_kept_is_private_and_sensitive_and_can_do_one_thing() {
    hsm_modules::on(&TERMINALS, |place| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        begun(&token, kind, &components(kind, 2));
        let session = raw::session();
        let of = |class| session.find_objects(&[Attribute::Class(class)]).unwrap();
        let parts = of(ObjectClass::SECRET_KEY);
        let by_xor = place.module().can.combining == "xor";
        assert_eq!(parts.len(), if by_xor { 1 } else { 2 });
        for part in parts {
            let expected = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Encrypt(false),
                Attribute::Decrypt(false),
                Attribute::Sign(false),
                Attribute::Wrap(false),
                Attribute::Unwrap(false),
                Attribute::Derive(by_xor),
            ];
            let types: Vec<_> = expected.iter().map(Attribute::attribute_type).collect();
            assert_eq!(session.get_attributes(part, &types).unwrap(), expected);
        }
        for record in of(ObjectClass::DATA) {
            let types = [AttributeType::Token, AttributeType::Private];
            let found = session.get_attributes(record, &types).unwrap();
            assert_eq!(found, [Attribute::Token(true), Attribute::Private(true)]);
        }
    });
}

#[test]
fn components_are_held_against_those_of_earlier_sittings() {
    hsm_modules::on(&TERMINALS, |_| {
        let mut token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 6);
        begun(&token, kind, &components);
        token = reopen(token);
        let mut sum = resume(&token).unwrap();
        let said = |result: Result<(), HsmError>| result.unwrap_err().to_string();
        let again = "the component was added before";
        assert_eq!(said(add(&mut sum, 2, &components[0]).map(drop)), again);
        assert_eq!(said(complete(&mut sum, 2, &components[0]).map(drop)), again);
        let zero = "the component is zero, all of it or 8 bytes";
        assert_eq!(said(add(&mut sum, 2, &[0; 16]).map(drop)), zero);
        assert_eq!(said(complete(&mut sum, 2, &[0; 16]).map(drop)), zero);
        let equal = "the component has two equal parts";
        assert_eq!(said(add(&mut sum, 2, &[0x13; 16]).map(drop)), equal);
        assert_eq!(said(complete(&mut sum, 2, &[0x13; 16]).map(drop)), equal);
        let short = "a key of 16 bytes was expected, not 8";
        assert_eq!(said(add(&mut sum, 2, &[0x13; 8]).map(drop)), short);
        // None of these was a try, and none changed the sum.
        assert_eq!(sum.summary().tries, 0);
        for (component, number) in components[1..5].iter().zip(2..) {
            add(&mut sum, number, component).unwrap();
        }
        let sixth = "the component is the sixth; a key comes in five at most";
        assert_eq!(said(add(&mut sum, 6, &components[5]).map(drop)), sixth);
        assert_eq!(said(complete(&mut sum, 6, &components[5]).map(drop)), sixth);

        let fresh = SumId::new([0x61; 32], 1);
        let target = target(kind, &components);
        let mut none = token.begin_stored_sum(fresh, target, expiry()).unwrap();
        let only = "the component is the only one; it takes two at least";
        assert_eq!(said(complete(&mut none, 1, &components[5]).map(drop)), only);
    });
}

#[test]
fn the_third_wrong_sum_destroys_it_however_often_the_program_starts() {
    hsm_modules::on(&TERMINALS, |_| {
        for restarts in [false, true] {
            let mut token = new_token(if restarts { "kdh" } else { "other" });
            let kind = KeyKind::Aes128;
            let components = components(kind, 2);
            let mistyped = component(kind, 7);
            begun(&token, kind, &components);
            let mut sum = resume(&token).unwrap();
            for left in [2, 1, 0] {
                match complete(&mut sum, 2, &mistyped).unwrap() {
                    Completion::Wrong { found, tries_left } => {
                        let sum = [components[0].clone(), mistyped.clone()];
                        assert_eq!((found, tries_left), (kcv_of(kind, &xor(&sum)), left));
                    }
                    key @ Completion::Key(_) => panic!("{key:?}"),
                }
                if restarts && left > 0 {
                    drop(sum);
                    token = reopen(token);
                    assert_eq!(token.stored_sums().unwrap()[0].tries, 3 - left);
                    sum = resume(&token).unwrap();
                }
            }
            drop(sum);
            assert!(resume(&token).is_none());
            assert!(token.stored_sums().unwrap().is_empty());
            assert!(token.list_keys().unwrap().is_empty());
            assert_eq!(token.list_records("").unwrap(), [""; 0]);
        }
    });
}

#[test]
fn the_right_component_makes_the_key_at_the_third_try() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        begun(&token, kind, &components);
        let mut sum = resume(&token).unwrap();
        for mistyped in [7, 8] {
            let wrong = complete(&mut sum, 2, &component(kind, mistyped)).unwrap();
            assert!(matches!(wrong, Completion::Wrong { .. }), "{wrong:?}");
        }
        let right = complete(&mut sum, 2, &components[1]).unwrap();
        assert!(matches!(right, Completion::Key(_)), "{right:?}");
        assert_made(&token, kind, &components);
        assert_eq!(raw::count_objects(), 1);
    });
}

#[test]
fn an_expired_sum_is_not_used_and_goes() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        begun(&token, kind, &components);
        let objects = raw::count_objects();

        let just_before = expiry() - Duration::SECOND;
        assert!(token.sweep_stored_sums(just_before).unwrap().is_empty());
        assert_eq!(raw::count_objects(), objects);
        let resumed = token.resume_stored_sum(&PLAN, just_before).unwrap();
        assert!(resumed.is_some());
        drop(resumed);

        let resumed = token.resume_stored_sum(&PLAN, expiry()).unwrap();
        assert!(resumed.is_none());
        let gone = token.sweep_stored_sums(expiry()).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].id, PLAN);
        assert!(gone[0].is_expired(expiry()));
        assert_eq!(raw::count_objects(), 0);
    });
}

/// Another plan, also one that differs in its last byte only, or another act of it.
#[test]
fn a_sum_is_found_by_its_plan_and_act_alone() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        begun(&token, kind, &components);
        let mut last_byte = [0x5f; 32];
        last_byte[15] = 0x5e;
        for other in [
            OTHER_PLAN,
            SumId::new([0x5f; 32], 2),
            SumId::new(last_byte, 1),
        ] {
            let found = token.resume_stored_sum(&other, now()).unwrap();
            assert!(found.is_none(), "{other}");
            assert!(!token.destroy_stored_sum(&other).unwrap());
        }
        // Their records have the same label; what is in it decides.
        last_byte = [0x5f; 32];
        last_byte[31] = 0x5e;
        let twin = SumId::new(last_byte, 1);
        let refused = token.resume_stored_sum(&twin, now()).unwrap_err();
        assert!(refused.to_string().contains("another plan"), "{refused}");

        let target = target(kind, &components);
        let again = token.begin_stored_sum(PLAN, target, expiry()).unwrap_err();
        assert!(matches!(again, HsmError::SumExists { id: PLAN }), "{again}");
        assert!(token.destroy_stored_sum(&PLAN).unwrap());
        assert!(!token.destroy_stored_sum(&PLAN).unwrap());
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn sums_do_not_disturb_each_other() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 3);
        let pair = &components[..2];
        begun(&token, kind, pair);
        let other = KeyName::new("kn.other").unwrap();
        let other = SumTarget {
            name: other,
            ..target(kind, &components[1..])
        };
        let mut sum = token.begin_stored_sum(OTHER_PLAN, other, expiry()).unwrap();
        add(&mut sum, 1, &components[1]).unwrap();
        assert!(token.sweep_stored_sums(now()).unwrap().is_empty());
        assert!(token.destroy_stored_sum(&OTHER_PLAN).unwrap());
        let lost = add(&mut sum, 2, &components[2]).unwrap_err();
        assert!(lost.to_string().contains("start again"), "{lost}");
        let mut sum = resume(&token).unwrap();
        let made = complete(&mut sum, 2, &components[1]).unwrap();
        assert!(matches!(made, Completion::Key(_)), "{made:?}");
        assert_made(&token, kind, pair);
    });
}

#[test]
fn a_sum_that_misses_a_part_is_not_used() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes256;
        begun(&token, kind, &components(kind, 2));
        let session = raw::session();
        let part = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]);
        session.destroy_object(part.unwrap()[0]).unwrap();
        let refused = token.resume_stored_sum(&PLAN, now()).unwrap_err();
        assert!(refused.to_string().contains("0 objects"), "{refused}");
        assert!(token.destroy_stored_sum(&PLAN).unwrap());
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn a_taken_name_is_refused_before_a_try_is_spent_on_it() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        begun(&token, kind, &components);
        let mut same = token.combine_components(kind).unwrap();
        for component in &components {
            same.add(ClearKey::copy_from(component)).unwrap();
        }
        let kcv = kcv_of(kind, &xor(&components));
        let _key = same.finish(&name(), &kcv).unwrap();
        let mut sum = resume(&token).unwrap();
        let refused = complete(&mut sum, 2, &components[1]).unwrap_err();
        assert!(matches!(refused, HsmError::KeyExists { .. }), "{refused}");
        assert_eq!(token.stored_sums().unwrap()[0].tries, 0);
        assert_made(&token, kind, &components);
    });
}

#[test]
fn a_module_without_data_keeps_no_sum() {
    hsm_modules::on(&[&NSS], |_| {
        let token = new_token("kdh");
        assert!(token.keeps_records().unwrap().is_err());
        let kind = KeyKind::Aes128;
        let target = target(kind, &components(kind, 2));
        let refused = token.begin_stored_sum(PLAN, target, expiry()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "to keep a partial sum between sittings is not possible with this module, which lacks \
             private data objects"
        );
        assert!(token.stored_sums().unwrap().is_empty());
        assert!(token.sweep_stored_sums(now()).unwrap().is_empty());
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn a_module_with_data_is_found_to_keep_records() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        assert_eq!(token.keeps_records().unwrap(), &Ok(()));
        assert_eq!(raw::count_objects(), 0, "the trial left nothing");
    });
}

/// Each component is sound, and their sum is not: found inside the module.
#[test]
fn a_sum_with_equal_parts_is_refused() {
    hsm_modules::on(&ALL, |place| {
        let token = new_token("kdh");
        for kind in kinds(place) {
            let first = component(kind, 1);
            // Two of its parts of 8 bytes differ from the first component's by the same.
            let pieces = kind.key_len() / 8;
            for (one, other) in (0..pieces).flat_map(|one| (0..one).map(move |other| (one, other)))
            {
                let mut second = component(kind, 2);
                for byte in 0..8 {
                    let (a, b) = (one * 8 + byte, other * 8 + byte);
                    second[a] = second[b] ^ first[a] ^ first[b];
                }
                let components = [first.clone(), second];
                let kcv = kcv_of(kind, &xor(&components));
                let mut sum = token.combine_components(kind).unwrap();
                for component in &components {
                    sum.add(ClearKey::copy_from(component)).unwrap();
                }
                let refused = sum.finish(&name(), &kcv).unwrap_err();
                assert_eq!(
                    refused.to_string(),
                    "the sum of the components has two equal parts of 8 bytes; no key was made of it",
                    "{kind} {one} {other}"
                );
                assert_eq!(raw::count_objects(), 0, "{kind}");
                if token.keeps_records().unwrap().is_ok() {
                    begun(&token, kind, &components);
                    let mut sum = resume(&token).unwrap();
                    let refused = complete(&mut sum, 2, &components[1]).unwrap_err();
                    assert!(matches!(refused, HsmError::BadSum { .. }), "{refused}");
                    assert_eq!(raw::count_objects(), 0, "it is worth nothing and goes");
                }
            }
        }
    });
}

/// A module with XOR and without extraction cannot compare them, and one that fails at it makes no key.
#[test]
fn parts_that_cannot_be_compared_are_taken_as_they_are() {
    with_faults_on(&[&KRYOPTIC, &NSS], |place| {
        let (module, mut faults) = faulty(place);
        let token = new_token_of(&module, "kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        let kcv = kcv_of(kind, &xor(&components));
        for (code, made) in [("0x70", true), ("0x54", true), ("0x31", false)] {
            let mut sum = token.combine_components(kind).unwrap();
            for component in &components {
                sum.add(ClearKey::copy_from(component)).unwrap();
            }
            // Behind the key for the check value.
            faults.tell(&format!("fail C_DeriveKey {code} 2")).unwrap();
            match sum.finish(&name(), &kcv) {
                Ok(key) => {
                    assert!(made, "{code}");
                    token.destroy_key(key.name()).unwrap();
                }
                Err(error) => assert!(!made, "{code}: {error}"),
            }
            assert_eq!(raw::count_objects(), 0, "{code}");
        }
    });
}

#[test]
fn a_last_component_at_one_sitting_has_three_tries_too() {
    hsm_modules::on(&ALL, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        let kcv = kcv_of(kind, &xor(&components));
        let last = || ClearKey::copy_from(&components[1]);
        for right_at in [1, 2, 3, 4] {
            let mut sum = token.combine_components(kind).unwrap();
            sum.add(ClearKey::copy_from(&components[0])).unwrap();
            for left in [2, 1, 0].into_iter().take(right_at - 1) {
                let mistyped = ClearKey::copy_from(&component(kind, 7));
                match sum.complete(mistyped, &name(), &kcv).unwrap() {
                    Completion::Wrong { tries_left, .. } => assert_eq!(tries_left, left),
                    key @ Completion::Key(_) => panic!("{key:?}"),
                }
            }
            let outcome = sum.complete(last(), &name(), &kcv);
            if right_at == 4 {
                let refused = outcome.unwrap_err();
                assert!(matches!(refused, HsmError::BadComponent { .. }));
                assert_eq!(raw::count_objects(), 0);
            } else {
                assert!(matches!(outcome.unwrap(), Completion::Key(_)));
                assert_made(&token, kind, &components);
                token.destroy_key(&name()).unwrap();
            }
        }
    });
}

/// From the `nth` call on nothing works; then everything that the process had is gone, and a new one comes.
fn cut_off_at(
    nth: usize,
    module: &Module,
    faults: &mut Faults,
    token: Token,
    act: impl FnOnce(&Token) -> Result<(), HsmError>,
) -> (Token, bool) {
    faults.tell(&format!("fail * 0x30 {nth} forever")).unwrap();
    let done = act(&token).is_ok();
    drop(token);
    faults.tell("clear").unwrap();
    faults.tell("lose-sessions").unwrap();
    let token = module.open(&TokenConfig::new("kdh"), &pin(USER_PIN));
    (token.unwrap(), done)
}

/// Cut off after each of its calls, an act is done or was never begun, and a sweep finds what is left over.
#[test]
fn a_change_that_is_cut_off_anywhere_is_undone_or_done() {
    with_faults_on(&[&SOFTHSM, &KRYOPTIC], |place: &Place| {
        let (module, mut faults) = faulty(place);
        let mut token = new_token_of(&module, "kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 3);
        for (act, before) in [("begin", 0), ("add", 1), ("complete", 2), ("destroy", 2)] {
            let mut cut_off = 0;
            // Every call that changes something is met by the test that kills the program.
            for nth in (1..).step_by(3) {
                // The trial of the ways is not what is cut off here.
                drop(token.combine_components(kind).unwrap());
                if before > 0 {
                    let mut sum = begin(&token, kind, &components);
                    for (component, number) in components[..before].iter().zip(1..) {
                        add(&mut sum, number, component).unwrap();
                    }
                }
                let (reopened, done) = cut_off_at(nth, &module, &mut faults, token, |token| {
                    let target = target(kind, &components);
                    let sum = match act {
                        "begin" => Some(token.begin_stored_sum(PLAN, target, expiry())?),
                        _ => token.resume_stored_sum(&PLAN, now())?,
                    };
                    let mut sum = sum.unwrap();
                    match act {
                        "begin" | "add" => {
                            let number = u32::try_from(before + 1).unwrap();
                            add(&mut sum, number, &components[before]).map(drop)
                        }
                        "complete" => complete(&mut sum, 3, &components[2]).map(drop),
                        _ => sum.destroy(),
                    }
                });
                token = reopened;
                assert!(token.sweep_stored_sums(now()).unwrap().is_empty());

                let stored = token.stored_sums().unwrap();
                let mut entered = stored.first().map_or(0, |sum| sum.components.len());
                let made = token.secret_key(KeyRole::TransportKey, &name()).is_ok();
                match act {
                    "begin" | "add" => {
                        assert!(!made);
                        assert!([before, before + 1].contains(&entered), "{entered}");
                        assert!(!done || entered == before + 1);
                    }
                    "complete" => assert!(made || entered == 2),
                    _ => assert!(!made && [0, 2].contains(&entered)),
                }
                // It goes on from there.
                if !made && act != "destroy" {
                    let mut sum = match entered {
                        0 => begin(&token, kind, &components),
                        _ => resume(&token).unwrap(),
                    };
                    while entered < 2 {
                        let number = u32::try_from(entered + 1).unwrap();
                        add(&mut sum, number, &components[entered]).unwrap();
                        entered += 1;
                    }
                    let made = complete(&mut sum, 3, &components[2]).unwrap();
                    assert!(matches!(made, Completion::Key(_)), "{act} {nth}: {made:?}");
                } else if made && !stored.is_empty() {
                    let (key, last) = resume(&token).unwrap().completed().unwrap().unwrap();
                    assert_eq!((key.name(), last.number), (&name(), 3));
                } else if entered > 0 {
                    assert!(token.destroy_stored_sum(&PLAN).unwrap());
                }
                if act != "destroy" {
                    assert_made(&token, kind, &components);
                    token.destroy_key(&name()).unwrap();
                }
                assert_eq!(raw::count_objects(), 0, "{act} {nth}");
                if done {
                    break;
                }
                cut_off += 1;
            }
            assert!(cut_off > 3, "{act} was cut off {cut_off} times");
        }
    });
}

/// As it is when the program was stopped between the key and the end of its sum, for each role that a label has.
#[test]
fn a_key_that_was_made_is_completed_as_what_its_label_says() {
    hsm_modules::on(&TERMINALS, |_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = components(kind, 2);
        for role in KeyRole::SECRET {
            let name = KeyName::new(&format!("{}acquirer", role.label_prefix())).unwrap();
            let target = SumTarget {
                name: name.clone(),
                ..target(kind, &components)
            };
            let kcv = target.kcv.clone();
            let mut sum = token.begin_stored_sum(PLAN, target, expiry()).unwrap();
            add(&mut sum, 1, &components[0]).unwrap();
            let wrong = complete(&mut sum, 2, &component(kind, 7)).unwrap();
            assert!(matches!(wrong, Completion::Wrong { tries_left: 2, .. }));
            drop(sum);
            let mut whole = token.combine_components(kind).unwrap();
            for component in &components {
                whole.add(ClearKey::copy_from(component)).unwrap();
            }
            let _key = whole.finish(&name, &kcv).unwrap();

            let (key, last) = resume(&token).unwrap().completed().unwrap().unwrap();
            assert_eq!((key.name(), key.role(), last.number), (&name, role, 2));
            assert!(token.stored_sums().unwrap().is_empty());
            token.destroy_key(&name).unwrap();
            assert_eq!(raw::count_objects(), 0, "{role}");
        }
    });
}
