//! Transcripts that somebody tampered with, as `kdh-ceremony verify` reads them.

use std::fs;

use hsm::{KeyRole, SigningKey};
use hsm_modules::SOFTHSM;
use serde_json::{Value, json};

use super::{Chapter, confirmed, settled};
use crate::{
    bank::{self, CUSTODIAN, Forgery, signing_key},
    forged::{World, base64, certificate, held, moved, revoke},
    site::{NEW_CUSTODIAN, assert_success, change},
};

/// What `verify` says of a transcript that it does not accept: why, or what is missing, and what to do.
fn verified(world: &World, text: &str, more: &[&str]) -> String {
    fs::write(world.site.path("tampered"), text).unwrap();
    let verify = ["verify", "tampered", "--ca", "ca-ops.pem"];
    let output = world.site.program(&[&verify[..], more].concat(), "");
    assert_eq!(output.status.code(), Some(1), "{more:?} {text}");
    let [said, missing] =
        [output.stderr, output.stdout].map(|said| String::from_utf8(said).unwrap());
    let said = if said.is_empty() {
        let missing = missing
            .lines()
            .skip_while(|line| !line.starts_with("MISSING"));
        missing.collect::<Vec<_>>().join("\n")
    } else {
        said.strip_prefix("kdh-ceremony: ").unwrap().to_owned()
    };
    settled(&world.site, &said)
}

#[test]
fn transcripts() {
    bank::on(&[&SOFTHSM], |_| {
        let world = World::new();
        let mut chapter = Chapter::new(8, "Transcripts");
        without_a_key(&mut chapter, &world);
        chained_anew(&mut chapter, &world);
        with_keys(&mut chapter, &world);
        chapter.assert_is_in_the_book();
    });
}

/// Nothing but the file is there.
fn without_a_key(chapter: &mut Chapter, world: &World) {
    let text = world.site.read(CUSTODIAN);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let count = lines.len();
    let mut case = |wrong: &str, text: &str| chapter.case(wrong, verified(world, text, &[]));
    for index in 0..count - 1 {
        let without = [&lines[..index], &lines[index + 1..]].concat().concat();
        case(&format!("line {} was removed", index + 1), &without);
    }
    for index in 0..count - 1 {
        let mut lines = lines.clone();
        lines.swap(index, index + 1);
        case(
            &format!("lines {} and {} were exchanged", index + 1, index + 2),
            &lines.concat(),
        );
    }
    case(
        "line 3 is there twice",
        &[&lines[..3], &lines[2..]].concat().concat(),
    );
    case("nothing is in it", "");
    for end in 1..count {
        case(&format!("cut behind line {end}"), &lines[..end].concat());
    }
    case(
        "cut in the middle of line 5",
        &lines[..5].concat()[..lines[..4].concat().len() + 99],
    );
    case("cut before the last line's end", text.trim_end());
    let line: Value = serde_json::from_str(lines[8]).unwrap();
    let edit = |field: &str, value: Value| {
        let mut other = lines.clone();
        let (from, to) = (line[field].to_string(), value.to_string());
        let edited = lines[8].replacen(
            &format!("\"{field}\":{from}"),
            &format!("\"{field}\":{to}"),
            1,
        );
        assert_ne!(edited, lines[8], "{field}");
        other[8] = &edited;
        other.concat()
    };
    let mut detail = line["detail"].clone();
    detail["subject"] = json!("CN=Somebody Else");
    for (field, value) in [
        ("sequence", json!(8)),
        ("at", json!("2026-01-01T00:00:00Z")),
        ("event", json!("sub-ca")),
        ("detail", detail),
        ("previous", json!("0".repeat(64))),
        ("hash", json!("0".repeat(64))),
    ] {
        case(&format!("edited in line 9: {field}"), &edit(field, value));
    }
    case("a blank more", &change(&text, "\"event\":", "\"event\": "));
    case(
        "another writing of a character",
        &change(&text, "\"Credential", "\"\\u0043redential"),
    );
    case(
        "a field more",
        &change(&text, "{\"sequence\":1,", "{\"note\":1,\"sequence\":1,"),
    );
    // The same people hold another ceremony.
    let other = another_ceremony(world);
    let others: Vec<&str> = other.split_inclusive('\n').collect();
    for at in [1, 5, count - 1] {
        let spliced = [&lines[..at], &others[at..]].concat().concat();
        case(
            &format!("from line {} on another ceremony's", at + 1),
            &spliced,
        );
    }
    case("another ceremony's behind it", &format!("{text}{other}"));
}

