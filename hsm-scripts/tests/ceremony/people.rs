//! Ceremonies of people who have tokens of their own: each is signed, verified and reported.

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::Command};

use hsm::{KeyName, KeyRole};
use hsm_modules::{
    KRYOPTIC, Place, SOFTHSM, TestModule,
    makers::{key_wrap, rsa_oaep},
};
use kdh_ceremony::{CeremonyError, Mode, Plan, rehearsal, rehearse};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    bank::{self, certify, certify_third_custodian, founded, with_participants},
    folder::with_custodians,
    record::NOT_LOOKED_AT,
    room::Room,
    site::{
        AT_TWO_SITTINGS, CRL_REISSUE, FIRST, GIVE_OUT, IMPORT_PAIR, IMPORT_WRAPPED, KEY,
        NEW_CUSTODIAN, SECOND, SUM, SUM_KCV, Site, assert_no_secret, assert_refused,
        assert_success, change, import_plan, printed,
    },
};

static BOTH: [&TestModule; 2] = [&SOFTHSM, &KRYOPTIC];

pub(crate) const PEOPLE: [(&str, &str); 3] = [
    ("anna", "first-custodian"),
    ("ben", "second-custodian"),
    ("carl", "third-custodian"),
];

/// A plan of these people, who are called by their ids.
pub(crate) fn of_people(plan: &str, people: &[(&str, &str)]) -> String {
    let plan = with_participants(plan, people);
    let names = ["First", "Second", "Third"].map(|name| format!("\"{name} Custodian\""));
    let ids = people.iter().map(|(id, _)| format!("\"{id}\""));
    names
        .iter()
        .zip(ids)
        .fold(plan, |plan, (name, id)| plan.replace(name, &id))
}

fn verify(site: &Site, transcripts: &[&str]) -> std::process::Output {
    let with_ca = ["--ca", "ca-ops.pem"];
    site.program(&[&["verify"], transcripts, &with_ca].concat(), "")
}

/// Verifies them, holds the report to be one page without a gap, and says what was told.
fn verified(site: &Site, transcripts: &[&str]) -> String {
    let output = verify(site, transcripts);
    assert_success(&output);
    let told = printed(&output);
    for part in [
        "The record holds: no line was altered, every step is signed by who took it, ",
        NOT_LOOKED_AT,
        "The HSM's audit key sealed the record.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("does not know"), "{told}");
    assert!(!told.contains("Not signed"), "{told}");
    let file = format!("{}.html", transcripts[0]);
    let reported = verify(site, &[transcripts, &["--report", &file]].concat());
    assert_success(&reported);
    let page = site.read(&file);
    assert_eq!(page.matches("</html>").count(), 1);
    assert!(page.contains("The record holds: no line was altered"));
    assert!(page.contains(NOT_LOOKED_AT));
    assert!(!page.contains("not signed"), "{page}");
    for transcript in transcripts {
        assert_no_secret(&site.read(transcript), &site.pins());
    }
    assert_no_secret(&page, &site.pins());
    told
}

fn events(site: &Site, transcript: &str) -> BTreeSet<String> {
    let lines = site.read(transcript);
    let event = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["event"].as_str().unwrap().to_owned()
    };
    lines.lines().map(event).collect()
}

