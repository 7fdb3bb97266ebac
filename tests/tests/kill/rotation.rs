//! The host dies at each step of a change of the storage keys. It ends by itself once there is a host again, and every key can
//! be read and delivered before, meanwhile and afterwards.

use std::time::Instant;

use hsm_modules::SOFTHSM;
use private_postgres::Postgres;
use serde_json::{Value, json};
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    operator::text,
    own_keys::ProfileSlot,
    process::poll,
    site::{KEY_OFFICER, OPERATOR, Topology},
    terminal::Terminal,
};

use super::{Fragile, LONG, TERMINAL, step::Step};

/// The last one is a real one. Each has a key in so many slots: together two batches.
const DEVICES: [(&str, usize); 2] = [("ROTATE-1", FEW), (SERIAL, SLOTS)];
const SERIAL: &str = "ROTATE-2";
/// As many as a profile can have, and as one batch has.
const SLOTS: usize = 64;
const FEW: usize = 5;

/// A site whose storage keys are changed again and again.
struct Rotation {
    fragile: Fragile,
    terminal: Terminal,
    /// The next slot that the terminal loads.
    loaded: usize,
    /// Of the present pair.
    number: u64,
}

fn slot(number: usize) -> String {
    format!("slot-{number}")
}

impl Rotation {
    fn new(options: HostOptions) -> Self {
        let options = HostOptions {
            faulty: true,
            key_strength: "require",
            keys_per_second: Some(100_000),
            ..options
        };
        let mut fragile = Fragile::of(Fixture::new(&SOFTHSM, Topology::TwoSubCas), options);
        fragile.start();
        let site = &fragile.site;
        let slots = (0..SLOTS).map(|number| ProfileSlot {
            name: slot(number),
            header: "D0000K0AB00N0000",
            kind: "AES-128".to_owned(),
            more: "",
        });
        site.carry_profile(&slots.collect::<Vec<_>>()).unwrap();
        site.register_key(&site.keys.aes_128).unwrap();
        let codes = DEVICES.map(|(serial, _)| site.add_device(serial).unwrap());
        for (serial, slots) in DEVICES {
            for number in 0..slots {
                site.assign_by_profile(serial, &slot(number)).unwrap();
            }
        }
        let terminal = site.make_terminal(SERIAL, TERMINAL).unwrap();
        terminal.act(&["keygen"]).unwrap();
        terminal.take_code(&codes[1]).unwrap();
        terminal.enroll().succeed().unwrap();
        terminal.act(&["bind"]).unwrap();
        Self {
            fragile,
            terminal,
            loaded: 10,
            number: 1,
        }
    }

    /// The host dies at a step of a rotation. Says which storage keys the HSM had then.
    fn die_at(&mut self, step: Step) -> Vec<String> {
        self.die(step, |fragile| {
            fragile.site.approve_rotation().is_ok() && ends(fragile)
        })
    }

    /// As [`Self::die_at`], of what is left to do when the database takes what it has refused.
    fn die_after(&mut self, refused: &Refused, step: Step) -> Vec<String> {
        self.begin(refused);
        self.die(step, |fragile| {
            fragile.refuse_no_more(refused.table());
            ends(fragile)
        })
    }

    /// `act` says whether the host lived.
    fn die(&mut self, step: Step, act: impl FnOnce(&Fragile) -> bool) -> Vec<String> {
        assert!(self.fragile.dies(step, act), "{step}");
        let left = self.storage_keys();
        self.go_on(&step.to_string());
        left
    }

    /// The host is killed while the database does not take a step, and once more as soon as it is there again.
    fn kill_at(&mut self, refused: &Refused) {
        let step = refused.step;
        self.begin(refused);
        self.require_readable(step);
        self.require_deliverable(step);
        if let Some(slot) = refused.not_moved {
            self.load(slot, step);
        }
        self.fragile.host.take().unwrap().kill().unwrap();
        self.fragile.refuse_no_more(refused.table());
        self.fragile.start();
        self.fragile.host.take().unwrap().kill().unwrap();
        self.go_on(step);
    }

    /// A rotation that comes no further than the database lets it.
    fn begin(&self, refused: &Refused) {
        self.fragile.refuse(refused.what, refused.when);
        self.fragile.site.approve_rotation().unwrap();
        poll(LONG, || Ok((refused.there)(self).then_some(())))
            .unwrap_or_else(|_| panic!("{}", refused.step));
    }

    /// Devices' keys that are to be moved.
    fn rows_under_older(&self) -> usize {
        let under = "SELECT CAST(storage_key AS TEXT) FROM device_keys";
        let under = self.fragile.find(under);
        let older = |number: &&String| number.parse::<u64>().unwrap() <= self.number;
        under.iter().filter(older).count()
    }

