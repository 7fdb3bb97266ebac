//! Between sittings: the plan, the partial sum and its record.

use std::{fs, process::Command};

use hsm_modules::SOFTHSM;
use kdh_ceremony::{Ceremony, Mode, Plan};
use time::{Duration, OffsetDateTime};

use super::{Chapter, components::forget_custody, run, said, settled, told, with_files};
use crate::{
    room::Room,
    site::{FIRST, KEY, SECOND, Site, assert_success, change, import_plan, library},
};

const TRANSCRIPT: &str = "tmk-transcript.jsonl";

fn at_two_sittings(plan: &str) -> String {
    let second = "custodian = \"Second Custodian\"";
    change(plan, second, &format!("{second}\nsitting = 2"))
}

#[test]
fn sittings() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let mut chapter = Chapter::new(4, "Between sittings");
        let good = at_two_sittings(&with_files(&site));
        assert_success(&run(&site, &good));
        let kept = site.keys("kdh");
        site.write_private("third.hex", SECOND);
        let second = "custodian = \"Second Custodian\"\nsitting = 2";
        for (wrong, from, to) in [
            ("the plan's title", "title = \"", "title = \"New: "),
            (
                "a comment in the plan",
                "title = \"",
                "# Agreed.\ntitle = \"",
            ),
            ("the plan's transcript", TRANSCRIPT, "other.jsonl"),
            ("the key's check value", "\"CBDF95\"", "\"CBDF96\""),
            ("the key's label", KEY, "kn.other"),
            (
                "the second custodian",
                "\"Second Custodian\"",
                "\"Third Custodian\"",
            ),
            ("the second component's check value", "EC8692", "EC8693"),
            ("the second component's file", "second.hex", "third.hex"),
            (
                "when the sum expires",
                "kcv = \"CBDF95\"",
                "expires-hours = 700\nkcv = \"CBDF95\"",
            ),
            (
                "all at one sitting",
                second,
                "custodian = \"Second Custodian\"",
            ),
            (
                "another act before it",
                "[[acts]]",
                "[[acts]]\nact = \"import-pair\"\ntoken = \"kdh\"\n\
              key = \"pair\"\npublic-key = \"pair.pem\"\n\n[[acts]]",
            ),
        ] {
            let output = run(&site, &change(&good, from, to));
            chapter.case(&format!("changed: {wrong}"), said(&site, &output));
            assert_eq!(site.keys("kdh"), kept, "{wrong}");
        }
        expired(&mut chapter, &site);
        records(&mut chapter, &site, &good);
        destroy(&mut chapter, &site);
        chapter.assert_is_in_the_book();
    });
}

fn expired(chapter: &mut Chapter, site: &Site) {
    let typed = change(&at_two_sittings(&import_plan()), KEY, "kn.typed");
    let typed = change(&typed, "\"CBDF95\"", "\"CBDF99\"");
    site.write_plan("typed.toml", &typed);
    Room::new([FIRST]).run(site, "typed.toml").unwrap();
    let later = OffsetDateTime::now_utc() + Duration::hours(73);
    let mut room = Room::new([SECOND]);
    chapter.case(
        "the sum has expired, and the first transcript is there",
        told(site, room.run_at(site, "typed.toml", later)),
    );
    fs::remove_file(site.path(TRANSCRIPT)).unwrap();
    let mut room = Room::new([]);
    let _nobody_is_there = room.run_at(site, "typed.toml", later).unwrap_err();
    let seen = room.seen();
    let gone = seen
        .lines()
        .find(|line| line.contains("kn.typed in token") && line.contains("destroyed"));
    chapter.case("the sum has expired", settled(site, gone.unwrap()));
    fs::remove_file(site.path(TRANSCRIPT)).unwrap();
    assert_eq!(site.keys("kdh"), [""; 0], "the other sum has expired too");
    // Somebody leaves the program waiting.
    Room::new([FIRST]).run(site, "typed.toml").unwrap();
    let plan = Plan::load(
        &site.path("typed.toml"),
        Mode::Real,
        OffsetDateTime::now_utc(),
    );
    let mut room = Room::new([SECOND]);
    let refused = Ceremony::run(&plan.unwrap(), &mut room, &|| later);
    chapter.case(
        "the sum expires while its last custodian is waited for",
        told(site, refused),
    );
    assert_eq!(site.keys("kdh"), [""; 0]);
    for number in ["", "-2"] {
        fs::remove_file(site.path(&format!("tmk-transcript{number}.jsonl"))).unwrap();
    }
}

