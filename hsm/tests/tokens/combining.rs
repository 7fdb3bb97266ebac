//! Components become a master key.

use hsm::{ClearKey, HsmError, Kcv, KcvMethod, KeyName, KeyRole, Token};
use tr34::{KeyKind, OaepHash};

use crate::{
    common::{as_held, kinds, new_token, on_every_module, sealable_kinds, without_history},
    raw,
    sealing::{frame, request},
    software,
};

fn name() -> KeyName {
    KeyName::new("kn.acquirer").unwrap()
}

/// Bytes that look random and are the same in every run.
pub(crate) fn component(kind: KeyKind, number: usize) -> Vec<u8> {
    (0..kind.key_len())
        .map(|position| u8::try_from((position * 89 + number * 151 + 7) % 251).unwrap() | 1)
        .collect()
}

pub(crate) fn xor(components: &[Vec<u8>]) -> Vec<u8> {
    components
        .iter()
        .skip(1)
        .fold(components[0].clone(), |sum, next| {
            sum.iter().zip(next).map(|(a, b)| a ^ b).collect()
        })
}

pub(crate) fn kcv_of(kind: KeyKind, key: &[u8]) -> Kcv {
    Kcv::new(KcvMethod::for_key(kind), &software::kcv(kind, key)).unwrap()
}

/// Combines, with the check value that software says.
pub(crate) fn combine(
    token: &Token,
    kind: KeyKind,
    name: &KeyName,
    components: &[Vec<u8>],
) -> hsm::SecretKey {
    let mut combination = token.combine_components(kind).unwrap();
    for component in components {
        let kcv = combination.add(ClearKey::copy_from(component)).unwrap();
        assert_eq!(kcv, kcv_of(kind, component));
    }
    combination
        .finish(name, &kcv_of(kind, &xor(components)))
        .unwrap()
}

#[test]
fn a_combined_key_is_the_xor_of_its_components() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        for kind in kinds(place) {
            for count in 2..=3 {
                let components: Vec<_> =
                    (1..=count).map(|number| component(kind, number)).collect();
                let key = combine(&token, kind, &name(), &components);
                assert_eq!(raw::count_objects(), 1, "nothing but the key is left");
                assert_eq!((key.kind(), key.role()), (kind, KeyRole::TransportKey));
                assert_eq!(token.kcv(&key).unwrap(), kcv_of(kind, &xor(&components)));
                // Found again, the key is what it was.
                assert_eq!(
                    token.secret_key(KeyRole::TransportKey, &name()).unwrap(),
                    key
                );

                // For the others their check value has to do.
                if sealable_kinds(place).contains(&kind) {
                    let frame = frame(kind);
                    let sealed = token
                        .seal(
                            &key,
                            &request(
                                kind,
                                &frame,
                                &software::public_half(&recipient),
                                OaepHash::Sha1,
                            ),
                        )
                        .unwrap();
                    let (_, block) = software::open(&recipient, &sealed);
                    let kn = as_held(place, kind, &xor(&components));
                    let expected = [frame.prefix(), &kn, frame.suffix()].concat();
                    assert_eq!(block, expected);
                }
                token.destroy_key(&name()).unwrap();
            }
        }
    });
}

#[test]
fn a_combined_key_may_only_be_wrapped() {
    on_every_module(|place| {
        let token = new_token("kdh");
        for kind in kinds(place) {
            combine(
                &token,
                kind,
                &name(),
                &[component(kind, 1), component(kind, 2)],
            );
            let keys = token.list_keys().unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].kind, kind.name());
            let mut attributes = vec![
                "CKA_PRIVATE",
                "CKA_SENSITIVE",
                "CKA_EXTRACTABLE",
                "CKA_MODIFIABLE",
            ];
            // To put the key block together inside takes a base key.
            let derives = place.module().can.sealing == "concatenate";
            attributes.extend(derives.then_some("CKA_DERIVE"));
            assert_eq!(without_history(&keys[0].attributes), attributes);
            token.destroy_key(&name()).unwrap();
        }
    });
}

