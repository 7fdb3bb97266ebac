//! Components become a master key.

use hsm::{ClearKey, CombiningWay, HsmError, Kcv, KcvMethod, KeyName, KeyRole, Token};
use tr34::{ContentCipher, KeyKind, OaepHash};

use crate::{
    common::{in_token_directory, new_token},
    raw,
    sealing::frame,
    software,
};

const KINDS: [KeyKind; 5] = [
    KeyKind::Aes128,
    KeyKind::Aes192,
    KeyKind::Aes256,
    KeyKind::Tdea2,
    KeyKind::Tdea3,
];

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

fn kcv_of(kind: KeyKind, key: &[u8]) -> Kcv {
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
    in_token_directory(|| {
        let token = new_token("kdh");
        let recipient = software::recipient();
        for kind in KINDS {
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

                // 24-byte keys cannot be sealed here; their check value has to do.
                if kind.key_len() != 24 {
                    let frame = frame(kind);
                    let sealed = token
                        .seal(
                            &key,
                            &hsm::SealRequest {
                                frame: &frame,
                                recipient: &software::public_half(&recipient),
                                cipher: ContentCipher::for_key(kind),
                                oaep: OaepHash::Sha1,
                            },
                        )
                        .unwrap();
                    let (_, block) = software::open(&recipient, &sealed);
                    let expected = [frame.prefix(), &xor(&components), frame.suffix()].concat();
                    assert_eq!(block, expected);
                }
                token.destroy_key(&name()).unwrap();
            }
        }
    });
}

#[test]
fn a_combined_key_may_only_be_wrapped() {
    in_token_directory(|| {
        let token = new_token("kdh");
        for kind in KINDS {
            combine(
                &token,
                kind,
                &name(),
                &[component(kind, 1), component(kind, 2)],
            );
            let keys = token.list_keys().unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].kind, kind.name());
            assert_eq!(
                keys[0].attributes,
                [
                    "CKA_PRIVATE",
                    "CKA_SENSITIVE",
                    "CKA_EXTRACTABLE",
                    "CKA_MODIFIABLE"
                ]
            );
            token.destroy_key(&name()).unwrap();
        }
    });
}

#[test]
fn a_wrong_check_value_leaves_nothing() {
    in_token_directory(|| {
        let token = new_token("kdh");
        for kind in KINDS {
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
    in_token_directory(|| {
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
    in_token_directory(|| {
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
    in_token_directory(|| {
        let token = new_token("kdh");
        let kind = KeyKind::Tdea2;
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
    in_token_directory(|| {
        let token = new_token("kdh");
        let mut combination = token.combine_components(KeyKind::Aes256).unwrap();
        combination
            .add(ClearKey::copy_from(&component(KeyKind::Aes256, 1)))
            .unwrap();
        combination
            .add(ClearKey::copy_from(&component(KeyKind::Aes256, 2)))
            .unwrap();
        assert_eq!(raw::count_objects(), 4, "one object for each 8 bytes");
        drop(combination);
        assert_eq!(raw::count_objects(), 0);
    });
}

#[test]
fn softhsm_combines_by_key_wrap() {
    in_token_directory(|| {
        let token = new_token("kdh");
        assert_eq!(
            token.capabilities().unwrap().combining,
            Ok(CombiningWay::KeyWrap)
        );
    });
}