/// By somebody who has the PIN.
fn records(chapter: &mut Chapter, site: &Site, good: &str) {
    forget_custody(site);
    assert_success(&run(site, good));
    let label = site.token("kdh").list_records("sum.").unwrap().remove(0);
    let record = site.token("kdh").load_record(&label).unwrap().unwrap();
    let record = String::from_utf8(record).unwrap();
    let store = |record: &str| {
        site.token("kdh")
            .store_record(&label, record.as_bytes())
            .unwrap();
    };
    let other_plan = format!("\"plan-sha256\":\"{}", "0".repeat(8));
    let plan = record.find("\"plan-sha256\":\"").unwrap();
    let plan = record[plan..plan + other_plan.len()].to_owned();
    let ends = record.find("\"expires-at\":\"").unwrap();
    let ends = &record[ends..ends + "\"expires-at\":\"0000".len()];
    let entered = record.find("\"components\":[").unwrap();
    let entered = &record[entered..entered + record[entered..].find(']').unwrap()];
    for (wrong, from, to) in [
        ("until when it is kept", ends, "\"expires-at\":\"2099"),
        ("that anybody entered one", entered, "\"components\":["),
        ("its format", "\"format\":1", "\"format\":2"),
        ("a field more", "\"act\":1", "\"act\":1,\"more\":1"),
        ("its plan", &*plan, &*other_plan),
        ("a number out of its range", "\"tries\":0", "\"tries\":-1"),
        ("its kind", "\"kind\":\"AES-128\"", "\"kind\":\"AES-192\""),
        ("its key", "\"kn.acquirer-tmk\"", "\"kn.mine\""),
        (
            "its check value",
            "\"kcv\":\"CBDF95\"",
            "\"kcv\":\"000000\"",
        ),
        (
            "who entered a component",
            "First Custodian",
            "Somebody Else",
        ),
        ("which component it was", "\"number\":1", "\"number\":2"),
        ("what of it is the sum", "\"parts\":", "\"parts\":1"),
    ] {
        store(&change(&record, from, to));
        chapter.case(
            &format!("changed in the record of the sum: {wrong}"),
            said(site, &run(site, good)),
        );
        assert!(
            !site.keys("kdh").iter().any(|key| key.starts_with("kn.")),
            "{wrong}"
        );
    }
    store(&record);
    delete(site, "secrkey", "partial-sum");
    chapter.case(
        "the objects of the sum are gone",
        said(site, &run(site, good)),
    );
}

/// With `OpenSC`'s tool.
fn delete(site: &Site, kind: &str, label: &str) {
    let pin = site.read("kdh.pin");
    for _ in 0..site.keys("kdh").len() {
        let deleted = Command::new("pkcs11-tool")
            .args([
                "--module",
                &library(),
                "--token-label",
                "kdh",
                "--login",
                "--pin",
            ])
            .arg(pin.trim())
            .args(["--delete-object", "--type", kind, "--label", label])
            .output()
            .unwrap();
        assert!(deleted.status.success(), "{deleted:?}");
    }
}

fn destroy(chapter: &mut Chapter, site: &Site) {
    let library = library();
    for (wrong, digest) in [
        ("a sum to be destroyed is named by too little", "012345"),
        ("a sum to be destroyed is of no plan", "0123456789"),
    ] {
        let of = ["sums", "destroy", "--module", &library, "--label", "kdh"];
        let to = ["--pin-file", "kdh.pin", digest];
        chapter.case(
            wrong,
            said(site, &site.program(&[&of[..], &to].concat(), "")),
        );
    }
}
