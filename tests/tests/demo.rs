//! The demonstration does what its reader was told, more than once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use hsm_modules::{KRYOPTIC, SOFTHSM, TestModule};
use system_tests::{
    process::{Ended, Program},
    programs::Programs,
};

const EVIDENCE: [&str; 10] = [
    "root.pem",
    "ca-krd.pem",
    "ca-kdh.pem",
    "kdh.pem",
    "krd.pem",
    "ct-krd.der",
    "ct-kdh.der",
    "crl-ca-kdh.der",
    "rt-krd.der",
    "kt-kdh.der",
];

fn demo(command: &str, folder: &Path) -> Ended {
    demo_on(&SOFTHSM, command, folder)
}

fn demo_on(module: &TestModule, command: &str, folder: &Path) -> Ended {
    let log = folder.with_extension("log");
    let demo = Program::new(Programs::built().path("demo"), &log);
    let demo = demo.args([command, "--hsm", module.name, "--folder"]);
    demo.arg(folder).run().unwrap()
}

/// The word after `name=` in the last line.
fn said<'a>(ended: &'a Ended, name: &str) -> &'a str {
    let last = ended.stdout.lines().last().unwrap();
    let found = last.split(' ').find_map(|word| word.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {last:?}"))
}

#[test]
fn it_runs_again_and_again_and_leaves_its_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("demo");
    let mut check_values = Vec::new();
    for _ in 0..2 {
        let ended = demo("run", &folder);
        assert!(ended.status.success(), "{}", ended.stdout);
        let last = ended.stdout.lines().last().unwrap();
        assert!(last.starts_with("demo: OK "), "{last}");
        assert_eq!(said(&ended, "device="), "SN-1001");
        assert_eq!(said(&ended, "key="), "demo-tmk");
        check_values.push(said(&ended, "kcv=").to_owned());
        let evidence = folder.join("evidence");
        for file in EVIDENCE {
            assert!(
                fs::metadata(evidence.join(file)).unwrap().len() > 0,
                "{file}"
            );
        }
        assert!(evidence.join("logs").join("kdh-host.log").is_file());
    }
    assert_ne!(
        check_values[0], check_values[1],
        "each time with keys of its own"
    );
}

#[test]
fn a_failure_says_where_and_points_at_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let occupied = folder.path().join("demo");
    fs::write(&occupied, "not a folder").unwrap();
    let ended = demo("run", &occupied);
    assert_eq!(ended.status.code(), Some(1));
    let last = ended.stdout.lines().last().unwrap();
    assert!(last.starts_with("demo: FAILED at "), "{last}");
    assert!(last.contains("(log: "), "{last}");
}

#[test]
fn the_commands_that_up_prints_work_until_down() {
    for module in [&SOFTHSM, &KRYOPTIC] {
        the_commands_that_up_prints_work_on(module);
    }
}

fn the_commands_that_up_prints_work_on(module: &TestModule) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("demo");
    let up = demo_on(module, "up", &folder);
    assert!(up.status.success(), "{}", up.stdout);
    let (_, to_try) = up.stdout.split_once("\nTry, in this folder:").unwrap();
    let commands: Vec<_> = to_try
        .lines()
        .filter(|line| line.starts_with("  "))
        .collect();
    assert!(commands.len() >= 20, "{}", up.stdout);
    let log = folder.with_extension("log");
    let sh = |command: &str| Program::new("sh", &log).args(["-c", command]);
    let (mut loaded, mut own, mut storage) = (None, None, None);
    let mut approved = 0;
    for command in commands {
        // One alone cannot do what the second operator does.
        let second = "/kdhctl-key-officer ";
        if command.contains(second) {
            let alone = command.replace(second, "/kdhctl ");
            let refused = sh(&alone).run().unwrap();
            assert!(
                refused.stderr.contains("another operator"),
                "{}",
                refused.stderr
            );
            approved += 1;
        }
        let ended = sh(command).succeed().unwrap();
        if command.ends_with("/krd load arrived") {
            loaded = Some(ended.stdout);
        } else if command.ends_with("/krd load pin") {
            own = Some(ended.stdout);
        } else if command.ends_with("/kdhctl storage status") {
            storage = Some(ended.stdout);
        }
    }
    assert_eq!(approved, 2, "a key that arrived, and new storage keys");
    let own = own.unwrap();
    assert!(own.contains("slot pin: version 2 loaded"), "{own}");
    let storage = storage.unwrap();
    assert!(
        storage.contains("ksk.2") && !storage.contains("ksk.1"),
        "{storage}"
    );
    // What arrived encrypted is what the terminal has.
    let kcv = fs::read_to_string(folder.join("site/sender/kcv")).unwrap();
    let loaded = loaded.unwrap();
    assert!(loaded.contains(kcv.trim()), "{loaded}");

    let again = demo("up", &folder);
    assert!(
        again.stdout.contains("is running already"),
        "{}",
        again.stdout
    );
    let down = demo("down", &folder);
    assert!(down.stdout.contains("has stopped"), "{}", down.stdout);
    let down = demo("down", &folder);
    assert!(down.stdout.contains("does not run"), "{}", down.stdout);
}
