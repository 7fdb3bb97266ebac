//! Terminals that write TR-34 otherwise than the default, each model in its own way.

use hsm_modules::{KRYOPTIC, SOFTHSM};
use serde_json::Value;
use system_tests::{
    fixture::Fixture,
    host::{FIRST_KDH, HostOptions, NEXT_KDH},
    operator::{answer, text},
    site::{OPERATOR, RECOVERERS, Topology},
    terminal::{Terminal, TerminalOptions},
};

use super::{SLOT, Scene, assert_holds, of, operator_refused, refused};

type Models = &'static [(&'static str, &'static str)];

/// A model for each profile that is not the default.
const MODELS: [(&str, &str); 4] = [
    ("Amazon", "aws-2012"),
    ("Clover", "clover"),
    ("Annex D", "x9-2019-annex-d"),
    ("Samples", "x9-2019-samples"),
];

fn terminal_of(profile: &'static str) -> TerminalOptions {
    TerminalOptions {
        profile,
        ..TerminalOptions::default()
    }
}

/// On a module that seals any key block, and knows SHA-256 in RSA-OAEP.
#[test]
fn a_terminal_of_each_profile_goes_every_way() {
    let options = HostOptions {
        models: &MODELS,
        ..HostOptions::default()
    };
    let mut scene = Scene::of(&KRYOPTIC, options);
    let terminals = MODELS.map(|(model, profile)| {
        let serial = profile.to_uppercase();
        let terminal = scene.terminal_with(&serial, model, terminal_of(profile));
        assert_eq!(terminal.act(&["status"]).unwrap()["profile"], profile);
        assert_is_written_in(&scene, &terminal, "kt-kdh.der", profile);
        is_unbound_and_lives_anew(&scene, &terminal);
        loads_from_a_file(&scene, &terminal);
        (terminal, profile)
    });

    scene
        .site
        .hold_sample_ceremony("new-kdh-credential.toml", &[])
        .unwrap();
    scene.restart(NEXT_KDH, &[FIRST_KDH]);
    for (terminal, profile) in &terminals {
        let moved = terminal.act(&["load"]).unwrap();
        assert_eq!(moved["moved"]["acknowledged"], true, "{moved}");
        assert_is_written_in(&scene, terminal, "rbt-kdh.der", profile);
        let held = terminal.act(&["load"]).unwrap();
        assert_eq!(held["slots"][0]["outcome"], "held", "{held}");
        is_taken_away_by_the_ca(&scene, terminal, profile);
    }

    // Who is configured for another profile than its model's is not understood.
    let terminal = scene.terminal_with("SN-9", "Clover", terminal_of("clover"));
    let other = terminal_of("x9-2019");
    scene.site.configure_terminal(&terminal, other).unwrap();
    assert_eq!(refused(terminal.krd(&["bind"])), "TOKEN_MALFORMED");
    scene.end();
}

fn assert_is_written_in(scene: &Scene, terminal: &Terminal, token: &str, profile: &str) {
    let token = terminal.evidence().join(token);
    let inspect = ["token", "inspect", token.to_str().unwrap()];
    let inspected = scene.site.operate(&inspect).unwrap();
    let profiles = inspected["profiles"].as_array().unwrap();
    assert!(profiles.contains(&Value::from(profile)), "{inspected}");
}

fn is_unbound_and_lives_anew(scene: &Scene, terminal: &Terminal) {
    let serial = terminal.serial();
    let unbind = ["device", "unbind", serial, "--why", "repair"];
    scene.site.operate(&unbind).unwrap();
    terminal.act(&["load"]).unwrap();
    assert_eq!(scene.device(serial), of("UNBOUND", "DESTROYED"));
    terminal.act(&["bind"]).unwrap();
    terminal.act(&["load"]).unwrap();
    assert_holds(terminal, 1, scene.first_key());
}

fn loads_from_a_file(scene: &Scene, terminal: &Terminal) {
    let serial = terminal.serial();
    scene
        .site
        .assign_key(serial, SLOT, scene.second_key())
        .unwrap();
    let file = scene.make_one_pass(serial, &format!("{serial}.pem"));
    let load = terminal.krd(&["load", "--from"]).arg(file);
    load.succeed().unwrap();
    assert_holds(terminal, 2, scene.second_key());
    terminal.act(&["load"]).unwrap();
    assert_eq!(scene.site.deliveries(serial).unwrap()[0], "CONFIRMED");
}

