//! Who held which component: kept in the key's token, over all ceremonies.

use hsm::KeyName;
use hsm_modules::{NSS, TERMINALS};

use crate::site::{
    FIRST, FIRST_KCV, KEY, SECOND, SECOND_KCV, Site, assert_refused, assert_success, change,
    import_plan_with_files, unattended,
};

/// A plan with other custodians, its own transcript, and the components of the files in this order.
fn plan(site: &Site, number: usize, custodians: [&str; 2], swapped: bool) -> String {
    let plan = unattended(&import_plan_with_files(site));
    let plan = change(
        &plan,
        "\"First Custodian\"",
        &format!("\"{}\"", custodians[0]),
    );
    let plan = change(
        &plan,
        "\"Second Custodian\"",
        &format!("\"{}\"", custodians[1]),
    );
    if swapped {
        site.write_private("first.hex", SECOND);
        site.write_private("second.hex", FIRST);
    }
    let plan = if swapped {
        let plan = change(&plan, FIRST_KCV, "?");
        let plan = change(&plan, SECOND_KCV, FIRST_KCV);
        change(&plan, "?", SECOND_KCV)
    } else {
        plan
    };
    change(&plan, "tmk-transcript.jsonl", &format!("{number}.jsonl"))
}

/// The key comes back time and again, after it was destroyed.
#[test]
fn nobody_brings_two_components_of_a_key_in_whatever_ceremony() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        let name = KeyName::new(KEY).unwrap();
        let anna = "Anna entered component 1 (check value A19083) of this key (AES-128, check value CBDF95)";
        let ben = "Ben entered component 2 (check value EC8692) of this key (AES-128, check value CBDF95)";
        for (number, (custodians, swapped, refused)) in [
            (["Anna", "Ben"], false, None),
            // Both the same components again.
            (["Anna", "Ben"], false, None),
            (["Ben", "Anna"], true, None),
            // Each the other's.
            (["Ben", "Anna"], false, Some(ben)),
            (["Anna", "Ben"], true, Some(anna)),
            // One of them was away in between, and comes back under another spelling.
            (["Carl", "Ben"], false, None),
            (["Carl", " ANNA"], false, Some(anna)),
            (["Dora", "Carl"], false, Some("Carl entered component 1")),
            (["Anna", "Emil"], false, None),
        ]
        .into_iter()
        .enumerate()
        {
            let plan = plan(&site, number, custodians, swapped);
            site.write_plan("plan.toml", &plan);
            let output = site.execute("plan.toml");
            if let Some(because) = refused {
                assert_refused(&output, because);
                assert_refused(&output, "Have another person bring this one");
                assert_eq!(site.keys("kdh"), [""; 0]);
            } else {
                assert_success(&output);
                assert_eq!(site.keys("kdh"), [KEY]);
                site.token("kdh").destroy_key(&name).unwrap();
            }
        }
        let records = site.token("kdh").list_records("custody.").unwrap();
        assert_eq!(records, ["custody.aes-128.cbdf95"]);
    });
}

#[test]
fn another_label_makes_no_other_key_of_it() {
    hsm_modules::on(&TERMINALS, |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &plan(&site, 1, ["Anna", "Ben"], false));
        assert_success(&site.execute("plan.toml"));
        let other = plan(&site, 2, ["Ben", "Anna"], false);
        let other = change(&other, KEY, "kn.other");
        // A longer check value announces the same key.
        let other = change(&other, "\"CBDF95\"", "\"CBDF9500\"");
        site.write_plan("plan.toml", &other);
        assert_refused(&site.execute("plan.toml"), "Ben entered component 2");
        assert_eq!(site.keys("kdh"), [KEY]);
    });
}

#[test]
fn where_nothing_is_kept_the_plan_has_to_say_so() {
    hsm_modules::on(&[&NSS], |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &plan(&site, 1, ["Anna", "Ben"], false));
        let accepted = site.read("plan.toml");
        let silent = change(&accepted, "custody = \"unrecorded\"\n", "");
        std::fs::write(site.path("silent.toml"), silent).unwrap();
        let refused = site.execute("silent.toml");
        assert_refused(
            &refused,
            "act 1 (import-components) cannot be done: custody: the token keeps no data",
        );
        assert_refused(
            &refused,
            "custody = \"unrecorded\", which goes on the record",
        );
        assert!(!site.exists("1.jsonl"));

        let output = site.execute("plan.toml");
        assert_success(&output);
        assert!(crate::site::printed(&output).contains("CUSTODY MAY GO UNRECORDED"));
        assert!(site.read("1.jsonl").contains("\"custody\":\"unrecorded\""));
    });
}
