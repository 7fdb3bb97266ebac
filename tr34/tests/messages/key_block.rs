//! The clear key block.

use proptest::prelude::*;
use tr34::{
    IssuerAndSerial, Kbh, KbhError, KbhField, KeyBlock, KeyBlockFrame, Rule, TokenKind, key_offset,
};

use crate::common::*;

const KEY: [u8; 16] = [0xA5; 16];

/// A key block in pieces, each the whole encoding of a field; an absent field is empty.
struct Pieces {
    version: Vec<u8>,
    kdh: Vec<u8>,
    key: Vec<u8>,
    header: Vec<u8>,
}

impl Pieces {
    fn good() -> Self {
        Self {
            version: integer(1),
            kdh: kdh().to_der(),
            key: octets(&KEY),
            header: attribute(DATA, &[&octets(HEADER.as_bytes())]),
        }
    }

    fn to_der(&self) -> Vec<u8> {
        sequence(&[&self.version, &self.kdh, &self.key, &self.header])
    }
}

/// A block written by putting the key into its frame.
fn framed(block: &KeyBlock<'_>) -> Vec<u8> {
    let frame = KeyBlockFrame::new(block.kdh(), block.header(), block.expose_clear().len());
    [frame.prefix(), block.expose_clear(), frame.suffix()].concat()
}

#[test]
fn a_frame_round_its_key_is_the_block() {
    let frame = KeyBlockFrame::new(&kdh(), &header(), KEY.len());
    let block = [frame.prefix(), &KEY, frame.suffix()].concat();
    assert_eq!(block, Pieces::good().to_der());
    assert_eq!(frame.key_len(), KEY.len());
}

#[test]
fn a_block_lends_its_key() {
    let der = Pieces::good().to_der();
    let block = KeyBlock::parse(&der).unwrap();
    assert_eq!(block.kdh(), &kdh());
    assert_eq!(block.header(), &header());
    assert_eq!(block.expose_clear(), KEY);
    let offset = key_offset(
        kdh().issuer_der().len() - 2,
        kdh().serial_bytes().len(),
        16,
        16,
    );
    assert_eq!(block.expose_clear().as_ptr(), der[offset..].as_ptr());
}

#[test]
fn a_block_does_not_show_its_key() {
    let der = Pieces::good().to_der();
    let shown = format!("{:?}", KeyBlock::parse(&der).unwrap());
    assert_eq!(shown, "KeyBlock(D0000K0AB00E0000, 16 bytes)");
}

