//! Transcripts that were tampered with, by somebody without keys and by somebody with them: each is refused, or
//! says what it lacks.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hsm::{KeyRole, SigningKey};
use hsm_modules::SOFTHSM;
use kdh_ceremony::{Expected, TranscriptError, Trust, verify_records};
use pki::{Certificate, CredentialError, CrlNumber};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    bank::{self, CUSTODIAN, Forgery, certify_third_custodian, founded, signing_key},
    site::{SAMPLE_MODULE, Site, assert_success, change},
};

/// The transcript of one ceremony, and the keys of those who signed it.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) good: Forgery,
    keys: BTreeMap<&'static str, SigningKey>,
    trust: Trust,
}

impl World {
    pub(crate) fn new() -> Self {
        let site = founded();
        certify_third_custodian(&site);
        let key = |token, role, key| signing_key(&site, token, role, key);
        let keys = BTreeMap::from([
            (
                "first",
                key("first-custodian", KeyRole::Custodian, "custodian"),
            ),
            (
                "second",
                key("second-custodian", KeyRole::Custodian, "custodian"),
            ),
            ("", key("kdh", KeyRole::Audit, "audit")),
        ]);
        let trust = Trust::new(Some(certificate(&site, "ca-ops.pem")), None).unwrap();
        Self {
            good: Forgery::of(&site.read(CUSTODIAN)),
            site,
            keys,
            trust,
        }
    }

    /// By somebody who has all keys.
    pub(crate) fn signed(&self, change: impl FnOnce(&mut Forgery)) -> String {
        self.signed_by(&[], change)
    }

