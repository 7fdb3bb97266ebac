//! A site with a ceremony CA, two custodians and an audit key.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use hsm::{KeyName, KeyRole, Pin, SigningKey, TokenConfig};
use hsm_modules::{ALL, Place, TestModule};
use pki::Signer as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    common::module,
    folder::with_custodians,
    room::Room,
    site::{
        NEW_CUSTODIAN, SAMPLE_MODULE, Site, TWO_SUB_CAS, assert_success, change, import_plan,
        unattended,
    },
};

pub(crate) const FOUNDING: &str = "pki-transcript.jsonl";
pub(crate) const CUSTODIAN: &str = "custodian-transcript.jsonl";
pub(crate) const IMPORTED: &str = "tmk-transcript.jsonl";

/// The test that holds the founding ceremony.
const HELD: &str = "bank::a_bank_is_founded";
/// Where its site lies beside the tokens.
const FOLDER: &str = "bank";

/// Runs the body of a test on each of the modules, after a founding ceremony ([`founded`]).
pub(crate) fn on<F: FnOnce(&Place)>(modules: &[&'static TestModule], body: F) {
    hsm_modules::on_founded(HELD, modules, body);
}

/// As [`on`], with the spy before the module.
pub(crate) fn on_spied<F: FnOnce(&Place)>(
    modules: &[&'static TestModule],
    spy: impl Fn(&Place, &mut Command),
    body: F,
) {
    let prepare = |place: &Place, child: &mut Command| {
        hsm_modules::begin_as(HELD, place);
        spy(place, child);
    };
    hsm_modules::on_prepared(modules, prepare, body);
}

/// Tests begin with copies of what this leaves: RSA keys take their time.
#[test]
fn a_bank_is_founded() {
    if let Some(place) = Place::of_this_process() {
        return found(&Site::at(&place.folder().join(FOLDER)));
    }
    for module in ALL {
        hsm_modules::founded(HELD, module);
    }
}

/// The sample's founding ceremony, cut down to what later ceremonies take, was held. In a test that runs by [`on`].
pub(crate) fn founded() -> Site {
    let place = Place::of_this_process().unwrap();
    Site::at(&place.folder().join(FOLDER))
}

fn found(site: &Site) {
    for token in [
        "root",
        "issuing",
        "kdh",
        "first-custodian",
        "second-custodian",
        "third-custodian",
    ] {
        site.add_token(token);
    }
    site.write_private("operator.pin", "not used");
    let made = [
        "root.pem",
        "ca-ops.pem",
        "first-custodian.pem",
        "second-custodian.pem",
        "audit.pem",
        "crl-ca-ops.der",
    ];
    let mut parts = TWO_SUB_CAS.split("[[acts]]");
    let mut plan = parts.next().unwrap().to_owned();
    for act in parts {
        if made
            .iter()
            .any(|file| act.contains(&format!(" = \"{file}\"\n")))
        {
            plan.push_str("[[acts]]");
            plan.push_str(act);
        }
    }
    site.write_plan("founding.toml", &unattended(&plan));
    assert_success(&site.execute("founding.toml"));
}

/// The sample plan for one more custodian, executed by people who confirm it.
pub(crate) fn certify_third_custodian(site: &Site) {
    site.write_plan("custodian.toml", NEW_CUSTODIAN);
    let mut room = Room::new([]);
    room.run(site, "custodian.toml").unwrap();
    room.assert_order(&[
        "digest: First Custodian",
        "digest: Second Custodian",
        "[act 1]",
    ]);
}

/// The import's sample, with its lines for a site with custodians.
pub(crate) fn import_plan_with_participants() -> String {
    with_custodians(&import_plan())
}

/// The plan, with participants in the place of named officers: an id of each, and what token and certificate are
/// called. The first two confirm.
pub(crate) fn with_participants(plan: &str, people: &[(&str, &str)]) -> String {
    let officers = "officers = [\"First Officer\", \"Second Officer\"]\n";
    let mut lines = format!(
        "officers = [\"{}\", \"{}\"]\nceremony-ca = \"ca-ops.pem\"\n\
         audit = {{ token = \"kdh\", key = \"audit\", certificate = \"audit.pem\" }}\n",
        people[0].0, people[1].0
    );
    for (id, token) in people {
        writeln!(
            lines,
            "[participants.{id}]\ncertificate = \"{token}.pem\"\nmodule = \"{SAMPLE_MODULE}\"\n\
             token = \"{token}\"\nkey = \"custodian\""
        )
        .unwrap();
    }
    change(plan, officers, &lines)
}

/// A credential of another custodian, in a token of theirs, by the two who have one.
pub(crate) fn certify(site: &Site, token: &str, common_name: &str) {
    let plan = NEW_CUSTODIAN.replace("third-custodian", token);
    let plan = change(&plan, "Third Custodian", common_name);
    let plan = change(&plan, CUSTODIAN, &format!("{token}-transcript.jsonl"));
    site.write_plan("custodian.toml", &plan);
    Room::new([]).run(site, "custodian.toml").unwrap();
}

pub(crate) fn signing_key(site: &Site, token: &str, role: KeyRole, key: &str) -> SigningKey {
    let pin = Pin::from_file(&site.path(&format!("{token}.pin"))).unwrap();
    let token = module().open(&TokenConfig::new(token), &pin).unwrap();
    token
        .signing_key(role, &KeyName::new(key).unwrap())
        .unwrap()
}

/// A transcript that somebody makes who has keys and this description of the format, which is another than the
/// program's.
#[derive(Clone)]
pub(crate) struct Forgery {
    /// Time, event and detail of each line.
    pub(crate) lines: Vec<(String, String, Value)>,
}

impl Forgery {
    /// What stands in a transcript.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            (text("at"), text("event"), line["detail"].clone())
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// Chained anew, each line that has a signature signed anew where there is a key for whom it names ("" for
    /// the seal).
    pub(crate) fn write(&self, keys: &BTreeMap<&str, &SigningKey>) -> String {
        let mut text = String::new();
        let mut previous = String::new();
        for (index, (at, event, detail)) in self.lines.iter().enumerate() {
            let number = index as u64 + 1;
            let bytes = |domain: &str, detail: &Value| {
                let mut bytes = domain.as_bytes().to_vec();
                bytes.extend(number.to_be_bytes());
                for field in [&previous, at, event, &detail.to_string()] {
                    bytes.extend((field.len() as u64).to_be_bytes());
                    bytes.extend(field.as_bytes());
                }
                bytes
            };
            let mut detail = detail.clone();
            let who = detail["by"].as_str().unwrap_or_default().to_owned();
            if detail.get("signature").is_some()
                && let Some(key) = keys.get(&*who)
            {
                detail.as_object_mut().unwrap().remove("signature");
                let signature = key.sign(&bytes("kdh.ceremony.signature.v2", &detail));
                detail["signature"] = hex::encode(signature.unwrap()).into();
            }
            let hash = Sha256::digest(bytes("kdh.ceremony.transcript.v2", &detail));
            let hash = hex::encode(hash);
            let quoted = |text: &str| Value::from(text).to_string();
            writeln!(
                text,
                "{{\"sequence\":{number},\"at\":{},\"event\":{},\"detail\":{detail},\
                 \"previous\":\"{previous}\",\"hash\":\"{hash}\"}}",
                quoted(at),
                quoted(event)
            )
            .unwrap();
            previous = hash;
        }
        text
    }
}

/// A file of the site with this text.
pub(crate) fn write(site: &Site, name: &str, text: &str) {
    fs::write(site.path(name), text).unwrap();
}
