//! `RT_KRD`.

use proptest::prelude::*;
use tr34::{KrdNonce, RandomToken, TokenKind};

use crate::common::*;

#[test]
fn the_token_is_the_bare_attribute() {
    let token = RandomToken::new(nonce()).to_der();
    assert_eq!(token, attribute(RANDOM_NONCE, &[&octets(&NONCE)]));
    assert_eq!(token.len(), 34);
}

#[test]
fn nonces_are_equal_only_when_every_bit_is() {
    assert_eq!(nonce(), KrdNonce::from_bytes(NONCE));
    for bit in 0..NONCE.len() * 8 {
        let mut other = NONCE;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(nonce(), KrdNonce::from_bytes(other));
    }
}

#[test]
fn each_departure_is_refused() {
    let utf8 = element(der::Tag::Utf8String, &[&NONCE]);
    let nonce = octets(&NONCE);
    let cases: &[(&str, Vec<u8>, Expect)] = &[
        ("nothing", Vec::new(), Expect::Der),
        (
            "the nonce without its attribute",
            nonce.clone(),
            Expect::Der,
        ),
        (
            "nonce of 8 bytes",
            attribute(RANDOM_NONCE, &[&octets(&[1; 8])]),
            length("randomNonce", 8),
        ),
        (
            "empty nonce",
            attribute(RANDOM_NONCE, &[&octets(&[])]),
            length("randomNonce", 0),
        ),
        (
            "nonce of 15 bytes",
            attribute(RANDOM_NONCE, &[&octets(&[1; 15])]),
            length("randomNonce", 15),
        ),
        (
            "nonce of 17 bytes",
            attribute(RANDOM_NONCE, &[&octets(&[1; 17])]),
            length("randomNonce", 17),
        ),
        (
            "no nonce",
            attribute(RANDOM_NONCE, &[]),
            not_one("randomNonce", 0),
        ),
        (
            "two nonces",
            attribute(RANDOM_NONCE, &[&nonce, &nonce]),
            not_one("randomNonce", 2),
        ),
        (
            "another attribute",
            attribute(MESSAGE_DIGEST, &[&nonce]),
            unknown_attribute(MESSAGE_DIGEST),
        ),
        (
            "a string of another type",
            attribute(RANDOM_NONCE, &[&utf8]),
            Expect::Der,
        ),
        (
            "the value outside a set",
            sequence(&[&oid(RANDOM_NONCE), &nonce]),
            Expect::Der,
        ),
        (
            "a field more",
            sequence(&[&oid(RANDOM_NONCE), &set(&[&nonce]), NULL]),
            Expect::Der,
        ),
        (
            "the attribute in a set",
            set(&[&attribute(RANDOM_NONCE, &[&nonce])]),
            Expect::Der,
        ),
        (
            "a length in long form",
            [
                &[0x30, 0x81, 0x20],
                &attribute(RANDOM_NONCE, &[&nonce])[2..],
            ]
            .concat(),
            Expect::Der,
        ),
        (
            "an indefinite length",
            [
                &[0x30, 0x80],
                &attribute(RANDOM_NONCE, &[&nonce])[2..],
                &[0, 0],
            ]
            .concat(),
            Expect::Der,
        ),
        (
            "longer than a token may be",
            attribute(RANDOM_NONCE, &[&octets(&vec![0; tr34::MAX_TOKEN_LEN])]),
            Expect::TooLong,
        ),
    ];
    for (case, der, expected) in cases {
        assert_refused(
            case,
            RandomToken::parse(der),
            TokenKind::RandomToken,
            expected,
        );
    }
}

#[test]
fn no_cut_extended_or_flipped_token_is_taken_for_another() {
    let token = RandomToken::new(nonce()).to_der();
    assert_reads_exactly(&token, RandomToken::parse, RandomToken::to_der);
}

proptest! {
    #[test]
    fn tokens_round_trip(nonce in any::<[u8; 16]>()) {
        let token = RandomToken::new(KrdNonce::from_bytes(nonce));
        let parsed = RandomToken::parse(&token.to_der()).unwrap();
        prop_assert_eq!(parsed.nonce().as_bytes(), &nonce);
    }
}