fn another_ceremony(world: &World) -> String {
    let plan = change(
        NEW_CUSTODIAN,
        "key = \"custodian\"\nissuer",
        "key = \"next\"\nissuer",
    );
    let plan = change(&plan, CUSTODIAN, "other.jsonl");
    let plan = change(
        &plan,
        "certificate = \"third-custodian.pem\"",
        "certificate = \"next.pem\"",
    );
    world.site.write_plan("next.toml", &plan);
    assert_success(&confirmed(&world.site, &world.site.read("next.toml")));
    world.site.read("other.jsonl")
}

/// The chain holds, and nobody signed it so.
fn chained_anew(chapter: &mut Chapter, world: &World) {
    let other = Forgery::of(&world.site.read("other.jsonl"));
    let last = world.good.lines.len() - 1;
    let mut case = |wrong: &str, change: &dyn Fn(&mut Forgery)| {
        let text = world.chained(|forgery| change(forgery));
        chapter.case(
            &format!("chained anew: {wrong}"),
            verified(world, &text, &[]),
        );
    };
    case("the plan's digest", &|f| {
        f.lines[0].2["plan-sha256"] = json!("0".repeat(64));
    });
    case("an officer fewer", &|f| {
        f.lines[0].2["officers"] = json!(["first"]);
    });
    case("when it was confirmed", &|f| {
        f.lines[1].0 = moved(&f.lines[1].0);
    });
    case("whose token signed", &|f| {
        f.lines[2].2["token-serial"] = json!("0");
    });
    case("a token's serial number", &|f| {
        f.lines[5].2["serial"] = json!("0");
    });
    case("whose certificate was made", &|f| {
        f.lines[8].2["subject"] = json!("CN=Somebody Else");
    });
    case("without the act", &|f| drop(f.lines.remove(8)));
    case("the act twice", &|f| f.lines.insert(9, f.lines[8].clone()));
    case("without a signature", &|f| drop(f.lines.remove(2)));
    case("a signature once more", &|f| {
        f.lines.insert(6, f.lines[2].clone());
    });
    case("the signatures exchanged", &|f| {
        let first = f.lines[2].2["signature"].clone();
        f.lines[2].2["signature"] = f.lines[4].2["signature"].clone();
        f.lines[4].2["signature"] = first;
    });
    case("another ceremony's signature", &|f| {
        f.lines[2].2 = other.lines[2].2.clone();
    });
    case("another ceremony's seal", &|f| {
        f.lines[last].2 = other.lines[last].2.clone();
    });
    case("a signature that is none", &|f| {
        f.lines[2].2["signature"] = json!("00");
    });
    case("a line behind the seal", &|f| {
        f.lines.push(f.lines[9].clone());
    });
    case("a hidden character", &|f| {
        f.lines[8].2["subject"] = json!("CN=a\u{202e}b");
    });
    case("nobody's signature is in it any more", &|f| {
        f.lines
            .retain(|line| line.1 != "signed" && line.1 != "sealed");
        f.lines[0].2["participants"] = json!({});
        f.lines[0].2["audit"] = Value::Null;
    });
}

