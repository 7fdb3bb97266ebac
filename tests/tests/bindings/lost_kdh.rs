//! A host is lost. The terminals' CA takes its terminals away, on another host, by the word of two operators.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use system_tests::{
    operator::{answer, text},
    process::Program,
    site::{FLEET_OPERATOR, OPERATOR, Operator, RECOVERERS},
    terminal::Terminal,
};

use super::{SLOT, Scene, assert_holds, direct, of, operator_refused, refused, secret_keys};

const ASKING: Operator = RECOVERERS[0];
const APPROVING: Operator = RECOVERERS[1];

/// What is left: the host that takes over, and what the lost one left behind.
struct Recovery {
    lost: Scene,
    there: Scene,
}

impl Recovery {
    /// Terminals that hold a key, whose host is there no more. The bank has their exports.
    fn of(serials: &[&str]) -> (Self, Vec<Terminal>) {
        let (lost, there) = (Scene::new(), Scene::elsewhere());
        let terminals = serials.iter().map(|serial| {
            let terminal = lost.terminal(serial);
            let bundle = lost.file(&format!("{serial}.pem"));
            let export = ["device", "export", serial, "--out"];
            let export = lost.site.kdhctl(OPERATOR, &export).unwrap();
            export.arg(&bundle).succeed().unwrap();
            let admit = ["device", "admit", "--from"];
            let admit = there.site.kdhctl(OPERATOR, &admit).unwrap();
            admit.arg(&bundle).succeed().unwrap();
            terminal
        });
        let terminals = terminals.collect();
        (Self { lost, there }, terminals)
    }

    fn operate(&self, operator: Operator, arguments: &[&str]) -> Value {
        let program = self.there.site.kdhctl(operator, arguments).unwrap();
        answer(&program.succeed().unwrap()).unwrap()
    }

    fn operator_refused(&self, operator: Operator, arguments: &[&str]) -> String {
        let program = self.there.site.kdhctl(operator, arguments).unwrap();
        let [reason, _] = operator_refused(program);
        reason
    }

