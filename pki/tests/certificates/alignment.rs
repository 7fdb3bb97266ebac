//! Serial numbers, and the length that puts Kn on a block boundary.

use pki::{SerialError, SerialNumber, aligned_serial_length};
use tr34::{Profile, key_offset};

use crate::common::{name, serial};

/// A name with a DER content of exactly `len` bytes: a common name is framed by 11 bytes.
fn name_of_content_len(len: usize) -> pki::Name {
    let name = name(&format!("CN={}", "x".repeat(len - 11)));
    assert_eq!(name.der().len(), len + 2);
    name
}

#[test]
fn the_smallest_length_on_a_block_boundary_is_chosen() {
    for issuer_len in 12..=75 {
        let issuer = name_of_content_len(issuer_len);
        for (lengths, headers, block) in [
            (&[16, 32][..], &[16][..], 16),
            (&[16], &[16], 16),
            (&[16, 24, 32], &[16], 8),
            (&[16, 32], &[80], 16),
            (&[16, 32], &[16, 48], 16),
        ] {
            let fits = |serial_len: usize| {
                let aligned = |len, header| {
                    key_offset(Profile::X9_2019, issuer_len, serial_len, len, header)
                        .is_multiple_of(block)
                };
                lengths
                    .iter()
                    .all(|len| headers.iter().all(|header| aligned(*len, *header)))
            };
            let expected = (8..=20).find(|len| fits(*len));
            let found = aligned_serial_length(&issuer, lengths, headers, block);
            assert_eq!(found, expected, "issuer {issuer_len}, {lengths:?}, {block}");
        }
    }
}

#[test]
fn a_block_that_no_length_reaches_gives_none() {
    let issuer = name_of_content_len(40);
    assert_eq!(aligned_serial_length(&issuer, &[16], &[16], 4096), None);
    assert_eq!(aligned_serial_length(&issuer, &[16], &[16], 0), None);
    // Another key length moves the offset by its longer headers: no serial number serves both.
    assert_eq!(aligned_serial_length(&issuer, &[16, 4000], &[16], 16), None);
}

#[test]
fn a_random_serial_number_keeps_its_length_whatever_its_top_bits() {
    for len in 8..=20_u8 {
        for first in [0x00, 0x3F, 0x7F, 0x80, 0xFF] {
            let mut random: Vec<u8> = (0..len).collect();
            random[0] = first;
            let serial = SerialNumber::from_random(&random).unwrap();
            assert_eq!(serial.content().len(), usize::from(len));
            assert!((0x40..0x80).contains(&serial.content()[0]), "positive");
            assert_eq!(serial.content()[1..], random[1..]);
        }
    }
}

#[test]
fn bytes_that_make_no_random_serial_number_are_refused() {
    let counting: Vec<u8> = (0..=32).collect();
    for (case, random, expected) in [
        ("none", &counting[..0], SerialError::Length),
        ("seven", &counting[..7], SerialError::Length),
        ("twenty-one", &counting[..21], SerialError::Length),
        ("all zero", &[0; 16][..], SerialError::NotRandom),
        ("all ones", &[0xFF; 16][..], SerialError::NotRandom),
    ] {
        assert_eq!(SerialNumber::from_random(random), Err(expected), "{case}");
    }
}

#[test]
fn content_that_is_no_shortest_positive_number_is_refused() {
    for (case, content) in [
        ("empty", &[][..]),
        ("zero", &[0]),
        ("negative", &[0x80]),
        ("negative, long", &[0xFF; 16]),
        ("padded", &[0x00, 0x7F]),
        ("only padding", &[0x00, 0x00]),
        ("21 bytes", &[0x01; 21]),
    ] {
        let found = SerialNumber::from_content(content);
        assert_eq!(found, Err(SerialError::NotPositive), "{case}");
    }
    for content in [&[0x01][..], &[0x7F], &[0x00, 0x80], &[0x01; 20]] {
        assert_eq!(
            SerialNumber::from_content(content).unwrap().content(),
            content
        );
    }
}

#[test]
fn hex_is_read_as_it_is_printed() {
    let number = serial(0x31, 12);
    let text = number.to_string();
    assert_eq!(SerialNumber::from_hex(&text).unwrap(), number);
    assert_eq!(
        SerialNumber::from_hex(&text.to_lowercase()).unwrap(),
        number
    );
    for bad in [
        "",
        "1",
        "123",
        "0x12",
        "12 4",
        "1g",
        "+F",
        "41+2",
        "é1",
        "00",
        "80",
        &"41".repeat(21),
    ] {
        assert!(SerialNumber::from_hex(bad).is_err(), "{bad:?}");
    }
}