/// By somebody who has everybody's token, or by the wrong people.
fn with_keys(chapter: &mut Chapter, world: &World) {
    let site = &world.site;
    let last = world.good.lines.len() - 1;
    let first = certificate(site, "first-custodian.pem");
    let other_audit = other_audit(world);
    let mut case = |wrong: &str, text: &str, more: &[&str]| {
        chapter.case(&format!("signed: {wrong}"), verified(world, text, more));
    };
    let signed = |change: &dyn Fn(&mut Forgery)| world.signed(|forgery| change(forgery));
    let confirms_other = signed(&|f| f.lines[3].2["plan-sha256"] = json!("0".repeat(64)));
    case("one confirms another plan", &confirms_other, &[]);
    let stranger = signed(&|f| {
        f.lines[1].2["by"] = json!("third");
        f.lines[2].2["by"] = json!("third");
    });
    case("by somebody who takes no part", &stranger, &[]);
    let twice = signed(&|f| {
        f.lines[0].2["participants"]["second"]["certificate"] = base64(&first);
    });
    case("one person as both", &twice, &[]);
    let late = signed(&|f| {
        f.lines.drain(3..5);
    });
    case("one did not confirm", &late, &[]);
    let sealed = world.signed_by(&[("", &other_audit)], |f| {
        f.lines[last].2["certificate"] = base64(&certificate(site, "other-audit.pem"));
    });
    case("the seal of another token", &sealed, &[]);
    let sealed = world.signed_by(&[("", &other_audit)], |_| ());
    case(
        "the seal of another token, with this one's certificate",
        &sealed,
        &[],
    );
    case(
        "failed",
        &signed(&|f| "failed".clone_into(&mut f.lines[9].1)),
        &[],
    );
    case(
        "goes on",
        &signed(&|f| "to-be-continued".clone_into(&mut f.lines[9].1)),
        &[],
    );
    let rehearsal = signed(&|f| f.lines[0].2["mode"] = json!("rehearsal"));
    case("a rehearsal", &rehearsal, &[]);
    let good = site.read(CUSTODIAN);
    case(
        "a ceremony where a rehearsal is looked for",
        &good,
        &["--rehearsal"],
    );
    let twice = site.read("other.jsonl");
    case("the same transcript twice", &twice, &["tampered"]);
    let aged = |year: i32| {
        signed(&|f| {
            for line in &mut f.lines {
                line.0 = format!("{year}{}", &line.0[4..]);
            }
        })
    };
    let year = time::OffsetDateTime::now_utc().year();
    case("when a certificate had expired", &aged(year + 3), &[]);
    case("before the CA was", &aged(2020), &[]);
    revoke(site, &first);
    let of_first = format!("{}.crl", first.serial());
    case(
        "by somebody whose certificate was revoked",
        &good,
        &["--crl", &of_first],
    );
    case(
        "after the end of the list",
        &aged(year + 1),
        &["--crl", &of_first],
    );
    let foreign = site.program(&["verify", CUSTODIAN, "--ca", "root.pem"], "");
    let foreign = String::from_utf8(foreign.stderr).unwrap();
    let foreign = foreign.strip_prefix("kdh-ceremony: ").unwrap();
    chapter.case("another CA is asked", settled(site, foreign));
    let unasked = site.program(&["verify", CUSTODIAN], "");
    let unasked = String::from_utf8(unasked.stderr).unwrap();
    let unasked = unasked.strip_prefix("kdh-ceremony: ").unwrap();
    chapter.case("no CA is asked", settled(site, unasked));
}

/// Of another token, certified by the same CA.
fn other_audit(world: &World) -> SigningKey {
    held(
        &world.site,
        "other-audit",
        "act = \"audit-credential\"\ntoken = \"root\"\nkey = \"audit\"\n\
         issuer = { token = \"issuing\", key = \"ca-ops\", certificate = \"ca-ops.pem\" }\n\
         common-name = \"Another audit key\"\nyears = 2\ncertificate = \"other-audit.pem\"\n",
    );
    signing_key(&world.site, "root", KeyRole::Audit, "audit")
}
