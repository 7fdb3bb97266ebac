//! What a component, and a sum of them, has to be.
//!
//! A component that leaves part of the key to fewer custodians than there are, or that makes the key
//! weaker than its kind, was not made by whoever makes components.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tr34::KeyKind;

use crate::{ClearKey, HsmError};

/// Components are cut into pieces of this length: a key of DES, half of an AES-128 key.
pub(super) const PIECE_LEN: usize = 8;

/// A key of one component is nobody's secret but its custodian's.
pub(super) const MIN_COMPONENTS: usize = 2;

/// What a ceremony can oversee.
pub(super) const MAX_COMPONENTS: usize = 5;

/// How often the last component may be entered, until a sum that is not the announced key is destroyed.
pub(super) const MAX_TRIES: u32 = 3;

/// Keeps these digests from meaning anything else.
const DOMAIN: &[u8] = b"kdh.component.v1";

/// What tells a component from others without being it: a digest that is worth nothing outside of its sum.
pub(super) type Fingerprint = [u8; 32];

/// Refuses a component that cannot be what a custodian was given.
///
/// # Errors
/// It has another length than keys of the kind; 8 bytes of it are zero; two parts of it are equal. TDEA's parity
/// bits make no difference.
pub fn require_sound_component(component: &ClearKey, kind: KeyKind) -> Result<(), HsmError> {
    let bytes = component.expose_clear();
    if bytes.len() != kind.key_len() {
        return Err(HsmError::KeyLength {
            expected: kind.key_len(),
            found: bytes.len(),
        });
    }
    let refused = |reason| Err(HsmError::BadComponent { reason });
    let pieces: Vec<&[u8]> = bytes.chunks_exact(PIECE_LEN).collect();
    let zero = [0; PIECE_LEN];
    if pieces.iter().any(|piece| are_equal(kind, piece, &zero)) {
        return refused("is zero, all of it or 8 bytes");
    }
    let mut pairs = pairs(&pieces);
    let (left, right) = bytes.split_at(bytes.len() / 2);
    if pairs.any(|(one, other)| are_equal(kind, one, other)) || are_equal(kind, left, right) {
        return refused("has two equal parts");
    }
    Ok(())
}

/// Refuses a component that is in the sum, or one more than can be overseen.
pub(super) fn require_new(
    fingerprint: &Fingerprint,
    earlier: &[Fingerprint],
) -> Result<(), HsmError> {
    let refused = |reason| Err(HsmError::BadComponent { reason });
    if earlier.len() >= MAX_COMPONENTS {
        return refused("is the sixth; a key comes in five at most");
    }
    if earlier.contains(fingerprint) {
        return refused("was added before");
    }
    Ok(())
}

/// Refuses a sum of too few.
pub(super) fn require_enough(components: usize) -> Result<(), HsmError> {
    if components < MIN_COMPONENTS {
        return Err(HsmError::BadComponent {
            reason: "is the only one; it takes two at least",
        });
    }
    Ok(())
}

/// Refuses a sum with two equal pieces, each of which stands here encrypted alone and under one key.
pub(super) fn require_distinct(veiled: &[Vec<u8>]) -> Result<(), HsmError> {
    let veiled: Vec<_> = veiled.iter().map(Vec::as_slice).collect();
    if pairs(&veiled).any(|(one, other)| one == other) {
        return Err(HsmError::BadSum {
            reason: "has two equal parts of 8 bytes",
        });
    }
    Ok(())
}

pub(super) fn fingerprint(salt: &[u8], component: &ClearKey) -> Fingerprint {
    let mut digest = Sha256::new();
    digest.update(DOMAIN);
    digest.update(salt);
    digest.update(component.expose_clear());
    digest.finalize().into()
}

/// Whether two parts are the same to the cipher. TDEA makes nothing of the last bit of each byte.
fn are_equal(kind: KeyKind, one: &[u8], other: &[u8]) -> bool {
    let used = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => 0xfe,
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => 0xff,
    };
    let difference = one.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
    (difference & used).ct_eq(&0_u8).into()
}

