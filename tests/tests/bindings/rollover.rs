//! A new KDH credential, from the ceremony to the end of the old one.

use std::{fs, thread};

use serde_json::{Value, json};
use system_tests::{
    host::{FIRST_KDH, HostOptions, Kdh, NEXT_KDH},
    operator::{answer, text},
    site::AUDITOR,
};

use super::{SLOT, Scene, assert_holds};

/// Each KDH with its state and the number of its terminals, as `kdhctl --json` prints it.
fn standings(listed: &Value) -> Vec<Value> {
    let kdhs = listed["kdhs"].as_array().unwrap().iter();
    kdhs.map(|kdh| json!([kdh["name"], kdh["state"], kdh["devices"]]))
        .collect()
}

#[test]
fn a_fleet_goes_over_to_a_new_credential_and_the_old_one_is_revoked() {
    let mut scene = Scene::new();
    let terminals = ["SN-1", "SN-2"].map(|serial| scene.terminal(serial));
    let sample = "new-kdh-credential.toml";
    scene.site.hold_sample_ceremony(sample, &[]).unwrap();
    let mixed = Kdh {
        key: FIRST_KDH.key,
        ..NEXT_KDH
    };
    let mixed = HostOptions {
        kdh: mixed,
        ..scene.options.clone()
    };
    scene.refuse_to_start(&mixed, "kdh-signing is not the key of the certificate");

    scene.restart(NEXT_KDH, &[FIRST_KDH]);
    let list = |scene: &Scene| scene.site.operate(&["kdh", "list"]).unwrap();
    let before = list(&scene);
    assert_eq!(
        standings(&before),
        [
            json!(["KDH 2", "PRESENT", 0]),
            json!(["KDH 1", "RETIRING", 2])
        ]
    );
    let old = text(&before, "/kdhs/1/serial").unwrap().to_owned();
    let watch = ["kdh", "watch", "--seconds", "1"];
    let watch = scene.site.kdhctl(AUDITOR, &watch).unwrap();
    let watched = thread::scope(|scope| {
        let watching = scope.spawn(|| watch.succeed().unwrap());
        for (terminal, left) in terminals.iter().zip([1, 0]) {
            let moved = terminal.act(&["load"]).unwrap();
            assert_eq!(moved["moved"]["acknowledged"], true, "{moved}");
            assert_eq!(standings(&list(&scene))[1][2], left);
            let held = terminal.act(&["load"]).unwrap();
            assert_eq!(held["slots"][0]["outcome"], "held", "{held}");
        }
        watching.join().unwrap()
    });
    let expected = [
        json!(["KDH 2", "PRESENT", 2]),
        json!(["KDH 1", "RETIRED", 0]),
    ];
    assert_eq!(standings(&answer(&watched).unwrap()), expected);

    // Out of the configuration, and onto the list.
    scene.restart(NEXT_KDH, &[]);
    assert_eq!(standings(&list(&scene)), [expected[0].clone()]);
    let revoke = [("40A1B2C3D4E5F607", old.as_str())];
    scene
        .site
        .hold_sample_ceremony("crl-reissue.toml", &revoke)
        .unwrap();
    let list_file = |name: &str| scene.site.pki(name);
    fs::rename(list_file("crl-ca-kdh-2.der"), list_file("crl-ca-kdh.der")).unwrap();
    for terminal in &terminals {
        let serial = terminal.serial();
        scene
            .site
            .assign_key(serial, SLOT, scene.second_key())
            .unwrap();
        terminal.act(&["load"]).unwrap();
        assert_holds(terminal, 2, scene.second_key());
        let status = terminal.act(&["status"]).unwrap();
        assert_eq!(status["crl"]["number"], 2, "{status}");
    }

    // Nobody can be bound to the old one any more.
    let old_again = HostOptions {
        kdh: FIRST_KDH,
        ..scene.options.clone()
    };
    scene.refuse_to_start(&old_again, "revoked");
    scene.end();
}
