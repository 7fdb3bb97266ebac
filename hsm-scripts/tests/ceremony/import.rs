//! A master key that comes in components, from files and typed in.

use std::fs;

use kdh_ceremony::{CeremonyError, KcvAnswer};

use hsm_modules::spy;

use crate::{
    common::{on_every_module, spy_log, with_spy_on_every_module},
    room::Room,
    site::{
        FIRST, IMPORT, KEY, SAMPLE_MODULE, SECOND, SUM_KCV, Site, assert_no_secret, assert_refused,
        assert_success, change, import_plan, import_plan_with_files, printed, unattended,
    },
};

const TRANSCRIPT: &str = "tmk-transcript.jsonl";

#[test]
fn two_components_in_files_make_the_key() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        assert_eq!(site.keys("kdh"), [""; 0]);
        let output = site.execute("plan.toml");
        assert_success(&output);
        assert_eq!(site.keys("kdh"), [KEY]);
        assert!(printed(&output).contains(SUM_KCV));

        // A second time nothing happens, also under another transcript.
        let before = site.read(TRANSCRIPT);
        assert_refused(&site.execute("plan.toml"), "exists already");
        assert_eq!(site.read(TRANSCRIPT), before);
        let again = change(&site.read("plan.toml"), TRANSCRIPT, "again.jsonl");
        fs::write(site.path("again.toml"), again).unwrap();
        assert_refused(&site.execute("again.toml"), KEY);
        assert!(!site.exists("again.jsonl"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

/// One thing is wrong in each; nothing is kept, and the name stays free.
#[test]
fn a_wrong_component_or_check_value_leaves_no_key() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let good = unattended(&import_plan_with_files(&site));
        let zeros = "0".repeat(32);
        let half_zero = format!("{}{}", &FIRST[..16], &zeros[..16]);
        let cases = [
            ("sum", "CBDF95", "CBDF96", FIRST, SECOND, "CBDF95"),
            ("longer", "CBDF95", "CBDF9500", FIRST, SECOND, "CBDF95"),
            ("first", "A19083", "A19084", FIRST, SECOND, "A19083"),
            ("second", "EC8692", "EC8693", FIRST, SECOND, "EC8692"),
            ("swapped", "CBDF95", "CBDF95", SECOND, FIRST, "EC8692"),
            ("zero", "CBDF95", "CBDF95", &zeros, SECOND, "zero"),
            ("half", "CBDF95", "CBDF95", &half_zero, SECOND, "zero"),
            ("short", "CBDF95", "CBDF95", &FIRST[..16], SECOND, "16"),
            ("long", "CBDF95", "CBDF95", FIRST, &SECOND.repeat(2), "32"),
        ];
        for (name, from, to, first, second, because) in cases {
            site.write_private("first.hex", first);
            site.write_private("second.hex", second);
            let plan = change(&good, from, to);
            let transcript = format!("{name}.jsonl");
            site.write_plan("plan.toml", &change(&plan, TRANSCRIPT, &transcript));
            let output = site.execute("plan.toml");
            assert_refused(&output, because);
            assert_eq!(site.keys("kdh"), [""; 0], "{name}");
            assert_no_secret(&printed(&output), &site.pins());
            // A fault that was found in the plan leaves no transcript.
            if site.exists(&transcript) {
                let text = site.read(&transcript);
                let verified = kdh_ceremony::verify_transcript(&text).unwrap();
                assert_eq!(verified.last_event, "failed", "{name}");
                assert_no_secret(&text, &site.pins());
            }
        }
        site.write_private("first.hex", FIRST);
        site.write_private("second.hex", SECOND);
        site.write_plan("plan.toml", &good);
        assert_success(&site.execute("plan.toml"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn a_component_that_comes_twice_is_refused() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let plan = unattended(&import_plan_with_files(&site));
        site.write_private("second.hex", FIRST);
        site.write_plan("plan.toml", &change(&plan, "EC8692", "A19083"));
        assert_refused(&site.execute("plan.toml"), "was added before");
        assert_eq!(site.keys("kdh"), [""; 0]);
    });
}

#[test]
fn a_failed_act_takes_itself_back_and_leaves_those_before_it() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let good = unattended(&import_plan_with_files(&site));
        let act = &good[good.find("[[acts]]").unwrap()..];
        let second = change(&change(act, KEY, "kn.second"), SUM_KCV, "000000");
        let third = change(act, KEY, "kn.third");
        site.write_plan("plan.toml", &format!("{good}\n{second}\n{third}"));
        let output = site.execute("plan.toml");
        assert_refused(&output, "act 2 (import-components) failed");
        assert_refused(&output, "act 1 (import-components): key kn.acquirer-tmk");
        assert_eq!(site.keys("kdh"), [KEY]);
        let transcript = site.read(TRANSCRIPT);
        let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
        assert_eq!(verified.last_event, "failed");
        assert!(!transcript.contains("kn.third"), "{transcript}");
    });
}

