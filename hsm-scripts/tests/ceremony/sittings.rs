//! A key that comes at two sittings.

use std::fs;

use hsm_modules::{NSS, TERMINALS};
use kdh_ceremony::{CeremonyError, Mode, Plan};
use time::{Duration, OffsetDateTime};

use crate::{
    common::module,
    room::Room,
    site::{
        FIRST, KEY, SECOND, SUM_KCV, Site, assert_no_secret, assert_refused, assert_success,
        change, import_plan, import_plan_with_files, library, printed, unattended,
    },
};

const FIRST_TRANSCRIPT: &str = "tmk-transcript.jsonl";
const SECOND_TRANSCRIPT: &str = "tmk-transcript-2.jsonl";

/// The second component comes at a second sitting.
fn at_two_sittings(plan: &str) -> String {
    let second = "custodian = \"Second Custodian\"";
    change(plan, second, &format!("{second}\nsitting = 2"))
}

fn two_sittings(site: &Site) -> String {
    at_two_sittings(&unattended(&import_plan_with_files(site)))
}

fn sums(site: &Site, arguments: &[&str]) -> std::process::Output {
    let library = library();
    let (command, more) = arguments.split_first().unwrap();
    let token = [
        "--module",
        &library,
        "--label",
        "kdh",
        "--pin-file",
        "kdh.pin",
    ];
    site.program(&[&["sums", command], &token[..], more].concat(), "")
}

fn last_event(site: &Site, transcript: &str) -> String {
    let text = site.read(transcript);
    kdh_ceremony::verify_transcript(&text).unwrap().last_event
}

#[test]
fn a_key_comes_at_two_sittings() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        let checked = printed(&site.program(&["check-plan", "plan.toml"], ""));
        assert!(
            checked.contains("Sitting 2: transcript tmk-transcript-2.jsonl"),
            "{checked}"
        );

        let first = site.execute("plan.toml");
        assert_success(&first);
        for told in [
            "AES-128 from 2 components at 2 sittings (72 hours)",
            "Sitting 1 of 2.",
            "1 of 2 components are in the token; no key was made yet",
            "Sitting 1 of 2 has ended. To be continued until 2",
        ] {
            assert!(
                printed(&first).contains(told),
                "{told}: {}",
                printed(&first)
            );
        }
        assert_eq!(last_event(&site, FIRST_TRANSCRIPT), "to-be-continued");
        assert!(site.keys("kdh").iter().all(|label| label == "partial-sum"));
        let listed = printed(&sums(&site, &["list"]));
        for told in [
            KEY,
            "component 1 of First Custodian, check value A19083",
            "expires at",
        ] {
            assert!(listed.contains(told), "{told}: {listed}");
        }

        // A host may be served by the token meanwhile.
        let check = ["hsm", "check", "--module", &library(), "--label", "kdh"];
        let check = [&check[..], &["--pin-file", "kdh.pin"]].concat();
        assert_success(&site.program(&check, ""));

        let second = site.execute("plan.toml");
        assert_success(&second);
        assert!(
            printed(&second).contains("Sitting 2 of 2."),
            "{}",
            printed(&second)
        );
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_eq!(last_event(&site, SECOND_TRANSCRIPT), "finished");
        let transcript = site.read(SECOND_TRANSCRIPT);
        for part in [
            SUM_KCV,
            "\"custody\":\"recorded\"",
            "earlier sitting",
            "A19083",
            "EC8692",
        ] {
            assert!(transcript.contains(part), "{part}: {transcript}");
        }
        assert!(printed(&sums(&site, &["list"])).contains("keeps no partial sum"));
        for text in [&transcript, &site.read(FIRST_TRANSCRIPT), &printed(&first)] {
            assert_no_secret(text, &site.pins());
        }

        // It is over.
        assert_refused(
            &site.execute("plan.toml"),
            "tmk-transcript-2.jsonl exists already",
        );
    });
}

