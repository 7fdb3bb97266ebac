//! A broken file: where it breaks, and what was expected there.

use inspector::{Unrecognised, inspect};
use tr34::Profile;

use crate::tokens::{NOW, all, key_token};

fn refusal(der: &[u8]) -> String {
    inspect(der, NOW).unwrap_err().to_string()
}

#[test]
fn every_cut_is_found_where_it_is() {
    for (word, der) in all(Profile::X9_2019) {
        for len in [4, der.len() / 2, der.len() - 1] {
            let expected = der.len();
            assert_eq!(
                inspect(&der[..len], NOW).unwrap_err(),
                Unrecognised::CutOff {
                    expected,
                    found: len
                },
                "{word}"
            );
        }
        let followed = [&der[..], b"more"].concat();
        assert_eq!(
            refusal(&followed),
            format!(
                "at byte {}: nothing more expected, and 4 bytes follow",
                der.len()
            ),
            "{word}"
        );
    }
}

#[test]
fn what_is_no_sequence_is_none() {
    for der in [
        &[][..],
        &[0x30],
        &[0x31, 0x00],
        &[0x04, 0x01, 0x00],
        &[0x30, 0x80, 0, 0],
    ] {
        assert_eq!(refusal(der), "at byte 0: a SEQUENCE (30) expected");
    }
    assert!(refusal(&[0x30, 0x00]).starts_with("it comes nearest to one of profile x9-2019"));
}

/// One byte is changed; what is said is about that byte, or the element that it is in.
#[test]
fn a_changed_byte_is_named_with_what_was_expected() {
    let good = key_token();
    let at = |needle: &[u8]| {
        good.windows(needle.len())
            .position(|window| window == needle)
            .unwrap()
    };
    let rsa_encryption = at(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05]) + 8;
    let cases: [(usize, u8, String); 4] = [
        (
            25,
            0x05,
            "KT_KDH, at byte 23: SignedData has version 5".into(),
        ),
        (
            23,
            0x04,
            "at byte 23: version expected, of type INTEGER, and OCTET STRING found".into(),
        ),
        (
            rsa_encryption,
            0x0B,
            format!(
                "KT_KDH, at byte {}: signatureAlgorithm or its parameters are not of this profile",
                rsa_encryption - 12
            ),
        ),
        (
            good.len() - 300,
            good[good.len() - 300] ^ 1,
            "messageDigest is not the digest of the content".into(),
        ),
    ];
    for (at, byte, expected) in cases {
        let mut token = good.clone();
        token[at] = byte;
        let said = refusal(&token);
        assert!(said.contains(&expected), "{expected}\n{said}");
    }
}
