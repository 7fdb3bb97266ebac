//! The clear key block.

use good_tokens::KEY;
use proptest::prelude::*;
use tr34::{IssuerAndSerial, Kbh, KeyBlock, KeyBlockFrame, key_offset};

use crate::common::*;

fn structure() -> Vec<u8> {
    sequence(&[
        &integer(1),
        &kdh().to_der(),
        &octets(&KEY),
        &attribute(DATA, &[&octets(HEADER.as_bytes())]),
    ])
}

#[test]
fn a_frame_round_its_key_is_the_block() {
    let frame = KeyBlockFrame::new(P, &kdh(), &header(), KEY.len());
    let block = [frame.prefix(), &KEY, frame.suffix()].concat();
    assert_eq!(block, structure());
    assert_eq!(frame.key_len(), KEY.len());
}

#[test]
fn a_block_lends_its_key() {
    let der = structure();
    let block = KeyBlock::parse(P, &der).unwrap();
    assert_eq!(block.kdh(), &kdh());
    assert_eq!(block.header(), &header());
    assert_eq!(block.expose_clear(), KEY);
    let offset = key_offset(
        P,
        kdh().issuer_der().len() - 2,
        kdh().serial_bytes().len(),
        16,
        16,
    );
    assert_eq!(block.expose_clear().as_ptr(), der[offset..].as_ptr());
}

#[test]
fn a_block_does_not_show_its_key() {
    let der = structure();
    let shown = format!("{:?}", KeyBlock::parse(P, &der).unwrap());
    assert_eq!(shown, "KeyBlock(D0000K0AB00E0000, 16 bytes)");
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
                    key_offset(P, issuer_len, serial_len, key_len, header_len),
                    block.len() - behind.len() - key_len,
                    "{issuer_len} {serial_len} {key_len} {header_len}"
                );
            }
        }
    }
}

#[test]
fn the_offset_is_that_of_the_published_blocks() {
    assert_eq!(key_offset(P, 65, 5, 16, 16), 84);
    assert_eq!(key_offset(P, 65, 5, 32, 16), 84);
    assert_eq!(key_offset(P, 52, 2, 16, 16), 67);
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
        let frame = KeyBlockFrame::new(P, &kdh, &header, key.len());
        let der = [frame.prefix(), &key, frame.suffix()].concat();

        let issuer_content = der::AnyRef::try_from(kdh.issuer_der()).unwrap().value().len();
        prop_assert_eq!(frame.prefix().len(), key_offset(P, issuer_content, serial.len(), key.len(), 16));
        let block = KeyBlock::parse(P, &der).unwrap();
        prop_assert_eq!(block.kdh(), &kdh);
        prop_assert_eq!(block.header(), &header);
        prop_assert_eq!(block.expose_clear(), key);
    }
}
