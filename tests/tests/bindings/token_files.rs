//! `kdhctl token inspect` and `kdhctl token verify` on what a terminal kept as evidence.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pki::Certificate;
use serde_json::Value;
use system_tests::{
    operator::{answer, text},
    process::Ended,
    site::OPERATOR,
};
use tr34::{Profile, RandomToken};

use super::Scene;

/// What a terminal left that has loaded a key, and all that its tokens can be checked against.
struct Desk {
    scene: Scene,
    evidence: PathBuf,
    anchor: String,
    kdh: String,
    krd: String,
    nonce: String,
}

impl Desk {
    fn new() -> Self {
        let mut scene = Scene::new();
        let evidence = scene.terminal("SN-1").evidence();
        // The tools need no host.
        scene.stop();
        let rt_krd = fs::read(evidence.join("rt-krd.der")).unwrap();
        let rt_krd = RandomToken::parse(Profile::X9_2019, &rt_krd).unwrap();
        let pki = |name: &str| scene.site.pki(name).to_str().unwrap().to_owned();
        Self {
            anchor: pki("ca-kdh.pem"),
            kdh: pki("kdh.pem"),
            krd: evidence.join("krd.pem").to_str().unwrap().to_owned(),
            nonce: hex::encode_upper(rt_krd.nonce().as_bytes()),
            evidence,
            scene,
        }
    }

    fn token(&self, what: &str, token: &Path, more: &[&str]) -> Ended {
        let arguments = [&["token", what, token.to_str().unwrap()], more].concat();
        let program = self.scene.site.kdhctl(OPERATOR, &arguments).unwrap();
        program.run().unwrap()
    }

    fn evidence(&self, name: &str) -> PathBuf {
        self.evidence.join(name)
    }

    fn pki(&self, name: &str) -> String {
        self.scene.site.pki(name).to_str().unwrap().to_owned()
    }

    /// A changed copy of the key token.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut token = fs::read(self.evidence("kt-kdh.der")).unwrap();
        change(&mut token);
        let file = self.scene.file("changed.der");
        fs::write(&file, token).unwrap();
        file
    }

    /// Which checks of the key token do not hold, with their results; all arguments but the one named are right.
    fn faults(&self, token: &Path, changed: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
        let right = [
            ("--anchor", &*self.anchor),
            ("--kdh", &self.kdh),
            ("--krd", &self.krd),
            ("--nonce", &self.nonce),
        ];
        let mut arguments = Vec::new();
        for (name, value) in right {
            let other = changed.iter().find(|(other, _)| *other == name);
            let value = other.map_or(Some(value), |(_, value)| *value);
            arguments.extend(value.map(|value| [name, value]).into_iter().flatten());
        }
        for (name, value) in changed {
            if !right.iter().any(|(known, _)| known == name) {
                arguments.extend([*name, value.unwrap()]);
            }
        }
        let ended = self.token("verify", token, &arguments);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().iter();
        let faults: Vec<_> = checks
            .map(|check| {
                let part = |name| text(check, name).unwrap().to_owned();
                text(check, "/detail").unwrap();
                (part("/check"), part("/result"))
            })
            .filter(|(_, result)| result != "holds")
            .collect();
        assert_eq!(report["holds"], faults.is_empty(), "{report}");
        let code = i32::from(!faults.is_empty());
        assert_eq!(ended.status.code(), Some(code), "{report}");
        faults
    }
}

type Change = fn(&mut Vec<u8>);

#[test]
fn good_tokens_are_told_from_bad_ones() {
    let desk = Desk::new();
    each_check_of_a_key_token_fails_by_itself(&desk);
    each_token_that_a_terminal_keeps_is_told_and_checked(&desk);
    where_a_file_stops_being_a_token_is_said(&desk);
}

/// Checks that do not hold, as [`Desk::faults`] returns them.
fn these(faults: &[(&str, &str)]) -> Vec<(String, String)> {
    let faults = faults.iter();
    faults
        .map(|(check, result)| ((*check).to_owned(), (*result).to_owned()))
        .collect()
}

fn each_check_of_a_key_token_fails_by_itself(desk: &Desk) {
    let token = desk.evidence("kt-kdh.der");
    assert_eq!(desk.faults(&token, &[]), []);
    let list = desk.pki("crl-ca-kdh.der");
    assert_eq!(desk.faults(&token, &[("--crl", Some(&list))]), []);

    let (ca_krd, host_tls) = (desk.pki("ca-krd.pem"), desk.pki("host-tls.pem"));
    let krd_auth = desk.evidence("krd-auth.pem");
    let krd_auth = krd_auth.to_str().unwrap();
    let no_nonce = "00".repeat(16);
    let short_nonce = &desk.nonce[..16];
    let other_signer = [
        ("kdh-certificate", "fails"),
        ("signer", "fails"),
        ("signature", "fails"),
    ];
    let no_list = [
        ("ca-certificate", "fails"),
        ("crl", "fails"),
        ("kdh-certificate", "not-checked"),
    ];
    let unknown_signer = [
        ("crl", "not-checked"),
        ("kdh-certificate", "not-checked"),
        ("signer", "not-checked"),
        ("signature", "not-checked"),
    ];
    for (option, value, faults) in [
        ("--nonce", Some(&*no_nonce), &[("nonce", "fails")][..]),
        ("--nonce", Some(short_nonce), &[("nonce", "fails")]),
        ("--nonce", None, &[("nonce", "not-checked")]),
        ("--anchor", Some(&ca_krd), &[("kdh-certificate", "fails")]),
        ("--kdh", Some(&host_tls), &other_signer),
        ("--kdh", Some(&desk.krd), &other_signer),
        ("--kdh", None, &unknown_signer),
        ("--krd", Some(krd_auth), &[("recipient", "fails")]),
        ("--krd", Some(&desk.kdh), &[("recipient", "fails")]),
        ("--krd", None, &[("recipient", "not-checked")]),
        // The list has ended, and has not begun.
        ("--at", Some("2060-01-01T00:00:00Z"), &no_list),
        ("--at", Some("2020-01-01T00:00:00Z"), &no_list),
    ] {
        let found = desk.faults(&token, &[(option, value)]);
        assert_eq!(found, these(faults), "{option} {value:?}");
    }
    let flipped = desk.changed(|token| *token.last_mut().unwrap() ^= 1);
    let found = desk.faults(&flipped, &[]);
    assert_eq!(found, these(&[("signature", "fails")]));
    let both = [("--nonce", Some(&*no_nonce)), ("--kdh", None)];
    let found = desk.faults(&token, &both);
    assert_eq!(found.len(), 5, "all that fail are told: {found:?}");
}

