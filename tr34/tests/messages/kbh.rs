//! The key block header.

use proptest::prelude::*;
use tr34::{Kbh, KbhError, KbhField, KeyAlgorithm, KeyKind};

/// Every one of the 16 characters, by field.
const GOOD: &str = "D0144K0AB00E0000";

fn with(at: usize, value: &str) -> String {
    let mut text = GOOD.to_owned();
    text.replace_range(at..at + value.len(), value);
    text
}

#[test]
fn the_fields_are_told_apart() {
    let header: Kbh = "A0256P0TE12S0000".parse().unwrap();
    assert_eq!(header.usage(), "P0");
    assert_eq!(header.algorithm(), KeyAlgorithm::Tdea);
    assert_eq!(header.mode(), "E");
    assert_eq!(header.exportability(), "S");
    assert_eq!(header.as_bytes(), b"A0256P0TE12S0000");
    assert_eq!(header.to_string(), "A0256P0TE12S0000");
}

#[test]
fn each_value_of_the_standard_is_taken() {
    let usages = concat!(
        "B0B1B2B3C0D0D1D2D3E0E1E2E3E4E5E6E7I0K0K1K2K3K4",
        "M0M1M2M3M4M5M6M7M8P0P1S0S1S2V0V1V2V3V4V5",
    );
    let one_by_one = |at, values: &str, width: usize| {
        for value in values.as_bytes().chunks(width) {
            let text = with(at, str::from_utf8(value).unwrap());
            assert_eq!(text.parse::<Kbh>().unwrap().to_string(), text);
        }
    };
    one_by_one(0, "ABCD", 1);
    one_by_one(1, "000002569999", 4);
    one_by_one(5, usages, 2);
    one_by_one(7, "ADEHRST", 1);
    one_by_one(8, "BCDEGNSTVXY", 1);
    one_by_one(9, "0012c1A9zZ", 2);
    one_by_one(11, "ENS", 1);
}

/// Whatever is not in the list above.
#[test]
fn an_unknown_value_is_refused_with_its_field_named() {
    let cases: &[(usize, &[&str], KbhField)] = &[
        (0, &["E", "a", "0", " "], KbhField::VersionId),
        (
            1,
            &["014x", " 144", "+144", "-144", "FFFF"],
            KbhField::BlockLength,
        ),
        (
            5,
            &[
                "B4", "K5", "k0", "C1", "M9", "P2", "E8", "V6", "00", "10", "99", "  ",
            ],
            KbhField::KeyUsage,
        ),
        (7, &["B", "C", "a", "t", "0", "9", " "], KbhField::Algorithm),
        (8, &["A", "F", "Z", "b", "0", " "], KbhField::ModeOfUse),
        (9, &["0-", " 0", "0 ", "\u{0}\u{0}"], KbhField::KeyVersion),
        (11, &["A", "e", "0", " "], KbhField::Exportability),
        (12, &["01", "10", "0A", "  "], KbhField::OptionalBlocks),
        (14, &["01", "10", "AA", "  "], KbhField::Reserved),
    ];
    for (at, values, field) in cases {
        for value in *values {
            let error = with(*at, value).parse::<Kbh>().unwrap_err();
            assert_eq!(error, KbhError::UnknownValue(*field), "{value:?}");
        }
    }
}

#[test]
fn each_single_character_is_checked() {
    // No field takes both of these.
    for at in 0..GOOD.len() {
        for bad in ["!", "?", "\u{7F}"] {
            assert!(with(at, bad).parse::<Kbh>().is_err(), "{bad} at {at}");
        }
    }
}

#[test]
fn a_header_is_16_ascii_characters() {
    for len in (0..16).chain([17, 24, 32]) {
        let text = GOOD.repeat(2)[..len].to_owned();
        assert_eq!(
            text.parse::<Kbh>().unwrap_err(),
            KbhError::Length { found: len }
        );
    }
    for bytes in [
        &[0xFF; 16][..],
        "D0144K0AB00E000\u{E9}".as_bytes(),
        "É0144K0AB00E000".as_bytes(),
    ] {
        assert_eq!(Kbh::parse(bytes).unwrap_err(), KbhError::NotAscii);
    }
}

#[test]
fn the_algorithm_and_the_length_make_the_kind() {
    let kind = |algorithm, key_len| with(7, algorithm).parse::<Kbh>().unwrap().key_kind(key_len);
    assert_eq!(kind("T", 16), Ok(KeyKind::Tdea2));
    assert_eq!(kind("T", 24), Ok(KeyKind::Tdea3));
    assert_eq!(kind("A", 16), Ok(KeyKind::Aes128));
    assert_eq!(kind("A", 24), Ok(KeyKind::Aes192));
    assert_eq!(kind("A", 32), Ok(KeyKind::Aes256));

    for (text, algorithm, lens) in [
        ("T", KeyAlgorithm::Tdea, &[0, 8, 15, 17, 32][..]),
        ("A", KeyAlgorithm::Aes, &[0, 8, 15, 17, 33, 64]),
    ] {
        for &key_len in lens {
            let expected = KbhError::KeyLength { algorithm, key_len };
            assert_eq!(kind(text, key_len), Err(expected));
        }
    }
    for (text, algorithm) in [
        ("D", KeyAlgorithm::Dea),
        ("E", KeyAlgorithm::EllipticCurve),
        ("H", KeyAlgorithm::Hmac),
        ("R", KeyAlgorithm::Rsa),
        ("S", KeyAlgorithm::Dsa),
    ] {
        assert_eq!(kind(text, 16), Err(KbhError::NotLoadable { algorithm }));
    }
}

#[test]
fn kinds_have_names_and_lengths() {
    for (kind, name, len) in [
        (KeyKind::Tdea2, "TDEA-2KEY", 16),
        (KeyKind::Tdea3, "TDEA-3KEY", 24),
        (KeyKind::Aes128, "AES-128", 16),
        (KeyKind::Aes192, "AES-192", 24),
        (KeyKind::Aes256, "AES-256", 32),
    ] {
        assert_eq!((kind.to_string().as_str(), kind.key_len()), (name, len));
    }
}

proptest! {
    #[test]
    fn what_parses_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(header) = Kbh::parse(&bytes) {
            prop_assert_eq!(header.as_bytes(), bytes);
        }
    }

    #[test]
    fn headers_round_trip(text in "[A-D][0-9]{4}(B0|C0|D0|K0|M3|P0|V1)[ADEHRST][BCDEGNSTVXY][0-9A-Za-z]{2}[ENS]0000") {
        prop_assert_eq!(text.parse::<Kbh>().unwrap().to_string(), text);
    }
}
