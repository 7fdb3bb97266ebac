//! Keys that real terminals confirm, on their way to a payment switch: psec and Python's cryptography, in its place,
//! find the check values that the terminals reported.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use hsm_modules::{SOFTHSM, TestModule, makers::exported_keys};
use serde_json::{Value, json};
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    on_every_module,
    operator::text,
    process::{Background, Ended, poll},
    site::{AUDITOR, KEY_OFFICER, OPERATOR, Operator, SWITCH, Topology},
    targets::SharedKeys,
    terminal::{Terminal, TerminalOptions},
};

const HEADER: &str = "D0000K0AD00N0000";
/// What a module without TR-31 is told of.
const TR31: &str =
    "exporting a key by tr31 inside is not possible with this module, which lacks CKM_";

/// Under which the policy lets terminals have AES keys of their own.
fn options() -> HostOptions {
    HostOptions {
        key_strength: "require",
        ..HostOptions::default()
    }
}

struct Scene {
    site: Fixture,
    keys: SharedKeys,
}

impl Scene {
    /// With the keys that are shared with the switch, by a ceremony.
    fn new(module: &'static TestModule) -> Self {
        let site = Fixture::new(module, Topology::TwoSubCas);
        let keys = SharedKeys::generate().unwrap();
        site.bring_in(&keys.labelled()).unwrap();
        Self { site, keys }
    }

    /// Each terminal of the model gets a key of its own.
    fn carry_profile(&self) {
        let file = self.site.folder().join("own.toml");
        let profile = format!(
            "name = \"own\"\n[[slots]]\nslot = \"tmk\"\nheader = \"{HEADER}\"\nkind = \"AES-128\"\n\
             validity-days = 365\n"
        );
        fs::write(&file, profile).unwrap();
        let why = ["--why", "own", "--yes"];
        let put = ["profile", "put", file.to_str().unwrap()];
        self.site.operate(&[&put[..], &why[..]].concat()).unwrap();
        let assign = ["profile", "assign", "own", "--model", "Model X"];
        self.site
            .operate(&[&assign[..], &why[..]].concat())
            .unwrap();
    }

    fn terminal(&self, serial: &str) -> Terminal {
        let code = self.site.add_device(serial).unwrap();
        let options = TerminalOptions {
            rsa_bits: 3072,
            ..TerminalOptions::default()
        };
        let terminal = self.site.make_terminal(serial, options).unwrap();
        self.assign_next(serial);
        terminal.run_all(&code).unwrap();
        terminal
    }

    fn assign_next(&self, serial: &str) {
        let assign = [
            "key",
            "assign",
            "--device",
            serial,
            "--slot",
            "tmk",
            "--by-profile",
        ];
        self.site.operate(&assign).unwrap();
    }

    /// What an operator asks for, and what comes of it.
    fn ask(&self, name: &str, form: &str, way: &[&str]) -> Result<Value, Value> {
        let kcvs = self.keys.kcvs().unwrap();
        let asked = self.site.ask_target(&kcvs, name, form, way).unwrap();
        outcome(&asked.run().unwrap())
    }

    fn run(&self, operator: Operator, arguments: &[&str]) -> Result<Value, Value> {
        let kdhctl = self.site.kdhctl(operator, arguments).unwrap();
        outcome(&kdhctl.run().unwrap())
    }

    fn agree(&self, name: &str, form: &str, way: &[&str]) {
        let asked = self.ask(name, form, way).unwrap();
        let approve = ["approval", "approve", text(&asked, "/id").unwrap()];
        let same = self.run(OPERATOR, &approve).unwrap_err();
        assert_eq!(same["error"]["reason"], "SAME_OPERATOR");
        let approved = self.run(KEY_OFFICER, &approve).unwrap();
        assert_eq!(approved["state"], "APPROVED");
    }

    fn show(&self, name: &str) -> Value {
        let shown = self.run(AUDITOR, &["target", "list"]).unwrap();
        let targets = shown["targets"].as_array().unwrap();
        let found = targets.iter().find(|target| target["name"] == name);
        found.unwrap().clone()
    }

    fn receive(&self, name: &str, count: u64, out: &Path) -> Background {
        let count = count.to_string();
        let receive = ["target", "receive", name, "--count", &count, "--out"];
        let receive = [&receive[..], &[out.to_str().unwrap()]].concat();
        self.site.kdhctl(SWITCH, &receive).unwrap().start().unwrap()
    }

    /// What an independent reader finds of each key in a file.
    fn read(&self, file: &Path) -> Vec<String> {
        exported_keys(&self.keys.under.value(), &self.keys.mac.value(), file)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }
}

/// What `kdhctl` says, or of what it complains.
fn outcome(ended: &Ended) -> Result<Value, Value> {
    let parse = |text: &str| serde_json::from_str(text).unwrap();
    if ended.status.success() {
        Ok(parse(&ended.stdout))
    } else {
        Err(parse(&ended.stderr))
    }
}

