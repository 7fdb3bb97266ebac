//! Key tokens in files, for terminals that are not on line.

use std::{fs, path::Path};

use serde_json::json;
use system_tests::{operator::answer, process::Program, site::FLEET_OPERATOR, terminal::Terminal};

use super::{SLOT, Scene, assert_holds, operator_refused, refused, secret_keys};

fn from(terminal: &Terminal, file: &Path) -> Program {
    terminal.krd(&["load", "--from"]).arg(file)
}

#[test]
fn a_key_comes_in_a_file_while_the_host_is_away() {
    let mut scene = Scene::new();
    let terminals = ["SN-1", "SN-2"].map(|serial| {
        let terminal = scene.terminal(serial);
        let next = scene.second_key();
        scene.site.assign_key(serial, SLOT, next).unwrap();
        terminal
    });
    let [terminal, other] = &terminals;
    let make = [
        "token", "one-pass", "--device", "SN-1", "--slot", SLOT, "--out", "no.pem",
    ];
    let by_fleet = scene.site.kdhctl(FLEET_OPERATOR, &make).unwrap();
    assert_eq!(operator_refused(by_fleet)[0], "ROLE_MISSING");
    let older = scene.make_one_pass("SN-1", "older.pem");
    let newer = scene.make_one_pass("SN-1", "newer.pem");
    let for_other = scene.make_one_pass("SN-2", "for-other.pem");
    scene.stop();

    assert_changes_are_refused(&scene, terminal, &newer);
    assert_is_not_for(&scene, terminal, &for_other);
    let other_slot = from(terminal, &newer).args(["pin"]);
    assert_eq!(refused(other_slot), "other-slot");
    assert_holds(terminal, 1, scene.first_key());

    let loaded = answer(&from(terminal, &newer).succeed().unwrap()).unwrap();
    assert_eq!(loaded["slots"][0]["outcome"], "loaded-off-line", "{loaded}");
    assert_holds(terminal, 2, scene.second_key());
    assert_eq!(secret_keys(terminal), 1);
    for file in [&newer, &older] {
        let again = refused(from(terminal, file));
        assert_eq!(again, "signing-time-not-later");
    }
    // Nobody has signed this line, and the terminal has nothing to hold against it; the host has.
    let text = fs::read_to_string(&for_other).unwrap();
    let file = scene.file("changed.pem");
    fs::write(&file, text.replacen("Delivery: ", "Delivery: 00", 1)).unwrap();
    from(other, &file).succeed().unwrap();

    scene.start();
    for (terminal, sent, outcome) in [
        (terminal, json!([SLOT]), "held"),
        (other, json!([]), "loaded"),
    ] {
        let newest = &scene.site.deliveries(terminal.serial()).unwrap()[0];
        assert_eq!(newest, "ISSUED");
        let report = terminal.act(&["load"]).unwrap();
        assert_eq!(report["receipts-sent"], sent, "{report}");
        assert_eq!(report["slots"][0]["outcome"], outcome, "{report}");
        assert_holds(terminal, 2, scene.second_key());
        let deliveries = scene.site.deliveries(terminal.serial()).unwrap();
        assert_eq!(deliveries, ["CONFIRMED", "SUPERSEDED", "CONFIRMED"]);
    }
    scene.end();
}

/// What is wrong with a file is said, and nothing of it is kept.
fn assert_changes_are_refused(scene: &Scene, terminal: &Terminal, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    let (kcv, header, version) = (line("KCV: "), line("Header: "), line("Key-Version: "));
    let base64 = line("MII");
    let signature = text.lines().rev().nth(2).unwrap();
    let cases = [
        (
            "another terminal's line",
            "Device: SN-1",
            "Device: SN-2",
            "other-recipient",
        ),
        (
            "another header",
            header,
            "Header: D0000P0AE00E0000",
            "header-mismatch",
        ),
        (
            "another check value",
            kcv,
            "KCV: 000000 (AES_CMAC)",
            "kcv-mismatch",
        ),
        (
            "an older version",
            version,
            "Key-Version: 0",
            "key-version-older",
        ),
        ("no device", "Device: ", "Devices: ", "file-malformed"),
        ("no delivery", "Delivery: ", "Deliver: ", "file-malformed"),
        (
            "senseless version",
            version,
            "Key-Version: two",
            "file-malformed",
        ),
        (
            "a line twice",
            kcv,
            &format!("{kcv}\n{kcv}"),
            "file-malformed",
        ),
        ("a line of the token missing", base64, "", "token-malformed"),
        (
            "another signature",
            signature,
            &signature.to_lowercase(),
            "signature-invalid",
        ),
        (
            "another kind of PEM",
            "BEGIN CMS",
            "BEGIN PKCS7",
            "file-malformed",
        ),
    ];
    for (case, line, changed, reason) in cases {
        assert!(text.contains(line), "{case}");
        let file = scene.file("changed.pem");
        fs::write(&file, text.replacen(line, changed, 1)).unwrap();
        assert_eq!(refused(from(terminal, &file)), reason, "{case}");
    }
}

/// SN-2's file on SN-1, also if it says that it is SN-1's.
fn assert_is_not_for(scene: &Scene, terminal: &Terminal, file: &Path) {
    assert_eq!(refused(from(terminal, file)), "other-recipient");
    let text = fs::read_to_string(file).unwrap();
    let changed = scene.file("changed.pem");
    fs::write(&changed, text.replacen("SN-2", "SN-1", 1)).unwrap();
    assert_eq!(refused(from(terminal, &changed)), "other-recipient");
}
