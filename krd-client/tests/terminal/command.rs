//! The command itself: what it reads, what it prints, how it ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    tokens::{PIN, initialize, on_every_module},
    world::WORLD,
};

/// A folder as whoever prepares a terminal leaves it, for a host that nobody runs.
fn prepare() -> TempDir {
    initialize("terminal");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (file, ca) in [
        ("ca-krd.pem", &WORLD.ca_krd),
        ("ca-kdh.pem", &WORLD.ca_kdh),
        ("ca-ops.pem", &WORLD.ca_ops),
    ] {
        fs::write(path.join(file), ca.certificate.to_pem()).unwrap();
    }
    let sample = include_str!("../../krd.sample.toml");
    let library = hsm_modules::library();
    let text = sample
        .replace("kdh.example.com:7443", "127.0.0.1:1")
        .replace("/usr/lib/softhsm/libsofthsm2.so", library.to_str().unwrap());
    fs::write(path.join("krd.toml"), text).unwrap();
    write(&path.join("terminal.pin"), PIN, 0o600);
    folder
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn krd(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_krd"))
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, and what stands on standard error.
fn ended(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap(), text)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn keys_are_made_once_and_shown() {
    on_every_module(|_| {
        let folder = prepare();
        let empty = json(&krd(&folder, &["--json", "status"]));
        assert_eq!(empty["serial-number"], "KRD-000001");
        assert_eq!(empty["encryption-key-fingerprint"], Value::Null);

        let made = json(&krd(&folder, &["--json", "keygen"]));
        assert_eq!(
            (&made["made"], &made["signing-retired"]),
            (&true.into(), &true.into())
        );
        let again = json(&krd(&folder, &["keygen", "--json"]));
        assert_eq!(again["made"], false);
        let status = json(&krd(&folder, &["--json", "status"]));
        for key in [
            "encryption-key-fingerprint",
            "authentication-key-fingerprint",
        ] {
            assert_eq!(made[key], again[key]);
            assert_eq!(made[key], status[key]);
        }
        let text = String::from_utf8(krd(&folder, &["status"]).stdout).unwrap();
        assert!(
            text.contains("KRD-000001") && text.contains("not enrolled"),
            "{text}"
        );
    });
}

#[test]
fn refusals_and_failures_end_differently() {
    on_every_module(|_| {
        let folder = prepare();
        let refused = krd(&folder, &["--json", "bind"]);
        assert_eq!(json(&refused)["refused"]["reason"], "no-keys");
        let (code, text) = ended(&refused);
        assert_eq!(code, 1);
        assert!(
            text.starts_with("refused: no-keys: the terminal has no keys"),
            "{text}"
        );

        krd(&folder, &["keygen"]);
        let code_file = folder.path().join("code");
        write(&code_file, "activation-code\n", 0o600);
        let (code, text) = ended(&krd(&folder, &["enroll", "--code-file", "code"]));
        assert_eq!(code, 2, "nobody is there");
        assert!(text.starts_with("error: 127.0.0.1:1"), "{text}");
    });
}

#[test]
fn what_must_be_private_is_private() {
    on_every_module(|_| {
        let folder = prepare();
        krd(&folder, &["keygen"]);
        let code_file = folder.path().join("code");
        for mode in [0o640, 0o604, 0o644] {
            write(&code_file, "activation-code", mode);
            let (code, text) = ended(&krd(&folder, &["enroll", "--code-file", "code"]));
            assert_eq!(code, 2);
            assert!(text.contains("lets others than its owner"), "{text}");
        }
        write(&code_file, "\n", 0o600);
        let (code, text) = ended(&krd(&folder, &["enroll", "--code-file", "code"]));
        assert_eq!((code, text.contains("empty")), (2, true), "{text}");
        write(&folder.path().join("terminal.pin"), PIN, 0o644);
        let (code, text) = ended(&krd(&folder, &["status"]));
        assert_eq!((code, text.contains("terminal.pin")), (2, true), "{text}");
    });
}

#[test]
fn one_command_at_a_time() {
    on_every_module(|_| {
        let folder = prepare();
        let other = fs::File::open(folder.path().join("krd.toml")).unwrap();
        other.lock().unwrap();
        let (code, text) = ended(&krd(&folder, &["keygen"]));
        assert_eq!((code, text.contains("another krd")), (2, true), "{text}");
        assert_eq!(
            ended(&krd(&folder, &["status"])).0,
            0,
            "looking does no harm"
        );
        other.unlock().unwrap();
        assert_eq!(ended(&krd(&folder, &["keygen"])).0, 0);
    });
}

#[test]
fn moves_and_files_are_refused_by_their_reasons() {
    on_every_module(|_| {
        let folder = prepare();
        krd(&folder, &["keygen"]);
        let status = json(&krd(&folder, &["--json", "status"]));
        assert_eq!(status["binding"], "unbound");
        assert_eq!(status["profile"], "x9-2019");
        assert_eq!(status["pending-acknowledgements"], Value::Array(vec![]));

        write(&folder.path().join("token"), "no token", 0o644);
        let cases: [(&[&str], &str); 6] = [
            (&["unbind"], "not-enrolled"),
            (&["rebind", "--authority"], "not-enrolled"),
            (&["unbind", "--from", "token"], "not-enrolled"),
            (&["load", "--from", "token"], "file-malformed"),
            (&["load", "tmk", "--from", "token"], "file-malformed"),
            (&["token", "open", "token"], "file-malformed"),
        ];
        for (arguments, reason) in cases {
            let (code, text) = ended(&krd(&folder, arguments));
            assert_eq!(code, 1, "{text}");
            assert!(text.starts_with(&format!("refused: {reason}: ")), "{text}");
        }
        for arguments in [
            &["unbind", "--from", "missing"][..],
            &["load", "--from", "missing"],
            &["load", "TMK"],
            &["load", "tmk", "--slot", "tmk"],
            &["unbind", "--authority", "--from", "token"],
            &["token", "open", "token", "--profile", "x9"],
            &["token"],
        ] {
            assert_eq!(ended(&krd(&folder, arguments)).0, 2, "{arguments:?}");
        }
    });
}
