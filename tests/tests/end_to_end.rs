//! The whole job with the real programs, in both topologies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, thread};

use aes::{
    Aes128,
    cipher::{Block, BlockCipherEncrypt as _, KeyInit as _},
};
use hsm_modules::{SOFTHSM, TestModule};
use serde_json::{Value, json};
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    master_key::{MasterKey, kcv},
    on_every_module,
    operator::text,
    site::{OPERATOR, Site, Topology},
    terminal::{Terminal, TerminalOptions},
};
use tr34::KeyKind;

const SLOT: &str = "tmk";

/// One after the other, on one host.
const LOADS: usize = 100;

/// A registered terminal with an empty token, a key in its slot, and its activation code.
fn expected_terminal(site: &Site, serial: &str, key: &MasterKey) -> (Terminal, String) {
    let code = site.add_device(serial).unwrap();
    site.assign_key(serial, SLOT, key).unwrap();
    let terminal = site.make_terminal(serial, TerminalOptions::default());
    (terminal.unwrap(), code)
}

fn assert_holds(terminal: &Terminal, version: u32, key: &MasterKey) {
    let held = terminal.slot(SLOT).unwrap().unwrap();
    let expected = json!({
        "slot": SLOT,
        "key-version": version,
        "header": key.header(),
        "kcv": key.kcv().unwrap(),
        "confirmed": true,
        "receipt-pending": false,
        "state": "held",
    });
    assert_eq!(held, expected);
}

fn every_kind_of_key_arrives(module: &'static TestModule, topology: Topology) {
    let site = Fixture::new(module, topology);
    let host = site.start_host(&HostOptions::default()).unwrap();
    for key in site.keys.deliverable(module) {
        site.register_key(key).unwrap();
        let serial = key.name.to_uppercase();
        let (terminal, code) = expected_terminal(&site, &serial, key);
        terminal.run_all(&code).unwrap();
        assert_holds(&terminal, 1, key);
        assert_eq!(site.device_state(&serial).unwrap(), "BOUND");
        assert_eq!(site.deliveries(&serial).unwrap(), ["CONFIRMED"]);
    }
    site.verify_audit().unwrap();
    host.stop().unwrap();
}

fn every_kind_of_key_arrives_under_two_sub_cas(module: &'static TestModule) {
    every_kind_of_key_arrives(module, Topology::TwoSubCas);
}

fn every_kind_of_key_arrives_under_a_single_sub_ca(module: &'static TestModule) {
    every_kind_of_key_arrives(module, Topology::SingleSubCa);
}

fn a_key_that_this_hsm_cannot_seal_is_refused_when_it_is_registered(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    for key in site.keys.undeliverable(module) {
        let kcv = key.kcv().unwrap();
        let label = key.label();
        let register = [
            "key",
            "register",
            &key.name,
            "--hsm-label",
            &label,
            "--header",
            key.header(),
            "--kcv",
            &kcv,
        ];
        let ended = site.kdhctl(OPERATOR, &register).unwrap().run().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let failure: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(text(&failure, "/error/reason").unwrap(), "HSM_UNSUPPORTED");
        let message = text(&failure, "/error/message").unwrap();
        assert!(message.contains("24 bytes"), "{message}");
        assert!(
            message.contains("CKM_CONCATENATE_DATA_AND_BASE"),
            "{message}"
        );
    }
    let keys = site.operate(&["key", "list"]).unwrap();
    assert_eq!(keys, json!({"keys": []}), "nothing was kept");
    host.stop().unwrap();
}

fn a_loaded_key_cannot_leave_the_terminals_token(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    site.register_key(&site.keys.aes_128).unwrap();
    let (terminal, code) = expected_terminal(&site, "SN-1", &site.keys.aes_128);
    terminal.run_all(&code).unwrap();
    host.stop().unwrap();

    let tool = |arguments: &[&str]| terminal.pkcs11_tool(arguments).unwrap();
    let listed = tool(&["--list-objects", "--type", "secrkey"]);
    let keys: Vec<_> = listed.stdout.matches("Secret Key Object").collect();
    assert_eq!(keys.len(), 1, "nothing but Kn: {}", listed.stdout);
    let access = listed
        .stdout
        .lines()
        .find(|line| line.contains("Access:"))
        .unwrap();
    assert!(access.contains("sensitive"), "{access}");
    let access = access.replace("never extractable", "");
    assert!(!access.contains("extractable"), "{access}");
    let read = tool(&["--read-object", "--type", "secrkey", "--label", "kn.tmk"]);
    let value = site.keys.aes_128.value();
    let found = read.stdout.as_bytes().windows(16).any(|part| part == value);
    assert!(!found, "the value was read");
    assert!(
        read.stderr.contains("CKR_ATTRIBUTE_SENSITIVE"),
        "{}",
        read.stderr
    );
}

