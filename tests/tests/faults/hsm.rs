//! The HSM fails: lost sessions, a token that disappears, error codes, a PIN that is wrong, calls that never
//! return.

use std::{fs, os::unix::process::ExitStatusExt as _};

use hsm_modules::SOFTHSM;
use kdh_proto::Reason;
use system_tests::{fixture::Fixture, host::HostOptions, site::Topology};

use super::lab::Lab;

fn faulty() -> HostOptions {
    HostOptions {
        faulty: true,
        ..HostOptions::default()
    }
}

#[test]
fn lost_sessions_come_back_and_nothing_is_consumed() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    let mut readiness = terminal.readiness();
    readiness.rises();
    let logins = lab.faults().count("C_Login").unwrap();

    lab.tell("lose-sessions kdh");
    assert_eq!(terminal.request_key(1).unwrap_err(), Reason::HsmUnavailable);
    readiness.drops();
    readiness.rises();
    // The same nonce: it was given back.
    terminal.request_key(1).unwrap();
    assert_eq!(terminal.deliveries(), ["ISSUED", "ABANDONED"]);
    assert_eq!(lab.faults().count("C_Login").unwrap(), logins + 1);
    lab.verify_audit().unwrap();
}

#[test]
fn a_token_that_disappears_is_missed_without_any_call_and_comes_back() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    let mut readiness = terminal.readiness();
    readiness.rises();

    for nonce in 1..=2 {
        lab.tell("remove kdh");
        readiness.drops();
        for _ in 0..3 {
            assert_eq!(
                terminal.request_key(nonce).unwrap_err(),
                Reason::HsmUnavailable
            );
        }
        lab.tell("insert kdh");
        readiness.rises();
        terminal.request_key(nonce).unwrap();
    }
}

#[test]
fn a_device_that_fails_for_a_while_is_not_given_up() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    let mut readiness = terminal.readiness();
    readiness.rises();

    // CKR_DEVICE_ERROR, CKR_GENERAL_ERROR, and one that only its vendor knows.
    for (nonce, code) in [(1, "0x30"), (2, "0x5"), (3, "0x80000001")] {
        lab.tell(&format!("fail-token kdh {code}"));
        assert_eq!(
            terminal.request_key(nonce).unwrap_err(),
            Reason::HsmUnavailable,
            "{code}"
        );
        readiness.drops();
        lab.tell("heal-token kdh");
        readiness.rises();
        terminal.request_key(nonce).unwrap();
    }
}

/// Every function that a delivery calls fails once, in the ways of a module that has a fault.
#[test]
fn one_failed_call_costs_one_delivery_and_no_readiness() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    let functions = [
        "C_GenerateKey",
        "C_EncryptInit",
        "C_Encrypt",
        "C_WrapKey",
        "C_SignInit",
        "C_Sign",
    ];
    let mut readiness = terminal.readiness();
    readiness.rises();
    let mut nonce = 0;
    for function in functions {
        // CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY,
        // CKR_SESSION_HANDLE_INVALID.
        for code in ["0x5", "0x6", "0x30", "0x31", "0xB3"] {
            nonce += 1;
            lab.tell(&format!("fail {function} {code} 1"));
            assert_eq!(
                terminal.request_key(nonce).map(drop),
                Err(Reason::HsmUnavailable),
                "{function} {code}"
            );
            terminal.request_key(nonce).unwrap();
        }
    }
    let states = terminal.deliveries();
    let abandoned = states.iter().filter(|state| *state == "ABANDONED").count();
    assert_eq!(abandoned, usize::from(nonce));
    // It never was anything but ready: the next change is the one that follows now.
    lab.tell("remove kdh");
    readiness.drops();
}

#[test]
fn an_enrolment_that_the_hsm_fails_consumes_no_activation_code() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    let (stranger, code, connection) = lab.stranger("FAULT-2");

    lab.tell("remove issuing");
    assert_eq!(
        connection.enroll(&stranger, &code),
        Err(Reason::HsmUnavailable)
    );
    // The other token serves on.
    terminal.request_key(1).unwrap();
    lab.tell("insert issuing");
    // With the same code, as soon as the token is back.
    while let Err(reason) = connection.enroll(&stranger, &code) {
        assert_eq!(reason, Reason::HsmUnavailable);
    }
}

#[test]
fn a_wrong_pin_is_tried_once_and_the_host_says_what_to_do() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let pin_file = site.hsm().unwrap().pin_file("kdh");
    let right = fs::read(&pin_file).unwrap();
    fs::write(&pin_file, "not-the-pin\n").unwrap();
    let error = format!("{:#}", site.start_host(&faulty()).unwrap_err());
    assert!(error.contains("token kdh: the PIN is incorrect"), "{error}");
    fs::write(&pin_file, right).unwrap();
    Lab::of(site, &faulty())
        .terminal("PIN-1")
        .request_key(1)
        .unwrap();
}

