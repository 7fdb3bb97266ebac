//! Imports of keys while the HSM fails, or the host is killed.

use std::{fs, path::PathBuf};

use hsm_modules::{KRYOPTIC, SOFTHSM, TestModule, makers};
use serde_json::Value;
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    master_key::{MasterKey, kcv},
    operator::{answer, text},
    process::Program,
    secret_file::random_bytes,
    site::{KEY_OFFICER, Site, Topology},
};
use tr34::KeyKind;

use super::lab::Lab;

const KIND: KeyKind = KeyKind::Aes128;

/// What arrives under a ZMK that the HSM has.
struct Switch {
    zmk: MasterKey,
    folder: PathBuf,
}

impl Switch {
    fn new(site: &Site) -> Self {
        let zmk = MasterKey::generate("zmk", KIND).unwrap();
        site.bring_in(&[("zmk.switch", &zmk)]).unwrap();
        Self {
            zmk,
            folder: site.folder().to_owned(),
        }
    }

    /// Asks for a fresh key, and returns the import's id.
    fn ask(&self, site: &Site, name: &str) -> String {
        let key = random_bytes::<16>().unwrap();
        let file = self.folder.join(format!("{name}.bin"));
        fs::write(&file, makers::key_wrap(&self.zmk.value(), &key, false)).unwrap();
        let kcv = kcv(KIND, &key).unwrap();
        let ask = [
            "import",
            "zmk",
            name,
            "--kind",
            KIND.name(),
            "--header",
            "D0000K0AB00E0000",
            "--kcv",
            &kcv,
            "--zmk",
            "zmk.switch",
            "--wrapped",
            file.to_str().unwrap(),
            "--why",
            "a test",
        ];
        let asked = site.operate(&ask).unwrap();
        text(&asked, "/id").unwrap().to_owned()
    }
}

fn approve(site: &Site, id: &str) -> Program {
    site.kdhctl(KEY_OFFICER, &["import", "approve", id])
        .unwrap()
}

fn states(site: &Site) -> Vec<String> {
    let listed = site.operate(&["import", "list"]).unwrap();
    let imports = listed["imports"].as_array().unwrap().iter();
    imports
        .map(|import| text(import, "/state").unwrap().to_owned())
        .collect()
}

/// The labels of the keys that the host knows.
fn keys(site: &Site) -> Vec<String> {
    let listed = site.operate(&["key", "list"]).unwrap();
    let label = |key: &Value| text(key, "/hsm_label").unwrap().to_owned();
    listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(label)
        .collect()
}

fn options() -> HostOptions {
    HostOptions {
        faulty: true,
        ..HostOptions::default()
    }
}

/// Between the unwrapping and the commit: the key is in the HSM then.
fn killed_with_the_key_in_the_hsm(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let switch = Switch::new(&site);
    let lab = Lab::of(site, &options());
    // With the trials of the module behind it.
    let first = switch.ask(&lab.site, "first");
    approve(&lab.site, &first).succeed().unwrap();
    let ids = ["taken", "dropped"].map(|name| switch.ask(&lab.site, name));

    let mut lab = lab;
    for id in &ids {
        // The check value of the key that was made.
        lab.tell("hang C_CopyObject 1");
        let caller = approve(&lab.site, id).start().unwrap();
        lab.tell("wait-hanging 1");
        let Lab { site, host, .. } = lab;
        host.kill().unwrap();
        assert!(!caller.ended().unwrap().success());
        lab = Lab::restart(site, &options());
    }
    let site = &lab.site;
    assert_eq!(states(site), ["ASKED", "ASKED", "IMPORTED"]);
    let known = keys(site);
    assert!(known.iter().all(|label| label != "kn.taken"), "{known:?}");

    let done = answer(&approve(site, &ids[0]).succeed().unwrap()).unwrap();
    assert_eq!(done["state"], "IMPORTED");
    assert!(keys(site).iter().any(|label| label == "kn.taken"));
    site.operate(&["import", "reject", &ids[1]]).unwrap();
    // The name is free again: nothing was left of the key.
    let again = switch.ask(site, "dropped");
    approve(site, &again).succeed().unwrap();
    lab.verify_audit().unwrap();
}

/// A call that fails once the key has been made takes it back.
fn a_failed_import_leaves_nothing(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let switch = Switch::new(&site);
    let lab = Lab::of(site, &options());
    let site = &lab.site;
    let first = switch.ask(site, "first");
    approve(site, &first).succeed().unwrap();
    let known = keys(site);
    for (done, (function, nth)) in [
        ("C_UnwrapKey", 1),
        ("C_UnwrapKey", 2),
        ("C_CopyObject", 1),
        ("C_CopyObject", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let id = switch.ask(site, &format!("next-{done}"));
        lab.tell(&format!("fail {function} 0x6 {nth} 1"));
        let ended = approve(site, &id).run().unwrap();
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{function} {nth}: {}",
            ended.stdout
        );
        assert_eq!(states(site)[0], "ASKED", "{function} {nth}");
        assert_eq!(keys(site).len(), known.len() + done, "{function} {nth}");
        // Nothing is in its way.
        approve(site, &id).succeed().unwrap();
        assert_eq!(keys(site).len(), known.len() + 1 + done, "{function} {nth}");
    }
    lab.verify_audit().unwrap();
}

#[test]
fn a_host_that_is_killed_with_the_key_in_the_hsm_takes_it_or_destroys_it() {
    killed_with_the_key_in_the_hsm(&SOFTHSM);
    killed_with_the_key_in_the_hsm(&KRYOPTIC);
}

#[test]
fn an_import_that_failed_leaves_nothing() {
    a_failed_import_leaves_nothing(&SOFTHSM);
    a_failed_import_leaves_nothing(&KRYOPTIC);
}