fn a_key_is_updated_and_never_sent_without_need(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    let (first, second) = (&site.keys.aes_128, &site.keys.aes_128_next);
    site.register_key(first).unwrap();
    site.register_key(second).unwrap();
    let (terminal, code) = expected_terminal(&site, "SN-1", first);
    terminal.run_all(&code).unwrap();

    let again = terminal.act(&["load"]).unwrap();
    assert_eq!(again["slots"][0]["outcome"], "held");
    assert_eq!(
        site.deliveries("SN-1").unwrap(),
        ["CONFIRMED"],
        "no second delivery"
    );

    site.assign_key("SN-1", SLOT, second).unwrap();
    terminal.act(&["load"]).unwrap();
    assert_holds(&terminal, 2, second);
    assert_eq!(site.deliveries("SN-1").unwrap(), ["CONFIRMED", "CONFIRMED"]);
    let again = terminal.act(&["load"]).unwrap();
    assert_eq!(again["slots"][0]["outcome"], "held");
    assert_eq!(site.deliveries("SN-1").unwrap().len(), 2);
    host.stop().unwrap();
}

fn two_terminals_load_at_once(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    let key = &site.keys.aes_128;
    site.register_key(key).unwrap();
    let terminals = ["SN-1", "SN-2"].map(|serial| expected_terminal(&site, serial, key));
    thread::scope(|scope| {
        for (terminal, code) in &terminals {
            scope.spawn(move || terminal.run_all(code).unwrap());
        }
    });
    for (terminal, _) in &terminals {
        assert_holds(terminal, 1, key);
        assert_eq!(site.deliveries(terminal.serial()).unwrap(), ["CONFIRMED"]);
    }
    site.verify_audit().unwrap();
    host.stop().unwrap();
}

/// A hundred on one host; for the HSMs of other makers a tenth of them, each of which loads ten times: what the HSM
/// does is the same.
fn a_hundred_loads_go_one_after_the_other(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    let keys = [&site.keys.aes_128, &site.keys.aes_128_next];
    for key in keys {
        site.register_key(key).unwrap();
    }
    let loads = if module == &SOFTHSM { 1 } else { 10 };
    let terminals = LOADS / loads;
    for number in 0..terminals {
        let serial = format!("SN-{number:03}");
        let (terminal, code) = expected_terminal(&site, &serial, keys[0]);
        for load in 0..loads {
            let key = keys[load % 2];
            let loaded = if load == 0 {
                terminal.run_all(&code)
            } else {
                site.assign_key(&serial, SLOT, key).unwrap();
                terminal.act(&["load"])
            };
            let slot = &loaded.unwrap()["slots"][0];
            let expected = (json!(load + 1), json!(key.kcv().unwrap()));
            assert_eq!(
                (&slot["key-version"], &slot["kcv"]),
                (&expected.0, &expected.1)
            );
        }
    }
    let bound = site
        .operate(&["device", "list", "--state", "BOUND"])
        .unwrap();
    assert_eq!(bound["devices"].as_array().unwrap().len(), terminals);
    let deliveries = site.operate(&["delivery", "list"]).unwrap();
    let deliveries = deliveries["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), LOADS);
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery["state"] == "CONFIRMED")
    );
    operators_plan_the_next_keys(&site, terminals);
    site.verify_audit().unwrap();
    host.stop().unwrap();
}

/// A key profile for so many terminals, of which two are in a group.
fn operators_plan_the_next_keys(site: &Site, terminals: usize) {
    let file = site.folder().join("next.toml");
    let profile = "name = \"next\"\n[[slots]]\nslot = \"pin\"\nheader = \"D0000P0TE00N0000\"\n\
                   kind = \"TDEA-3KEY\"\nvalidity-days = 365\n";
    fs::write(&file, profile).unwrap();
    let file = file.to_str().unwrap();
    // Nobody can be asked here.
    let put = ["profile", "put", file, "--why", "soon"];
    let unsure = site.kdhctl(OPERATOR, &put).unwrap().run().unwrap();
    assert_eq!(unsure.status.code(), Some(2), "{}", unsure.stderr);
    let done = site.operate(&[&put[..], &["--yes"]].concat()).unwrap();
    assert_eq!(done["current"]["version"], json!(1));
    let warning = text(&done, "/plan/findings/0/rule").unwrap();
    assert_eq!(warning, "tdea-past-its-date");
    let pilot = ["--group", "pilot", "--why", "soon"];
    let group = [&["device", "group", "SN-000", "SN-001"], &pilot[..]].concat();
    assert_eq!(site.operate(&group).unwrap()["moved"], json!(2));
    for (target, devices) in [
        (["--model", "Model X"], terminals),
        (["--group", "pilot"], 2),
    ] {
        let assign = [&["profile", "assign", "next", "--dry-run"], &target[..]].concat();
        let planned = site.operate(&assign).unwrap();
        assert_eq!(planned["plan"]["reach"][0]["devices"], json!(devices));
        assert_eq!(planned["plan"]["slots"][0]["new_key"], json!(devices));
    }
    let assign = [&["profile", "assign", "next", "--yes"], &pilot[..]].concat();
    site.operate(&assign).unwrap();
    let shown = site.operate(&["device", "show", "SN-001"]).unwrap();
    assert_eq!(shown["profile_target"], json!({"group": "pilot"}));
}

