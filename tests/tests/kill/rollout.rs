//! The host dies at each step of a rollout in waves. It goes on once there is a host again: each terminal gets one new
//! version, no wave is larger than it may be or begins before its time, and nobody is without a good key meanwhile.

use std::{collections::BTreeSet, time::Instant};

use hsm_modules::SOFTHSM;
use serde_json::Value;
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    operator::text,
    site::{MODEL, OPERATOR, Topology},
    terminal::Terminal,
};

use super::{Fragile, LONG, TERMINAL, step::Step};

/// The first one is a real one, so that the second wave follows on what it confirms.
const DEVICES: [&str; 4] = ["ROLL-1", "ROLL-2", "ROLL-3", "ROLL-4"];
const WAVE: &str = "2";

/// A site whose terminals get new keys again and again.
struct Rollouts {
    fragile: Fragile,
    terminal: Terminal,
    /// That every terminal has.
    version: u64,
}

impl Rollouts {
    fn new() -> Self {
        let options = HostOptions {
            keys_per_second: Some(100_000),
            ..HostOptions::default()
        };
        let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
        let fragile = Fragile::with_own_keys(site, options);
        let site = &fragile.site;
        let codes = DEVICES.map(|serial| site.add_device(serial).unwrap());
        let terminal = site.make_terminal(DEVICES[0], TERMINAL).unwrap();
        terminal.act(&["keygen"]).unwrap();
        terminal.take_code(&codes[0]).unwrap();
        terminal.enroll().succeed().unwrap();
        terminal.act(&["bind"]).unwrap();
        let mut rollouts = Self {
            fragile,
            terminal,
            version: 0,
        };
        rollouts.finish("the first one");
        rollouts
    }

    /// The host dies at a step of a rollout, and another one ends it. Says whether a rollout has such a step.
    fn die_at(&mut self, step: Step) -> bool {
        let (terminal, version) = (self.terminal.clone(), self.version + 1);
        let died = self.fragile.dies(step, |fragile| {
            start(fragile) && comes_to_its_end(fragile, &terminal, version)
        });
        let step = step.to_string();
        if died {
            self.fragile.start();
            let site = &self.fragile.site;
            site.configure_terminal(&self.terminal, TERMINAL).unwrap();
            self.require_waves(&step);
            self.require_good_keys(&step);
        }
        self.finish(&step);
        died
    }

    /// What was begun, or else a new one, comes to its end: every terminal has the next version.
    fn finish(&mut self, step: &str) {
        self.version += 1;
        let begun = "SELECT CAST(COUNT(*) AS TEXT) FROM rollouts";
        if self.fragile.find(begun) != [self.version.to_string()] {
            assert!(start(&self.fragile), "{step}");
        }
        let done = comes_to_its_end(&self.fragile, &self.terminal, self.version);
        assert!(done, "{step}");
        self.require_waves(step);
        self.require_good_keys(step);
        let newest: Vec<String> = DEVICES
            .iter()
            .map(|serial| format!("{serial} {}", self.version))
            .collect();
        let rows =
            "SELECT device || ' ' || MAX(version) FROM device_keys GROUP BY device ORDER BY device";
        assert_eq!(self.fragile.find(rows), newest, "{step}");
        let keys = "SELECT CAST(COUNT(*) AS TEXT) FROM device_keys";
        let all = DEVICES.len() as u64 * self.version;
        assert_eq!(self.fragile.find(keys), [all.to_string()], "{step}");
        self.require_recorded(step);
    }

    /// No wave has more devices than it may, and none began before the one before it was confirmed.
    fn require_waves(&self, step: &str) {
        let large = format!("SELECT 'wave ' || wave FROM rollout_waves WHERE devices > {WAVE}");
        assert!(self.fragile.find(&large).is_empty(), "{step}");
        let early =
            "SELECT 'rollout ' || w.rollout FROM rollout_waves w WHERE w.wave = 2 AND NOT EXISTS
             (SELECT 1 FROM device_keys k WHERE k.device = 'ROLL-1' AND k.version = w.rollout
                  AND k.state IN ('ACTIVE', 'DESTROYED'))";
        assert!(self.fragile.find(early).is_empty(), "{step}");
    }

