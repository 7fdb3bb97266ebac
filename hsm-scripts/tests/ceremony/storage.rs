//! Storage keys: made inside, in pairs, each after the one before.

use std::fs;

use hsm::{KeyRole, StorageNumber, TokenGroup};

use crate::{
    common::on_every_module,
    site::{
        NEXT_STORAGE_KEYS, Site, assert_refused, assert_success, change, first_storage_keys,
        printed, unattended,
    },
};

/// Rehearses it, and executes it then.
fn hold(site: &Site, plan: &str) -> String {
    site.write_plan("plan.toml", &unattended(plan));
    let before = site.keys("kdh");
    assert_success(&site.program(&["run", "plan.toml", "--rehearse"], ""));
    assert_eq!(site.keys("kdh"), before);
    let made = site.execute("plan.toml");
    assert_success(&made);
    printed(&made)
}

#[test]
fn pairs_are_made_inside_one_after_the_other() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let told = hold(&site, &first_storage_keys());
        for part in [
            "1. storage-keys: AES-256, keys ksk.1 and ksm.1 in token kdh\n",
            "AES-256, keys ksk.1 and ksm.1 in token kdh, made inside the HSM and never extractable\n",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(site.keys("kdh"), ["ksk.1", "ksm.1"]);
        let again = change(&site.read("plan.toml"), "storage-transcript", "again");
        fs::write(site.path("again.toml"), again).unwrap();
        assert_refused(&site.execute("again.toml"), "a key called ksk.1 exists");

        let next = change(NEXT_STORAGE_KEYS, "storage-transcript", "next-transcript");
        let told = hold(&site, &next);
        let follows = "keys ksk.2 and ksm.2 in token kdh, to follow ksk.1 and ksm.1\n";
        assert!(told.contains(follows), "{told}");
        assert_eq!(site.keys("kdh"), ["ksk.1", "ksk.2", "ksm.1", "ksm.2"]);

        let token = site.token("kdh");
        for strength in token.key_strengths().unwrap() {
            let role = KeyRole::MADE_INSIDE
                .into_iter()
                .find(|role| strength.key.label.starts_with(role.label_prefix()));
            assert_eq!(role, Some(strength.role));
            assert_eq!(strength.weaknesses, [""; 0]);
            assert_eq!(strength.key.kind, "AES-256");
            let extractable = "CKA_EXTRACTABLE";
            assert!(!strength.key.attributes.contains(&extractable));
        }
        // As a host finds them, which tries them.
        let found = TokenGroup::from(token).storage_numbers().unwrap();
        assert_eq!(found, [1, 2].map(|n| StorageNumber::new(n).unwrap()));

        for (transcript, pair) in [
            ("storage-transcript.jsonl", "ksk.1 and ksm.1"),
            ("next-transcript.jsonl", "ksk.2 and ksm.2"),
        ] {
            let report = format!("{transcript}.html");
            let verify = [
                "verify",
                transcript,
                "--accept-unsigned",
                "--report",
                &report,
            ];
            let verified = site.program(&verify, "");
            assert_success(&verified);
            let told = format!(
                "Act 1 (storage-keys) made the storage keys {pair} in token kdh, AES-256 each: inside the HSM, which \
                 never gives them out, so that nobody knows either."
            );
            for text in [printed(&verified), site.read(&report)] {
                assert!(text.contains(&told), "{text}");
            }
        }
    });
}
