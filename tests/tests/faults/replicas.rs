//! Several tokens that hold the same keys.

use std::fs;

use hsm_modules::{SOFTHSM, makers};
use system_tests::{
    faults::{faulty_module, twin},
    fixture::Fixture,
    host::{HostOptions, Replica},
    master_key::{MasterKey, kcv},
    operator::{answer, text},
    site::{KEY_OFFICER, Site, Topology},
};
use tr34::KeyKind;

use super::lab::Lab;

/// The token `kdh` twice: behind the module with faults, and behind another module.
fn two(site: &Site) -> HostOptions {
    let module = twin(&SOFTHSM, site.folder()).unwrap();
    HostOptions {
        faulty: true,
        replica: Some(Replica {
            module,
            label: "kdh",
        }),
        ..HostOptions::default()
    }
}

#[test]
fn work_is_spread_and_one_that_fails_is_taken_out_and_brought_back() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = two(&site);
    let lab = Lab::of(site, &options);
    let terminal = lab.terminal("TWO-1");
    let mut faults = lab.faults();
    let mut sealed_by_the_first = || faults.count("C_WrapKey").unwrap();

    // Each seals every other key.
    let mut by_the_first = 0;
    for nonce in 0..10 {
        let before = sealed_by_the_first();
        terminal.request_key(nonce).unwrap();
        by_the_first += u32::from(sealed_by_the_first() > before);
    }
    assert_eq!(by_the_first, 5);

    // No call notices.
    lab.tell("remove kdh");
    let before = sealed_by_the_first();
    for nonce in 10..20 {
        terminal.request_key(nonce).unwrap();
    }
    assert_eq!(sealed_by_the_first(), before);
    assert!(lab.log().contains("the token is lost"));

    lab.tell("insert kdh");
    lab.wait_for_log("the token is back");
    // Its self-test has sealed, too.
    let before = sealed_by_the_first();
    for nonce in 20..22 {
        terminal.request_key(nonce).unwrap();
    }
    assert!(sealed_by_the_first() > before);
    lab.verify_audit().unwrap();
}

#[test]
fn a_call_that_one_fails_at_once_is_made_by_the_other() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = two(&site);
    let lab = Lab::of(site, &options);
    let terminal = lab.terminal("TWO-1");
    lab.tell("fail C_WrapKey 0x30 1 forever");
    for nonce in 0..4 {
        terminal.request_key(nonce).unwrap();
    }
    assert_eq!(terminal.deliveries().len(), 4, "none was abandoned");
}

#[test]
fn a_key_that_arrived_is_brought_in_when_all_of_them_are_there() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let zmk = MasterKey::generate("zmk", KeyKind::Aes128).unwrap();
    site.bring_in(&[("zmk.switch", &zmk)]).unwrap();
    let wrapped = site.folder().join("wrapped.bin");
    let key = [0x3C, 0x5A].repeat(8);
    fs::write(&wrapped, makers::key_wrap(&zmk.value(), &key, false)).unwrap();
    let options = two(&site);
    let lab = Lab::of(site, &options);
    let ask = [
        "import",
        "zmk",
        "arrived",
        "--kind",
        "AES-128",
        "--header",
        "D0000K0AB00E0000",
        "--kcv",
        &kcv(KeyKind::Aes128, &key).unwrap(),
        "--zmk",
        "zmk.switch",
        "--wrapped",
        wrapped.to_str().unwrap(),
        "--why",
        "a test",
    ];
    let asked = lab.site.operate(&ask).unwrap();
    let approve = ["import", "approve", text(&asked, "/id").unwrap()];
    let approve = || lab.site.kdhctl(KEY_OFFICER, &approve).unwrap();

    lab.tell("remove kdh");
    let ended = approve().run().unwrap();
    assert!(ended.stderr.contains("HSM_UNAVAILABLE"), "{}", ended.stderr);
    let keys = lab.site.operate(&["key", "list"]).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    lab.tell("insert kdh");
    lab.wait_for_log("the token is back");

    let done = answer(&approve().succeed().unwrap()).unwrap();
    assert_eq!(done["state"], "IMPORTED");
    lab.verify_audit().unwrap();
}

#[test]
fn a_host_starts_without_its_first_token_and_takes_it_in_when_it_is_there() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = HostOptions {
        faults_at_start: "remove kdh",
        ..two(&site)
    };
    let lab = Lab::of(site, &options);
    let log = lab.log();
    assert!(
        log.contains("a token is not there") && log.contains("section=\"kdh-token\""),
        "{log}"
    );
    let terminal = lab.terminal("LATE-1");
    terminal.readiness().rises();
    terminal.request_key(0).unwrap();
    let mut faults = lab.faults();
    // Nothing but the self-test wraps keys there until it takes part.
    assert_eq!(faults.count("C_WrapKey").unwrap(), 0);

    lab.tell("insert kdh");
    lab.wait_for_log("the token is back");
    let after_the_self_test = faults.count("C_WrapKey").unwrap();
    assert!(after_the_self_test > 0);
    for nonce in 1..=4 {
        terminal.request_key(nonce).unwrap();
    }
    assert!(faults.count("C_WrapKey").unwrap() > after_the_self_test);
    assert_eq!(terminal.deliveries().len(), 5, "none was abandoned");
    lab.verify_audit().unwrap();
}