    /// A host again, and the end of the rotation.
    fn go_on(&mut self, step: &str) {
        self.fragile.start();
        let site = &self.fragile.site;
        site.configure_terminal(&self.terminal, TERMINAL).unwrap();
        self.require_readable(step);
        self.approve_what_was_not(step);
        assert!(ends(&self.fragile), "{step}");
        self.number += 1;
        self.require_ended(step);
    }

    /// The host may have died before the operators had their answers: they do it again.
    fn approve_what_was_not(&self, step: &str) {
        let site = &self.fragile.site;
        let open = self
            .fragile
            .find("SELECT state || ' ' || id FROM approvals WHERE state IN ('ASKED', 'APPROVED')");
        let asked = open.iter().find_map(|open| open.strip_prefix("ASKED "));
        if let Some(id) = asked {
            let approve = ["approval", "approve", id];
            site.operate_as(KEY_OFFICER, &approve).unwrap();
        } else if open.is_empty() && self.present() == self.number {
            site.approve_rotation().unwrap();
        }
        assert!(open.len() <= 1, "{step}: {open:?}");
    }

    /// The number of the pair under which what is new comes.
    fn present(&self) -> u64 {
        let status = self.status();
        let mut pairs = status["pairs"].as_array().unwrap().iter();
        let present = pairs.find(|pair| pair["state"] == "PRESENT").unwrap();
        present["number"].as_u64().unwrap()
    }

    fn status(&self) -> Value {
        self.fragile.site.operate(&["storage", "status"]).unwrap()
    }

    /// Each device's keys are as the HSM has sealed them.
    fn require_readable(&self, step: &str) {
        let site = &self.fragile.site;
        for (serial, slots) in DEVICES {
            let shown = site.operate(&["device", "show", serial]).unwrap();
            let keys = shown["assignments"].as_array().unwrap();
            assert_eq!(keys.len(), slots, "{step}: {shown}");
        }
    }

    /// One more of them can be loaded.
    fn require_deliverable(&mut self, step: &str) {
        self.load(&slot(self.loaded), step);
        self.loaded += 1;
    }

    fn load(&self, slot: &str, step: &str) {
        let loaded = self.terminal.act(&["load", slot]).unwrap();
        assert_eq!(loaded["slots"][0]["outcome"], "loaded", "{step}: {loaded}");
    }

    /// There is one pair, in the HSM and over the rows, and the trail says so.
    fn require_ended(&mut self, step: &str) {
        let number = self.number;
        let pair = ["ksk", "ksm"].map(|half| format!("{half}.{number}"));
        assert_eq!(self.storage_keys(), pair, "{step}");
        let status = self.status();
        let pairs = status["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 1, "{step}: {status}");
        assert_eq!(pairs[0]["number"], json!(number), "{step}: {status}");
        assert_eq!(pairs[0]["state"], "PRESENT", "{step}: {status}");
        assert_eq!(status["rotation"], Value::Null, "{step}: {status}");
        let under = self.fragile.find(
            "SELECT DISTINCT CAST(storage_key AS TEXT) FROM
                 (SELECT storage_key FROM device_keys UNION ALL SELECT storage_key FROM keys
                  UNION ALL SELECT storage_key FROM approvals WHERE state <> 'EXPIRED') AS every",
        );
        assert_eq!(under, [number.to_string()], "{step}");
        let site = &self.fragile.site;
        site.verify_audit().unwrap();
        // One that ended, of each pair.
        let ended = "SELECT subject FROM approvals WHERE state = 'ENDED' ORDER BY sequence";
        let subjects: Vec<String> = (2..=number).map(|number| number.to_string()).collect();
        assert_eq!(self.fragile.find(ended), subjects, "{step}");
        let ended = self.recorded("approval.ended", "/subject");
        assert_eq!(ended, subjects, "{step}");
        let mut began = self.recorded("storage.began", "/storage-key");
        // A host that finds a new pair with nothing under it begins again.
        began.dedup();
        assert_eq!(began, subjects, "{step}");
        self.require_readable(step);
        self.require_deliverable(step);
    }

    /// Of which pairs there are such records, by this field of them.
    fn recorded(&self, action: &str, field: &str) -> Vec<String> {
        let records =
            format!("SELECT detail FROM audit WHERE action = '{action}' ORDER BY sequence");
        let records = self.fragile.find(&records);
        let numbers = records.iter().map(|detail| {
            let detail: Value = serde_json::from_str(detail).unwrap();
            match detail.pointer(field).unwrap() {
                Value::String(number) => number.clone(),
                number => number.to_string(),
            }
        });
        numbers.collect()
    }

    /// The labels of the storage keys that the HSM has.
    fn storage_keys(&self) -> Vec<String> {
        let hsm = self.fragile.site.hsm().unwrap();
        let log = self.fragile.site.log("pkcs11-tool");
        let mut labels = hsm.secret_keys("kdh", &log).unwrap();
        labels.retain(|label| label.starts_with("ksk.") || label.starts_with("ksm."));
        labels.sort_unstable();
        labels
    }
}

/// Waits for the end of the rotation; `false` if the host died before.
fn ends(fragile: &Fragile) -> bool {
    let start = Instant::now();
    loop {
        let status = fragile.site.kdhctl(OPERATOR, &["storage", "status"]);
        let Ok(ended) = status.unwrap().succeed() else {
            return false;
        };
        let status: Value = serde_json::from_str(&ended.stdout).unwrap();
        if status["rotation"].is_null() {
            return true;
        }
        let _ = text(&status, "/rotation/id").unwrap();
        assert!(start.elapsed() < LONG, "{status}");
    }
}

/// What the database does not take, and when it is known that the host tries.
struct Refused {
    step: &'static str,
    what: &'static str,
    when: &'static str,
    there: fn(&Rotation) -> bool,
    /// A slot whose row has not moved yet, and moves when the terminal confirms its key.
    not_moved: Option<&'static str>,
}

impl Refused {
    fn table(&self) -> &'static str {
        self.what.rsplit(' ').next().unwrap()
    }
}