    /// The terminal that has confirmed a version has a good one, nobody is offered two, and what is not good is gone.
    fn require_good_keys(&self, step: &str) {
        let of = |device: &str, states: &str| {
            let count = format!(
                "SELECT CAST(COUNT(*) AS TEXT) FROM device_keys WHERE device = '{device}' AND state IN ({states})"
            );
            self.fragile.find(&count)[0].parse::<u64>().unwrap()
        };
        if self.version > 0 {
            assert_eq!(of(DEVICES[0], "'ACTIVE'"), 1, "{step}");
        }
        for serial in DEVICES {
            assert!(of(serial, "'PENDING'") <= 1, "{step}: {serial}");
            let live = of(serial, "'ACTIVE', 'PENDING'");
            assert!(live >= u64::from(self.version > 0), "{step}: {serial}");
        }
        let kept = "SELECT device FROM device_keys WHERE (wrapped IS NULL) = (state IN ('ACTIVE', 'PENDING'))";
        assert!(self.fragile.find(kept).is_empty(), "{step}");
    }

    /// The trail has each version of each terminal once.
    fn require_recorded(&self, step: &str) {
        self.fragile.site.verify_audit().unwrap();
        let records =
            "SELECT detail FROM audit WHERE action = 'rollout.keys-made' ORDER BY sequence";
        let mut made = BTreeSet::new();
        for detail in self.fragile.find(records) {
            let detail: Value = serde_json::from_str(&detail).unwrap();
            for key in detail["keys"][0]["made"].as_array().unwrap() {
                let key = key.as_str().unwrap();
                let (of, _) = key.rsplit_once(' ').unwrap();
                assert!(made.insert(of.to_owned()), "{step}: {of} is there twice");
            }
        }
        assert_eq!(
            made.len() as u64,
            DEVICES.len() as u64 * self.version,
            "{step}"
        );
    }
}

/// Whether it was answered.
fn start(fragile: &Fragile) -> bool {
    let start = ["rollout", "start", "--model", MODEL, "--wave", WAVE];
    let waits = ["--proceed-at", "50", "--why", "a test", "--yes"];
    let kdhctl = fragile
        .site
        .kdhctl(OPERATOR, &[&start[..], &waits].concat());
    kdhctl.unwrap().run().unwrap().status.success()
}

/// Has the terminal load what it is offered, until the newest rollout is done; `false` if the host died before.
fn comes_to_its_end(fragile: &Fragile, terminal: &Terminal, version: u64) -> bool {
    let begun = Instant::now();
    let show = ["rollout", "show", &version.to_string()];
    loop {
        let shown = fragile.site.kdhctl(OPERATOR, &show).unwrap();
        let Ok(shown) = shown.succeed() else {
            return false;
        };
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        match text(&shown, "/state").unwrap() {
            "DONE" => return true,
            "RUNNING" if shown["waiting"] == true => {
                let loaded = terminal.krd(&["load"]).run().unwrap();
                if !loaded.status.success() {
                    return false;
                }
            }
            state => assert_eq!(state, "RUNNING", "{shown}"),
        }
        assert!(begun.elapsed() < LONG, "{shown}");
    }
}

#[test]
fn a_rollout_gives_each_terminal_one_key_whenever_the_host_dies() {
    let mut rollouts = Rollouts::new();
    // In the first wave and in the second one: making keys, wrapping them, sealing rows.
    for (function, nth) in [
        ("C_GenerateKey", 1),
        ("C_GenerateKey", 4),
        ("C_WrapKey", 2),
        ("C_WrapKey", 3),
        ("C_SignInit", 1),
        ("C_SignInit", 2),
    ] {
        assert!(
            rollouts.die_at(Step::Call(function, nth)),
            "{function} {nth}"
        );
    }
    // Before its row is there, and in each of the transactions behind it.
    let died = (0..40)
        .step_by(10)
        .map(|pages| rollouts.die_at(Step::Page(pages)));
    assert!(died.filter(|died| *died).count() > 2);
}