/// The initial key of AES DUKPT, as ANSI X9.24-3 6.3.3 has it.
fn initial_key(bdk: &MasterKey, id: &str) -> Vec<u8> {
    let data = hex::decode(format!("0101800100020080{id}")).unwrap();
    let cipher = Aes128::new_from_slice(&bdk.value()).unwrap();
    let mut block = Block::<Aes128>::try_from(&data[..]).unwrap();
    cipher.encrypt_block(&mut block);
    block.to_vec()
}

/// From a BDK of a ceremony to the terminal, whose token computes the check value.
fn an_initial_key_arrives_with_its_id(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let bdk = MasterKey::generate("acquirer", KeyKind::Aes128).unwrap();
    site.bring_in(&[("bdk.acquirer", &bdk)]).unwrap();
    let strict = HostOptions {
        key_strength: "require",
        ..HostOptions::default()
    };
    let host = site.start_host(&strict).unwrap();
    let register = ["bdk", "register", "acquirer", "--kind", "AES-128", "--kcv"];
    let bdk_kcv = bdk.kcv().unwrap();
    site.operate(&[&register[..], &[&bdk_kcv]].concat())
        .unwrap();
    let file = site.folder().join("dukpt.toml");
    let profile = "name = \"dukpt\"\n[[slots]]\nslot = \"dukpt\"\nheader = \"D0000B1AX00N0000\"\n\
                   kind = \"AES-128\"\nsource = \"derived\"\nbdk = \"acquirer\"\nkey-set-id = \"0A1B2C3D\"\n\
                   ksn-in-header = true\nkcv-length = 3\nvalidity-days = 365\n";
    fs::write(&file, profile).unwrap();
    let why = ["--why", "DUKPT", "--yes"];
    let put = ["profile", "put", file.to_str().unwrap()];
    site.operate(&[&put[..], &why].concat()).unwrap();
    let assign = ["profile", "assign", "dukpt", "--model", "Model X"];
    site.operate(&[&assign[..], &why].concat()).unwrap();

    let code = site.add_device("SN-1").unwrap();
    let strong = TerminalOptions {
        rsa_bits: 3072,
        ..TerminalOptions::default()
    };
    let terminal = site.make_terminal("SN-1", strong).unwrap();
    let next = [
        "key",
        "assign",
        "--device",
        "SN-1",
        "--slot",
        "dukpt",
        "--by-profile",
    ];
    for version in [1, 2] {
        let id = format!("0A1B2C3D{version:08X}");
        assert_eq!(site.operate(&next).unwrap()["initial_key_id"], json!(id));
        if version == 1 {
            terminal.run_all(&code).unwrap();
        } else {
            terminal.act(&["load"]).unwrap();
        }
        let held = terminal.slot("dukpt").unwrap().unwrap();
        let expected = json!({
            "slot": "dukpt",
            "key-version": version,
            "header": format!("D0000B1AX00N0200IK14{id}PB0C00000000"),
            "initial-key-id": id,
            "kcv": kcv(KeyKind::Aes128, &initial_key(&bdk, &id)).unwrap(),
            "confirmed": true,
            "receipt-pending": false,
            "state": "held",
        });
        assert_eq!(held, expected);
    }
    let listed = site.operate(&["bdk", "list"]).unwrap();
    let sets = json!([{"id": "0A1B2C3D", "last_derivation_id": 2, "keys": 2}]);
    assert_eq!(listed["bdks"][0]["key_sets"], sets);
    let brought = site.folder().join("dukpt.pem");
    let brought = brought.to_str().unwrap();
    let one_pass = [
        "token", "one-pass", "--device", "SN-1", "--slot", "dukpt", "--out", brought,
    ];
    site.operate(&one_pass).unwrap();
    let inspected = site.operate(&["token", "inspect", brought]).unwrap();
    assert_eq!(
        inspected["header"]["optional_blocks"],
        json!([
            "IK: 0A1B2C3D00000002, initial key id of AES DUKPT",
            "PB: 00000000, padding",
        ])
    );
    site.verify_audit().unwrap();
    host.stop().unwrap();
}

on_every_module!(
    an_initial_key_arrives_with_its_id,
    every_kind_of_key_arrives_under_two_sub_cas,
    every_kind_of_key_arrives_under_a_single_sub_ca,
    a_key_that_this_hsm_cannot_seal_is_refused_when_it_is_registered,
    a_loaded_key_cannot_leave_the_terminals_token,
    a_key_is_updated_and_never_sent_without_need,
    two_terminals_load_at_once,
    a_hundred_loads_go_one_after_the_other,
);
