//! The host dies at each step of an update: while an operator assigns the next version of a terminal's own key, and
//! while the terminal loads and confirms it.

use std::collections::BTreeMap;

use hsm_modules::SOFTHSM;
use private_postgres::Postgres;
use serde_json::{Value, json};
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    operator::text,
    site::{OPERATOR, Topology},
    terminal::Terminal,
};

use super::{Fragile, SLOT, TERMINAL, step::Step};

const SERIAL: &str = "UPDATE-1";

/// A terminal that holds the first version of its own key.
struct Update {
    fragile: Fragile,
    terminal: Terminal,
}

impl Update {
    fn new(options: HostOptions) -> Self {
        let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
        let fragile = Fragile::with_own_keys(site, options);
        let site = &fragile.site;
        let code = site.add_device(SERIAL).unwrap();
        site.assign_by_profile(SERIAL, SLOT).unwrap();
        let terminal = site.make_terminal(SERIAL, TERMINAL).unwrap();
        terminal.run_all(&code).unwrap();
        let update = Self { fragile, terminal };
        update.require_done(1);
        update
    }

    /// Once for each of the steps that `act` has, at which the host dies. Each time the next version is assigned and loaded
    /// in the end.
    fn interrupt(&mut self, steps: impl IntoIterator<Item = Step>, act: Act) {
        for (deaths, step) in steps.into_iter().enumerate() {
            let versions = self.versions().len();
            if act == Act::Load {
                self.assign();
            }
            let terminal = self.terminal.clone();
            let died = self.fragile.dies(step, |fragile| match act {
                Act::Assign => {
                    let assign = ["key", "assign", "--device", SERIAL, "--slot", SLOT];
                    let assign = [&assign[..], &["--by-profile"]].concat();
                    let kdhctl = fragile.site.kdhctl(OPERATOR, &assign).unwrap();
                    kdhctl.run().unwrap().status.success()
                }
                Act::Load => terminal.krd(&["load"]).run().unwrap().status.success(),
            });
            if died {
                self.fragile.start();
                let site = &self.fragile.site;
                site.configure_terminal(&self.terminal, TERMINAL).unwrap();
                self.require_one_offer(step);
            }
            self.require_usable(step);
            // The operator's command again; the version that is not on its way yet gives way.
            if act == Act::Assign && died {
                self.assign();
            }
            assert!(self.versions().len() > versions, "{step}");
            self.terminal.act(&["load"]).unwrap();
            self.require_done(self.versions().len() as u64);
            if !died {
                assert_ne!(deaths, 0, "{step} is none");
                return;
            }
        }
        panic!("there are more steps");
    }

    fn assign(&self) {
        let site = &self.fragile.site;
        site.assign_by_profile(SERIAL, SLOT).unwrap();
    }

    /// State and check value of each version, and whether the database has its key.
    fn versions(&self) -> BTreeMap<u64, (String, String, bool)> {
        let rows = self.fragile.find(
            "SELECT version || ' ' || state || ' ' || kcv || ' ' ||
                 CASE WHEN wrapped IS NULL THEN 'gone' ELSE 'there' END
             FROM device_keys WHERE device = 'UPDATE-1'",
        );
        let row = |row: &String| {
            let words: Vec<&str> = row.split(' ').collect();
            let [version, state, kcv, key] = words[..] else {
                panic!("{row}");
            };
            let version = version.parse().unwrap();
            (version, (state.to_owned(), kcv.to_owned(), key == "there"))
        };
        rows.iter().map(row).collect()
    }

    /// What the terminal holds is a version that the host counts as good.
    fn require_usable(&self, step: Step) {
        let versions = self.versions();
        let held = self.terminal.slot(SLOT).unwrap().unwrap();
        assert_eq!(held["state"], "held", "{step}: {held}");
        let (state, kcv, _) = &versions[&held["key-version"].as_u64().unwrap()];
        assert!(
            ["ACTIVE", "PENDING"].contains(&&**state),
            "{step}: {held}, {versions:?}"
        );
        assert_eq!(held["kcv"], **kcv, "{step}");

        let of = |wanted: &str| {
            let states = versions.values().filter(|(state, ..)| state == wanted);
            states.count()
        };
        assert_eq!(of("ACTIVE"), 1, "{step}: {versions:?}");
        assert!(of("PENDING") <= 1, "{step}: {versions:?}");
        for (state, _, there) in versions.values() {
            let live = state == "ACTIVE" || state == "PENDING";
            assert_eq!(*there, live, "{step}: {versions:?}");
        }
    }