fn assert_told(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

/// The sample, in which the third one comes on another day, with a key whose check value is known.
pub(crate) fn at_two_sittings() -> String {
    let plan = change(AT_TWO_SITTINGS, "\"AES-256\"", "\"AES-128\"");
    change(&plan, "\"A1B2C3\"", &format!("\"{SUM_KCV}\""))
}

/// What the third one brings so that the sum of all three is [`SUM`]: the second one holds [`OTHER`].
pub(crate) const OTHER: &str = "0F1E2D3C4B5A69788796A5B4C3D2E1F0";

pub(crate) fn third() -> String {
    let bytes = |text| u128::from_str_radix(text, 16).unwrap();
    format!("{:032X}", bytes(SUM) ^ bytes(FIRST) ^ bytes(OTHER))
}

#[test]
fn the_samples_are_held_as_they_are_by_those_whom_a_founding_ceremony_certified() {
    bank::on(&[&SOFTHSM], |_| {
        let site = founded();
        certify_third_custodian(&site);
        site.write_plan(PLAN, &with_custodians(GIVE_OUT));
        let mut room = Room::new([]);
        room.writes_down();
        room.run(&site, PLAN).unwrap();
        verified(&site, &["give-out-transcript.jsonl"]);

        site.write_plan(PLAN, &with_custodians(&at_two_sittings()));
        Room::new([FIRST, OTHER]).run(&site, PLAN).unwrap();
        Room::new([&*third()]).run(&site, PLAN).unwrap();
        verified(&site, &["zone-transcript.jsonl", "zone-transcript-2.jsonl"]);
    });
}

/// The founding ceremony made the first list, so that there can be a next one.
#[test]
fn who_was_revoked_takes_no_part_any_more() {
    bank::on(&[&SOFTHSM], |_| {
        let site = founded();
        let certificate = pki::Certificate::from_pem(&site.read("second-custodian.pem")).unwrap();
        let plan = CRL_REISSUE
            .replace("ca-kdh", "ca-ops")
            .replace("40A1B2C3D4E5F607", &certificate.serial().to_string());
        site.write_plan("list.toml", &plan);
        Room::new([]).run(&site, "list.toml").unwrap();

        site.write_plan(PLAN, NEW_CUSTODIAN);
        assert_success(&site.program(&["check-plan", PLAN], ""));
        let list = change(NEW_CUSTODIAN, "\"crl-ca-ops.der\"", "\"crl-ca-ops-2.der\"");
        site.write_plan(PLAN, &list);
        let refused = site.program(&["check-plan", PLAN], "");
        let because = "participants.second: certificate: the certificate was revoked; whoever holds it takes no part";
        assert_refused(&refused, because);
        assert!(!printed(&refused).contains("participants.first"));
    });
}

#[test]
fn a_key_of_two_sittings_has_one_record() {
    bank::on(&BOTH, |_| {
        let site = founded();
        certify_third_custodian(&site);
        let plan = of_people(&at_two_sittings(), &PEOPLE);
        site.write_plan("zone.toml", &plan);
        Room::new([FIRST, OTHER]).run(&site, "zone.toml").unwrap();
        // Once mistyped.
        let third = third();
        let mistyped = change(&third, &third[..4], "FFFE");
        Room::new([&mistyped, &third])
            .run(&site, "zone.toml")
            .unwrap();
        assert_eq!(site.keys("kdh"), ["audit", "audit", "kn.zone"]);

        let [one, two] = ["zone-transcript.jsonl", "zone-transcript-2.jsonl"];
        let told = verified(&site, &[one, two]);
        assert_told(
            &told,
            &[
                "This is sitting 1 of 2.",
                "First Custodian entered component 1 of 3, check value A19083 (act 1). Signed.",
                "Act 1 (import-components) goes on at another sitting. Token kdh keeps the sum of the components so \
                 far, until 2",
                "there is no key kn.zone yet. Components: First Custodian A19083; Second Custodian ",
                "Sitting 1 of 2 ended. The next one is to be held until 2",
                "This is sitting 2 of 2.",
                "and not CBDF95: nothing of it was kept, and 2 of 3 tries were left (act 1).",
                "Act 1 (import-components) made the key kn.zone in token kdh: AES-128, check value CBDF95. \
                 Components: First Custodian A19083, at an earlier sitting; Second Custodian ",
                "; Third Custodian ",
                "The token keeps who held which.",
            ],
        );
        // One without the other is half of it.
        assert_refused(
            &verify(&site, &[one]),
            "MISSING: The ceremony went on at another sitting; give its transcript too.",
        );
        assert_refused(
            &verify(&site, &[two]),
            "MISSING: Sitting 1 came before; give the transcripts of all sittings, in order.",
        );
        assert_refused(
            &verify(&site, &[two, one]),
            "zone-transcript.jsonl: this sitting began before the one before it ended",
        );
    });
}

#[test]
fn a_key_that_is_given_out_has_the_signature_of_each_who_was_shown_a_component() {
    bank::on(&BOTH, |_| {
        let site = founded();
        certify_third_custodian(&site);
        site.write_plan("give-out.toml", &of_people(GIVE_OUT, &PEOPLE));
        let mut room = Room::new([]);
        room.writes_down();
        room.run(&site, "give-out.toml").unwrap();
        let transcript = "give-out-transcript.jsonl";
        let told = verified(&site, &[transcript]);
        let kcv = {
            let token = site.token("kdh");
            let name = KeyName::new("kn.switch-zone").unwrap();
            let key = token.secret_key(KeyRole::TransportKey, &name).unwrap();
            token.kcv(&key).unwrap()
        };
        let made = format!(
            "Act 1 (give-out-components) made the key kn.switch-zone in token kdh: AES-128, check value {kcv}. It is \
             the sum of the components that were shown: First Custodian "
        );
        assert_told(
            &told,
            &[
                "First Custodian was shown component 1 of 3, check value ",
                ", and wrote it down (act 1). Signed.",
                "Third Custodian was shown component 3 of 3",
                &made,
                "The token keeps who held which.",
            ],
        );
        for shown in room.revealed() {
            assert!(!site.read(transcript).to_lowercase().contains(&shown[..16]));
        }
    });
}

const PLAN: &str = "plan.toml";
/// Tells a process in which folder it rehearses the plan that lies beside it.
const REHEARSAL: &str = "KDH_TEST_REHEARSED_IN";

/// A process with throw-away tokens, in which people write down what they are shown.
#[test]
fn people_who_rehearse() {
    let Some(folder) = env::var_os(REHEARSAL).map(PathBuf::from) else {
        return;
    };
    let clock = &OffsetDateTime::now_utc;
    let plan = folder.with_file_name(PLAN);
    let plan = Plan::load(&plan, Mode::Rehearsal, clock()).unwrap();
    let mut room = Room::new([]);
    room.writes_down();
    rehearse(plan, &hsm_modules::library(), &folder, &mut room, clock).unwrap();
}

/// A plan that demands its rehearsal, which is held, and what is told of that.
fn rehearsed(site: &Site, plan: &str, transcript: &str) -> String {
    let demand =
        "require-rehearsal = true\nrehearsal-transcript = \"rehearsed.jsonl\"\n[participants.anna]";
    site.write_plan(PLAN, &change(plan, "[participants.anna]", demand));
    assert_refused(&site.execute(PLAN), "rehearse this plan");
    let folder = site.path(&format!("of-{transcript}"));
    rehearsal::prepare(&folder).unwrap();
    let configuration = rehearsal::configuration(&folder);
    let held = Command::new(env::current_exe().unwrap())
        .args(["people::people_who_rehearse", "--exact", "--nocapture"])
        .env(REHEARSAL, &folder)
        .env(rehearsal::SOFTHSM_CONFIGURATION, configuration)
        .output()
        .unwrap();
    assert_success(&held);
    let [path, stand_in] = [transcript, rehearsal::CEREMONY_CA].map(|file| folder.join(file));
    let [path, stand_in] = [&path, &stand_in].map(|path| path.to_str().unwrap());
    let arguments = ["verify", path, "--rehearsal", "--ca", stand_in];
    let output = site.program(&arguments, "");
    assert_success(&output);
    fs::copy(path, site.path("rehearsed.jsonl")).unwrap();
    printed(&output)
}

#[test]
fn rehearsals_of_sittings_of_gifts_and_of_imports_are_demanded_and_told() {
    bank::on(&[&SOFTHSM], |_| {
        let site = founded();
        certify_third_custodian(&site);
        let plan = of_people(&at_two_sittings(), &PEOPLE);
        let told = rehearsed(&site, &plan, "zone-transcript.jsonl");
        assert_told(
            &told,
            &[
                "REHEARSAL, nothing real was made",
                "This is sitting 1 of 2.",
                "Components: First Custodian, made up; Second Custodian, made up; Third Custodian, made up.",
            ],
        );
        Room::new([FIRST, OTHER]).run(&site, PLAN).unwrap();
        Room::new([&*third()]).run(&site, PLAN).unwrap();
        let told = verified(&site, &["zone-transcript.jsonl", "zone-transcript-2.jsonl"]);
        assert_eq!(told.matches("It was rehearsed").count(), 2, "{told}");

        let transcript = "give-out-transcript.jsonl";
        let told = rehearsed(&site, &of_people(GIVE_OUT, &PEOPLE), transcript);
        assert_told(
            &told,
            &["Third Custodian was shown component 3 of 3, check value "],
        );
        assert!(!site.keys("kdh").contains(&"kn.switch-zone".to_owned()));
        let mut room = Room::new([]);
        room.writes_down();
        room.run(&site, PLAN).unwrap();
        assert_told(&verified(&site, &[transcript]), &["It was rehearsed"]);

        let plan = of_people(IMPORT_WRAPPED, &PEOPLE[..2]);
        let told = rehearsed(&site, &plan, "switch-keys-transcript.jsonl");
        assert_told(
            &told,
            &[
                "Act 1 (import-wrapped) made the key kn.switch-one in token kdh: AES-128, check value ",
                "Act 3 (import-wrapped) was not rehearsed, and made no key kn.switch-three: ",
            ],
        );
    });
}

fn hash(place: &Place) -> &'static str {
    if place.module().can.oaep_sha256 {
        "sha256"
    } else {
        "sha1"
    }
}