    fn kdh(&self, certificate: &str) -> String {
        self.there
            .site
            .pki(certificate)
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Two operators want it. Returns the id of the request.
    fn sign(&self, what: &str, serial: &str) -> String {
        let (lost, next) = (self.kdh("kdh.pem"), self.kdh("kdh-2.pem"));
        let mut ask = vec!["device", what, serial, "--why", "fire", "--kdh", &lost];
        if what == "ca-rebind" {
            ask.extend(["--to", &next]);
        }
        for nobody in [OPERATOR, FLEET_OPERATOR] {
            assert_eq!(self.operator_refused(nobody, &ask), "ROLE_MISSING");
        }
        let asked = self.operate(ASKING, &ask);
        let id = text(&asked, "/id").unwrap().to_owned();
        let approve = ["authority", "approve", &id];
        assert_eq!(self.operator_refused(ASKING, &approve), "SAME_OPERATOR");
        assert_eq!(self.operator_refused(OPERATOR, &approve), "ROLE_MISSING");
        let early = self.fetch(&id, "early.pem");
        assert_eq!(early, Err("WRONG_STATE".to_owned()));
        let signed = self.operate(APPROVING, &approve);
        assert_eq!(text(&signed, "/state").unwrap(), "SIGNED");
        let again = self.operator_refused(APPROVING, &approve);
        assert_eq!(again, "WRONG_STATE");
        assert_eq!(self.operator_refused(ASKING, &ask), "ALREADY_EXISTS");
        id
    }

    /// The token in a file, or why there is none.
    fn fetch(&self, id: &str, name: &str) -> Result<PathBuf, String> {
        let file = self.there.file(name);
        let fetch = ["authority", "fetch", id, "--out"];
        let program = self.there.site.kdhctl(APPROVING, &fetch).unwrap();
        let ended = program.arg(&file).run().unwrap();
        if ended.status.success() {
            return Ok(file);
        }
        let failure: Value = serde_json::from_str(&ended.stderr).unwrap();
        Err(text(&failure, "/error/reason").unwrap().to_owned())
    }

    fn end(self) {
        self.lost.end();
        self.there.end();
    }
}

/// `krd` with a file.
fn from(terminal: &Terminal, command: &str, file: &Path) -> Program {
    terminal.krd(&[command, "--from"]).arg(file)
}

#[test]
fn terminals_of_a_lost_host_are_unbound_on_line_and_by_file() {
    let (recovery, terminals) = Recovery::of(&["SN-1", "SN-2"]);
    let [on_line, by_file] = &terminals[..] else {
        panic!("two terminals");
    };
    direct(on_line, &recovery.there.site);
    let nothing = refused(on_line.krd(&["unbind", "--authority"]));
    assert_eq!(nothing, "NO_AUTHORITY_TOKEN");
    recovery.sign("ca-unbind", "SN-1");
    let other = refused(on_line.krd(&["rebind", "--authority"]));
    assert_eq!(other, "other-authority-token");
    assert_eq!(secret_keys(on_line), 1);
    let obeyed = on_line.act(&["unbind", "--authority"]).unwrap();
    assert_eq!(obeyed["acknowledged"], true, "{obeyed}");
    let destroyed = json!([{"slot": SLOT, "key-version": 1}]);
    assert_eq!(obeyed["destroyed-keys"], destroyed);
    assert_eq!(secret_keys(on_line), 0);
    let nothing = refused(on_line.krd(&["unbind", "--authority"]));
    assert_eq!(nothing, "not-bound");

    let id = recovery.sign("ca-unbind", "SN-2");
    let file = recovery.fetch(&id, "sn-2.pem").unwrap();
    assert_eq!(refused(from(by_file, "rebind", &file)), "token-malformed");
    let elsewhere = refused(from(on_line, "unbind", &file));
    assert_eq!(elsewhere, "other-recipient");
    let obeyed = from(by_file, "unbind", &file).succeed().unwrap();
    let obeyed = answer(&obeyed).unwrap();
    assert_eq!(obeyed["acknowledged"], false, "off line");
    assert_eq!(secret_keys(by_file), 0);
    // The file again; below once more, when it is bound anew.
    let replayed = refused(from(by_file, "unbind", &file));
    assert_eq!(replayed, "token-obeyed-before");
    // Never again to the host that was lost, also when it is found.
    assert_eq!(refused(by_file.krd(&["bind"])), "withdrawn-kdh");

    for terminal in &terminals {
        direct(terminal, &recovery.there.site);
        terminal.act(&["bind"]).unwrap();
        let serial = terminal.serial();
        assert_eq!(recovery.there.device(serial), of("BOUND", ""));
        let there = &recovery.there;
        there
            .site
            .assign_key(serial, SLOT, there.second_key())
            .unwrap();
        terminal.act(&["load"]).unwrap();
        assert_holds(terminal, 1, there.second_key());
    }
    let replayed = refused(from(by_file, "unbind", &file));
    assert_eq!(replayed, "token-obeyed-before");
    recovery.end();
}

#[test]
fn terminals_of_a_lost_host_are_rebound_on_line_and_by_file() {
    let (recovery, terminals) = Recovery::of(&["SN-1", "SN-2"]);
    let [on_line, by_file] = &terminals[..] else {
        panic!("two terminals");
    };
    let there = &recovery.there;
    recovery.sign("ca-rebind", "SN-1");
    direct(on_line, &there.site);
    let other = refused(on_line.krd(&["unbind", "--authority"]));
    assert_eq!(other, "other-authority-token");
    on_line.act(&["rebind", "--authority"]).unwrap();
    // It binds to this very host, which knows it at once.
    assert_eq!(there.device("SN-1"), of("BOUND", ""));
    let again = refused(on_line.krd(&["rebind", "--authority"]));
    assert_eq!(again, "NO_AUTHORITY_TOKEN");

    let id = recovery.sign("ca-rebind", "SN-2");
    let file = recovery.fetch(&id, "sn-2.pem").unwrap();
    from(by_file, "rebind", &file).succeed().unwrap();
    let replayed = refused(from(by_file, "rebind", &file));
    assert_eq!(replayed, "token-obeyed-before");
    direct(by_file, &there.site);

    for terminal in &terminals {
        assert_holds(terminal, 1, recovery.lost.first_key());
        terminal.act(&["bind"]).unwrap();
        let serial = terminal.serial();
        assert_eq!(there.device(serial), of("BOUND", ""));
        there
            .site
            .assign_key(serial, SLOT, there.second_key())
            .unwrap();
        terminal.act(&["load"]).unwrap();
        assert_holds(terminal, 1, there.second_key());
        direct(terminal, &recovery.lost.site);
        assert_eq!(refused(terminal.krd(&["bind"])), "other-kdh");
    }
    recovery.end();
}
