//! An act that fails leaves nothing, those before it stand, and a plan for the rest goes on.

use std::fs;

use kdh_ceremony::CeremonyError;

use crate::{
    common::on_every_module,
    room::Room,
    site::{
        Site, TWO_SUB_CAS, assert_refused, assert_success, change, library, printed, unattended,
    },
};

/// The sample's plan, its acts from `first` to the one before `end`, and its transcript's name.
fn acts(first: &str, end: &str, transcript: &str) -> String {
    let sample = unattended(TWO_SUB_CAS);
    let heads = sample.find("[[acts]]").unwrap();
    let begin = |act: &str| {
        let found = sample.find(act).unwrap();
        sample[..found].rfind("[[acts]]").unwrap()
    };
    let part = &sample[begin(first)..begin(end)];
    let plan = format!("{}{part}", &sample[..heads]);
    let audit = "audit = { token = \"kdh\", key = \"audit\", certificate = \"audit.pem\" }";
    let plan = change(&plan, audit, "");
    change(&plan, "pki-transcript.jsonl", transcript)
}

/// For tokens that stand in the plan and are not used.
fn write_unused_pins(site: &Site, labels: &[&str]) {
    for label in labels {
        site.write_private(&format!("{label}.pin"), "not used");
    }
}

#[test]
fn a_failed_act_leaves_neither_key_nor_file_and_the_rest_goes_on() {
    on_every_module(|_| {
        let site = Site::new(&["root", "issuing"]);
        write_unused_pins(
            &site,
            &["kdh", "operator", "first-custodian", "second-custodian"],
        );
        let (root, krd, kdh) = (
            "key = \"ca-root\"\n",
            "key = \"ca-krd\"",
            "key = \"ca-kdh\"",
        );
        site.write_plan("plan.toml", &acts(root, kdh, "first.jsonl"));
        // Somebody takes the name of an act's output as soon as the act begins.
        let file = site.path("ca-krd.pem");
        let mut saboteurs = Room::new([]);
        saboteurs.when_act_begins(move |number| {
            if number == 2 {
                fs::write(&file, "mine").unwrap();
            }
        });
        let error = saboteurs.run(&site, "plan.toml").unwrap_err();
        let CeremonyError::Act {
            number,
            left,
            standing,
            ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!((*number, left.len(), standing.len()), (2, 0, 1));
        for part in ["ca-krd.pem", "act 1 (root-ca)", "root.pem", "with act 2"] {
            assert!(error.to_string().contains(part), "{error}");
        }

        // The key went; what was somebody else's did not.
        assert_eq!(site.keys("issuing"), [""; 0]);
        assert_eq!(site.read("ca-krd.pem"), "mine");
        assert!(!site.exists("ca-krd.pem.new"));
        let transcript = site.read("first.jsonl");
        let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
        assert_eq!(verified.last_event, "failed");
        let last = transcript.lines().last().unwrap();
        assert!(last.contains("key ca-krd in token issuing"), "{last}");
        // Its last hash is said, for the minutes: nobody could leave it out there unnoticed.
        let (_, head) = last.rsplit_once("\"hash\":\"").unwrap();
        saboteurs.assert_order(&[
            "[act 2: Err",
            &format!("first.jsonl\", head: \"{}\"", head.trim_end_matches("\"}")),
        ]);

        // The act before it stands.
        assert_eq!(site.keys("root"), ["ca-root", "ca-root"]);
        assert_refused(&site.execute("plan.toml"), "root.pem exists already");
        fs::remove_file(site.path("ca-krd.pem")).unwrap();
        site.write_plan("rest.toml", &acts(krd, kdh, "second.jsonl"));
        assert_success(&site.execute("rest.toml"));
        assert_eq!(site.keys("issuing"), ["ca-krd", "ca-krd"]);
    });
}

#[test]
fn a_wrong_pin_is_tried_once_and_leaves_no_transcript() {
    on_every_module(|_| {
        let site = Site::new(&["root"]);
        site.write_private("root.pin", "not the PIN");
        let plan = acts("key = \"ca-root\"\n", "key = \"ca-krd\"", "first.jsonl");
        write_unused_pins(
            &site,
            &[
                "issuing",
                "kdh",
                "operator",
                "first-custodian",
                "second-custodian",
            ],
        );
        site.write_plan("plan.toml", &plan);
        assert_refused(&site.execute("plan.toml"), "the PIN is incorrect");
        assert!(!site.exists("first.jsonl"));
        let listed = site.program(&["hsm", "check", "--module", &library()], "");
        assert_refused(&listed, "no token was checked");
        assert!(printed(&listed).contains("root: "));
    });
}
