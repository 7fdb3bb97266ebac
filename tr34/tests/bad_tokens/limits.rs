//! Depth and number: neither makes a reader recurse, nor work more than in proportion to the length.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use good_tokens::{Kind, Maker, der::*, tree::Node};
use tr34::Profile;

use crate::change::*;

/// As deep as a token has room for beside the rest of it.
const DEPTH: usize = 14_000;

/// Less than a byte of stack for each level: a reader that recursed would end the process.
const STACK_LEN: usize = 128 * 1024;

fn good(kind: Kind) -> Node {
    Node::parse(&Maker::default().token(kind, Profile::X9_2019))
}

/// SEQUENCEs, one in the other, each with a length of two bytes.
fn nested(depth: usize) -> Vec<u8> {
    let header = |level: usize| {
        let length = u16::try_from(0x104 + level * 4).unwrap();
        [&[0x30, 0x82], &length.to_be_bytes()[..]].concat()
    };
    let headers = (0..depth).rev().flat_map(header);
    headers.chain(octets(&[0; 0x100])).collect()
}

#[test]
fn no_depth_in_any_place_makes_a_reader_recurse() {
    let deep = nested(DEPTH);
    assert_eq!(Node::parse(&nested(2)).to_der(), nested(2));
    let read_all = move || {
        for kind in Kind::ALL {
            for number in 0..good(kind).count() {
                let mut token = good(kind);
                *token.numbered(number).unwrap() = Node::Bytes(deep.clone());
                // It may be taken where a name has a value of any type.
                let token = token.to_der();
                assert!(token.len() > DEPTH * 4 && token.len() < tr34::MAX_TOKEN_LEN);
                let _ = black_box(kind.read_and_write(Profile::X9_2019, &token));
            }
        }
    };
    let small = thread::Builder::new().stack_size(STACK_LEN);
    small.spawn(read_all).unwrap().join().unwrap();
}

/// A token with very many of something.
type Many = (&'static str, Kind, fn(usize) -> Change);

/// Names of one attribute, in falling order, which a reader has to sort.
fn falling(count: usize) -> Vec<u8> {
    let attributes = (0..count).rev().map(|number| {
        let value = element(::der::Tag::Utf8String, &[format!("{number:04}").as_bytes()]);
        sequence(&[&oid("2.5.4.3"), &value])
    });
    attributes.collect::<Vec<_>>().concat()
}

const MANY: &[Many] = &[
    ("attributes of the set of a name", Kind::Identity, |count| {
        put("0", sequence(&[&set(&[&falling(count)])]))
    }),
    ("sets of a name", Kind::Identity, |count| {
        put("0", sequence(&[&set(&[&falling(1)]).repeat(count)]))
    }),
    (
        "attributes of a certificate's subject",
        Kind::KrdCredential,
        |count| put("data/3/0/0/5", sequence(&[&set(&[&falling(count)])])),
    ),
    (
        "extensions of a certificate",
        Kind::KrdCredential,
        |count| {
            let extension = sequence(&[&oid("2.5.29.99"), &octets(&[0])]);
            put(
                "data/3/0/0/7",
                tagged(3, &[&sequence(&[&extension.repeat(count)])]),
            )
        },
    ),
    ("entries of a CRL", Kind::KdhCredential, |count| {
        let entry = sequence(&[&integer(1), b"\x17\x0D260101000000Z"]);
        put("data/4/0/0/5", sequence(&[&entry.repeat(count)]))
    }),
    ("certificates", Kind::KrdCredential, |count| {
        put("data/3", tagged(0, &[&sequence(&[&[0; 8]]).repeat(count)]))
    }),
    ("CRLs", Kind::KdhCredential, |count| {
        put("data/4", tagged(1, &[&sequence(&[&[0; 8]]).repeat(count)]))
    }),
    ("digest algorithms", Kind::TwoPassKey, |count| {
        put("data/1", set(&[&algorithm(SHA_256, &[]).repeat(count)]))
    }),
    ("signers", Kind::TwoPassKey, |count| {
        put("data/4", set(&[&sequence(&[&[0; 8]]).repeat(count)]))
    }),
    ("recipients", Kind::Enveloped, |count| {
        put("1", set(&[&sequence(&[&[0; 8]]).repeat(count)]))
    }),
    ("signed attributes", Kind::TwoPassKey, |count| {
        add("attrs", attribute("1.2.3", &[&integer(0)]).repeat(count))
    }),
    ("values of an attribute", Kind::RandomToken, |count| {
        put("1", set(&[&octets(&[0; 8]).repeat(count)]))
    }),
];

/// With four times as many of a thing a reader takes less than ten times as long: in proportion it would be
/// four times, and sixteen if each was held against each. The shortest of several times counts, so that
/// whatever else the machine does is left out.
#[test]
fn work_grows_as_length_does() {
    for (what, kind, many) in MANY {
        let [few, more] = [700, 2800].map(|count| {
            let mut token = good(*kind);
            many(count)(&mut token);
            token.to_der()
        });
        assert!(
            more.len() < tr34::MAX_TOKEN_LEN,
            "{what}: {} bytes",
            more.len()
        );
        let once = |token: &[u8]| -> Duration {
            let start = Instant::now();
            let _ = black_box(kind.read_and_write(Profile::X9_2019, black_box(token)));
            start.elapsed()
        };
        let shortest = |token: &[u8]| (0..50).map(|_| once(token)).min().unwrap();
        let (few, more) = (shortest(&few), shortest(&more));
        assert!(
            more < few * 10,
            "{what}: {few:?}, with four times as many {more:?}"
        );
    }
}