type Case = (&'static str, fn(&mut Pieces), Expect);

#[test]
fn each_departure_is_refused() {
    let cases: &[Case] = &[
        (
            "version 0",
            |p| p.version = integer(0),
            version("key block", 0),
        ),
        (
            "version 2",
            |p| p.version = integer(2),
            version("key block", 2),
        ),
        ("no version", |p| p.version.clear(), Expect::Der),
        ("no KDH", |p| p.kdh.clear(), Expect::Der),
        (
            "KDH by key identifier",
            |p| p.kdh = context(0, false, &[&[7; 20]]),
            Expect::Der,
        ),
        (
            "KDH's serial zero",
            |p| p.kdh = sequence(&[&name("CA"), &integer(0)]),
            Rule::SerialNumber.into(),
        ),
        ("no key", |p| p.key.clear(), Expect::Der),
        ("key of another type", |p| p.key = integer(5), Expect::Der),
        (
            "key in pieces",
            |p| p.key = [&[0x24, 18], &octets(&KEY)[..]].concat(),
            Expect::Der,
        ),
        ("no header", |p| p.header.clear(), Expect::Der),
        (
            "header as a plain OCTET STRING, as in the text",
            |p| p.header = octets(HEADER.as_bytes()),
            Expect::Der,
        ),
        (
            "header under another type",
            |p| p.header = attribute(RANDOM_NONCE, &[&octets(HEADER.as_bytes())]),
            unknown_attribute(RANDOM_NONCE),
        ),
        (
            "no value of the header",
            |p| p.header = attribute(DATA, &[]),
            not_one("key block header", 0),
        ),
        (
            "two headers",
            |p| {
                p.header = attribute(
                    DATA,
                    &[&octets(HEADER.as_bytes()), &octets(HEADER.as_bytes())],
                );
            },
            not_one("key block header", 2),
        ),
        (
            "header with optional blocks",
            |p| p.header = attribute(DATA, &[&octets(b"D0000K0AB00E0100")]),
            Rule::Header(KbhError::UnknownValue(KbhField::OptionalBlocks)).into(),
        ),
        (
            "header empty",
            |p| p.header = attribute(DATA, &[&octets(&[])]),
            Rule::Header(KbhError::Length { found: 0 }).into(),
        ),
        ("a field more", |p| p.header.extend(NULL), Expect::Der),
        (
            "longer than a token may be",
            |p| p.key = octets(&vec![0; tr34::MAX_TOKEN_LEN]),
            Expect::TooLong,
        ),
    ];
    for (case, change, expected) in cases {
        let mut pieces = Pieces::good();
        change(&mut pieces);
        let der = pieces.to_der();
        assert_refused(case, KeyBlock::parse(&der), TokenKind::KeyBlock, expected);
    }
}

#[test]
fn no_cut_extended_or_flipped_block_is_taken_for_another() {
    let good = Pieces::good().to_der();
    assert_eq!(framed(&KeyBlock::parse(&good).unwrap()), good);
    assert_reads_exactly(
        &good,
        |der| KeyBlock::parse(der).map(|block| framed(&block)),
        Vec::clone,
    );
}

#[test]
fn the_offset_is_where_der_puts_the_key() {
    for issuer_len in 1..=300 {
        for serial_len in 1..=20 {
            for (key_len, header_len) in [(16, 16), (24, 16), (32, 16), (16, 96), (32, 140)] {
                let behind = attribute(DATA, &[&octets(&vec![0; header_len])]);
                let block = sequence(&[
                    &integer(1),
                    &sequence(&[
                        &sequence(&[&vec![0; issuer_len]]),
                        &element(der::Tag::Integer, &[&vec![1; serial_len]]),
                    ]),
                    &octets(&vec![0; key_len]),
                    &behind,
                ]);
                assert_eq!(
                    key_offset(issuer_len, serial_len, key_len, header_len),
                    block.len() - behind.len() - key_len,
                    "{issuer_len} {serial_len} {key_len} {header_len}"
                );
            }
        }
    }
}

#[test]
fn the_offset_is_that_of_the_published_blocks() {
    assert_eq!(key_offset(65, 5, 16, 16), 84);
    assert_eq!(key_offset(65, 5, 32, 16), 84);
    assert_eq!(key_offset(52, 2, 16, 16), 67);
}

proptest! {
    #[test]
    fn blocks_round_trip(
        common_name in "[ -~]{1,300}",
        serial in prop::collection::vec(1u8..0x80, 1..=20),
        key in prop::collection::vec(any::<u8>(), 0..=64),
        header in "[A-D][0-9]{4}(P0|K0|B1|D0)[AT][BDENX][0-9A-Z]{2}[ENS]0000",
    ) {
        let kdh = IssuerAndSerial::new(&name(&common_name), &serial).unwrap();
        let header: Kbh = header.parse().unwrap();
        let frame = KeyBlockFrame::new(&kdh, &header, key.len());
        let der = [frame.prefix(), &key, frame.suffix()].concat();

        let issuer_content = der::AnyRef::try_from(kdh.issuer_der()).unwrap().value().len();
        prop_assert_eq!(frame.prefix().len(), key_offset(issuer_content, serial.len(), key.len(), 16));
        let block = KeyBlock::parse(&der).unwrap();
        prop_assert_eq!(block.kdh(), &kdh);
        prop_assert_eq!(block.header(), &header);
        prop_assert_eq!(block.expose_clear(), key);
    }
}
