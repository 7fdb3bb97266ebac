//! What is no key block, one thing wrong at a time, with the exact reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tr31::{
    BlockKey, Derivation, KeyBlock, KeyBlockError, MAX_LEN, OptionalBlock, Protected, Version,
};
use tr34::{Kbh, KeyKind};

/// A block of version D, its header, payload (32 bytes) and MAC told apart.
const HEADER: &str = "D0112P0TE00E0000";
const PAYLOAD: &str = "4A076B58780FD2B98410820E06C365C0D05484E3D2869E74773BA7254F967237";
const MAC: &str = "70C0414BB2C8FE384F1C8F0DBB35DD07";

/// A block with this header, of the length that it says.
fn with_header(header: &str) -> String {
    format!("{header}{PAYLOAD}{MAC}")
}

/// As [`with_header`], with optional blocks, and the length and their number put right.
fn with_optional(count: &str, optional: &str) -> String {
    let len = HEADER.len() + optional.len() + PAYLOAD.len() + MAC.len();
    format!("D{len:04}P0TE00E{count}00{optional}{PAYLOAD}{MAC}")
}

fn refused(text: &str, expected: &str) {
    let error = KeyBlock::parse(text.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), expected, "{text}");
}

#[test]
fn a_header_of_which_one_field_is_changed_is_refused() {
    KeyBlock::parse(with_header(HEADER).as_bytes()).unwrap();
    let version =
        |found| format!("a key block of version {found} is not taken: have it made as version D");
    let unknown = |field| format!("key block header has an unknown value of {field}");
    for (header, expected) in [
        ("A0112P0TE00E0000", version('A')),
        ("C0112P0TE00E0000", version('C')),
        ("E0112P0TE00E0000", version('E')),
        ("d0112P0TE00E0000", version('d')),
        ("00112P0TE00E0000", version('0')),
        (
            "D0111P0TE00E0000",
            "the key block says that it has 111 characters, and has 112".to_owned(),
        ),
        (
            "D0113P0TE00E0000",
            "the key block says that it has 113 characters, and has 112".to_owned(),
        ),
        (
            "D9112P0TE00E0000",
            "the key block says that it has 9112 characters, and has 112".to_owned(),
        ),
        ("D 112P0TE00E0000", unknown("block length")),
        ("D+112P0TE00E0000", unknown("block length")),
        ("D0x70P0TE00E0000", unknown("block length")),
        ("D0112Q0TE00E0000", unknown("key usage")),
        ("D0112P9TE00E0000", unknown("key usage")),
        ("D0112p0TE00E0000", unknown("key usage")),
        ("D0112P0XE00E0000", unknown("algorithm")),
        ("D0112P0tE00E0000", unknown("algorithm")),
        ("D0112P0TZ00E0000", unknown("mode of use")),
        ("D0112P0Te00E0000", unknown("mode of use")),
        ("D0112P0TE0-E0000", unknown("key version number")),
        ("D0112P0TE00X0000", unknown("exportability")),
        ("D0112P0TE00e0000", unknown("exportability")),
        ("D0112P0TE00E0x00", unknown("number of optional blocks")),
        ("D0112P0TE00E 100", unknown("number of optional blocks")),
        ("D0112P0TE00E0001", unknown("the reserved field")),
        ("D0112P0TE00E0010", unknown("the reserved field")),
    ] {
        refused(&with_header(header), &expected);
    }
}

#[test]
fn a_block_that_is_cut_or_has_something_behind_it_is_refused() {
    let block = with_header(HEADER);
    let says = |found| format!("the key block says that it has 112 characters, and has {found}");
    let short = |found| format!("the key block has {found} characters, which is too short for one");
    refused("", &short(0));
    refused(&block[..15], &short(15));
    for len in [16, 48, 80, 96, 111] {
        refused(&block[..len], &says(len));
    }
    refused(&format!("{block}0"), &says(113));
    refused(&format!("{block}{block}"), &says(224));
    let unprintable =
        |at| format!("the key block has a byte at {at} that is no printable ASCII character");
    refused(&format!("{block}\n"), &unprintable(112));
    refused(&format!("{block}\0"), &unprintable(112));
    refused(&format!("\u{feff}{block}"), &unprintable(0));
    refused(
        &format!(" {}", &block[1..]),
        "a key block of version   is not taken: have it made as version D",
    );
    refused(&block.replacen('P', "ß", 1), &unprintable(5));
    let long = "D".repeat(MAX_LEN + 1);
    refused(&long, "the key block has 10000 characters, more than 9999");
    // A header says what there is, and there is no payload, or no MAC.
    for len in [16, 32, 48, 64] {
        refused(&format!("D{len:04}{}", &block[5..len]), &short(len));
    }
}

#[test]
fn payload_and_mac_are_upper_case_hexadecimal_in_whole_blocks() {
    let not_hex =
        |field, at| format!("the {field} has a character at {at} that is not one of 0-9 and A-F");
    let changed = |at: usize, character: &str| {
        let mut block = with_header(HEADER);
        block.replace_range(at..=at, character);
        block
    };
    for character in ["a", "G", " ", "-", ":"] {
        refused(&changed(16, character), &not_hex("payload", 16));
        refused(&changed(79, character), &not_hex("payload", 79));
        refused(&changed(80, character), &not_hex("MAC", 80));
        refused(&changed(111, character), &not_hex("MAC", 111));
    }
    let with_payload = |payload: &str| {
        let len = HEADER.len() + payload.len() + MAC.len();
        format!("D{len:04}{}{payload}{MAC}", &HEADER[5..])
    };
    refused(
        &with_payload(&PAYLOAD[..62]),
        "the payload has 31 bytes, which are not whole blocks of version D",
    );
    refused(
        &with_payload(&format!("{PAYLOAD}00")),
        "the payload has 33 bytes, which are not whole blocks of version D",
    );
    refused(
        &with_payload(&format!("{PAYLOAD}0")),
        &not_hex("payload", 81),
    );
}