/// In their order.
const REFUSED: [Refused; 5] = [
    Refused {
        step: "the new pair is made and not on record",
        what: "INSERT ON audit",
        when: "NEW.action = 'storage.began'",
        there: |rotation| rotation.storage_keys().len() == 4,
        not_moved: None,
    },
    Refused {
        step: "the first batch has moved",
        what: "UPDATE ON device_keys",
        when: "NEW.device = 'ROTATE-2' AND NEW.slot = 'slot-8' AND NEW.storage_key > OLD.storage_key",
        there: |rotation| rotation.rows_under_older() == FEW,
        not_moved: Some("slot-9"),
    },
    LAST_ROW_HAS_MOVED,
    Refused {
        step: "the old pair is destroyed and not on record",
        what: "INSERT ON audit",
        when: "NEW.action = 'storage.destroyed'",
        there: |rotation| {
            rotation.storage_keys().len() == 2 && rotation.present() > rotation.number
        },
        not_moved: None,
    },
    Refused {
        step: "the end is not on record",
        what: "INSERT ON audit",
        when: "NEW.action = 'approval.ended'",
        there: |rotation| {
            let destroyed = "SELECT action FROM audit WHERE action = 'storage.destroyed'";
            rotation.fragile.find(destroyed).len() as u64 == rotation.number
        },
        not_moved: None,
    },
];

/// What is left to do calls no more of the HSM than destroying the old pair takes.
const LAST_ROW_HAS_MOVED: Refused = Refused {
    step: "the last row has moved",
    what: "UPDATE ON keys",
    when: "NEW.storage_key > OLD.storage_key",
    there: |rotation| rotation.rows_under_older() == 0,
    not_moved: None,
};

fn killed_at_each_step(rotation: &mut Rotation) {
    for refused in &REFUSED {
        rotation.kill_at(refused);
    }
}

#[test]
fn storage_keys_change_whenever_the_host_dies() {
    let mut rotation = Rotation::new(HostOptions::default());
    killed_at_each_step(&mut rotation);
    let is_half = |left: Vec<String>| left.len() % 2 == 1;
    // The new pair is not made, and then half: unless SoftHSM refused the first half by chance, and was asked again.
    assert!(!is_half(rotation.die_at(Step::Call("C_GenerateKey", 1))));
    let mut left = (0..3).map(|_| rotation.die_at(Step::Call("C_GenerateKey", 2)));
    assert!(left.any(is_half));
    // Within the first batch, and the second one.
    for nth in [2, SLOTS + 2] {
        let step = Step::Call("C_UnwrapKey", u32::try_from(nth).unwrap());
        assert!(!is_half(rotation.die_at(step)));
    }
    // The old pair is not destroyed, and then half.
    for nth in [1, 2] {
        let step = Step::Call("C_DestroyObject", nth);
        let left = rotation.die_after(&LAST_ROW_HAS_MOVED, step);
        assert_eq!(is_half(left), nth == 2);
    }
}

#[test]
fn storage_keys_change_whenever_the_host_dies_with_postgresql() {
    let options = HostOptions::with_postgres(Postgres::shared()).unwrap();
    killed_at_each_step(&mut Rotation::new(options));
}