#[test]
fn a_pin_that_is_refused_after_a_loss_is_not_tried_again() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    // CKR_PIN_INCORRECT, once: a second try would succeed, and the host would go on.
    lab.tell("fail C_Login 0xA0 1");
    lab.tell("lose-sessions kdh");
    assert_eq!(terminal.request_key(1).unwrap_err(), Reason::HsmUnavailable);
    drop(terminal);
    let Lab { site, host, .. } = lab;
    let status = host.ended().unwrap();
    // Not by a signal: whoever supervises it would start it again, with the same PIN.
    assert_eq!(status.code(), Some(1));
    let log = fs::read_to_string(site.log("kdh-host")).unwrap();
    assert!(
        log.contains("token kdh refuses its PIN, which was tried once"),
        "{log}"
    );
}

#[test]
fn a_call_that_never_returns_stops_no_other_and_too_many_end_the_process() {
    let options = HostOptions {
        hsm_deadline: 1,
        max_stuck: 1,
        ..faulty()
    };
    let lab = Lab::open(&SOFTHSM, &options);
    let (one, other) = (lab.terminal("FAULT-1"), lab.terminal("FAULT-2"));

    lab.tell("hang C_GenerateKey 1");
    let hanging = one.begin_request(1);
    lab.tell("wait-hanging 1");
    other.request_key(1).unwrap();
    assert_eq!(hanging().unwrap_err(), Reason::HsmUnavailable);
    // Given back while the call hangs still.
    one.request_key(1).unwrap();
    assert_eq!(one.deliveries(), ["ISSUED", "ABANDONED"]);

    // One that comes back counts no more.
    lab.tell("release");
    for nonce in 2..=3 {
        lab.tell("hang C_GenerateKey 1");
        let hanging = one.begin_request(nonce);
        lab.tell("wait-hanging 1");
        assert_eq!(hanging().unwrap_err(), Reason::HsmUnavailable);
        lab.tell("release");
        one.request_key(nonce).unwrap();
    }

    lab.tell("hang C_GenerateKey 1");
    lab.tell("hang C_GenerateKey 2");
    let (first, second) = (one.begin_request(4), other.begin_request(4));
    lab.tell("wait-hanging 2");
    assert_eq!(first().unwrap_err(), Reason::HsmUnavailable);
    assert_eq!(second().unwrap_err(), Reason::HsmUnavailable);
    drop((one, other));
    let Lab { site, host, .. } = lab;
    // By a signal: whoever supervises it starts it again.
    assert_eq!(host.ended().unwrap().signal(), Some(6), "SIGABRT");
    let log = fs::read_to_string(site.log("kdh-host")).unwrap();
    assert!(
        log.contains("did not come back from the PKCS#11 module"),
        "{log}"
    );
    // And is as good as new.
    let lab = Lab::restart(site, &faulty());
    lab.verify_audit().unwrap();
}

#[test]
fn a_stuck_hsm_ends_the_process_by_a_signal_also_when_the_database_is_held() {
    let options = HostOptions {
        hsm_deadline: 1,
        max_stuck: 0,
        ..faulty()
    };
    let lab = Lab::open(&SOFTHSM, &options);
    let terminal = lab.terminal("FAULT-1");
    lab.tell("hang C_GenerateKey 1");
    let hanging = terminal.begin_request(1);
    lab.tell("wait-hanging 1");
    let holder = lab.hold_database();
    assert!(hanging().is_err());
    drop(terminal);
    let Lab { site, host, .. } = lab;
    assert_eq!(host.ended().unwrap().signal(), Some(6), "SIGABRT");
    let log = fs::read_to_string(site.log("kdh-host")).unwrap();
    assert!(log.contains("the end is not on record"), "{log}");
    drop(holder);
}

#[test]
fn calls_whose_terminal_has_hung_up_are_settled_before_the_host_ends() {
    let lab = Lab::open(&SOFTHSM, &faulty());
    let terminal = lab.terminal("FAULT-1");
    // More than there are threads: some wait for their turn.
    let nonces = 1..9;
    lab.tell("delay C_SignInit 100000");
    let mut faults = lab.faults();
    let before = faults.count("C_SignInit").unwrap();
    terminal.hang_up(nonces.clone(), || {
        while faults.count("C_SignInit").unwrap() == before {
            std::thread::yield_now();
        }
    });
    let Lab { site, host, .. } = lab;
    host.stop().unwrap();

    let lab = Lab::restart(site, &faulty());
    let states = lab.site.deliveries("FAULT-1").unwrap();
    let settled = states
        .iter()
        .all(|state| state == "ISSUED" || state == "SUPERSEDED");
    assert!(settled && !states.is_empty(), "{states:?}");
    lab.verify_audit().unwrap();
}
