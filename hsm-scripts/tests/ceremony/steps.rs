//! What acts say of components is held against the steps in which people came to know them, by somebody who signs
//! as everybody: each case differs from a good record in one thing.

use std::collections::BTreeMap;

use hsm::{KeyRole, SigningKey};
use hsm_modules::SOFTHSM;
use kdh_ceremony::{Expected, Trust, verify_records};
use pki::Certificate;
use serde_json::json;

use crate::{
    bank::{self, Forgery, certify_third_custodian, founded, signing_key},
    people::{OTHER, PEOPLE, at_two_sittings, of_people, third},
    room::Room,
    site::{FIRST, GIVE_OUT, Site, change},
};

/// Transcripts, and the keys of those who signed them.
struct World {
    good: Vec<Forgery>,
    keys: BTreeMap<&'static str, SigningKey>,
    trust: Trust,
}

impl World {
    fn of(site: &Site, people: &[(&'static str, &str)], transcripts: &[&str]) -> Self {
        let mut keys: BTreeMap<_, _> = people
            .iter()
            .map(|(id, token)| {
                (
                    *id,
                    signing_key(site, token, KeyRole::Custodian, "custodian"),
                )
            })
            .collect();
        keys.insert("", signing_key(site, "kdh", KeyRole::Audit, "audit"));
        let ca = Certificate::from_pem(&site.read("ca-ops.pem")).unwrap();
        Self {
            good: transcripts
                .iter()
                .map(|transcript| Forgery::of(&site.read(transcript)))
                .collect(),
            keys,
            trust: Trust::new(Some(ca), None).unwrap(),
        }
    }

    /// What is missing, or which transcript does not hold, and why.
    fn says(&self, change: impl FnOnce(&mut Vec<Forgery>)) -> Result<Vec<String>, (usize, String)> {
        let mut forgeries = self.good.clone();
        change(&mut forgeries);
        let keys: BTreeMap<_, _> = self.keys.iter().map(|(who, key)| (*who, key)).collect();
        let texts: Vec<_> = forgeries
            .iter()
            .map(|forgery| forgery.write(&keys))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let records = verify_records(&texts, &self.trust, Expected::Ceremony)
            .map_err(|(index, error)| (index, error.to_string()))?;
        let missing = records.iter().flat_map(|record| &record.missing);
        Ok(missing.map(ToString::to_string).collect())
    }
}

/// The line of this event, the `nth` of them, counted from 0.
fn at(forgery: &Forgery, event: &str, nth: usize) -> usize {
    let lines = forgery.lines.iter().enumerate();
    let mut found = lines.filter(|(_, line)| line.1 == event);
    found.nth(nth).unwrap().0
}

type Case<'a> = (&'a str, &'a dyn Fn(&mut Vec<Forgery>), usize, &'a str);

fn assert_refused(world: &World, cases: &[Case<'_>]) {
    assert_eq!(world.says(|_| ()), Ok(Vec::new()));
    let mut missed = Vec::new();
    for (case, change, index, expected) in cases {
        let found = world.says(change);
        if found != Err((*index, (*expected).to_owned())) {
            missed.push(format!("{case}: {found:?}, not {expected:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

const NO_STEP: &str =
    "and no step of theirs before it says that they held it, with this check value";

/// Began, sitting, three confirmed and signed ... as it is written by a real ceremony.
#[test]
fn a_component_of_an_import_was_entered_by_whom_the_act_names() {
    bank::on(&[&SOFTHSM], |_| {
        let site = founded();
        certify_third_custodian(&site);
        site.write_plan("zone.toml", &of_people(&at_two_sittings(), &PEOPLE));
        Room::new([FIRST, OTHER]).run(&site, "zone.toml").unwrap();
        Room::new([&*third()]).run(&site, "zone.toml").unwrap();
        let world = World::of(
            &site,
            &PEOPLE,
            &["zone-transcript.jsonl", "zone-transcript-2.jsonl"],
        );
        let [one, two] = &world.good[..] else {
            panic!("two sittings")
        };
        let (first, second) = (
            at(one, "component-entered", 0),
            at(one, "component-entered", 1),
        );
        let (ended, last) = (at(one, "sitting-ended", 0), at(two, "component-entered", 0));
        let (made, sitting) = (at(two, "import-components", 0), at(two, "sitting", 0));
        let line = |index: usize, rest: &str| format!("line {} {rest}", index + 1);
        let lacks = |index, what: &str| {
            line(
                index,
                &format!("lacks {what}, or has something else in its place"),
            )
        };
        let without_step = |index, component: usize, who: &str| {
            line(
                index,
                &format!("uses component {component} of {who}, {NO_STEP}"),
            )
        };
        let not_signed = |index, who: &str| {
            line(
                index,
                &format!("says that {who} did this, and their signature does not follow"),
            )
        };
        assert_refused(
            &world,
            &[
                (
                    "nobody entered it",
                    &|f| drop(f[0].lines[first].2.as_object_mut().unwrap().remove("by")),
                    0,
                    &lacks(first, "who did it"),
                ),
                (
                    "nobody confirmed",
                    &|f| drop(f[1].lines[1].2.as_object_mut().unwrap().remove("by")),
                    1,
                    "line 2 lacks who did it, or has something else in its place",
                ),
                (
                    "not signed at the first sitting",
                    &|f| drop(f[0].lines.remove(second + 1)),
                    0,
                    &not_signed(second, "ben"),
                ),
                (
                    "not signed at the second sitting",
                    &|f| drop(f[1].lines.remove(last + 1)),
                    1,
                    &not_signed(last, "carl"),
                ),
                (
                    "signed by another",
                    &|f| f[1].lines[last + 1] = f[1].lines[2].clone(),
                    1,
                    &not_signed(last, "carl"),
                ),
                (
                    "a step left out",
                    &|f| drop(f[0].lines.drain(second..second + 2)),
                    0,
                    &without_step(ended - 2, 2, "ben"),
                ),
                (
                    "the last step left out",
                    &|f| drop(f[1].lines.drain(last..last + 2)),
                    1,
                    &without_step(made - 2, 3, "carl"),
                ),
                (
                    "entered afterwards",
                    &|f| f[1].lines[last..=made].rotate_right(1),
                    1,
                    &without_step(last, 3, "carl"),
                ),
                (
                    "another check value",
                    &|f| f[1].lines[last].2["kcv"] = json!("000000"),
                    1,
                    &without_step(made, 3, "carl"),
                ),
                (
                    "another component",
                    &|f| f[1].lines[last].2["component"] = json!(2),
                    1,
                    &without_step(made, 3, "carl"),
                ),
                (
                    "another act",
                    &|f| f[1].lines[last].2["act"] = json!(2),
                    1,
                    &without_step(made, 3, "carl"),
                ),
                (
                    "no act",
                    &|f| drop(f[1].lines[last].2.as_object_mut().unwrap().remove("act")),
                    1,
                    &lacks(last, "act"),
                ),
                (
                    "no number",
                    &|f| f[1].lines[last].2["component"] = json!("3"),
                    1,
                    &lacks(last, "component"),
                ),
                (
                    "no check value",
                    &|f| f[1].lines[last].2["kcv"] = json!(null),
                    1,
                    &lacks(last, "its check value"),
                ),
                (
                    "no components",
                    &|f| {
                        drop(
                            f[1].lines[made]
                                .2
                                .as_object_mut()
                                .unwrap()
                                .remove("components"),
                        );
                    },
                    1,
                    &lacks(made, "its components"),
                ),
                (
                    "a component of nobody",
                    &|f| f[1].lines[made].2["components"][2] = json!({"kcv": "000000"}),
                    1,
                    &lacks(made, "its components"),
                ),
                (
                    "made up",
                    &|f| {
                        f[1].lines[made].2["components"][2]["confirmed-by"] = json!("rehearsal");
                        drop(f[1].lines.drain(last..last + 2));
                    },
                    1,
                    &without_step(made - 2, 3, "carl"),
                ),
                (
                    "two of one person",
                    &|f| f[1].lines[made].2["components"][2]["custodian"] = json!("ben"),
                    1,
                    &line(
                        made,
                        "uses two components of ben, and nobody holds two components of a key",
                    ),
                ),
                (
                    "no number of a sitting",
                    &|f| f[1].lines[sitting].2["sitting"] = json!("two"),
                    1,
                    &lacks(sitting, "its sitting"),
                ),
                (
                    "another person by the same id",
                    &|f| {
                        let dora = f[0].lines[0].2["participants"]["carl"].clone();
                        f[1].lines[0].2["participants"]["ben"] = dora;
                        f[1].lines[0].2["participants"]
                            .as_object_mut()
                            .unwrap()
                            .remove("carl");
                        // Nobody who is not there takes a step.
                        let by_others = |line: &(String, String, serde_json::Value)| {
                            line.2["by"] != "ben" && line.2["by"] != "carl"
                        };
                        f[1].lines.retain(by_others);
                        f[1].lines.retain(|line| line.1 != "import-components");
                    },
                    1,
                    "line 1: ben is another person than in the transcript before it",
                ),
                (
                    "the same person by another id",
                    &|f| {
                        let participants = f[1].lines[0].2["participants"].as_object_mut().unwrap();
                        let ben = participants.remove("ben").unwrap();
                        participants.insert("zoe".to_owned(), ben);
                        f[1].lines.retain(|line| line.2["by"] != "ben");
                    },
                    1,
                    "line 1: zoe is the person who is called ben in the transcript before it; nobody takes part twice",
                ),
            ],
        );

        // What was entered at a sitting that was not given, or by somebody else, is not shown.
        let not_given = |component: u32, name: &str| {
            vec![format!(
                "Component {component} was entered by {name} at a sitting whose transcript was not given; give it too, \
                 in order, also if that sitting was stopped."
            )]
        };
        let other_kcv = |f: &mut Vec<Forgery>| {
            f[1].lines[made].2["components"][1]["kcv"] = json!("000000");
        };
        assert_eq!(world.says(other_kcv), Ok(not_given(2, "Second Custodian")));
        let all = |f: &mut Vec<Forgery>| {
            f[1].lines[made].2["components"][2]["confirmed-by"] = json!("earlier sitting");
            drop(f[1].lines.drain(last..last + 2));
        };
        assert_eq!(world.says(all), Ok(not_given(3, "Third Custodian")));

        // A sitting that was stopped is no end, if the one that goes on is there, and what it shows counts.
        let killed = |f: &mut Vec<Forgery>| {
            f[0].lines.truncate(second + 2);
        };
        assert_eq!(world.says(killed), Ok(Vec::new()));
        let alone = |f: &mut Vec<Forgery>| {
            killed(f);
            f.truncate(1);
        };
        assert_eq!(
            world.says(alone),
            Ok(vec![
                "It breaks off: the last that it says is \"signed\", and not \"finished\"."
                    .to_owned(),
                "The audit key did not seal it: it says nothing of why.".to_owned(),
            ])
        );
        let before_anna = |f: &mut Vec<Forgery>| f[0].lines.truncate(first);
        let missing = [
            not_given(1, "First Custodian"),
            not_given(2, "Second Custodian"),
        ];
        assert_eq!(world.says(before_anna), Ok(missing.concat()));
    });
}

#[test]
fn a_component_that_is_given_out_was_shown_to_whom_the_act_names() {
    bank::on(&[&SOFTHSM], |_| {
        let site = founded();
        let last = GIVE_OUT.rfind("[[acts.components]]").unwrap();
        let plan = of_people(&GIVE_OUT[..last], &PEOPLE[..2]);
        let plan = change(&plan, "give-out-transcript", "shown");
        site.write_plan("give-out.toml", &plan);
        let mut room = Room::new([]);
        room.writes_down();
        room.run(&site, "give-out.toml").unwrap();
        let world = World::of(&site, &PEOPLE[..2], &["shown.jsonl"]);
        let good = &world.good[0];
        let (shown, made) = (
            at(good, "component-shown", 1),
            at(good, "give-out-components", 0),
        );
        let without_step =
            |index: usize| format!("line {} uses component 2 of ben, {NO_STEP}", index + 1);
        assert_refused(
            &world,
            &[
                (
                    "not signed",
                    &|f| drop(f[0].lines.remove(shown + 1)),
                    0,
                    &format!(
                        "line {} says that ben did this, and their signature does not follow",
                        shown + 1
                    ),
                ),
                (
                    "not shown",
                    &|f| drop(f[0].lines.drain(shown..shown + 2)),
                    0,
                    &without_step(made - 2),
                ),
                (
                    "another one shown",
                    &|f| f[0].lines[shown].2["kcv"] = json!("000000"),
                    0,
                    &without_step(made),
                ),
                (
                    "shown to nobody",
                    &|f| drop(f[0].lines[shown].2.as_object_mut().unwrap().remove("by")),
                    0,
                    &format!(
                        "line {} lacks who did it, or has something else in its place",
                        shown + 1
                    ),
                ),
                (
                    "both to one",
                    &|f| f[0].lines[made].2["components"][1]["custodian"] = json!("anna"),
                    0,
                    &format!(
                        "line {} uses two components of anna, and nobody holds two components of a key",
                        made + 1
                    ),
                ),
            ],
        );
    });
}
