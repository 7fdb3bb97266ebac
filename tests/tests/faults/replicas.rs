//! Several tokens that hold the same keys.

use std::fs;

use hsm_modules::SOFTHSM;
use system_tests::{
    faults::twin,
    fixture::Fixture,
    host::{HostOptions, Replica},
    site::{Site, Topology},
};

use crate::lab::Lab;

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
    let mut nonces = 20..;
    while sealed_by_the_first() == before {
        terminal.request_key(nonces.next().unwrap()).unwrap();
    }
    assert!(lab.log().contains("the token is back"));
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
