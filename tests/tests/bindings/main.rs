//! Terminals that are unbound, that go over to another host or to another credential, and that get keys off
//! line; and the tools that look into their tokens. With the real programs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod handover;
mod lost_kdh;
mod one_pass;
mod open;
mod profiles;
mod rollover;
mod token_files;

use std::path::PathBuf;

use hsm_modules::{SOFTHSM, TestModule};
use serde_json::Value;
use system_tests::{
    fixture::Fixture,
    host::{Host, HostOptions, Kdh, NEXT_KDH},
    master_key::MasterKey,
    operator::text,
    process::Program,
    site::{KEY_OFFICER, Site, Topology},
    terminal::{Terminal, TerminalOptions, refusal},
};

const SLOT: &str = "tmk";

/// A site, its host, and two keys that this knows.
struct Scene {
    site: Fixture,
    /// `None` while it is stopped.
    host: Option<Host>,
    options: HostOptions,
}

impl Scene {
    fn new() -> Self {
        Self::of(&SOFTHSM, HostOptions::default())
    }

    fn of(module: &'static TestModule, options: HostOptions) -> Self {
        Self::begin(Fixture::new(module, Topology::TwoSubCas), options)
    }

    /// Another host of the same PKI, with a KDH credential of its own.
    fn elsewhere() -> Self {
        let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
        site.hold_sample_ceremony("new-kdh-credential.toml", &[])
            .unwrap();
        let options = HostOptions {
            kdh: NEXT_KDH,
            ..HostOptions::default()
        };
        Self::begin(site, options)
    }

    fn begin(site: Fixture, options: HostOptions) -> Self {
        let mut scene = Self {
            site,
            host: None,
            options,
        };
        scene.start();
        for key in [&scene.site.keys.aes_128, &scene.site.keys.aes_128_next] {
            scene.site.register_key(key).unwrap();
        }
        scene
    }

    /// From then on it listens on the same ports.
    fn start(&mut self) {
        let host = self.site.start_host(&self.options).unwrap();
        let port = |address: &str| address.rsplit(':').next().unwrap().parse().unwrap();
        let addresses = host.addresses();
        self.options.ports = [port(&addresses.terminals), port(&addresses.administration)];
        self.host = Some(host);
    }

    fn stop(&mut self) {
        self.host.take().unwrap().stop().unwrap();
    }

    /// With these credentials from now on.
    fn restart(&mut self, kdh: Kdh, retiring: &'static [Kdh]) {
        self.stop();
        self.options = HostOptions {
            kdh,
            retiring,
            ..self.options.clone()
        };
        self.start();
    }

    /// With such a configuration the host says what is wrong instead of serving. It goes on as before.
    fn refuse_to_start(&mut self, options: &HostOptions, fault: &str) {
        self.stop();
        let refused = format!("{:#}", self.site.start_host(options).unwrap_err());
        assert!(refused.contains(fault), "{refused}");
        self.start();
    }

    fn first_key(&self) -> &MasterKey {
        &self.site.keys.aes_128
    }

    fn second_key(&self) -> &MasterKey {
        &self.site.keys.aes_128_next
    }

    /// A terminal that has loaded the first key.
    fn terminal(&self, serial: &str) -> Terminal {
        self.terminal_with(serial, "Model X", TerminalOptions::default())
    }

    fn terminal_with(&self, serial: &str, model: &str, options: TerminalOptions) -> Terminal {
        let site = &self.site;
        site.operate(&["device", "add", serial, "--model", model])
            .unwrap();
        let code = site.activation_code(serial).unwrap();
        site.assign_key(serial, SLOT, self.first_key()).unwrap();
        let terminal = site.make_terminal(serial, options).unwrap();
        terminal.run_all(&code).unwrap();
        assert_holds(&terminal, 1, self.first_key());
        terminal
    }

    fn file(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    /// A key token for a terminal that is not on line.
    fn make_one_pass(&self, serial: &str, name: &str) -> PathBuf {
        let file = self.file(name);
        let make = ["token", "one-pass", "--device", serial, "--slot", SLOT];
        let make = self.site.kdhctl(KEY_OFFICER, &make).unwrap();
        make.arg("--out").arg(&file).succeed().unwrap();
        file
    }

    /// State, and what became of the keys.
    fn device(&self, serial: &str) -> [String; 2] {
        let shown = self.site.operate(&["device", "show", serial]).unwrap();
        ["/device/state", "/device/keys"].map(|at| text(&shown, at).unwrap().to_owned())
    }

    fn end(mut self) {
        self.site.verify_audit().unwrap();
        self.stop();
    }
}

/// The terminal is told where this host listens.
fn direct(terminal: &Terminal, to: &Site) {
    to.configure_terminal(terminal, TerminalOptions::default())
        .unwrap();
}

fn assert_holds(terminal: &Terminal, version: u32, key: &MasterKey) {
    let held = terminal.slot(SLOT).unwrap().unwrap();
    assert_eq!(held["key-version"], version, "{held}");
    assert_eq!(held["kcv"], key.kcv().unwrap(), "{held}");
    assert_eq!(held["state"], "held", "{held}");
}

/// Secret keys that are in a terminal's token, as another program sees them.
fn secret_keys(terminal: &Terminal) -> usize {
    let listed = terminal
        .pkcs11_tool(&["--list-objects", "--type", "secrkey"])
        .unwrap();
    assert!(listed.status.success(), "{}", listed.stderr);
    listed.stdout.matches("Secret Key Object").count()
}

/// `krd` refuses, and this is the reason.
fn refused(program: Program) -> String {
    let ended = program.run().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.command);
    refusal(&ended).unwrap()
}

/// `kdhctl` is refused; the reason and the message.
fn operator_refused(program: Program) -> [String; 2] {
    let ended = program.run().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.command);
    let failure: Value = serde_json::from_str(&ended.stderr).unwrap();
    ["/error/reason", "/error/message"].map(|at| text(&failure, at).unwrap().to_owned())
}

fn of(state: &str, keys: &str) -> [String; 2] {
    [state, keys].map(ToOwned::to_owned)
}