#[test]
fn a_plan_initializes_its_token_itself_and_only_once() {
    on_every_module(|_| {
        let site = Site::new(&[]);
        site.write_private("kdh.pin", "31415926");
        site.write_private("kdh.so-pin", "27182818");
        let plan = unattended(&import_plan_with_files(&site));
        let initialize = "[[acts]]\nact = \"initialize-token\"\ntoken = \"kdh\"\n\n[[acts]]\n";
        let plan = change(&plan, "[[acts]]\n", initialize);
        let module = format!("module = \"{SAMPLE_MODULE}\"\n");
        let with_pin = format!("{module}so-pin-file = \"kdh.so-pin\"\n");
        site.write_plan("plan.toml", &change(&plan, &module, &with_pin));
        let output = site.execute("plan.toml");
        assert_success(&output);
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_no_secret(&printed(&output), &site.pins());
        assert_no_secret(&site.read(TRANSCRIPT), &site.pins());

        let again = change(&site.read("plan.toml"), TRANSCRIPT, "again.jsonl");
        fs::write(site.path("again.toml"), again).unwrap();
        assert_refused(&site.execute("again.toml"), "a token called kdh exists");
        assert!(!site.exists("again.jsonl"));
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn no_secret_is_printed_or_written() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        let output = site.execute("plan.toml");
        assert_success(&output);
        let pins = site.pins();
        assert_eq!(pins.len(), 2);
        assert_no_secret(&printed(&output), &pins);
        for (path, contents) in site.files() {
            let extension = path.extension().unwrap().to_string_lossy().into_owned();
            if !["pin", "so-pin", "hex"].contains(&&*extension) {
                assert_no_secret(&String::from_utf8(contents).unwrap(), &pins);
            }
        }
    });
}

/// The PKCS#11 spy would have seen a call.
#[test]
fn the_hsm_is_opened_only_after_every_officer_confirmed() {
    with_spy_on_every_module(|place| {
        let site = Site::new(&["kdh"]);
        let plan = change(
            &import_plan_with_files(&site),
            SAMPLE_MODULE,
            spy().unwrap().to_str().unwrap(),
        );
        site.write_plan("plan.toml", &plan);
        let checked = printed(&site.program(&["check-plan", "plan.toml"], ""));
        let (_, shown) = checked.split_once(":\n").unwrap();
        let groups: Vec<_> = shown.split_whitespace().collect();
        assert!(groups.iter().all(|group| group.len() == 4), "{checked}");
        let digest = groups.concat();
        assert_eq!(digest.len(), 64, "{checked}");
        let right = &digest[..32];
        let spied = || spy_log(place).exists();
        let wrong_at = |index: usize, text: &str| {
            let other = if &text[index..=index] == "0" {
                "1"
            } else {
                "0"
            };
            format!("{}{other}{}", &text[..index], &text[index + 1..])
        };
        let typed_by_both = [String::new(), format!("{right}\n")];
        let typed_by_one = [
            String::new(),
            "yes".to_owned(),
            " - ".to_owned(),
            digest[..8].to_owned(),
            digest[..31].to_owned(),
            // As long only with what does not count.
            format!("{}-", &digest[..31]),
            format!("{} - {}", &digest[..8], &digest[8..31]),
            wrong_at(0, right),
            wrong_at(31, right),
            // Nobody has to type more, but what is typed is right.
            wrong_at(32, &digest[..33]),
            wrong_at(63, &digest),
            format!("{digest}0"),
            // Its end, and groups with another sign between them.
            digest[40..].to_owned(),
            groups[..8].join("."),
            groups[..8].join("\u{2013}"),
            format!("0x{right}"),
        ]
        .into_iter()
        .flat_map(|bad| [format!("{bad}\n{right}\n"), format!("{right}\n{bad}\n")]);
        for typed in typed_by_both.into_iter().chain(typed_by_one) {
            let output = site.program(&["run", "plan.toml"], &typed);
            assert_refused(&output, "stopped:");
            assert!(!spied(), "{typed:?}");
            assert!(!site.exists(TRANSCRIPT), "{typed:?}");
        }
        // In groups of either kind, either case, and more than has to be typed.
        let typed = format!(
            "{}\n {}\n",
            groups[..8].join(" ").to_uppercase(),
            groups.join("-")
        );
        let output = site.program(&["run", "plan.toml"], &typed);
        assert_success(&output);
        assert!(printed(&output).contains(shown), "{}", printed(&output));
        assert!(spied());
        assert_eq!(site.keys("kdh"), [KEY]);
        let transcript = site.read(TRANSCRIPT);
        assert!(transcript.contains(&digest));
        assert!(transcript.contains("Second Officer"));
    });
}

