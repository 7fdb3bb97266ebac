//! TR-31 blocks, of which one character is changed, in each field.

use std::fs;

use hsm_modules::{
    KRYOPTIC,
    makers::{BlockForm, tr31_block},
};

use super::{
    Chapter,
    imports::{bring_in, plan_of},
    run, said,
};
use crate::site::{FIRST, FIRST_KCV, SUM, Site, assert_success, change};

const HEADER: &str = "D0000K0AB00E0000";
/// Made by psec once: what it fills a block up with is another each time, and stands in some messages.
const PLAIN: &str = "D0144K0AB00E0000B0C6C42031BCA0D8946F91E5EB973A181DDE14E33BE19BF4EB69B5F03F765C2224B8DE92DBBB85DA\
                     D33714411BCE49CA3F65ED83EA6E5D543351B60720DA61F7";
const LABELLED: &str = "D0176K0AB00E0200LB0FTMK of 2026PB11000000000000052474ADD136034399740C5FC68473EC033744879DF461\
                        3E486DA39B0401A67FC148A2E18BCD69FE308717775826BC8C7C0FDF078D05549527A5BFE7DE5EF396A";
const FILE: &str = "switch-three.txt";

#[test]
fn key_blocks() {
    hsm_modules::on(&[&KRYOPTIC], |_| {
        let site = Site::new(&["kdh"]);
        let mut chapter = Chapter::new(6, "TR-31 key blocks");
        bring_in(&site, "kbpk.switch");
        let made = |kbpk: &str, header: &str, optional: &[&str]| {
            let bytes = |hex: &str| hex::decode(hex).unwrap();
            let form = BlockForm {
                masked_len: None,
                optional,
            };
            tr31_block(&bytes(kbpk), header, &bytes(FIRST), form)
        };
        let (plain, labelled) = (PLAIN, LABELLED);
        let good = plan_of(2);
        let mut refused = |wrong: &str, plan: &str, block: &str| {
            fs::write(site.path(FILE), block).unwrap();
            chapter.case(wrong, said(&site, &run(&site, plan)));
            assert_eq!(site.keys("kdh"), ["kbpk.switch"], "{wrong}");
        };
        for (field, at, character) in [
            ("version", 0, "B"),
            ("version, one that is not taken", 0, "A"),
            ("length", 4, "5"),
            ("length, no digit", 1, "x"),
            ("key usage", 5, "D"),
            ("key usage, another of its kind", 6, "1"),
            ("key usage, none that there is", 5, "Q"),
            ("algorithm", 7, "T"),
            ("algorithm, none that there is", 7, "X"),
            ("mode of use", 8, "E"),
            ("mode of use, none that there is", 8, "Z"),
            ("key version number", 10, "1"),
            ("exportability", 11, "S"),
            ("exportability, not to be exported", 11, "N"),
            ("number of optional blocks", 13, "1"),
            ("the reserved field", 15, "1"),
        ] {
            refused(
                &format!("one character: {field}"),
                &good,
                &with(plain, at, character),
            );
        }
        let (payload, mac) = (HEADER.len(), plain.len() - 32);
        for (field, at) in [
            ("the first of the ciphertext", payload),
            ("the last of the ciphertext", mac - 1),
            ("the first of the MAC", mac),
            ("the last of the MAC", plain.len() - 1),
        ] {
            refused(
                &format!("one character: {field}"),
                &good,
                &turned(plain, at),
            );
        }
        refused(
            "one character: no hexadecimal digit",
            &good,
            &with(plain, payload, "g"),
        );
        let letter = payload
            + plain[payload..]
                .find(|c: char| c.is_ascii_uppercase())
                .unwrap();
        let lower = plain[letter..=letter].to_lowercase();
        refused(
            "one character: a small letter",
            &good,
            &with(plain, letter, &lower),
        );
        let optional = HEADER.len();
        for (field, at, character) in [
            ("an optional block's identifier", optional + 1, "A"),
            ("an optional block's identifier, none", optional, "-"),
            ("an optional block's length", optional + 3, "1"),
            ("an optional block's length, no digit", optional + 2, "x"),
            ("an optional block's text", optional + 4, "S"),
            (
                "the padding's identifier",
                labelled.find("PB").unwrap(),
                "Q",
            ),
            ("the number of optional blocks, fewer", 13, "1"),
        ] {
            refused(
                &format!("one character: {field}"),
                &good,
                &with(labelled, at, character),
            );
        }
        refused("a character is missing", &good, &plain[..plain.len() - 1]);
        refused("a character more", &good, &format!("{plain}0"));
        let (first, second) = plain.split_at(payload);
        refused("in two lines", &good, &format!("{first}\n{second}"));
        refused("nothing in it", &good, "");
        refused("under another KBPK", &good, &made(FIRST, HEADER, &[]));
        let bound = made(SUM, HEADER, &["KS=00604B120F9292800000"]);
        refused("an optional block that binds the key", &good, &bound);
        let kept = made(SUM, "D0000K0AB00N0000", &[]);
        refused("a key that may not be exported", &good, &kept);
        for (wrong, from, to) in [
            ("the check value announced", FIRST_KCV, "A19084"),
            (
                "the kind announced: another length",
                "\"AES-128\"",
                "\"AES-192\"",
            ),
            (
                "the kind announced: longer than the block",
                "\"AES-128\"",
                "\"AES-256\"",
            ),
            (
                "the kind announced: another algorithm",
                "\"AES-128\"",
                "\"TDEA-2KEY\"",
            ),
            ("the header announced", HEADER, "D0000D0AB00E0000"),
            (
                "the KBPK, which is not there",
                "\"kbpk.switch\"",
                "\"kbpk.other\"",
            ),
            ("the label of the KBPK", "\"kbpk.switch\"", "\"zmk.switch\""),
        ] {
            refused(wrong, &change(&good, from, to), plain);
        }
        fs::write(site.path(FILE), labelled).unwrap();
        assert_success(&run(&site, &good));
        chapter.assert_is_in_the_book();
    });
}

fn with(block: &str, at: usize, character: &str) -> String {
    let mut block = block.to_owned();
    assert_ne!(&block[at..=at], character, "{block}");
    block.replace_range(at..=at, character);
    block
}

/// With another hexadecimal digit.
fn turned(block: &str, at: usize) -> String {
    let digit = if &block[at..=at] == "0" { "1" } else { "0" };
    with(block, at, digit)
}
