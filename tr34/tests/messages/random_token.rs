//! `RT_KRD`.

use proptest::prelude::*;
use tr34::{KrdNonce, RandomToken};

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

proptest! {
    #[test]
    fn tokens_round_trip(nonce in any::<[u8; 16]>()) {
        let token = RandomToken::new(KrdNonce::from_bytes(nonce));
        let parsed = RandomToken::parse(P, &token.to_der()).unwrap();
        prop_assert_eq!(parsed.nonce().as_bytes(), &nonce);
    }
}
