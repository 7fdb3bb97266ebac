//! The key block header.

use proptest::prelude::*;
use tr34::{Kbh, KbhError, KbhField, KeyAlgorithm, KeyKind, OptionalBlock};

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
            let text = with(*at, value);
            let error = Kbh::parse_plain(text.as_bytes()).unwrap_err();
            assert_eq!(error, KbhError::UnknownValue(*field), "{value:?}");
            // With an optional block it is the same, but for how many there are.
            if *field != KbhField::OptionalBlocks {
                let whole = [&text[..12], "01", &text[14..], "LB10abcdefghijkl"].concat();
                let error = whole.parse::<Kbh>().unwrap_err();
                assert_eq!(error, KbhError::UnknownValue(*field), "{value:?}");
            }
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
        let expected = KbhError::Length {
            expected: 16,
            found: len,
        };
        assert_eq!(text.parse::<Kbh>().unwrap_err(), expected);
        assert_eq!(Kbh::parse_plain(text.as_bytes()).unwrap_err(), expected);
    }
    for bytes in [
        &[0xFF; 16][..],
        "D0144K0AB00E000\u{E9}".as_bytes(),
        "É0144K0AB00E000".as_bytes(),
    ] {
        assert_eq!(Kbh::parse(bytes).unwrap_err(), KbhError::NotAscii);
    }
}

/// With an initial key id, and filled up to whole blocks of AES.
const WITH_ID: &str = "D0144K0AB00E0200IK140A1B2C3D0000002APB0C00000000";

#[test]
fn optional_blocks_are_written_and_read() {
    let plain: Kbh = GOOD.parse().unwrap();
    assert!(plain.optional_blocks().is_empty());
    let id = OptionalBlock::initial_key_id(b"\x0A\x1B\x2C\x3D\0\0\0\x2A");
    let header = plain
        .with_optional_blocks(std::slice::from_ref(&id))
        .unwrap();
    assert_eq!(header.to_string(), WITH_ID);
    assert_eq!(header, WITH_ID.parse().unwrap());
    let padding = OptionalBlock::new("PB", "00000000").unwrap();
    assert_eq!(header.optional_blocks(), [id.clone(), padding]);
    assert_eq!(
        (header.initial_key(), plain.initial_key()),
        (Some(&id), None)
    );
    assert_eq!(id.words(), "initial key id of AES DUKPT");
    assert_eq!(header.without_optional_blocks(), plain);
    assert_ne!(header, plain);
    // Those that it had are replaced.
    assert_eq!(header.with_optional_blocks(&[id]).unwrap(), header);
    assert_eq!(header.with_optional_blocks(&[]).unwrap(), plain);
    // Under TDEA, blocks have 8 bytes.
    let serial = OptionalBlock::key_serial_number(b"\xFF\xFF\x98\x76\x54\x32\x10\xE0\0\0");
    let tdea: Kbh = "B0096B1TX00N0000".parse().unwrap();
    let tdea = tdea.with_optional_blocks(&[serial]).unwrap();
    assert_eq!(tdea.to_string(), "B0096B1TX00N0100KS18FFFF9876543210E00000");
    let serial = tdea.initial_key().map(OptionalBlock::data);
    assert_eq!(serial, Some("FFFF9876543210E00000"));
}

