//! Components, their check values and that of their sum.

use hsm::KeyName;
use hsm_modules::SOFTHSM;
use kdh_ceremony::KcvAnswer;

use super::{Chapter, refused_plans, run, said, settled, told, with_files};
use crate::{
    room::Room,
    site::{FIRST, GIVE_OUT, KEY, SECOND, Site, assert_success, change, import_plan},
};

#[test]
fn components() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let mut chapter = Chapter::new(3, "Components and their sum");
        let good = with_files(&site);
        refused_plans(
            &mut chapter,
            &site,
            &good,
            &[],
            &[
                ("the check value of a component", "A19083", "A19084"),
                ("the check value of the last component", "EC8692", "EC8693"),
                (
                    "the check value of the sum, components in files",
                    "\"CBDF95\"",
                    "\"CBDF96\"",
                ),
                (
                    "a later digit of a longer check value of the sum",
                    "\"CBDF95\"",
                    "\"CBDF9500\"",
                ),
            ],
        );
        let typed = import_plan();
        let zeros = "0".repeat(32);
        let half_zero = format!("{}{}", &FIRST[..16], &zeros[..16]);
        let twins = FIRST[..16].repeat(2);
        // With the first, it makes a sum of equal halves.
        let complement = xor(FIRST, &SECOND[..16].repeat(2));
        for (wrong, entered) in [
            ("a component of zeros", [FIRST, &zeros]),
            ("a component of which half is zeros", [FIRST, &half_zero]),
            ("a component of equal halves", [FIRST, &twins]),
            ("the same component twice", [FIRST, FIRST]),
            ("a sum of equal halves", [FIRST, &complement]),
        ] {
            chapter.case(wrong, typed_in(&site, &typed, &entered));
        }
        let mistyped = change(SECOND, "315C", "315D");
        let wrong_sums = [FIRST, &mistyped, &mistyped, &mistyped];
        chapter.case(
            "the check value of the sum, three times",
            typed_in(&site, &typed, &wrong_sums),
        );
        site.write_plan("plan.toml", &typed);
        let mut room = Room::new([FIRST, &mistyped]);
        let _nobody_answers = room.run(&site, "plan.toml").unwrap_err();
        let seen = room.seen();
        let again = seen
            .lines()
            .find(|line| line.starts_with("The sum"))
            .unwrap();
        chapter.case("the check value of the sum, once", settled(&site, again));
        std::fs::remove_file(site.path("tmk-transcript.jsonl")).unwrap();
        let mut room = Room::new([FIRST]);
        room.confirm_with([KcvAnswer::Stop]);
        chapter.case(
            "the custodian does not know the check value",
            told(&site, room.run(&site, "plan.toml")),
        );
        std::fs::remove_file(site.path("tmk-transcript.jsonl")).unwrap();
        assert_eq!(site.keys("kdh"), [""; 0]);

        custody(&mut chapter, &site, &good);
        give_out(&mut chapter, &site);
        chapter.assert_is_in_the_book();
    });
}

fn xor(one: &str, other: &str) -> String {
    let bytes = |text| hex::decode(text).unwrap();
    let sum: Vec<_> = bytes(one)
        .iter()
        .zip(bytes(other))
        .map(|(a, b)| a ^ b)
        .collect();
    hex::encode_upper(sum)
}

/// By people who type, each time with other custodians.
fn typed_in(site: &Site, plan: &str, components: &[&str]) -> String {
    forget_custody(site);
    site.write_plan("plan.toml", plan);
    let mut room = Room::new([]);
    room.types(components);
    let said = told(site, room.run(site, "plan.toml"));
    room.assert_all_asked();
    std::fs::remove_file(site.path("tmk-transcript.jsonl")).unwrap();
    assert_eq!(site.keys("kdh"), [""; 0], "{said}");
    said
}

/// As if nobody had ever held a component.
pub(super) fn forget_custody(site: &Site) {
    let token = site.token("kdh");
    for label in token.list_records("custody.").unwrap() {
        token.destroy_record(&label).unwrap();
    }
}

fn custody(chapter: &mut Chapter, site: &Site, good: &str) {
    forget_custody(site);
    assert_success(&run(site, good));
    site.token("kdh")
        .destroy_key(&KeyName::new(KEY).unwrap())
        .unwrap();
    let label = site
        .token("kdh")
        .list_records("custody.")
        .unwrap()
        .remove(0);
    for (wrong, plan) in [
        (
            "a custodian with a second component, in a later ceremony",
            change(good, "\"Second Custodian\"", "\"FIRST custodian\"").replacen(
                "\"First Custodian\"",
                "\"Somebody Else\"",
                1,
            ),
        ),
        (
            "a custodian with a second component, of the key under another label",
            change(good, "\"Second Custodian\"", "\"FIRST custodian\"")
                .replacen("\"First Custodian\"", "\"Somebody Else\"", 1)
                .replace(KEY, "kn.other"),
        ),
    ] {
        chapter.case(wrong, said(site, &run(site, &plan)));
        assert_eq!(site.keys("kdh"), [""; 0], "{wrong}");
    }
    let record = site.token("kdh").load_record(&label).unwrap().unwrap();
    let record = String::from_utf8(record).unwrap();
    for (wrong, from, to) in [
        (
            "a record of custody in another format",
            "\"format\":1",
            "\"format\":2",
        ),
        ("a record of custody that was cut", "}]", ""),
    ] {
        let changed = change(&record, from, to);
        site.token("kdh")
            .store_record(&label, changed.as_bytes())
            .unwrap();
        chapter.case(wrong, said(site, &run(site, good)));
        assert_eq!(site.keys("kdh"), [""; 0], "{wrong}");
    }
    site.token("kdh").destroy_record(&label).unwrap();
}

fn give_out(chapter: &mut Chapter, site: &Site) {
    site.write_plan("plan.toml", GIVE_OUT);
    let mut room = Room::new([FIRST, FIRST, FIRST, FIRST, FIRST]);
    chapter.case(
        "a component that was given out was not written down",
        told(site, room.run(site, "plan.toml")),
    );
    assert_eq!(site.keys("kdh"), [""; 0]);
}
