//! The configuration: the sample is good, and every fault is told, all at once.

use std::{fs, path::Path, time::Duration};

use krd_client::{Config, ConfigError};
use tempfile::TempDir;
use tr34::{OaepHash, Profile};

use crate::world::WORLD;

const SAMPLE: &str = include_str!("../../krd.sample.toml");

/// A folder with the sample's CAs in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, ca) in [
        ("ca-krd.pem", &WORLD.ca_krd),
        ("ca-kdh.pem", &WORLD.ca_kdh),
        ("ca-ops.pem", &WORLD.ca_ops),
    ] {
        fs::write(folder.path().join(file), ca.certificate.to_pem()).unwrap();
    }
    fs::write(folder.path().join("root.pem"), WORLD.root().to_pem()).unwrap();
    fs::write(folder.path().join("kdh.pem"), WORLD.kdh.to_pem()).unwrap();
    let two = WORLD.ca_krd.certificate.to_pem().repeat(2);
    fs::write(folder.path().join("two.pem"), two).unwrap();
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    folder
}

fn load(folder: &Path, text: &str) -> Result<Config, ConfigError> {
    let path = folder.join("krd.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path)
}

#[test]
fn the_sample_is_good_and_shows_the_defaults() {
    let folder = folder();
    let sample = load(folder.path(), SAMPLE).unwrap();
    assert_eq!(sample.serial.as_str(), "KRD-000001");
    assert_eq!(sample.trust.kdh, WORLD.ca_kdh.certificate);
    assert_eq!(sample.token.pin_file, folder.path().join("terminal.pin"));
    assert_eq!(
        sample.token.module,
        Path::new("/usr/lib/softhsm/libsofthsm2.so")
    );

    let required = [
        "serial-number",
        "host",
        "server-name",
        "ca-krd",
        "ca-kdh",
        "ca-ops",
        "module",
        "label",
        "pin-file",
    ];
    let without_defaults: String = SAMPLE
        .lines()
        .filter(|line| {
            let key = line.split(" = ").next().unwrap_or_default();
            line.starts_with('[') || required.contains(&key)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let defaults = load(folder.path(), &without_defaults).unwrap();
    for config in [sample, defaults] {
        assert_eq!(config.profile, Profile::X9_2019);
        assert_eq!(config.signing_time_skew, time::Duration::minutes(5));
        assert_eq!((config.rsa_bits, config.min_rsa_bits), (2048, 2048));
        assert_eq!(config.oaep_hashes, [OaepHash::Sha256]);
        assert_eq!(config.in_process_memory, None);
        assert!(!config.token.accept_imported_keys);
        assert_eq!(config.connect_timeout, Duration::from_secs(10));
        assert_eq!(config.call_timeout, Duration::from_secs(30));
        assert_eq!(config.token.serial, None);
    }
}

#[test]
fn unsafe_choices_are_written_words() {
    let folder = folder();
    let text = SAMPLE
        .replace(
            "open-in-process-memory = \"refused\"",
            "open-in-process-memory = \"accepted\"",
        )
        .replace(
            "imported-keys = \"refused\"",
            "imported-keys = \"accepted\"",
        )
        .replace("[\"sha256\"]\n", "[\"sha256\", \"sha1\"]\n");
    let config = load(folder.path(), &text).unwrap();
    assert!(config.in_process_memory.is_some());
    assert!(config.token.accept_imported_keys);
    assert_eq!(config.oaep_hashes, [OaepHash::Sha256, OaepHash::Sha1]);
}

#[test]
fn every_profile_can_be_configured() {
    let folder = folder();
    for profile in Profile::ALL {
        let text = SAMPLE.replace("\"x9-2019\"\n", &format!("\"{profile}\"\n"));
        assert_eq!(load(folder.path(), &text).unwrap().profile, profile);
    }
}

#[test]
fn each_fault_is_named_by_its_key() {
    let folder = folder();
    let cases = [
        ("serial-number", "\"KRD-000001\"", "\"krd-1\""),
        ("host", "\"kdh.example.com:7443\"", "\"kdh.example.com\""),
        ("host", "\"kdh.example.com:7443\"", "\":7443\""),
        ("host", "\"kdh.example.com:7443\"", "\"kdh.example.com:0\""),
        (
            "host",
            "\"kdh.example.com:7443\"",
            "\"kdh.example.com:65536\"",
        ),
        ("server-name", "\"kdh.example.com\"", "\"\""),
        ("profile", "\"x9-2019\"", "\"\""),
        ("profile", "\"x9-2019\"", "\"X9-2019\""),
        ("profile", "\"x9-2019\"", "\"tr34\""),
        ("signing-time-skew-seconds", "300", "3601"),
        ("rsa-bits", "2048", "1024"),
        ("rsa-bits", "2048", "2047"),
        ("min-rsa-bits", "2048", "1024"),
        ("min-rsa-bits", "2048", "4097"),
        ("oaep-hashes", "[\"sha256\"]", "[]"),
        ("oaep-hashes", "[\"sha256\"]", "[\"SHA256\"]"),
        ("oaep-hashes", "[\"sha256\"]", "[\"sha256\", \"md5\"]"),
        ("open-in-process-memory", "\"refused\"", "\"yes\""),
        ("open-in-process-memory", "\"refused\"", "\"Accepted\""),
        ("connect-timeout-seconds", "10", "0"),
        ("call-timeout-seconds", "30", "301"),
        ("trust.ca-krd", "\"ca-krd.pem\"", "\"missing.pem\""),
        ("trust.ca-krd", "\"ca-krd.pem\"", "\"empty.pem\""),
        ("trust.ca-krd", "\"ca-krd.pem\"", "\"two.pem\""),
        ("trust.ca-kdh", "\"ca-kdh.pem\"", "\"root.pem\""),
        ("trust.ca-ops", "\"ca-ops.pem\"", "\"kdh.pem\""),
        ("token.label", "\"terminal\"", "\"\""),
        ("token.imported-keys", "\"refused\"", "\"\""),
    ];
    for (key, good, bad) in cases {
        let (_, name) = key.rsplit_once('.').unwrap_or(("", key));
        let line = format!("\n{name} = {good}\n");
        assert_eq!(SAMPLE.matches(&line).count(), 1, "{line}");
        let text = SAMPLE.replace(&line, &format!("\n{name} = {bad}\n"));
        match load(folder.path(), &text) {
            Err(ConfigError::Faults { faults, .. }) => {
                let keys: Vec<_> = faults.iter().map(|fault| fault.key).collect();
                assert_eq!(keys, [key], "{bad}");
            }
            other => panic!("{key} = {bad}: {other:?}"),
        }
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = folder();
    let text = SAMPLE
        .replace("KRD-000001", "?")
        .replace("rsa-bits = 2048", "rsa-bits = 512")
        .replace("ca-kdh.pem", "missing.pem")
        .replace("label = \"terminal\"", "label = \"\"");
    let error = load(folder.path(), &text).unwrap_err().to_string();
    for key in [
        "serial-number",
        "\n  rsa-bits",
        "min-rsa-bits",
        "trust.ca-kdh",
        "token.label",
    ] {
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn keys_are_neither_missing_nor_unknown() {
    let folder = folder();
    let without = |key: &str| -> String {
        let lines = SAMPLE.lines().filter(|line| !line.starts_with(key));
        lines.flat_map(|line| [line, "\n"]).collect()
    };
    let cases = [
        ("no serial number", without("serial-number")),
        ("no host", without("host")),
        ("no server name", without("server-name")),
        ("no CA", without("ca-kdh")),
        ("no token", without("label")),
        ("no PIN file", without("pin-file")),
        ("an unknown key", format!("pin = \"1234\"\n{SAMPLE}")),
        (
            "an unknown key in a table",
            format!("{SAMPLE}\npin = \"1234\"\n"),
        ),
        ("an unknown table", format!("{SAMPLE}\n[more]\n")),
        ("a snake", SAMPLE.replace("server-name", "server_name")),
        ("a number as text", SAMPLE.replace("= 10\n", "= \"10\"\n")),
        ("a negative number", SAMPLE.replace("= 10\n", "= -10\n")),
        ("a negative skew", SAMPLE.replace("= 300\n", "= -1\n")),
        ("twice the same", format!("rsa-bits = 2048\n{SAMPLE}")),
        ("no TOML", "serial-number: KRD-000001".to_owned()),
        ("nothing", String::new()),
    ];
    for (case, text) in cases {
        let loaded = load(folder.path(), &text);
        assert!(matches!(loaded, Err(ConfigError::Syntax { .. })), "{case}");
    }
    let missing = Config::load(&folder.path().join("missing.toml"));
    assert!(matches!(missing, Err(ConfigError::File { .. })));
}