fn is_taken_away_by_the_ca(scene: &Scene, terminal: &Terminal, profile: &str) {
    let kdh = scene.site.pki(NEXT_KDH.certificate);
    let kdh = kdh.to_str().unwrap();
    let operate = |operator, arguments: &[&str]| {
        let program = scene.site.kdhctl(operator, arguments).unwrap();
        answer(&program.succeed().unwrap()).unwrap()
    };
    let serial = terminal.serial();
    let ask = ["device", "ca-unbind", serial, "--why", "fire", "--kdh", kdh];
    let asked = operate(RECOVERERS[0], &ask);
    let id = text(&asked, "/id").unwrap();
    operate(RECOVERERS[1], &["authority", "approve", id]);
    terminal.act(&["unbind", "--authority"]).unwrap();
    assert_is_written_in(scene, terminal, "ubt-ca.der", profile);
    assert_eq!(terminal.slot(SLOT).unwrap(), None);
    assert_eq!(scene.device(serial), of("UNBOUND", "DESTROYED"));
}

/// SoftHSM has SHA-1 alone in RSA-OAEP, which some profiles cannot say.
#[test]
fn a_profile_that_the_module_cannot_serve_is_refused_at_the_start() {
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let cases: [(Models, Option<&str>, &str); 5] = [
        (
            &[("Amazon", "aws-2012")],
            None,
            "tokens of profile aws-2012 cannot say oaep-hash = \"sha1\"",
        ),
        (
            &[("Samples", "x9-2019-samples")],
            None,
            "tokens of profile x9-2019-samples cannot say oaep-hash = \"sha1\"",
        ),
        (
            &[("Amazon", "aws-2012")],
            Some("sha256"),
            "this HSM cannot seal key tokens",
        ),
        (&[("Amazon", "aws-2013")], None, "aws-2013"),
        (
            &[("A", "clover"), ("A", "x9-2019")],
            None,
            "\"A\" stands there twice",
        ),
    ];
    for (models, oaep_hash, fault) in cases {
        let options = HostOptions {
            models,
            oaep_hash,
            ..HostOptions::default()
        };
        let refused = format!("{:#}", site.start_host(&options).unwrap_err());
        assert!(refused.contains(fault), "{refused}");
    }
}

/// By splice, a key is sealed only where it stands on a block boundary. The serial number of the KDH certificate
/// was chosen for the default profile, and the header of Annex D is shorter.
#[test]
fn what_splice_cannot_seal_is_refused_before_any_terminal_asks() {
    let options = HostOptions {
        models: &[("Annex D", "x9-2019-annex-d")],
        ..HostOptions::default()
    };
    let site = Fixture::new(&SOFTHSM, Topology::TwoSubCas);
    let host = site.start_host(&options).unwrap();
    let key = &site.keys.aes_128;
    let (label, kcv) = (key.label(), key.kcv().unwrap());
    let register = [
        "key",
        "register",
        &key.name,
        "--hsm-label",
        &label,
        "--kcv",
        &kcv,
    ];
    let register = site.kdhctl(OPERATOR, &register).unwrap();
    let [reason, message] = operator_refused(register.args(["--header", key.header()]));
    assert_eq!(reason, "HSM_UNSUPPORTED");
    assert!(message.contains("profile x9-2019-annex-d"), "{message}");
    assert!(
        message.contains("CKM_CONCATENATE_DATA_AND_BASE"),
        "{message}"
    );
    host.stop().unwrap();

    // The profile comes when there are keys; the host goes on without it, with another one that fits.
    let clover = HostOptions {
        models: &[("Clover", "clover")],
        ..HostOptions::default()
    };
    let mut scene = Scene::begin(site, clover);
    scene.refuse_to_start(&options, "for terminals of profile x9-2019-annex-d");
    scene.terminal_with("SN-1", "Clover", terminal_of("clover"));
    scene.end();
}
