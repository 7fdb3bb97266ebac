//! The storage keys change while the HSM fails, or the host is killed.

use std::time::Duration;

use hsm_modules::SOFTHSM;
use serde_json::{Value, json};
use system_tests::{
    host::HostOptions,
    operator::text,
    own_keys::ProfileSlot,
    process::poll,
    site::{KEY_OFFICER, Site},
};

use super::lab::Lab;

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(2);

fn options() -> HostOptions {
    HostOptions {
        // The profile gives a key of 128 bits to each.
        key_strength: "require",
        faulty: true,
        ..HostOptions::default()
    }
}

/// A host with two keys of terminals' own.
fn lab() -> Lab {
    let lab = Lab::open(&SOFTHSM, &options());
    let site = &lab.site;
    for serial in ["ROT-1", "ROT-2"] {
        site.add_device(serial).unwrap();
        let group = [
            "device", "group", serial, "--group", "own", "--why", "a test",
        ];
        site.operate(&group).unwrap();
    }
    let slot = ProfileSlot {
        name: "own".to_owned(),
        header: "D0000K0AB00N0000",
        kind: "AES-128".to_owned(),
        more: "",
    };
    site.carry_profile_at(["--group", "own"], &[slot]).unwrap();
    for serial in ["ROT-1", "ROT-2"] {
        site.assign_by_profile(serial, "own").unwrap();
    }
    lab
}

/// How often a rotation without a fault calls each of these: the last keys that it unwraps are those of the rows, and
/// the last that it destroys those of the old pair.
fn calls_of_one(lab: &Lab) -> [u64; 2] {
    let calls = || ["C_UnwrapKey", "C_DestroyObject"].map(|call| lab.faults().count(call).unwrap());
    let before = calls();
    approve(&lab.site, &ask(&lab.site));
    until(&lab.site, |status| status["rotation"].is_null());
    let after = calls();
    [after[0] - before[0], after[1] - before[1]]
}

fn ask(site: &Site) -> String {
    let asked = site
        .operate(&["storage", "rotate", "--why", "a test"])
        .unwrap();
    text(&asked, "/id").unwrap().to_owned()
}

/// Whatever becomes of the host meanwhile.
fn approve(site: &Site, id: &str) {
    let approve = site
        .kdhctl(KEY_OFFICER, &["approval", "approve", id])
        .unwrap();
    approve.run().unwrap();
}

/// What the host says of the storage keys, as soon as it is so.
fn until(site: &Site, is: impl Fn(&Value) -> bool) -> Value {
    let status = || {
        let status = site.operate(&["storage", "status"])?;
        Ok(is(&status).then_some(status))
    };
    poll(LONG, status).unwrap()
}

fn pair(number: u64, state: &str, rows: u64) -> Value {
    json!({"number": number, "state": state, "rows": rows})
}

fn actions(site: &Site) -> Vec<String> {
    let listed = site.operate(&["audit", "list", "--limit", "1000"]).unwrap();
    let records = listed["records"].as_array().unwrap().iter();
    records
        .map(|record| text(record, "/action").unwrap().to_owned())
        .collect()
}

#[test]
fn a_fault_stops_a_rotation_where_it_is_and_the_next_try_goes_on() {
    let lab = lab();
    let site = &lab.site;
    let [unwrapped, _] = calls_of_one(&lab);
    // The rows of two terminals, of a registered key, and of each approval so far.
    let rows = |rotation: u64| 3 + rotation;
    for (rotation, (fault, progress, pairs)) in (2..).zip([
        (
            format!("fail C_UnwrapKey 0x30 {unwrapped} forever"),
            "BEGUN",
            vec![pair(2, "RETIRING", rows(2)), pair(3, "PRESENT", 0)],
        ),
        (
            "fail C_GenerateKey 0x30 1 forever".to_owned(),
            "BEGUN",
            vec![pair(3, "PRESENT", rows(3))],
        ),
        (
            "fail C_DestroyObject 0x30 1 forever".to_owned(),
            "MOVED",
            vec![pair(4, "MOVED", 0), pair(5, "PRESENT", rows(4))],
        ),
    ]) {
        let id = ask(site);
        lab.tell(&fault);
        approve(site, &id);
        let stopped = until(site, |status| status["next_try_at"] != "");
        let cause = text(&stopped, "/fault").unwrap();
        assert!(cause.contains("CKR_DEVICE_ERROR"), "{fault}: {cause}");
        let come = text(&stopped, "/rotation/progress").unwrap();
        assert!(come.starts_with(progress), "{fault}: {come}");
        assert_eq!(stopped["pairs"], json!(pairs), "{fault}");
        assert_eq!(stopped["refused_rows"], 0, "{fault}");
        let withdraw = ["approval", "withdraw", &id, "--why", "it is stuck"];
        let withdraw = site.kdhctl(KEY_OFFICER, &withdraw).unwrap().run().unwrap();
        assert_eq!(
            withdraw.status.code(),
            Some(1),
            "{fault}: {}",
            withdraw.stdout
        );
        lab.tell("clear");
        let over = until(site, |status| status["rotation"].is_null());
        let present = pair(rotation + 1, "PRESENT", rows(rotation));
        assert_eq!(over["pairs"], json!([present]), "{fault}");
        assert_eq!(over["fault"], "", "{fault}");
    }
    let actions = actions(site);
    assert!(
        !actions.iter().any(|action| action == "storage.row-refused"),
        "{actions:?}"
    );
    lab.verify_audit().unwrap();
}

#[test]
fn a_host_that_is_killed_at_any_step_of_a_rotation_goes_on_where_it_was() {
    let mut lab = lab();
    let [unwrapped, destroyed] = calls_of_one(&lab);
    for (rotation, step) in (2..).zip([
        "C_GenerateKey 1".to_owned(),
        "C_GenerateKey 2".to_owned(),
        // While the pair is made, and while the second row is moved.
        "C_UnwrapKey 2".to_owned(),
        format!("C_UnwrapKey {unwrapped}"),
        format!("C_DestroyObject {}", destroyed - 1),
        format!("C_DestroyObject {destroyed}"),
    ]) {
        let id = ask(&lab.site);
        lab.tell(&format!("die {step}"));
        approve(&lab.site, &id);
        let Lab { site, host, .. } = lab;
        host.ended().unwrap();
        lab = Lab::restart(site, &options());
        let over = until(&lab.site, |status| status["rotation"].is_null());
        let present = pair(rotation + 1, "PRESENT", 3 + rotation);
        assert_eq!(over["pairs"], json!([present]), "{step}");
    }
    lab.verify_audit().unwrap();
}