#[test]
fn a_key_that_arrives_encrypted_is_confirmed_by_two_who_sign() {
    bank::on(&BOTH, |place| {
        let site = founded();
        let pair = &IMPORT_PAIR[..IMPORT_PAIR.rfind("[[acts]]").unwrap()];
        site.write_plan("pair.toml", &of_people(pair, &PEOPLE[..2]));
        Room::new([]).run(&site, "pair.toml").unwrap();
        let told = verified(&site, &["import-pair-transcript.jsonl"]);
        let made = "Act 1 (import-pair) made the pair import-pair in token kdh, under which others send keys. Its \
                    public key is in the file import-pair.pem; SHA-256 of the file: ";
        assert_told(&told, &[made]);

        let over = [0x7E; 32];
        let key = hex::decode(SUM).unwrap();
        let hash = hash(place);
        let transport = rsa_oaep(&site.path("import-pair.pem"), hash, &over);
        fs::write(site.path("transport-key.bin"), transport).unwrap();
        fs::write(site.path("switch-one.bin"), key_wrap(&over, &key, false)).unwrap();
        let first_act = IMPORT_WRAPPED.find("# The key under a ZMK").unwrap();
        let wrapped = change(&IMPORT_WRAPPED[..first_act], "\"A1B2C3\"", "\"CBDF95\"");
        let oaep = format!("oaep-hash = \"{hash}\"");
        let wrapped = change(&wrapped, "oaep-hash = \"sha256\"", &oaep);
        site.write_plan("wrapped.toml", &of_people(&wrapped, &PEOPLE[..2]));
        Room::new([]).run(&site, "wrapped.toml").unwrap();
        let transcript = "switch-keys-transcript.jsonl";
        let told = verified(&site, &[transcript]);
        assert_told(
            &told,
            &[
                "First Custodian confirmed the plan by its digest. Signed.",
                "Second Custodian confirmed the plan by its digest. Signed.",
                "Act 1 (import-wrapped) made the key kn.switch-one in token kdh: AES-128, check value CBDF95. It \
                 arrived encrypted under import-pair (rsa-oaep+key-wrap), in the files with the SHA-256 ",
            ],
        );
        assert!(events(&site, transcript).contains("import-wrapped"));
    });
}