    /// The host offers the newest version that counts, and no other.
    fn require_one_offer(&self, step: Step) {
        let site = &self.fragile.site;
        let shown = site.operate(&["device", "show", SERIAL]).unwrap();
        let offered = shown["assignments"].as_array().unwrap();
        let versions = self.versions();
        let live = |state: &str| ["ACTIVE", "PENDING"].contains(&state);
        let newest = versions.iter().rfind(|(_, (state, ..))| live(state));
        let (version, (state, kcv, _)) = newest.unwrap();
        assert_eq!(offered.len(), 1, "{step}: {shown}");
        assert_eq!(offered[0]["key_version"], json!(version), "{step}");
        assert_eq!(offered[0]["kcv"]["value"], json!(kcv), "{step}");
        assert_eq!(offered[0]["confirmed"], json!(state == "ACTIVE"), "{step}");
        site.verify_audit().unwrap();
    }

    /// The terminal holds the newest version, and the host has no other one.
    fn require_done(&self, newest: u64) {
        let held = self.terminal.slot(SLOT).unwrap().unwrap();
        assert_eq!(held["key-version"], json!(newest));
        assert_eq!(held["confirmed"], json!(true));
        for (version, (state, kcv, there)) in self.versions() {
            assert_eq!(there, version == newest, "{version} is {state}");
            assert_eq!(state == "ACTIVE", there);
            assert!(version != newest || held["kcv"] == kcv);
        }
    }

    /// The trail has each version once: when it was assigned, and what was destroyed.
    fn require_recorded(&self) {
        let site = &self.fragile.site;
        site.verify_audit().unwrap();
        let listed = site.operate(&["audit", "list"]).unwrap();
        let details = |action: &str| -> Vec<Value> {
            let records = listed["records"].as_array().unwrap().iter();
            let records = records.filter(|record| record["action"] == action);
            let detail = |record| serde_json::from_str(text(record, "/detail").unwrap()).unwrap();
            records.map(detail).collect()
        };
        let sorted = |versions: Vec<u64>| {
            let mut versions = versions;
            versions.sort_unstable();
            versions
        };
        let assigned = details("key.assigned");
        let assigned = assigned.iter().map(|it| it["version"].as_u64().unwrap());
        let versions = self.versions();
        let all: Vec<u64> = versions.keys().copied().collect();
        assert_eq!(sorted(assigned.collect()), all);
        let confirmed = details("delivery.confirmed");
        let destroyed = confirmed.iter().flat_map(|it| {
            let versions = it["destroyed-versions"].as_array().unwrap();
            versions.iter().map(|version| version.as_u64().unwrap())
        });
        let gone = versions.iter().filter(|(_, row)| row.0 == "DESTROYED");
        let gone: Vec<u64> = gone.map(|(version, _)| *version).collect();
        assert_eq!(sorted(destroyed.collect()), gone);
    }
}

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Assign,
    Load,
}

fn calls(function: &'static str) -> impl Iterator<Item = Step> {
    (1..50).map(move |nth| Step::Call(function, nth))
}

/// Fewer pages than any transaction has.
fn pages() -> impl Iterator<Item = Step> {
    (0..100).step_by(3).map(Step::Page)
}

#[test]
fn a_terminal_has_a_good_key_whenever_the_host_dies() {
    let mut update = Update::new(HostOptions::default());
    for act in [Act::Assign, Act::Load] {
        for function in ["C_GenerateKey", "C_WrapKey", "C_SignInit"] {
            update.interrupt(calls(function), act);
        }
        update.interrupt(pages(), act);
    }
    for function in ["C_UnwrapKey", "C_DestroyObject"] {
        update.interrupt(calls(function), Act::Load);
    }
    update.require_recorded();
}

#[test]
fn a_terminal_has_a_good_key_whenever_the_host_dies_with_postgresql() {
    let options = HostOptions::with_postgres(Postgres::shared()).unwrap();
    let mut update = Update::new(options);
    update.interrupt(calls("C_WrapKey"), Act::Assign);
    update.interrupt(calls("C_SignInit"), Act::Load);
    update.require_recorded();
}