#[test]
fn a_header_with_optional_blocks_is_what_it_says() {
    let block = |cause| KbhError::OptionalBlock { at: 16, cause };
    let second = |cause| KbhError::OptionalBlock { at: 36, cause };
    let length = |expected, found| KbhError::Length { expected, found };
    let count = KbhError::UnknownValue(KbhField::OptionalBlocks);
    let (cut, digits) = (
        "is longer than what is left of the key block",
        "has a length that is not upper-case hexadecimal",
    );
    let no_id = "has an identifier that is not two upper-case letters or digits";
    for (at, value, expected) in [
        (12, "00", length(16, 48)),
        (12, "01", length(36, 48)),
        (
            12,
            "03",
            KbhError::OptionalBlock {
                at: 48,
                cause: "stands behind the padding, which is the last",
            },
        ),
        (12, "0A", count),
        (12, "+2", count),
        (12, "  ", count),
        (14, "01", KbhError::UnknownValue(KbhField::Reserved)),
        (16, "i", block(no_id)),
        (
            16,
            "PB",
            second("stands behind the padding, which is the last"),
        ),
        (17, " ", block(no_id)),
        (
            18,
            "03",
            block("is shorter than its own identifier and length"),
        ),
        (18, "FF", block(cut)),
        (18, "1g", block(digits)),
        (18, "1a", block(digits)),
        (18, "+4", block(digits)),
        (18, "13", KbhError::OptionalBlock { at: 35, cause: cut }),
        (20, "\n", block("has data that is no printable ASCII")),
        (36, "IK", second("is there twice")),
        (38, "0D", second(cut)),
        (38, "0B", length(47, 48)),
    ] {
        let mut text = WITH_ID.to_owned();
        text.replace_range(at..at + value.len(), value);
        assert_eq!(
            text.parse::<Kbh>().unwrap_err(),
            expected,
            "{value} at {at}"
        );
    }
    for len in 17..WITH_ID.len() {
        assert!(WITH_ID[..len].parse::<Kbh>().is_err(), "{len}");
    }
    assert_eq!(format!("{WITH_ID}0").parse::<Kbh>(), Err(length(48, 49)));
    assert_eq!(Kbh::parse_plain(WITH_ID.as_bytes()), Err(length(16, 48)));
    let unfilled = "D0144K0AB00E0100IK140A1B2C3D0000002A".parse::<Kbh>();
    let expected = KbhError::NotWholeBlocks {
        found: 36,
        version: 'D',
    };
    assert_eq!(unfilled, Err(expected));
    let long = format!("D0144K0AB00E0100LB000203F1{}", "x".repeat(0x3F1 - 10));
    let expected = KbhError::TooLong { found: 16 + 0x3F1 };
    assert_eq!(long.parse::<Kbh>(), Err(expected));
}

#[test]
fn blocks_that_make_no_header_are_refused() {
    let plain: Kbh = GOOD.parse().unwrap();
    let label = |id: &str, len| OptionalBlock::new(id, &"x".repeat(len)).unwrap();
    for (case, blocks) in [
        ("twice the same", vec![label("LB", 1), label("LB", 2)]),
        ("padding of their own", vec![label("PB", 3), label("LB", 3)]),
        ("too long", vec![label("LB", 1024)]),
        (
            "too many",
            (0..100).map(|n| label(&format!("{n:02}"), 0)).collect(),
        ),
    ] {
        assert!(plain.with_optional_blocks(&blocks).is_err(), "{case}");
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
    fn optional_blocks_round_trip(
        version in "[A-D]", data in prop::collection::vec("[ -~]{0,300}", 0..3)
    ) {
        let ids = ["LB", "IK", "KS"];
        let blocks = data.iter().zip(ids).map(|(data, id)| OptionalBlock::new(id, data).unwrap());
        let blocks: Vec<_> = blocks.collect();
        let plain: Kbh = with(0, &version).parse().unwrap();
        let header = plain.with_optional_blocks(&blocks).unwrap();
        prop_assert_eq!(&header.to_string().parse::<Kbh>().unwrap(), &header);
        prop_assert_eq!(&header.optional_blocks()[..blocks.len()], blocks);
    }

    #[test]
    fn headers_round_trip(text in "[A-D][0-9]{4}(B0|C0|D0|K0|M3|P0|V1)[ADEHRST][BCDEGNSTVXY][0-9A-Za-z]{2}[ENS]0000") {
        prop_assert_eq!(text.parse::<Kbh>().unwrap().to_string(), text);
    }
}