/// Who held a component holds no other, with whatever certificate, under whatever id, and after a while.
#[test]
fn participants_are_held_to_one_component_of_a_key() {
    bank::on(&BOTH, |_| {
        let site = founded();
        site.add_token("fourth-custodian");
        // The first one again: the same subject, and another key in another token.
        certify(&site, "third-custodian", "First Custodian");
        certify(&site, "fourth-custodian", "Fourth Custodian");
        let [first, second, renewed, fourth] =
            ["first", "second", "third", "fourth"].map(|name| format!("{name}-custodian"));
        let refused = "custody: First Custodian entered component 1 (check value A19083) of this key (AES-128, check \
                       value CBDF95) on ";
        let second_refused = "custody: Second Custodian entered component 2 (check value EC8692)";
        for (number, (people, components, because)) in [
            ([("anna", &first), ("ben", &second)], [FIRST, SECOND], None),
            // A renewed certificate, under the same id and under another one.
            (
                [("anna", &renewed), ("ben", &second)],
                [SECOND, FIRST],
                Some(refused),
            ),
            (
                [("zoe", &renewed), ("ben", &second)],
                [SECOND, FIRST],
                Some(refused),
            ),
            // Left out, and back again.
            ([("dora", &fourth), ("ben", &second)], [FIRST, SECOND], None),
            (
                [("anna", &first), ("dora", &fourth)],
                [SECOND, FIRST],
                Some(refused),
            ),
            (
                [("ben", &second), ("anna", &first)],
                [FIRST, SECOND],
                Some(second_refused),
            ),
            // Their own ones, with whichever certificate.
            (
                [("ben", &second), ("anna", &renewed)],
                [SECOND, FIRST],
                None,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let people = people.map(|(id, token)| (id, &**token));
            let transcript = format!("{number}.jsonl");
            let plan = change(&import_plan(), "tmk-transcript.jsonl", &transcript);
            site.write_plan("plan.toml", &of_people(&plan, &people));
            let outcome = Room::new(components).run(&site, "plan.toml");
            match (outcome, because) {
                (Ok(()), None) => {
                    verified(&site, &[&transcript]);
                    let name = KeyName::new(KEY).unwrap();
                    site.token("kdh").destroy_key(&name).unwrap();
                }
                (Err(CeremonyError::Act { cause, .. }), Some(because)) => {
                    let cause = cause.to_string();
                    assert!(cause.starts_with(because), "{number}: {cause}");
                    // Refused before it was signed.
                    assert!(!events(&site, &transcript).contains("component-entered"));
                    let output = verify(&site, &[&transcript]);
                    assert_refused(&output, "MISSING: The ceremony failed: custody: ");
                }
                (other, because) => panic!("{number}: {other:?}, not {because:?}"),
            }
        }
    });
}