#[test]
fn a_plan_that_was_changed_between_sittings_is_refused_until_the_sum_is_destroyed() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        assert_success(&site.execute("plan.toml"));
        let plan = site.read("plan.toml");
        // One letter, the key under another label, and the same key at one sitting.
        for (number, (from, to)) in [
            ("Second Custodian", "Second Custodiam"),
            (KEY, "kn.other"),
            ("\nsitting = 2", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let changed = change(&plan, from, to);
            let transcript = format!("changed-{number}.jsonl");
            let changed = change(&changed, FIRST_TRANSCRIPT, &transcript);
            fs::write(site.path("changed.toml"), &changed).unwrap();
            let refused = site.execute("changed.toml");
            assert_refused(
                &refused,
                "the token keeps a partial sum of kn.acquirer-tmk (1 components) from another plan, digest",
            );
            assert_refused(&refused, "`kdh-ceremony sums destroy`");
            assert!(!site.exists(&transcript));
        }
        let digest = Plan::load(
            &site.path("plan.toml"),
            Mode::Real,
            OffsetDateTime::now_utc(),
        );
        let digest = digest.unwrap().digest();
        for (named, because) in [
            (&digest[..7], "by the first 8 characters"),
            (
                "00000000",
                "keeps no partial sum of a plan whose digest begins with 00000000",
            ),
        ] {
            assert_refused(&sums(&site, &["destroy", named]), because);
        }
        assert_refused(
            &sums(&site, &["destroy", &digest[..8], "--act", "2"]),
            "keeps no",
        );
        let destroyed = sums(&site, &["destroy", &digest[..8]]);
        assert_success(&destroyed);
        assert!(printed(&destroyed).contains("First Custodian"));
        assert_eq!(site.keys("kdh"), [""; 0]);
        let changed = change(&plan, "Second Custodian", "Second Custodiam");
        let changed = change(&changed, FIRST_TRANSCRIPT, "new.jsonl");
        fs::write(site.path("changed.toml"), changed).unwrap();
        assert_success(&site.execute("changed.toml"));
        assert_success(&site.execute("changed.toml"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

/// At the next ceremony with the token, whatever it is about.
#[test]
fn an_expired_sum_is_destroyed_and_never_used() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &at_two_sittings(&import_plan()));
        let mut room = Room::new([FIRST]);
        room.run(&site, "plan.toml").unwrap();
        room.assert_all_asked();
        assert!(
            room.seen().contains("To be continued until"),
            "{}",
            room.seen()
        );

        let later = OffsetDateTime::now_utc() + Duration::hours(72);
        let mut room = Room::new([SECOND]);
        let refused = room.run_at(&site, "plan.toml", later).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("tmk-transcript.jsonl: exists already"),
            "{refused}"
        );
        fs::rename(site.path(FIRST_TRANSCRIPT), site.path("expired.jsonl")).unwrap();
        let mut room = Room::new([FIRST]);
        room.run_at(&site, "plan.toml", later).unwrap();
        room.assert_order(&[
            "Sitting 1 of 2.",
            "A partial sum of kn.acquirer-tmk in token kdh was destroyed: it has expired.",
            "hidden: First Custodian",
        ]);
        let transcript = site.read(FIRST_TRANSCRIPT);
        assert!(transcript.contains("partial-sum-destroyed"), "{transcript}");
        let mut room = Room::new([SECOND]);
        room.run_at(&site, "plan.toml", later + Duration::HOUR)
            .unwrap();
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn three_wrong_sums_end_it_also_over_several_starts() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &at_two_sittings(&import_plan()));
        Room::new([FIRST]).run(&site, "plan.toml").unwrap();
        let mistyped = change(SECOND, "315C", "315D");
        // Once, and then nobody answers any more.
        for (number, left) in [(1, 2), (2, 1)] {
            let mut room = Room::new([&mistyped]);
            room.run(&site, "plan.toml").unwrap_err();
            let told = format!("{left} of 3 tries are left");
            assert!(room.seen().contains(&told), "{}", room.seen());
            let kept = format!("{number}.jsonl");
            fs::rename(site.path(SECOND_TRANSCRIPT), site.path(&kept)).unwrap();
            let tried = format!("tried {number} times");
            assert!(printed(&sums(&site, &["list"])).contains(&tried));
        }
        match Room::new([&mistyped]).run(&site, "plan.toml") {
            Err(CeremonyError::Act { cause, .. }) => {
                assert!(cause.to_string().contains("for the third time"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        let transcript = site.read(SECOND_TRANSCRIPT);
        assert!(transcript.contains("partial-sum-destroyed"), "{transcript}");
        assert_eq!(site.keys("kdh"), [""; 0]);
        assert!(printed(&sums(&site, &["list"])).contains("keeps no partial sum"));
    });
}

/// Stopped in the middle of it: the try counts, and the first custodian begins again.
#[test]
fn a_third_try_that_was_stopped_was_the_last() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        assert_success(&site.execute("plan.toml"));
        let token = site.token("kdh");
        let label = &token.list_records("sum.").unwrap()[0];
        let record = token.load_record(label).unwrap().unwrap();
        let record = String::from_utf8(record).unwrap();
        let spent = change(&record, "\"tries\":0", "\"tries\":3");
        token.store_record(label, spent.as_bytes()).unwrap();
        drop(token);
        fs::remove_file(site.path(FIRST_TRANSCRIPT)).unwrap();
        let again = site.execute("plan.toml");
        assert_success(&again);
        for told in [
            "Sitting 1 of 2.",
            "A partial sum of kn.acquirer-tmk in token kdh was destroyed: three wrong combined check values.",
            "Sitting 1 of 2 has ended.",
        ] {
            assert!(printed(&again).contains(told), "{}", printed(&again));
        }
        assert_success(&site.execute("plan.toml"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

/// Every later ceremony with the token stops, until somebody has looked into it.
#[test]
fn a_record_that_somebody_changed_stops_everything() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        assert_success(&site.execute("plan.toml"));
        let token = site.token("kdh");
        let label = token.list_records("sum.").unwrap().remove(0);
        let record = token.load_record(&label).unwrap().unwrap();
        let record = String::from_utf8(record).unwrap();
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"kind\":\"AES-128\"", "\"kind\":\"DES\""),
            ("\"tries\":0", "\"tries\":-1"),
            ("\"act\":1", "\"act\":1,\"more\":1"),
        ] {
            token
                .store_record(&label, change(&record, from, to).as_bytes())
                .unwrap();
            for output in [site.execute("plan.toml"), sums(&site, &["list"])] {
                assert_refused(&output, &format!("a record {label} that is damaged"));
            }
        }
        token.destroy_record(&label).unwrap();
        drop(token);
        // Its objects have no record now, and go.
        fs::remove_file(site.path(FIRST_TRANSCRIPT)).unwrap();
        assert_success(&site.execute("plan.toml"));
        assert_success(&site.execute("plan.toml"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

/// Somebody with the token's PIN writes what moves the cursor, clears the screen, or turns the order round.
#[test]
fn nothing_that_a_token_keeps_controls_the_screen() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        assert_success(&site.execute("plan.toml"));
        let label = site.token("kdh").list_records("sum.").unwrap().remove(0);
        let record = site.token("kdh").load_record(&label).unwrap().unwrap();
        let record = String::from_utf8(record).unwrap();
        let written = |from: &str, to: &str| {
            let changed = change(&record, from, to);
            let token = site.token("kdh");
            token.store_record(&label, changed.as_bytes()).unwrap();
        };
        let assert_shown = |output: &std::process::Output, as_it_is: &str| {
            let shown = printed(output);
            assert!(shown.contains(as_it_is), "{shown}");
            assert!(
                !shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
                "{shown:?}"
            );
        };
        written("First Custodian", "First\\u001b[2J\\u009b2J\\u202e");
        let listed = sums(&site, &["list"]);
        let custodian = "of First\\u{1b}[2J\\u{9b}2J\\u{202e}, check value A19083";
        assert_shown(&listed, custodian);
        written("\"act\":1", "\"act\":1,\"\\u001b[2J\":1");
        for output in [site.execute("plan.toml"), sums(&site, &["list"])] {
            assert_shown(&output, "unknown field `\\u{1b}[2J`");
        }
        written("\"format\":1", "\"format\":1");
        let destroyed = sums(&site, &["destroy", &label["sum.".len()..][..8]]);
        assert_success(&destroyed);
    });
}

#[test]
fn a_repeated_component_is_found_at_a_later_sitting() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &at_two_sittings(&import_plan()));
        Room::new([FIRST]).run(&site, "plan.toml").unwrap();
        let refused = Room::new([FIRST]).run(&site, "plan.toml").unwrap_err();
        assert!(
            refused.to_string().contains("was added before"),
            "{refused}"
        );
        fs::remove_file(site.path(SECOND_TRANSCRIPT)).unwrap();
        Room::new([SECOND]).run(&site, "plan.toml").unwrap();
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn a_module_without_data_has_one_sitting_only() {
    hsm_modules::on(&[&NSS], |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &two_sittings(&site));
        let refused = site.execute("plan.toml");
        assert_refused(
            &refused,
            "to keep a partial sum between sittings is not possible with this module, which lacks private data \
             objects",
        );
        assert_eq!(site.keys("kdh"), [""; 0]);
        drop(module());
    });
}