/// As the independent reader says it, of what the terminal itself says that it holds.
fn held(terminal: &Terminal, position: u64) -> String {
    let slot = terminal.slot("tmk").unwrap().unwrap();
    assert_eq!(slot["confirmed"], json!(true));
    let (version, kcv) = (&slot["key-version"], text(&slot, "/kcv").unwrap());
    let serial = terminal.serial();
    format!("{position} {serial} tmk {version} {HEADER} {kcv}")
}

fn a_switch_finds_what_terminals_confirm(module: &'static TestModule) {
    let scene = Scene::new(module);
    let host = scene.site.start_host(&options()).unwrap();
    scene.carry_profile();
    let before = scene.terminal("SN-1");
    let blocks = module != &SOFTHSM;
    if !blocks {
        let refused = scene.ask("switch", "tr31", &["--files"]).unwrap_err();
        assert_eq!(refused["error"]["reason"], "HSM_UNSUPPORTED");
        let message = text(&refused, "/error/message").unwrap();
        assert!(message.starts_with(TR31), "{message}");
    }
    let form = if blocks { "tr31" } else { "key-wrap" };
    scene.agree("switch", form, &["--receiver", "switch"]);
    let out = scene.out("stream.jsonl");
    // The switch waits for what comes, where two programs can have the operators' token open at once: if not while
    // they open it. Once the file is there, it has.
    let receiving = (!blocks).then(|| {
        let mut receiving = scene.receive("switch", 2, &out);
        receiving.wait_for(|| out.exists().then_some(())).unwrap();
        receiving
    });
    let filled = scene.run(OPERATOR, &["target", "fill", "switch"]).unwrap();
    assert_eq!(
        (&filled["looked_at"], &filled["queued"]),
        (&json!(1), &json!(1))
    );
    let live = scene.terminal("SN-2");
    let receiving = receiving.unwrap_or_else(|| scene.receive("switch", 2, &out));
    receiving.succeed().unwrap();
    assert_eq!(scene.read(&out), [held(&before, 1), held(&live, 2)]);
    let shown = scene.show("switch");
    assert_eq!(
        (&shown["acknowledged"], &shown["lag"]),
        (&json!(2), &json!(0))
    );

    // The same file at its end, from the mark on.
    scene.assign_next("SN-1");
    before.act(&["load"]).unwrap();
    scene.receive("switch", 1, &out).succeed().unwrap();
    assert_eq!(scene.read(&out)[2], held(&before, 3));
    // Nothing can be changed on the way.
    let whole = fs::read_to_string(&out).unwrap();
    for (part, instead) in [
        ("\"device\":\"SN-1\"", "\"device\":\"SN-3\""),
        ("\"position\":1", "\"position\":4"),
        ("\"state\":\"KEY\"", "\"state\":\"SKIPPED\""),
    ] {
        fs::write(&out, whole.replacen(part, instead, 1)).unwrap();
        assert_eq!(
            scene.read(&out)[0],
            "refused: the MAC is not right",
            "{part}"
        );
    }

    // As a file, by AES key wrap, which every module has.
    scene.agree("batch", "key-wrap", &["--files", "--slot", "tmk"]);
    scene.run(OPERATOR, &["target", "fill", "batch"]).unwrap();
    poll(std::time::Duration::from_mins(1), || {
        Ok((scene.show("batch")["made"] == 2).then_some(()))
    })
    .unwrap();
    let file = scene.out("batch.jsonl");
    let to_file = ["target", "file", "batch", "--out", file.to_str().unwrap()];
    let made = scene.run(OPERATOR, &to_file).unwrap();
    assert_eq!((&made["from"], &made["to"]), (&json!(1), &json!(2)));
    let read = ["file 1 2 2".to_owned(), held(&before, 1), held(&live, 2)];
    assert_eq!(scene.read(&file), read);
    let taken = scene.run(OPERATOR, &to_file).unwrap_err();
    assert!(
        text(&taken, "/error/message")
            .unwrap()
            .contains("nothing is overwritten")
    );
    let again = scene.out("again.jsonl");
    scene
        .run(
            OPERATOR,
            &["target", "file", "batch", "--out", again.to_str().unwrap()],
        )
        .unwrap();
    assert_eq!(fs::read(&file).unwrap(), fs::read(&again).unwrap());
    let ack = ["target", "ack", "batch", "--position"];
    let early = scene
        .run(OPERATOR, &[&ack[..], &["3"]].concat())
        .unwrap_err();
    assert_eq!(early["error"]["reason"], "REQUEST_INVALID");
    scene.run(OPERATOR, &[&ack[..], &["2"]].concat()).unwrap();
    let close = ["target", "close", "batch", "--why", "over"];
    scene.run(KEY_OFFICER, &close).unwrap();
    let closed = scene.run(OPERATOR, &["target", "show", "batch"]).unwrap();
    assert_eq!(closed["approval"]["state"], "WITHDRAWN");
    scene.site.verify_audit().unwrap();
    host.stop().unwrap();
}

on_every_module!(a_switch_finds_what_terminals_confirm);
