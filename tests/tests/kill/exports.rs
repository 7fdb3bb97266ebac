//! The host dies at each step of an export. No record is lost, none is made twice, and the switch finds each position
//! once, the same however often it is sent.

use std::{fs, path::PathBuf};

use hsm_modules::{SOFTHSM, makers::exported_keys};
use serde_json::Value;
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    master_key::MasterKey,
    process::poll,
    site::{OPERATOR, Operator, SWITCH, Topology},
    targets::SharedKeys,
    terminal::Terminal,
};

use super::{Fragile, LONG, SLOT, TERMINAL, step::Step};

const SERIAL: &str = "EXPORT-1";
/// One is a stream, the other one goes in files.
const TARGETS: [&str; 2] = ["switch", "batch"];

/// A site with two targets, to which every version of a terminal's key goes.
struct Export {
    fragile: Fragile,
    terminal: Terminal,
    keys: SharedKeys,
    /// Versions that the terminal has confirmed, each of which is a record of its number for each target.
    loaded: u64,
}

impl Export {
    /// The first version is confirmed before there are the targets.
    fn new() -> Self {
        let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
        let keys = SharedKeys::generate().unwrap();
        site.bring_in(&keys.labelled()).unwrap();
        let kcvs = keys.kcvs().unwrap();
        let fragile = Fragile::with_own_keys(site, HostOptions::default());
        let site = &fragile.site;
        let code = site.add_device(SERIAL).unwrap();
        site.assign_by_profile(SERIAL, SLOT).unwrap();
        let terminal = site.make_terminal(SERIAL, TERMINAL).unwrap();
        terminal.run_all(&code).unwrap();
        for (name, way) in TARGETS
            .iter()
            .zip([&["--receiver", "switch"][..], &["--files"]])
        {
            site.agree_on_target(&kcvs, name, "key-wrap", way).unwrap();
        }
        Self {
            fragile,
            terminal,
            keys,
            loaded: 1,
        }
    }

    /// The next version, which is in line for both targets from then on.
    fn load(&mut self) {
        let site = &self.fragile.site;
        site.assign_by_profile(SERIAL, SLOT).unwrap();
        self.terminal.act(&["load"]).unwrap();
        self.loaded += 1;
    }

    fn refuse(&self, action: &str) {
        let when = format!("NEW.action = '{action}'");
        self.fragile.refuse("INSERT ON audit", &when);
    }

    /// SIGKILL, and a host whose database takes everything again.
    fn kill(&mut self) {
        self.fragile.host.take().unwrap().kill().unwrap();
        self.fragile.refuse_no_more("audit");
        self.go_on();
    }

    fn go_on(&mut self) {
        self.fragile.start();
        let site = &self.fragile.site;
        site.configure_terminal(&self.terminal, TERMINAL).unwrap();
        site.verify_audit().unwrap();
    }

    /// Whether `kdhctl` succeeds.
    fn run(&self, operator: Operator, arguments: &[&str]) -> bool {
        let kdhctl = self.fragile.site.kdhctl(operator, arguments).unwrap();
        kdhctl.run().unwrap().status.success()
    }

    /// A target, once it is so.
    fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let site = &self.fragile.site;
        let shown = poll(LONG, || {
            let shown = site.operate(&["target", "show", name])?;
            Ok(Some(shown).filter(&is))
        });
        shown.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn require_made(&self) {
        for name in TARGETS {
            self.until(name, |shown| {
                (&shown["last"], &shown["made"]) == (&self.loaded.into(), &self.loaded.into())
            });
        }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.fragile.site.folder().join(name)
    }

    /// What the switch has, line by line.
    fn received(&self) -> Vec<String> {
        let stream = fs::read_to_string(self.out("stream.jsonl")).unwrap_or_default();
        stream.lines().map(ToOwned::to_owned).collect()
    }

    /// The switch takes what is next, by what it has. Whether it can.
    fn receive(&self) -> bool {
        let (next, out) = (self.received().len() + 1, self.out("stream.jsonl"));
        let count = self.loaded + 1 - next as u64;
        let (next, count) = (next.to_string(), count.to_string());
        let receive = [
            "target",
            "receive",
            "switch",
            "--out",
            out.to_str().unwrap(),
        ];
        let which = ["--from", &next, "--count", &count];
        self.run(SWITCH, &[&receive[..], &which].concat())
    }