#[test]
fn optional_blocks_are_well_formed() {
    let at = |at, cause| format!("the optional block at character {at} {cause}");
    let pb = "PB0C00000000";
    KeyBlock::parse(with_optional("01", "PB10000000000000").as_bytes()).unwrap();
    for (count, optional, expected) in [
        (
            "01",
            "pb10000000000000",
            at(
                16,
                "has an identifier that is not two upper-case letters or digits",
            ),
        ),
        (
            "01",
            "P-10000000000000",
            at(
                16,
                "has an identifier that is not two upper-case letters or digits",
            ),
        ),
        (
            "01",
            "PBxx000000000000",
            at(16, "has a length that is not upper-case hexadecimal"),
        ),
        (
            "01",
            "PB0a000000000000",
            at(16, "has a length that is not upper-case hexadecimal"),
        ),
        (
            "01",
            "PB03000000000000",
            at(16, "is shorter than its own identifier and length"),
        ),
        (
            "01",
            "PB01000000000000",
            at(16, "is shorter than its own identifier and length"),
        ),
        (
            "01",
            "PBFF000000000000",
            at(16, "is longer than what is left of the key block"),
        ),
        (
            "01",
            "PB00010010000000",
            at(16, "has an extended length of other than 4 digits"),
        ),
        (
            "01",
            "PB00030001000000",
            at(16, "has an extended length of other than 4 digits"),
        ),
        (
            "01",
            "PB0002001000000000000000",
            at(16, "has an extended length that two digits could say"),
        ),
        (
            "01",
            "PB0002FFFF000000",
            at(16, "is longer than what is left of the key block"),
        ),
        ("02", "LB04LB0C00000000", at(20, "is there twice")),
        (
            "02",
            "PB04LB0C00000000",
            at(20, "stands behind the padding, which is the last"),
        ),
        (
            "99",
            "PB10000000000000",
            at(32, "stands behind the padding, which is the last"),
        ),
    ] {
        refused(&with_optional(count, optional), &expected);
    }
    refused(
        &with_optional("01", pb),
        "the header has 28 characters, which are not whole blocks of version D",
    );
    // One that is not counted is payload.
    refused(
        &with_optional("00", "PB10000000000000"),
        "the payload has a character at 16 that is not one of 0-9 and A-F",
    );
}

#[test]
fn parts_that_make_no_block_are_refused() {
    let header = |text: &str| Kbh::parse(text.as_bytes()).unwrap();
    let d = header(HEADER);
    let build = |header, payload, mac| {
        let protected = Protected {
            payload: &vec![0x5A; payload],
            mac: &vec![0xA5; mac],
        };
        KeyBlock::new(header, &[], protected)
    };
    build(&d, 32, 16).unwrap();
    let version = Version::D;
    for (made, expected) in [
        (
            build(&header("A0112P0TE00E0000"), 32, 16),
            KeyBlockError::Version { found: 'A' },
        ),
        (
            build(&d, 33, 16),
            KeyBlockError::PayloadLength { found: 33, version },
        ),
        (build(&d, 0, 16), KeyBlockError::TooShort { found: 48 }),
        (
            build(&d, 32, 32),
            KeyBlockError::MacLength { found: 32, version },
        ),
        (build(&d, 5000, 16), KeyBlockError::TooLong { found: 10048 }),
    ] {
        assert_eq!(made, Err(expected));
    }
    let odd = OptionalBlock::new("LB", "abc").unwrap();
    let made = KeyBlock::new(
        &d,
        &[odd],
        Protected {
            payload: &[0; 32],
            mac: &[0; 16],
        },
    );
    let expected = KeyBlockError::HeaderLength { found: 23, version };
    assert_eq!(made, Err(expected));
    for (id, data) in [
        ("l1", ""),
        ("LBX", ""),
        ("L", ""),
        ("LB", "\n"),
        ("LB", "ä"),
    ] {
        assert!(OptionalBlock::new(id, data).is_err(), "{id} {data}");
    }
}

#[test]
fn keys_of_a_block_follow_from_a_kbpk_of_its_cipher_only() {
    for (version, kbpk, message) in [
        (
            Version::B,
            KeyKind::Aes128,
            "a key block of version B is not under a key of the kind AES-128",
        ),
        (
            Version::D,
            KeyKind::Tdea2,
            "a key block of version D is not under a key of the kind TDEA-2KEY",
        ),
    ] {
        let refused = Derivation::new(version, kbpk, BlockKey::Encryption);
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
}

proptest! {
    /// What is read is written as the same characters again, and nothing panics.
    #[test]
    fn what_is_taken_is_written_again(text in "D0112[BKP]0[AT][BEX]00[ENS]000[01][0-9A-F]{96}") {
        if let Ok(block) = KeyBlock::parse(text.as_bytes()) {
            prop_assert_eq!(block.to_string(), text);
        }
    }
}