fn pairs<'a>(pieces: &'a [&'a [u8]]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let firsts = pieces.iter().enumerate();
    firsts.flat_map(|(index, one)| pieces[index + 1..].iter().map(move |other| (*one, *other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [u8; 8] = [0x13, 0x57, 0x9b, 0xdf, 0x02, 0x46, 0x8a, 0xce];
    const Q: [u8; 8] = [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
    const R: [u8; 8] = [0x24, 0x68, 0xac, 0xe0, 0x35, 0x79, 0xbd, 0xf1];
    const S: [u8; 8] = [0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78];
    const ZERO: [u8; 8] = [0; 8];
    /// P to DES.
    const P_OF_OTHER_PARITY: [u8; 8] = [0x12, 0x56, 0x9a, 0xde, 0x03, 0x47, 0x8b, 0xcf];

    fn verdict(kind: KeyKind, pieces: &[[u8; 8]]) -> Option<String> {
        let component = ClearKey::copy_from(pieces.as_flattened());
        require_sound_component(&component, kind)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn sound_components_are_taken() {
        for (kind, pieces) in [
            (KeyKind::Aes128, &[P, Q][..]),
            (KeyKind::Aes128, &[P, P_OF_OTHER_PARITY]),
            (KeyKind::Aes192, &[P, Q, R]),
            (KeyKind::Aes256, &[P, Q, R, S]),
            (KeyKind::Tdea2, &[P, Q]),
            (KeyKind::Tdea3, &[P, Q, R]),
        ] {
            assert_eq!(verdict(kind, pieces), None, "{kind}");
        }
    }

    #[test]
    fn unsound_components_are_refused_for_what_is_wrong_with_them() {
        let zero = "the component is zero, all of it or 8 bytes";
        let equal = "the component has two equal parts";
        let thirds = [
            [1, 2, 3, 4, 5, 6, 7, 8],
            [9, 10, 11, 12, 1, 2, 3, 4],
            [5, 6, 7, 8, 9, 10, 11, 12],
        ];
        for (kind, pieces, expected) in [
            (KeyKind::Aes128, &[ZERO, ZERO][..], zero),
            (KeyKind::Aes128, &[ZERO, P], zero),
            (KeyKind::Aes128, &[P, ZERO], zero),
            (KeyKind::Aes192, &[P, ZERO, Q], zero),
            (KeyKind::Aes256, &[P, Q, R, ZERO], zero),
            (KeyKind::Tdea2, &[P, ZERO], zero),
            // Zero to DES.
            (KeyKind::Tdea2, &[P, [1; 8]], zero),
            (KeyKind::Tdea3, &[P, Q, ZERO], zero),
            (KeyKind::Aes128, &[P, P], equal),
            (KeyKind::Aes192, &[P, Q, P], equal),
            (KeyKind::Aes192, &thirds, equal),
            (KeyKind::Aes256, &[P, Q, P, Q], equal),
            (KeyKind::Aes256, &[P, Q, R, R], equal),
            (KeyKind::Tdea2, &[P, P], equal),
            (KeyKind::Tdea2, &[P, P_OF_OTHER_PARITY], equal),
            (KeyKind::Tdea3, &[P, P, Q], equal),
            (KeyKind::Tdea3, &[P, Q, Q], equal),
            (KeyKind::Tdea3, &[P, Q, P_OF_OTHER_PARITY], equal),
            (
                KeyKind::Aes128,
                &[P],
                "a key of 16 bytes was expected, not 8",
            ),
            (
                KeyKind::Tdea3,
                &[P, Q],
                "a key of 24 bytes was expected, not 16",
            ),
        ] {
            let found = verdict(kind, pieces);
            assert_eq!(found.as_deref(), Some(expected), "{kind} {pieces:02x?}");
        }
    }

    #[test]
    fn a_fingerprint_is_worth_nothing_in_another_sum() {
        let component = || ClearKey::copy_from(&[P, Q].concat());
        let one = fingerprint(&[1; 16], &component());
        assert_eq!(one, fingerprint(&[1; 16], &component()));
        assert_ne!(one, fingerprint(&[2; 16], &component()));
        assert!(require_new(&one, &[]).is_ok());
        assert!(require_new(&one, &[[0; 32], one]).is_err());
        assert!(require_new(&one, &[[0; 32]; 5]).is_err());
    }
}