    /// Everything that there is, as a file. Whether it can be had.
    fn file(&self, name: &str) -> bool {
        let out = self.out(name);
        let all = ["--from", "1", "--out", out.to_str().unwrap()];
        self.run(OPERATOR, &[&["target", "file", "batch"][..], &all].concat())
    }

    fn acknowledge_file(&self) -> bool {
        let position = self.loaded.to_string();
        self.run(
            OPERATOR,
            &["target", "ack", "batch", "--position", &position],
        )
    }

    /// Every version is one record of each target: in the database, in the trail, and where it went.
    fn require_each_once(&self) {
        let expected: Vec<_> = (1..=self.loaded).map(|number| number.to_string()).collect();
        for name in TARGETS {
            let shown = self.until(name, |_| true);
            for counter in ["last", "made", "sent", "acknowledged"] {
                assert_eq!(shown[counter], self.loaded, "{counter} of {name}: {shown}");
            }
            let made = self
                .fragile
                .find("SELECT detail FROM audit WHERE action = 'export.made' ORDER BY sequence");
            let made = made
                .iter()
                .map(|detail| serde_json::from_str::<Value>(detail).unwrap());
            let made = made.filter(|detail| detail["name"] == name);
            let made: Vec<_> = made.map(|detail| detail["position"].to_string()).collect();
            assert_eq!(made, expected, "{name}");
        }
        assert_eq!(self.fragile.recorded("export.skipped"), 0);
        let held = self.terminal.slot(SLOT).unwrap().unwrap();
        let keys = [&self.keys.under, &self.keys.mac].map(MasterKey::value);
        let read = |file: &str| exported_keys(&keys[0], &keys[1], &self.out(file));
        for (file, lines) in [("stream.jsonl", 0), ("first.jsonl", 1)] {
            let lines = read(file).split_off(lines);
            assert_eq!(lines.len() as u64, self.loaded, "{file}: {lines:?}");
            for (position, line) in (1..).zip(&lines) {
                let begins = format!("{position} {SERIAL} {SLOT} {position} ");
                assert!(line.starts_with(&begins), "{file}: {line}");
            }
            let last = lines.last().unwrap();
            assert!(
                last.ends_with(held["kcv"].as_str().unwrap()),
                "{file}: {last}"
            );
        }
    }
}

#[test]
fn each_key_goes_to_the_switch_once_whenever_the_host_dies() {
    let mut export = Export::new();
    // Queued: the HSM is about to wrap the key.
    let died = export.fragile.dies(Step::Call("C_WrapKey", 1), |fragile| {
        let fill = ["target", "fill", "switch"];
        // Whether or not its answer is lost with the host.
        let kdhctl = fragile.site.kdhctl(OPERATOR, &fill).unwrap();
        drop(kdhctl.run().unwrap());
        false
    });
    assert!(died);
    export.go_on();
    export
        .fragile
        .site
        .operate(&["target", "fill", "batch"])
        .unwrap();
    export.require_made();

    // Made by the HSM, and not put down.
    export.refuse("export.made");
    export.load();
    for name in TARGETS {
        let shown = export.until(name, |shown| shown["fault"] != "");
        assert_eq!(
            (&shown["last"], &shown["made"]),
            (&2.into(), &1.into()),
            "{shown}"
        );
    }
    export.kill();
    export.require_made();

    // About to leave.
    export.refuse("export.sent");
    assert!(!export.receive() && !export.file("none.jsonl"));
    assert!(export.received().is_empty() && !export.out("none.jsonl").exists());
    export.kill();

    // Arrived, and not known to have: what is fetched next is what is behind it.
    export.load();
    export.require_made();
    export.refuse("export.acknowledged");
    assert!(export.receive() && export.file("first.jsonl"));
    assert_eq!(export.received().len(), 3);
    assert!(!export.acknowledge_file());
    assert_eq!(export.until("switch", |_| true)["acknowledged"], 0);
    export.kill();
    let whole = export.received();
    fs::rename(export.out("stream.jsonl"), export.out("before.jsonl")).unwrap();
    assert!(export.receive() && export.file("again.jsonl"));
    assert_eq!(
        export.received(),
        whole,
        "the same records, and the same file"
    );
    let file = |name| fs::read(export.out(name)).unwrap();
    assert_eq!(file("first.jsonl"), file("again.jsonl"));
    assert!(export.acknowledge_file());
    export.require_each_once();
}