#[test]
fn a_wrong_check_value_leaves_nothing() {
    on_every_module(|place| {
        let token = new_token("kdh");
        for kind in kinds(place) {
            let components = [component(kind, 1), component(kind, 2)];
            let right = kcv_of(kind, &xor(&components));
            let flipped: Vec<u8> = right.value().iter().map(|byte| byte ^ 1).collect();
            let other_method = match right.method() {
                KcvMethod::AesCmac => KcvMethod::TdeaEcb,
                KcvMethod::TdeaEcb => KcvMethod::AesCmac,
            };
            for wrong in [
                Kcv::new(right.method(), &flipped).unwrap(),
                Kcv::new(other_method, right.value()).unwrap(),
                Kcv::new(right.method(), &[right.value(), &[0, 0]].concat()).unwrap(),
            ] {
                let mut combination = token.combine_components(kind).unwrap();
                for component in &components {
                    combination.add(ClearKey::copy_from(component)).unwrap();
                }
                match combination.finish(&name(), &wrong) {
                    Err(HsmError::KcvMismatch { expected, found }) => {
                        assert_eq!(expected, wrong);
                        assert_eq!(found.value()[..3], *right.value());
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(raw::count_objects(), 0);
            }
        }
    });
}

#[test]
fn one_component_is_not_enough() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let expected = kcv_of(kind, &component(kind, 1));
        let none = token.combine_components(kind).unwrap();
        assert!(none.is_empty());
        let mut one = token.combine_components(kind).unwrap();
        one.add(ClearKey::copy_from(&component(kind, 1))).unwrap();
        assert_eq!(one.len(), 1);
        for combination in [none, one] {
            let refused = combination.finish(&name(), &expected);
            assert!(
                matches!(refused, Err(HsmError::BadComponent { .. })),
                "{refused:?}"
            );
        }
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn unsound_components_are_refused_and_change_nothing() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let components = [component(kind, 1), component(kind, 2)];
        let mut combination = token.combine_components(kind).unwrap();
        let mut half_zero = component(kind, 3);
        half_zero[8..].fill(0);

        for sound in &components {
            combination.add(ClearKey::copy_from(sound)).unwrap();
            for unsound in [&[0; 16][..], &half_zero, sound, &components[0]] {
                let refused = combination.add(ClearKey::copy_from(unsound));
                assert!(
                    matches!(refused, Err(HsmError::BadComponent { .. })),
                    "{refused:?}"
                );
            }
            for len in [0, 8, 15, 17, 24, 32] {
                let refused = combination.add(ClearKey::copy_from(&vec![1; len]));
                assert!(
                    matches!(refused, Err(HsmError::KeyLength { expected: 16, found }) if found == len),
                    "{refused:?}"
                );
            }
        }
        let key = combination
            .finish(&name(), &kcv_of(kind, &xor(&components)))
            .unwrap();
        assert_eq!(token.kcv(&key).unwrap(), kcv_of(kind, &xor(&components)));
    });
}

#[test]
fn a_taken_name_is_refused_and_the_key_under_it_kept() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes192;
        let components = [component(kind, 1), component(kind, 2)];
        let key = combine(&token, kind, &name(), &components);
        let mut combination = token.combine_components(kind).unwrap();
        for component in &components {
            combination.add(ClearKey::copy_from(component)).unwrap();
        }
        let refused = combination.finish(&name(), &kcv_of(kind, &xor(&components)));
        assert!(
            matches!(refused, Err(HsmError::KeyExists { .. })),
            "{refused:?}"
        );
        assert_eq!(raw::count_objects(), 1);
        token.kcv(&key).unwrap();
    });
}

#[test]
fn what_is_not_finished_goes_with_its_session() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let mut combination = token.combine_components(KeyKind::Aes256).unwrap();
        combination
            .add(ClearKey::copy_from(&component(KeyKind::Aes256, 1)))
            .unwrap();
        combination
            .add(ClearKey::copy_from(&component(KeyKind::Aes256, 2)))
            .unwrap();
        let parts = match place.module().can.combining {
            // One for each 8 bytes.
            "key-wrap" => 4,
            _ => 1,
        };
        assert_eq!(raw::count_objects(), parts);
        drop(combination);
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn components_are_combined_in_the_way_that_the_module_has() {
    on_every_module(|place| {
        let token = new_token("kdh");
        let way = token.capabilities().unwrap().combining.clone().unwrap();
        assert_eq!(way.to_string(), place.module().can.combining);
        assert_eq!(raw::count_objects(), 0, "the trial left nothing");
    });
}