fn each_token_that_a_terminal_keeps_is_told_and_checked(desk: &Desk) {
    let ca_krd = desk.pki("ca-krd.pem");
    let crl = desk.pki("crl-ca-krd.der");
    let verified = |name: &str, more: &[&str]| {
        let ended = desk.token("verify", &desk.evidence(name), more);
        ended.status.code().unwrap()
    };
    let kdh = ["--anchor", &*desk.anchor];
    let krd = ["--anchor", &*ca_krd];
    let nonce = ["--nonce", &*desk.nonce];
    assert_eq!(verified("ct-kdh.der", &kdh), 0);
    assert_eq!(verified("ct-kdh.der", &krd), 1);
    assert_eq!(
        verified("ct-krd.der", &[&krd[..], &["--crl", &crl]].concat()),
        0
    );
    assert_eq!(verified("ct-krd.der", &krd), 1, "without a list");
    assert_eq!(verified("ct-krd.der", &kdh), 1);
    assert_eq!(verified("rt-krd.der", &[&krd[..], &nonce].concat()), 0);
    assert_eq!(verified("rt-krd.der", &krd), 1, "without the nonce");
    // The command line is wrong, which says nothing of the token.
    for more in [
        &["--anchor", "none.pem"][..],
        &[&kdh[..], &["--nonce", "0"]].concat(),
        &[&kdh[..], &["--nonce", "00"]].concat(),
        &[&kdh[..], &["--at", "tomorrow"]].concat(),
        &[&kdh[..], &["--kdh", &crl]].concat(),
        &nonce,
    ] {
        assert_eq!(verified("kt-kdh.der", more), 2, "{more:?}");
    }

    let inspected = |name: &str| {
        let ended = desk.token("inspect", &desk.evidence(name), &[]);
        assert!(ended.status.success(), "{}", ended.stderr);
        answer(&ended).unwrap()
    };
    for (name, kind, profiles) in [
        ("rt-krd.der", "rt-krd", 4),
        ("ct-krd.der", "ct-krd", 4),
        ("ct-kdh.der", "ct-kdh", 3),
        ("kt-kdh.der", "kt-kdh-two-pass", 2),
    ] {
        let token = inspected(name);
        assert_eq!(token["kind"], kind);
        assert_eq!(token["profile"], "x9-2019");
        assert_eq!(token["profiles"].as_array().unwrap().len(), profiles);
    }
    let token = inspected("kt-kdh.der");
    let certificate =
        |name: &str| Certificate::from_pem(&fs::read_to_string(name).unwrap()).unwrap();
    let serial = |name: &str| certificate(name).serial().to_string();
    assert_eq!(token["nonce"], *desk.nonce);
    assert_eq!(token["header"]["text"], desk.scene.first_key().header());
    assert_eq!(token["ke_algorithm"], "AES-128-CBC");
    assert_eq!(token["oaep_hash"], "sha1");
    assert_eq!(token["crl_number"], 1);
    assert_eq!(token["signer"]["serial"], serial(&desk.kdh));
    assert_eq!(token["recipient"]["serial"], serial(&desk.krd));
    let warnings = token["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "SHA-1: {warnings:?}");
}

fn where_a_file_stops_being_a_token_is_said(desk: &Desk) {
    let cases: [(&str, Change, &str); 5] = [
        ("cut off", |token| token.truncate(700), "at byte 700"),
        ("another hash", |token| token[40] ^= 0xFF, "at byte 28"),
        ("a byte more", |token| token.push(0), "at byte "),
        ("nothing", Vec::clear, ""),
        ("no DER", |token| *token = b"not a token".to_vec(), ""),
    ];
    for (case, change, where_it_stops) in cases {
        let token = desk.changed(change);
        for (what, more) in [
            ("inspect", &[][..]),
            ("verify", &["--anchor", &desk.anchor]),
        ] {
            let ended = desk.token(what, &token, more);
            assert_eq!(ended.status.code(), Some(1), "{case}: {}", ended.stderr);
            assert!(ended.stderr.contains("changed.der"), "{}", ended.stderr);
            assert!(ended.stderr.contains(where_it_stops), "{}", ended.stderr);
            assert_eq!(ended.stdout, "", "{case}");
        }
    }
}
