//! Every kind of token in every profile: it is read exactly, and what another profile wrote is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use good_tokens::{Kind, Maker};
use tr34::Profile;

fn good(kind: Kind, profile: Profile) -> Vec<u8> {
    Maker::default().token(kind, profile)
}

/// A good token is written again as it was. Every shorter and some longer versions of it are refused; each
/// that differs in one bit is refused or read as what it is: it is written as the same bytes again.
fn assert_reads_exactly(kind: Kind, profile: Profile) {
    let good = good(kind, profile);
    let again = |der: &[u8]| kind.read_and_write(profile, der);
    assert_eq!(again(&good).as_ref(), Ok(&good), "{kind} of {profile}");
    for len in 0..good.len() {
        let cut = again(&good[..len]);
        assert!(cut.is_err(), "{kind} of {profile}, cut to {len} bytes");
    }
    for byte in [0x00, 0x05, 0x30, 0xFF] {
        let longer = again(&[&good[..], &[byte]].concat());
        assert!(longer.is_err(), "{kind} of {profile}, one byte longer");
    }
    let mut flipped = good;
    for bit in 0..flipped.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(again) = again(&flipped) {
            assert!(
                again == flipped,
                "{kind} of {profile}, bit {bit} flipped unnoticed"
            );
        }
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

fn assert_all_read_exactly(profile: Profile) {
    for kind in Kind::ALL {
        assert_reads_exactly(kind, profile);
    }
}

#[test]
fn tokens_of_x9_2019_are_read_exactly() {
    assert_all_read_exactly(Profile::X9_2019);
}

#[test]
fn tokens_of_x9_2019_annex_d_are_read_exactly() {
    assert_all_read_exactly(Profile::X9_2019AnnexD);
}

#[test]
fn tokens_of_x9_2019_samples_are_read_exactly() {
    assert_all_read_exactly(Profile::X9_2019Samples);
}

#[test]
fn tokens_of_aws_2012_are_read_exactly() {
    assert_all_read_exactly(Profile::Aws2012);
}

#[test]
fn tokens_of_clover_are_read_exactly() {
    assert_all_read_exactly(Profile::Clover);
}

/// What each profile says of what the others write: a line for each two whose tokens are not the same. What
/// is taken is the other's too: a shorter nonce, or one of the ways in which RFC 4055 has OAEP's parameters.
#[test]
fn what_another_profile_wrote_is_refused() {
    let mut found = String::new();
    for kind in Kind::ALL {
        for reader in Profile::ALL {
            let mut verdicts: Vec<(String, Vec<&str>)> = Vec::new();
            for writer in Profile::ALL {
                let token = good(kind, writer);
                if token == good(kind, reader) {
                    continue;
                }
                let verdict = match kind.read_and_write(reader, &token) {
                    Ok(again) if again == token => "taken".to_owned(),
                    Ok(_) => "taken, and written otherwise".to_owned(),
                    Err(error) => error.to_string(),
                };
                match verdicts.iter_mut().find(|(other, _)| *other == verdict) {
                    Some((_, writers)) => writers.push(writer.name()),
                    None => verdicts.push((verdict, vec![writer.name()])),
                }
            }
            for (verdict, writers) in verdicts {
                let writers = writers.join(", ");
                writeln!(found, "{kind} read as {reader}, of {writers}: {verdict}").unwrap();
            }
        }
    }
    let expected = include_str!("data/other-profiles.txt");
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}
