//! By order of an operator: unbound, and handed over to another host and back.

use std::fs;

use serde_json::{Value, json};
use system_tests::{
    operator::text,
    site::{KEY_OFFICER, OPERATOR},
    terminal::Terminal,
};

use super::{SLOT, Scene, assert_holds, direct, of, operator_refused, refused, secret_keys};

fn bound_kdh(terminal: &Terminal) -> Value {
    terminal.act(&["status"]).unwrap()["bound-kdh"]["serial"].clone()
}

#[test]
fn an_unbound_terminal_holds_no_key_and_lives_anew() {
    let scene = Scene::new();
    let terminal = scene.terminal("SN-1");
    assert_eq!(secret_keys(&terminal), 1);
    let unbind = [
        "device",
        "unbind",
        "SN-1",
        "--why",
        "goes to the repair shop",
    ];
    let as_key_officer = scene.site.kdhctl(KEY_OFFICER, &unbind).unwrap();
    assert_eq!(operator_refused(as_key_officer)[0], "ROLE_MISSING");
    scene.site.operate(&unbind).unwrap();
    assert_eq!(scene.device("SN-1"), of("BOUND", ""));

    let obeyed = terminal.act(&["load"]).unwrap();
    let destroyed = json!([{"slot": SLOT, "key-version": 1}]);
    assert_eq!(obeyed["moved"]["destroyed-keys"], destroyed);
    assert_eq!(obeyed["moved"]["kdh"], Value::Null);
    assert_eq!(obeyed["moved"]["acknowledged"], true);
    assert_eq!(obeyed["slots"], json!([]));
    assert_eq!(secret_keys(&terminal), 0);
    assert_eq!(terminal.slot(SLOT).unwrap(), None);
    assert_eq!(scene.device("SN-1"), of("UNBOUND", "DESTROYED"));
    assert_eq!(refused(terminal.krd(&["load"])), "not-bound");
    assert_eq!(refused(terminal.krd(&["unbind"])), "not-bound");

    terminal.act(&["bind"]).unwrap();
    assert_eq!(scene.device("SN-1"), of("BOUND", ""));
    assert_eq!(refused(terminal.krd(&["unbind"])), "NOT_ORDERED");
    terminal.act(&["load"]).unwrap();
    assert_holds(&terminal, 1, scene.first_key());
    assert_eq!(secret_keys(&terminal), 1);
    let deliveries = scene.site.deliveries("SN-1").unwrap();
    assert_eq!(deliveries, ["CONFIRMED", "ENDED"]);
    scene.end();
}

#[test]
fn a_terminal_goes_over_to_another_host_with_its_keys_and_back() {
    let (here, there) = (Scene::new(), Scene::elsewhere());
    let terminal = here.terminal("SN-1");
    // A version that the other host has to make up for.
    here.site
        .assign_key("SN-1", SLOT, here.second_key())
        .unwrap();
    terminal.act(&["load"]).unwrap();
    assert_holds(&terminal, 2, here.second_key());
    let first_kdh = bound_kdh(&terminal);

    let bundle = here.file("sn-1.pem");
    let bundle = bundle.to_str().unwrap();
    let export = ["device", "export", "SN-1", "--out", bundle];
    here.site.operate(&export).unwrap();
    let overwrites = here.site.kdhctl(OPERATOR, &export).unwrap().run().unwrap();
    assert_eq!(overwrites.status.code(), Some(2));
    let admit = ["device", "admit", "--from", bundle];
    let as_key_officer = there.site.kdhctl(KEY_OFFICER, &admit).unwrap();
    assert_eq!(operator_refused(as_key_officer)[0], "ROLE_MISSING");
    let changed = there.file("changed.pem");
    let text = fs::read_to_string(bundle).unwrap();
    fs::write(&changed, text.replacen("SN-1", "SN-2", 1)).unwrap();
    let admit_changed = there.site.kdhctl(OPERATOR, &admit[..3]).unwrap();
    let [reason, _] = operator_refused(admit_changed.arg(&changed));
    assert_eq!(reason, "IDENTITY_MISMATCH");
    // A stranger there, until it is admitted.
    direct(&terminal, &there.site);
    assert_eq!(refused(terminal.krd(&["bind"])), "CREDENTIAL_REJECTED");
    there.site.operate(&admit).unwrap();
    assert_eq!(there.device("SN-1"), of("ENROLLED", ""));
    let again = there.site.kdhctl(OPERATOR, &admit).unwrap();
    assert_eq!(operator_refused(again)[0], "ALREADY_EXISTS");
    // Admitted, and not handed over: it stays with its host.
    assert_eq!(refused(terminal.krd(&["bind"])), "other-kdh");

    direct(&terminal, &here.site);
    hand_over(&here, &terminal, &there);
    assert_ne!(bound_kdh(&terminal), first_kdh);
    assert_eq!(here.device("SN-1"), of("REBOUND", "HANDED_OVER"));
    assert_holds(&terminal, 2, here.second_key());
    assert_eq!(refused(terminal.krd(&["load"])), "NOT_BOUND");

    direct(&terminal, &there.site);
    terminal.act(&["bind"]).unwrap();
    let nothing_yet = terminal.act(&["load"]).unwrap();
    assert_eq!(nothing_yet["slots"], json!([]));
    assert_holds(&terminal, 2, here.second_key());
    there
        .site
        .assign_key("SN-1", SLOT, there.first_key())
        .unwrap();
    terminal.act(&["load"]).unwrap();
    assert_holds(&terminal, 1, there.first_key());
    assert_eq!(secret_keys(&terminal), 1);
    assert_eq!(there.device("SN-1"), of("BOUND", ""));
    assert_eq!(there.site.deliveries("SN-1").unwrap(), ["CONFIRMED"]);

    // Back: it is known there.
    let admit_back = here.site.kdhctl(OPERATOR, &admit).unwrap();
    assert_eq!(operator_refused(admit_back)[0], "ALREADY_EXISTS");
    hand_over(&there, &terminal, &here);
    assert_eq!(bound_kdh(&terminal), first_kdh);
    direct(&terminal, &here.site);
    assert_holds(&terminal, 1, there.first_key());
    terminal.act(&["bind"]).unwrap();
    terminal.act(&["load"]).unwrap();
    assert_holds(&terminal, 2, here.second_key());
    assert_eq!(here.device("SN-1"), of("BOUND", ""));
    assert_eq!(there.device("SN-1"), of("REBOUND", "HANDED_OVER"));
    here.end();
    there.end();
}

/// An operator orders it, and the terminal obeys instead of loading.
fn hand_over(from: &Scene, terminal: &Terminal, to: &Scene) {
    let kdh = to.site.pki(to.options.kdh.certificate);
    let own = from.site.pki(from.options.kdh.certificate);
    let rebind = |kdh| {
        let order = [
            "device",
            "rebind",
            terminal.serial(),
            "--why",
            "sold",
            "--to",
        ];
        from.site.kdhctl(OPERATOR, &order).unwrap().arg(kdh)
    };
    assert_eq!(operator_refused(rebind(own))[0], "REQUEST_INVALID");
    rebind(kdh).succeed().unwrap();
    let obeyed = terminal.act(&["load"]).unwrap();
    assert_eq!(obeyed["moved"]["acknowledged"], true, "{obeyed}");
    assert_eq!(obeyed["moved"]["destroyed-keys"], json!([]));
    text(&obeyed, "/moved/kdh/serial").unwrap();
}