#[test]
fn custodians_type_their_components_one_after_the_other() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &import_plan());
        let mut room = Room::new([FIRST, SECOND]);
        room.run(&site, "plan.toml").unwrap();
        assert_eq!(site.keys("kdh"), [KEY]);
        room.assert_all_asked();
        assert_no_secret(&room.seen(), &site.pins());
        let order = [
            "digest: First Officer",
            "digest: Second Officer",
            "[alone: First Custodian]",
            "hidden: First Custodian",
            "A19083",
            "[parted]",
            "[alone: Second Custodian]",
            "hidden: Second Custodian",
            "EC8692",
            "[parted]",
            SUM_KCV,
        ];
        room.assert_order(&order);
        // What the first custodian saw is gone when the second one comes.
        assert_no_secret(&site.read(TRANSCRIPT), &site.pins());
        assert!(site.read(TRANSCRIPT).contains("First Custodian"));
    });
}

#[test]
fn what_has_not_the_form_of_a_component_is_typed_again() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &import_plan());
        let printed_in_groups = "7a4f 19c3 d05b 62e8 8e13 f6a9 27c4 b05d";
        let mut room = Room::new([
            "7A4F19C3D05B62E8-no",
            "",
            &FIRST[..16],
            printed_in_groups,
            "7A4",
            &SECOND.repeat(2),
            SECOND,
        ]);
        room.run(&site, "plan.toml").unwrap();
        assert_eq!(site.keys("kdh"), [KEY]);
        room.assert_all_asked();
        assert_no_secret(&room.seen(), &site.pins());
    });
}

/// The first is of the right form and was mistyped: its check value shows it, and it is not in the
/// sum.
#[test]
fn a_custodian_who_says_no_types_again() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &import_plan());
        let mistyped = change(FIRST, "7A4F", "7A4E");
        let mut room = Room::new([&mistyped, FIRST, SECOND]);
        room.confirm_with([KcvAnswer::TypeAgain, KcvAnswer::Yes, KcvAnswer::Yes]);
        room.run(&site, "plan.toml").unwrap();
        room.assert_all_asked();
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_no_secret(&room.seen(), &site.pins());
    });
}

#[test]
fn a_custodian_who_says_stop_stops_the_import() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let stop = (KcvAnswer::Stop, KcvAnswer::Yes);
        let answers = [[stop.0, stop.1], [stop.1, stop.0]];
        for (number, answers) in answers.into_iter().enumerate() {
            let transcript = format!("{number}.jsonl");
            site.write_plan(
                "plan.toml",
                &change(&import_plan(), TRANSCRIPT, &transcript),
            );
            let mut room = Room::new([FIRST, SECOND]);
            room.confirm_with(answers);
            match room.run(&site, "plan.toml") {
                Err(CeremonyError::Act {
                    number: 1,
                    cause,
                    standing,
                    ..
                }) => {
                    assert!(matches!(*cause, CeremonyError::Declined(_)), "{cause}");
                    assert!(standing.is_empty());
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(site.keys("kdh"), [""; 0]);
            let verified = kdh_ceremony::verify_transcript(&site.read(&transcript)).unwrap();
            assert_eq!(verified.last_event, "failed");
        }
    });
}

#[test]
fn typed_components_of_another_key_are_refused() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", IMPORT);
        // The last custodian types theirs three times.
        let mut room = Room::new([FIRST, SECOND, SECOND, SECOND]);
        match room.run(&site, "plan.toml") {
            Err(CeremonyError::Act { cause, .. }) => {
                let cause = cause.to_string();
                let start = "the combined check value is CBDF95, not A1B2C3, for the third time";
                assert!(cause.starts_with(start), "{cause}");
            }
            other => panic!("{other:?}"),
        }
        room.assert_all_asked();
        room.assert_order(&["2 of 3 tries are left", "1 of 3 tries are left"]);
        assert_eq!(site.keys("kdh"), [""; 0]);
        let transcript = site.read(TRANSCRIPT);
        assert_eq!(transcript.matches("combined-kcv-wrong").count(), 3);
        assert_eq!(transcript.matches("component-entered").count(), 4);
        assert_no_secret(&room.seen(), &site.pins());
    });
}