    /// The same, where some have other keys.
    pub(crate) fn signed_by(
        &self,
        others: &[(&'static str, &SigningKey)],
        change: impl FnOnce(&mut Forgery),
    ) -> String {
        let mut forgery = self.good.clone();
        change(&mut forgery);
        let keys = self.keys.iter().map(|(who, key)| (*who, key));
        forgery.write(&keys.chain(others.iter().copied()).collect())
    }

    /// By somebody who has none: the chain holds.
    pub(crate) fn chained(&self, change: impl FnOnce(&mut Forgery)) -> String {
        let mut forgery = self.good.clone();
        change(&mut forgery);
        forgery.write(&BTreeMap::new())
    }

    fn says(&self, text: &str) -> Result<Vec<String>, String> {
        says(text, &self.trust)
    }
}

/// Another time in the same second.
pub(crate) fn moved(at: &str) -> String {
    format!("{}.000000001Z", &at[..19])
}

/// What is missing, or why it does not hold.
pub(crate) fn says(text: &str, trust: &Trust) -> Result<Vec<String>, String> {
    match verify_records(&[text], trust, Expected::Ceremony) {
        Ok(records) => Ok(records[0].missing.iter().map(ToString::to_string).collect()),
        Err((_, error)) => Err(error.to_string()),
    }
}

pub(crate) fn certificate(site: &Site, name: &str) -> Certificate {
    Certificate::from_pem(&site.read(name)).unwrap()
}

pub(crate) fn base64(certificate: &Certificate) -> Value {
    BASE64_STANDARD.encode(certificate.der()).into()
}

fn fingerprint(certificate: &Certificate) -> Value {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(certificate.der())).into()
}

fn refused(world: &World, cases: Vec<(&str, String, &str)>) {
    let mut missed = Vec::new();
    for (case, text, expected) in cases {
        let found = world.says(&text);
        if found != Err(expected.to_owned()) {
            missed.push(format!("{case}: {found:?}, not {expected:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// The lines of the good one: began, confirmed and signed twice, three tokens, the act, finished, sealed.
const SEALED: usize = 10;

#[test]
fn a_transcript_that_another_program_writes_from_its_description_is_the_same() {
    bank::on(&[&SOFTHSM], |_| {
        let world = World::new();
        assert_eq!(world.chained(|_| ()), world.site.read(CUSTODIAN));
        let events: Vec<_> = world.good.lines.iter().map(|line| &*line.1).collect();
        let opened = "token-opened";
        assert_eq!(
            events,
            [
                "began",
                "confirmed",
                "signed",
                "confirmed",
                "signed",
                opened,
                opened,
                opened,
                "custodian-credential",
                "finished",
                "sealed"
            ]
        );
        // Signatures are made anew each time, and hold.
        assert_eq!(world.says(&world.signed(|_| ())), Ok(Vec::new()));
        // OpenSSL takes a signature for one.
        openssl_verifies_line_3(&world);
    });
}

fn openssl_verifies_line_3(world: &World) {
    let (at, event, detail) = &world.good.lines[2];
    let line: Value = {
        let text = world.site.read(CUSTODIAN);
        serde_json::from_str(text.lines().nth(2).unwrap()).unwrap()
    };
    let mut unsigned = detail.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let mut bytes = b"kdh.ceremony.signature.v2\0\0\0\0\0\0\0\x03".to_vec();
    for field in [
        line["previous"].as_str().unwrap(),
        at,
        event,
        &unsigned.to_string(),
    ] {
        bytes.extend((field.len() as u64).to_be_bytes());
        bytes.extend(field.as_bytes());
    }
    let signature = hex::decode(detail["signature"].as_str().unwrap()).unwrap();
    fs::write(world.site.path("line"), bytes).unwrap();
    fs::write(world.site.path("signature"), signature).unwrap();
    for arguments in [
        "x509 -in first-custodian.pem -pubkey -noout -out key",
        "dgst -sha256 -verify key -signature signature line",
    ] {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(world.site.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_somebody_changed_who_has_no_key_is_refused() {
    bank::on(&[&SOFTHSM], |_| {
        let world = World::new();
        let text = world.site.read(CUSTODIAN);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().concat();
        let cut = |count: usize| lines[..count].concat();
        let end = |count: usize| lines[..count].iter().map(|line| line.len()).sum::<usize>();
        let swapped = |index: usize| {
            let mut lines = lines.clone();
            lines.swap(index, index + 1);
            lines.concat()
        };
        let twice = |index: usize| [&lines[..=index], &lines[index..]].concat().concat();
        let edited = |from: &str, to: &str| change(&text, from, to);
        let follows = "does not follow on the one before";
        let first = |cause: &str| format!("line 3: the signature of first {cause}");
        let broken = first("does not verify");
        let no_seal = "line 11: the signature of the audit key does not verify";
        refused(
            &world,
            vec![
                // Nothing but the file.
                ("empty", String::new(), "the transcript is empty"),
                ("without line 1", without(0), &format!("line 1 {follows}")),
                ("without line 3", without(2), &format!("line 3 {follows}")),
                ("without line 9", without(8), &format!("line 9 {follows}")),
                ("without line 10", without(9), &format!("line 10 {follows}")),
                (
                    "lines 1 and 2 swapped",
                    swapped(0),
                    &format!("line 1 {follows}"),
                ),
                (
                    "lines 3 and 4 swapped",
                    swapped(2),
                    &format!("line 3 {follows}"),
                ),
                (
                    "lines 10 and 11 swapped",
                    swapped(9),
                    &format!("line 10 {follows}"),
                ),
                ("line 3 twice", twice(2), &format!("line 4 {follows}")),
                ("seal twice", twice(SEALED), &format!("line 12 {follows}")),
                (
                    "a title",
                    edited("Credential", "Credentials"),
                    "line 1 was altered",
                ),
                (
                    "an id",
                    edited("\"by\":\"second\"", "\"by\":\"first\""),
                    "line 4 was altered",
                ),
                (
                    "a public key",
                    edited("\"key\":\"custodian\"", "\"key\":\"other\""),
                    "line 9 was altered",
                ),
                (
                    "cut in a number",
                    text[..end(2) + 12].to_owned(),
                    "line 3 is not a line of a transcript",
                ),
                (
                    "cut in a text",
                    text[..end(8) + 60].to_owned(),
                    "line 9 is not a line of a transcript",
                ),
                (
                    "cut behind a field",
                    text[..end(11) - 3].to_owned(),
                    "line 11 is not a line of a transcript",
                ),
                (
                    "cut in a bracket",
                    text[..end(11) - 2].to_owned(),
                    "line 11 is not a line of a transcript",
                ),
                (
                    "cut in a line end",
                    text[..end(11) - 1].to_owned(),
                    "line 11 was altered",
                ),
                (
                    "cut behind a step",
                    cut(2),
                    "line 2 says that first did this, and their signature does not follow",
                ),
                (
                    "cut behind the other",
                    cut(4),
                    "line 4 says that second did this, and their signature does not follow",
                ),
                // The chain made anew.
                (
                    "a title, chained",
                    world.chained(|f| f.lines[0].2["title"] = json!("x")),
                    &broken,
                ),
                (
                    "the plan, chained",
                    world.chained(|f| {
                        f.lines[0].2["plan-sha256"] = json!("0".repeat(64));
                    }),
                    &broken,
                ),
                (
                    "the tool, chained",
                    world.chained(|f| f.lines[0].2["tool"] = json!("x")),
                    &broken,
                ),
                (
                    "the officers, chained",
                    world.chained(|f| f.lines[0].2["officers"] = json!(["first"])),
                    &broken,
                ),
                (
                    "a time, chained",
                    world.chained(|f| f.lines[1].0 = moved(&f.lines[1].0)),
                    &broken,
                ),
                (
                    "a signature's time, chained",
                    world.chained(|f| f.lines[2].0 = moved(&f.lines[2].0)),
                    &broken,
                ),
                (
                    "whose token, chained",
                    world.chained(|f| f.lines[2].2["token-serial"] = json!("0")),
                    &broken,
                ),
                (
                    "more in a signature, chained",
                    world.chained(|f| f.lines[2].2["x"] = json!(1)),
                    &broken,
                ),
                (
                    "signatures exchanged",
                    world.chained(|f| {
                        let first = f.lines[2].2["signature"].clone();
                        f.lines[2].2["signature"] = f.lines[4].2["signature"].clone();
                        f.lines[4].2["signature"] = first;
                    }),
                    &broken,
                ),
                (
                    "a signature's end, chained",
                    world.chained(|f| {
                        let signature = f.lines[2].2["signature"].as_str().unwrap().to_owned();
                        f.lines[2].2["signature"] = json!(signature[..signature.len() - 2]);
                    }),
                    &broken,
                ),
                (
                    "no hex, chained",
                    world.chained(|f| f.lines[2].2["signature"] = json!("x")),
                    "line 3 lacks its signature, or has something else in its place",
                ),
                (
                    "no signature, chained",
                    world.chained(|f| {
                        f.lines[2].2.as_object_mut().unwrap().remove("signature");
                    }),
                    "line 3 lacks its signature, or has something else in its place",
                ),
                (
                    "an empty signature, chained",
                    world.chained(|f| f.lines[2].2["signature"] = json!("")),
                    &broken,
                ),
                (
                    "a token's serial, chained",
                    world.chained(|f| f.lines[5].2["serial"] = json!("0")),
                    no_seal,
                ),
                (
                    "a check value, chained",
                    world.chained(|f| f.lines[8].2["kcv"] = json!("000000")),
                    no_seal,
                ),
                (
                    "without the act, chained",
                    world.chained(|f| drop(f.lines.remove(8))),
                    "line 10: the signature of the audit key does not verify",
                ),
                (
                    "without a token, chained",
                    world.chained(|f| drop(f.lines.remove(5))),
                    "line 10: the signature of the audit key does not verify",
                ),
                (
                    "an act more, chained",
                    world.chained(|f| f.lines.insert(9, f.lines[8].clone())),
                    "line 12: the signature of the audit key does not verify",
                ),
                (
                    "without a signature, chained",
                    world.chained(|f| drop(f.lines.remove(2))),
                    "line 2 says that first did this, and their signature does not follow",
                ),
                (
                    "a signature elsewhere",
                    world.chained(|f| {
                        let signature = f.lines.remove(2);
                        f.lines.insert(6, signature);
                    }),
                    "line 2 says that first did this, and their signature does not follow",
                ),
                (
                    "a signature once more",
                    world.chained(|f| f.lines.insert(6, f.lines[2].clone())),
                    "line 7 is a signature of first, but the line before is no step of theirs",
                ),
                (
                    "a signature twice",
                    world.chained(|f| f.lines.insert(3, f.lines[2].clone())),
                    "line 4 is a signature of first, but the line before is no step of theirs",
                ),
                (
                    "behind the seal",
                    world.chained(|f| f.lines.push(f.lines[9].clone())),
                    "line 12 stands behind the seal",
                ),
                (
                    "a second seal",
                    world.chained(|f| f.lines.push(f.lines[SEALED].clone())),
                    "line 12 stands behind the seal",
                ),
                (
                    "a hidden character",
                    world.chained(|f| f.lines[8].2["subject"] = json!("CN=a\u{202e}b")),
                    "line 9 holds U+202E, a control or format character",
                ),
                (
                    "an invisible character",
                    world.chained(|f| f.lines[0].2["title"] = json!("a\u{200b}b")),
                    "line 1 holds U+200B, a control or format character",
                ),
                (
                    "an escape",
                    world.chained(|f| f.lines[9].1 = "\u{1b}[2Jfinished".to_owned()),
                    "line 10 holds U+001B, a control or format character",
                ),
            ],
        );
        // What is left when the end is cut off at a line says what it lacks.
        let breaks_off = |event: &str| {
            format!("It breaks off: the last that it says is {event:?}, and not \"finished\".")
        };
        let unsealed = "The audit key did not seal it: it says nothing of why.".to_owned();
        assert_eq!(world.says(&cut(10)), Ok(vec![unsealed.clone()]));
        for (lines, last) in [
            (9, "custodian-credential"),
            (8, "token-opened"),
            (5, "signed"),
        ] {
            assert_eq!(
                world.says(&cut(lines)),
                Ok(vec![breaks_off(last), unsealed.clone()])
            );
        }
        assert_eq!(
            world.says(&cut(3)).unwrap()[0],
            "Fewer than two people confirmed the plan."
        );
        // Without any signature it is a ceremony of people without certificates.
        let stripped = world.chained(|f| {
            f.lines
                .retain(|line| line.1 != "signed" && line.1 != "sealed");
            f.lines[0].2["participants"] = json!({});
            f.lines[0].2["audit"] = Value::Null;
        });
        assert_eq!(
            world.says(&stripped),
            Ok(vec![
                "Named and without a signature, since they had no certificates: first, second."
                    .to_owned(),
                "The audit key did not seal it: the plan names none.".to_owned(),
            ])
        );
    });
}

#[test]
fn no_cut_and_no_changed_byte_is_taken_for_the_whole() {
    bank::on(&[&SOFTHSM], |_| {
        let world = World::new();
        let text = world.site.read(CUSTODIAN);
        assert!(text.is_ascii());
        for end in 0..text.len() {
            let found = world.says(&text[..end]);
            assert_ne!(found, Ok(Vec::new()), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let found = world.says(&String::from_utf8(bytes).unwrap());
            assert!(found.is_err(), "changed at {at}: {found:?}");
        }
    });
}

#[test]
fn what_somebody_signed_who_was_not_to_is_refused() {
    bank::on(&[&SOFTHSM], |_| {
        let mut world = World::new();
        let (audit, first) = ("audit.pem", "first-custodian.pem");
        let (audit, first) = (
            certificate(&world.site, audit),
            certificate(&world.site, first),
        );
        let ca = certificate(&world.site, "ca-ops.pem");
        let shifted = |f: &mut Forgery, lines: std::ops::Range<usize>, year: &str| {
            for line in &mut f.lines[lines] {
                line.0 = format!("{year}{}", &line.0[4..]);
            }
        };
        let year = OffsetDateTime::now_utc().year();
        let (later, much_later) = ((year + 3).to_string(), (year + 6).to_string());
        let sealed_by =
            |f: &mut Forgery, by: &Certificate| f.lines[SEALED].2["certificate"] = base64(by);
        refused(
            &world,
            vec![
                (
                    "another plan confirmed",
                    world.signed(|f| {
                        f.lines[3].2["plan-sha256"] = json!("0".repeat(64));
                    }),
                    "line 4 confirms another plan than the one of line 1",
                ),
                (
                    "by a stranger",
                    world.signed(|f| {
                        f.lines[1].2["by"] = json!("third");
                        f.lines[2].2["by"] = json!("third");
                    }),
                    "line 2 is by \"third\", who is no participant of this ceremony",
                ),
                (
                    "by nobody",
                    world.signed(|f| f.lines[2].2["by"] = Value::Null),
                    "line 2 says that first did this, and their signature does not follow",
                ),
                (
                    "by another certificate",
                    world.signed(|f| {
                        f.lines[2].2["certificate-sha256"] = fingerprint(&audit);
                    }),
                    "line 3 is signed with another certificate than the one of first in line 1",
                ),
                (
                    "in another role",
                    world.signed(|f| {
                        f.lines[0].2["participants"]["first"]["certificate"] = base64(&audit);
                        f.lines[2].2["certificate-sha256"] = fingerprint(&audit);
                    }),
                    "line 3: the certificate of first is not accepted: the organizational unit is not the role's",
                ),
                (
                    "by a CA",
                    world.signed(|f| {
                        f.lines[0].2["participants"]["first"]["certificate"] = base64(&ca);
                        f.lines[2].2["certificate-sha256"] = fingerprint(&ca);
                    }),
                    "line 3: the certificate of first is not accepted: the basic constraints are not the role's",
                ),
                (
                    "one person twice",
                    world.signed(|f| {
                        f.lines[0].2["participants"]["second"]["certificate"] = base64(&first);
                    }),
                    "line 1: first and second are the same person: they have the same subject or public key",
                ),
                (
                    "no certificate",
                    world.signed(|f| {
                        f.lines[0].2["participants"]["second"]["certificate"] = json!("MAA=");
                    }),
                    "line 1: the certificate of second is none",
                ),
                (
                    "after the certificate's end",
                    world.signed(|f| shifted(f, 0..SEALED + 1, &later)),
                    "line 3: the certificate of first is not accepted: the certificate has expired",
                ),
                (
                    "before its beginning",
                    world.signed(|f| shifted(f, 0..SEALED + 1, "2020")),
                    "line 3: the certificate of first is not accepted: the certificate is not by the expected CA",
                ),
                (
                    "sealed after the end",
                    world.signed(|f| shifted(f, SEALED..SEALED + 1, &much_later)),
                    "line 11: the certificate of the audit key is not accepted: the certificate has expired",
                ),
                (
                    "sealed with another's certificate",
                    world.signed(|f| sealed_by(f, &first)),
                    "line 11 is sealed by another key than the ceremony's audit key",
                ),
                (
                    "sealed by a custodian",
                    world.signed(|f| {
                        sealed_by(f, &first);
                        f.lines[0].2["audit"]["certificate-sha256"] = fingerprint(&first);
                    }),
                    "line 11: the certificate of the audit key is not accepted: the organizational unit is not the \
                     role's",
                ),
                (
                    "sealed though there is no key",
                    world.signed(|f| f.lines[0].2["audit"] = Value::Null),
                    "line 11 is sealed by another key than the ceremony's audit key",
                ),
                (
                    "sealed by a key that no act made",
                    world.signed(|f| {
                        f.lines[0].2["audit"]["certificate-sha256"] = Value::Null;
                    }),
                    "line 11 is sealed by another key than the ceremony's audit key",
                ),
                (
                    "sealed without a certificate",
                    world.signed(|f| f.lines[SEALED].2["certificate"] = json!("")),
                    "line 11 lacks its certificate, or has something else in its place",
                ),
                (
                    "a rehearsal",
                    world.signed(|f| f.lines[0].2["mode"] = json!("rehearsal")),
                    "this is the transcript of a rehearsal: nothing real was made; --rehearsal verifies one",
                ),
                (
                    "another mode",
                    world.signed(|f| f.lines[0].2["mode"] = json!("test")),
                    "line 1 is not the beginning of a ceremony",
                ),
                (
                    "no beginning",
                    world.signed(|f| drop(f.lines.remove(0))),
                    "line 1 is not the beginning of a ceremony",
                ),
                (
                    "no officers",
                    world.signed(|f| {
                        f.lines[0].2.as_object_mut().unwrap().remove("officers");
                    }),
                    "line 1 is not the beginning of a ceremony",
                ),
                (
                    "two beginnings",
                    world.signed(|f| f.lines.insert(5, f.lines[0].clone())),
                    "line 6 begins another ceremony",
                ),
                (
                    "no time",
                    world.signed(|f| f.lines[0].0 = "yesterday".to_owned()),
                    "line 1 lacks its time, or has something else in its place",
                ),
                (
                    "no time of a signature",
                    world.signed(|f| f.lines[4].0 = "2026-01-01".to_owned()),
                    "line 5 lacks its time, or has something else in its place",
                ),
            ],
        );
        let none_of_second =
            "Second Custodian was to confirm the plan before the HSM was opened, and did not.";
        for late in [
            world.signed(|f| drop(f.lines.drain(3..5))),
            world.signed(|f| f.lines[3..6].rotate_right(1)),
        ] {
            assert_eq!(
                world.says(&late),
                Ok(vec![
                    "Fewer than two people confirmed the plan.".to_owned(),
                    none_of_second.to_owned()
                ])
            );
        }
        let failed = world.signed(|f| f.lines[9].1 = "failed".to_owned());
        let failed = world.says(&failed).unwrap();
        assert_eq!(failed, ["The ceremony failed: no cause is given."]);
        let goes_on = world.signed(|f| f.lines[9].1 = "to-be-continued".to_owned());
        let again = "The ceremony went on at another sitting; give its transcript too.";
        assert_eq!(world.says(&goes_on).unwrap(), [again]);

        // With the transcript of the next sitting it is whole.
        let next = world.signed(|f| shifted(f, 0..SEALED + 1, &(year + 1).to_string()));
        let both = verify_records(&[&goes_on, &next], &world.trust, Expected::Ceremony).unwrap();
        assert!(both.iter().all(|record| record.missing.is_empty()));
        let other_way = verify_records(&[&next, &goes_on], &world.trust, Expected::Ceremony);
        assert_eq!(other_way.unwrap_err(), (1, TranscriptError::Order));

        // Against another CA, and with a revocation list.
        let text = world.site.read(CUSTODIAN);
        let krd = other_ca(&world.site);
        world.trust = Trust::new(Some(krd), None).unwrap();
        let foreign = CredentialError::UntrustedIssuer;
        let foreign = TranscriptError::Signer(3, "first".to_owned(), foreign);
        assert_eq!(world.says(&text), Err(foreign.to_string()));
        for (listed, expected) in [
            (
                &first,
                TranscriptError::Revoked(3, "first".to_owned(), CrlNumber(1)),
            ),
            (
                &audit,
                TranscriptError::Revoked(11, "the audit key".to_owned(), CrlNumber(1)),
            ),
        ] {
            let crl = revoke(&world.site, listed);
            world.trust = Trust::new(Some(ca.clone()), Some(&crl)).unwrap();
            assert_eq!(world.says(&text), Err(expected.to_string()));
            // It says nothing of what was done long after its end.
            let old = world.signed(|f| shifted(f, 0..SEALED + 1, &(year + 1).to_string()));
            let too_old = TranscriptError::OldList.to_string();
            assert_eq!(world.says(&old), Err(too_old));
        }
    });
}

/// A CA that certified nobody.
fn other_ca(site: &Site) -> Certificate {
    held(
        site,
        "other",
        "act = \"sub-ca\"\ntoken = \"issuing\"\nkey = \"ca-other\"\n\
         issuer = { token = \"root\", key = \"ca-root\", certificate = \"root.pem\" }\n\
         subject = \"CN=Another CA,O=Example Bank,C=DE\"\nyears = 10\ncertificate = \"other.pem\"\n",
    );
    certificate(site, "other.pem")
}

/// A list with one entry, good for 30 days.
pub(crate) fn revoke(site: &Site, certificate: &Certificate) -> Vec<u8> {
    let serial = certificate.serial().to_string();
    held(
        site,
        &serial,
        &format!(
            "act = \"crl\"\nissuer = {{ token = \"issuing\", key = \"ca-ops\", certificate = \"ca-ops.pem\" }}\n\
             number = 1\ndays = 30\nfile = \"{serial}.crl\"\n\
             revoked = [{{ serial = \"{serial}\", at = \"2026-01-01T00:00:00Z\" }}]\n"
        ),
    );
    fs::read(site.path(&format!("{serial}.crl"))).unwrap()
}

/// A ceremony of one act at which nobody is there.
pub(crate) fn held(site: &Site, name: &str, act: &str) {
    let mut plan = format!(
        "title = \"{name}\"\noutput = \".\"\ntranscript = \"{name}.jsonl\"\nconfirmation = \"unattended\"\n"
    );
    for token in ["root", "issuing"] {
        writeln!(
            plan,
            "[tokens.{token}]\nmodule = \"{SAMPLE_MODULE}\"\nlabel = \"{token}\""
        )
        .unwrap();
    }
    site.write_plan(&format!("{name}.toml"), &format!("{plan}[[acts]]\n{act}"));
    assert_success(&site.execute(&format!("{name}.toml")));
}