#[test]
fn a_host_does_not_start_without_any_of_its_tokens() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = HostOptions {
        faults_at_start: "remove kdh",
        replica: Some(Replica {
            module: faulty_module().unwrap(),
            label: "issuing-2",
        }),
        ..two(&site)
    };
    fs::copy(
        site.hsm().unwrap().pin_file("issuing"),
        site.hsm().unwrap().pin_file("issuing-2"),
    )
    .unwrap();
    let error = format!("{:#}", site.start_host(&options).unwrap_err());
    for words in [
        "kdh-token: no token is called kdh",
        "kdh-token.replicas[0]: no token is called issuing-2",
        "kdh-token: one of its tokens has to be there",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_wrong_pin_of_one_of_two_tokens_is_refused_at_the_start() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = two(&site);
    fs::write(site.hsm().unwrap().pin_file("kdh"), "not-the-pin\n").unwrap();
    let error = format!("{:#}", site.start_host(&options).unwrap_err());
    assert!(error.contains("token kdh: the PIN is incorrect"), "{error}");
}

#[test]
fn a_module_that_fails_as_a_whole_is_no_absence() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let no_module = site.folder().join("no-module.so");
    fs::write(&no_module, "no library").unwrap();
    // The second one has nothing to stand in front of: it is loaded, and does not get any further.
    for module in [no_module, faulty_module().unwrap()] {
        let options = HostOptions {
            replica: Some(Replica {
                module,
                label: "kdh",
            }),
            ..HostOptions::default()
        };
        let error = format!("{:#}", site.start_host(&options).unwrap_err());
        assert!(error.contains("kdh-token.replicas[0]: "), "{error}");
        assert!(!error.contains("a token is not there"), "{error}");
    }
}

/// The token `kdh`, and a foreign one behind the same module, which is away at the start.
fn with_foreign_token_away(site: &Site) -> HostOptions {
    bring_foreign_token(site, "foreign");
    HostOptions {
        faulty: true,
        faults_at_start: "remove foreign",
        replica: Some(Replica {
            module: faulty_module().unwrap(),
            label: "foreign",
        }),
        ..HostOptions::default()
    }
}

#[test]
fn a_token_that_comes_late_with_other_keys_takes_no_part() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = with_foreign_token_away(&site);
    let lab = Lab::of(site, &options);
    let terminal = lab.terminal("LATE-1");
    lab.tell("insert foreign");
    lab.wait_for_log("is another one in token foreign");
    for nonce in 0..4 {
        terminal.request_key(nonce).unwrap();
    }
    assert!(!lab.log().contains("the token is back"));
}

#[test]
fn a_token_that_comes_late_and_refuses_its_pin_is_not_tried_again() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = with_foreign_token_away(&site);
    fs::write(site.hsm().unwrap().pin_file("foreign"), "not-the-pin\n").unwrap();
    let lab = Lab::of(site, &options);
    let terminal = lab.terminal("LATE-1");
    let logins = lab.faults().count("C_Login").unwrap();
    lab.tell("insert foreign");
    lab.wait_for_log("token foreign refuses its PIN, which was tried once");
    for nonce in 0..4 {
        terminal.request_key(nonce).unwrap();
    }
    assert_eq!(lab.faults().count("C_Login").unwrap(), logins + 1);
}

/// Another bank's token `kdh`, with keys of the same names, in this site's HSM and under another label.
fn bring_foreign_token(site: &Site, label: &str) {
    let foreign = Fixture::new(&SOFTHSM, Topology::SingleSubCa);
    let [from, to] = [&foreign, site].map(|site| site.folder().join("hsm"));
    let padded = |label: &str| format!("{label:32}").into_bytes();
    for token in fs::read_dir(from.join("tokens")).unwrap() {
        let token = token.unwrap();
        let mut content = fs::read(token.path().join("token.object")).unwrap();
        let Some(at) = content.windows(32).position(|part| part == padded("kdh")) else {
            continue;
        };
        content[at..at + 32].copy_from_slice(&padded(label));
        let target = to.join("tokens").join(token.file_name());
        fs::create_dir(&target).unwrap();
        for object in fs::read_dir(token.path()).unwrap() {
            let object = object.unwrap();
            fs::copy(object.path(), target.join(object.file_name())).unwrap();
        }
        fs::write(target.join("token.object"), content).unwrap();
    }
    fs::copy(from.join("kdh.pin"), to.join(format!("{label}.pin"))).unwrap();
}

#[test]
fn a_replica_with_other_keys_is_refused_at_the_start() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    bring_foreign_token(&site, "foreign");
    let options = HostOptions {
        replica: Some(Replica {
            module: site.module().unwrap(),
            label: "foreign",
        }),
        ..HostOptions::default()
    };
    let error = format!("{:#}", site.start_host(&options).unwrap_err());
    assert!(
        error.contains("key kdh-signing is another one in token foreign"),
        "{error}"
    );
}

#[test]
fn a_replica_without_the_keys_is_refused_at_the_start() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let options = HostOptions {
        replica: Some(Replica {
            module: site.module().unwrap(),
            label: "issuing",
        }),
        ..HostOptions::default()
    };
    let error = format!("{:#}", site.start_host(&options).unwrap_err());
    assert!(error.contains("no key is called kdh-signing"), "{error}");
}
