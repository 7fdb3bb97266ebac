//! People, their certificates and their tokens, and the HSM's token.

use std::{fs, process::Command};

use hsm::{KeyName, KeyRole};
use hsm_modules::{SOFTHSM, spy, spy_variables};
use pki::{Issuer, Role, SerialNumber, Subject, Validity, issue_certificate};
use time::{Duration, OffsetDateTime};

use super::{Chapter, confirmed, digest, said, told};
use crate::{
    bank::{self, founded, import_plan_with_participants, signing_key},
    common::spy_log,
    folder::Folder,
    forged::certificate,
    room::Room,
    site::{
        FIRST as FIRST_COMPONENT, KEY, NEW_CUSTODIAN, SECOND as SECOND_COMPONENT, Site, change,
        import_plan, library,
    },
};

const FIRST: &str = "\"first-custodian.pem\"";
const SECOND: &str = "\"second-custodian.pem\"";
const LIST: &str = "ceremony-crl = \"crl-ca-ops.der\"";
const TRANSCRIPT: &str = "custodian-transcript.jsonl";

#[test]
fn people() {
    let with_spy = |place: &hsm_modules::Place, child: &mut Command| {
        child.envs(spy_variables(place.module(), &spy_log(place)).unwrap());
    };
    bank::on_spied(&[&SOFTHSM], with_spy, |place| {
        let mut chapter = Chapter::new(2, "People and tokens");
        certificates(&mut chapter);
        let site = founded();
        site.write_plan("plan.toml", NEW_CUSTODIAN);
        let good = site.read("plan.toml");
        confirmations(&mut chapter, &site, &good);
        tokens(&mut chapter, &site, &good);
        let spied = good.replace(&library(), spy().unwrap().to_str().unwrap());
        for (wrong, label) in [
            ("the PIN of the HSM's token", "kdh"),
            ("the PIN of a custodian's token", "first-custodian"),
        ] {
            let log = spy_log(place);
            drop(fs::remove_file(&log));
            let (before, pin) = (flags(label), site.read(&format!("{label}.pin")));
            site.write_private(&format!("{label}.pin"), "not the PIN");
            let said = said(&site, &confirmed(&site, &spied));
            let after = flags(label);
            let low = [&before, &after].map(|flags| flags.contains("count low"));
            assert_eq!(low, [false, true], "{said}: {before}, {after}");
            assert!(
                !after.contains("final") && !after.contains("locked"),
                "{after}"
            );
            chapter.case(wrong, said);
            let calls = fs::read_to_string(&log).unwrap();
            assert_eq!(calls.matches("CKR_PIN_INCORRECT").count(), 1, "{wrong}");
            site.write_private(&format!("{label}.pin"), &pin);
            assert!(!site.exists(TRANSCRIPT), "{wrong}");
        }
        assert_eq!(site.keys("third-custodian"), [""; 0]);
        assert!(confirmed(&site, &good).status.success());
        under_another_name(&mut chapter, &site);
        chapter.assert_is_in_the_book();
    });
}

/// Another path to a file.
fn roundabout(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap();
    let last = folder.rsplit('/').next().unwrap();
    format!("{folder}/../{last}/{name}")
}

/// Found in the plan: no token is opened.
fn certificates(chapter: &mut Chapter) {
    let (site, folder) = (Site::new(&[]), Folder::new());
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), site.path(entry.file_name().to_str().unwrap())).unwrap();
    }
    let import = import_plan();
    let now = OffsetDateTime::now_utc();
    let after = |days| now + Duration::days(days);
    let officers = "[\"first\", \"second\"]";
    let own = "token = \"second-custodian\"";
    let third = "[participants.third]\ncertificate = \"twice.pem\"\nmodule = \"M\"\ntoken = \"third\"\n\
                 key = \"custodian\"\n\n[tokens.issuing]";
    let third = third.replace("\"M\"", "\"/usr/lib/softhsm/libsofthsm2.so\"");
    for (wrong, at, plan, from, to) in [
        (
            "the same custodian twice",
            now,
            NEW_CUSTODIAN,
            SECOND,
            FIRST,
        ),
        (
            "the same custodian twice, under two names",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"twice.pem\"",
        ),
        (
            "the same custodian twice, with two keys",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"namesake.pem\"",
        ),
        (
            "the same custodian twice, with a name in capitals",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"shouter.pem\"",
        ),
        (
            "the same custodian twice, with one token",
            now,
            NEW_CUSTODIAN,
            own,
            "token = \"first-custodian\"",
        ),
        (
            "the same custodian twice, with one token by two ways",
            now,
            NEW_CUSTODIAN,
            "module = \"/usr/lib/softhsm/libsofthsm2.so\"\ntoken = \"second-custodian\"",
            &*format!(
                "module = \"{}\"\ntoken = \"first-custodian\"",
                roundabout(&library())
            ),
        ),
        (
            "the same custodian a third time, who confirms nothing",
            now,
            NEW_CUSTODIAN,
            "[tokens.issuing]",
            &*third,
        ),
        (
            "a custodian whose token is the HSM's",
            now,
            NEW_CUSTODIAN,
            own,
            "token = \"kdh\"",
        ),
        (
            "a certificate that has expired",
            after(11),
            NEW_CUSTODIAN,
            SECOND,
            "\"brief.pem\"",
        ),
        (
            "a certificate that was revoked",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"gone.pem\"",
        ),
        (
            "a foreign certificate",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"elsewhere.pem\"",
        ),
        (
            "an operator's certificate",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"operator.pem\"",
        ),
        (
            "a CA's certificate",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"ca-ops.pem\"",
        ),
        (
            "a certificate without a name",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"nameless.pem\"",
        ),
        (
            "a name that hides something",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"painter.pem\"",
        ),
        (
            "a certificate that is not there",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"missing.pem\"",
        ),
        (
            "a file that is no certificate",
            now,
            NEW_CUSTODIAN,
            SECOND,
            "\"leaf.cnf\"",
        ),
        (
            "a certificate that does not hold yet",
            after(-1),
            NEW_CUSTODIAN,
            "title",
            "title",
        ),
        (
            "a revocation list that has ended",
            after(31),
            NEW_CUSTODIAN,
            "title",
            "title",
        ),
        (
            "a revocation list of another CA",
            now,
            NEW_CUSTODIAN,
            LIST,
            "ceremony-crl = \"foreign-crl.pem\"",
        ),
        (
            "a ceremony CA that is none",
            now,
            NEW_CUSTODIAN,
            "\"ca-ops.pem\"",
            "\"audit.pem\"",
        ),
        (
            "an audit key certified as something else",
            now,
            NEW_CUSTODIAN,
            "\"audit.pem\"",
            FIRST,
        ),
        ("one officer", now, NEW_CUSTODIAN, officers, "[\"first\"]"),
        (
            "the same officer twice",
            now,
            NEW_CUSTODIAN,
            officers,
            "[\"first\", \"first\"]",
        ),
        (
            "the same officer twice, written otherwise",
            now,
            &import,
            "[\"First Officer\", \"Second Officer\"]",
            "[\"First Officer\", \"FIRST  officer\"]",
        ),
        (
            "an officer who is no participant",
            now,
            NEW_CUSTODIAN,
            officers,
            "[\"first\", \"third\"]",
        ),
        (
            "a rehearsal that was not held",
            now,
            NEW_CUSTODIAN,
            "# require-rehearsal = true\n# rehearsal-transcript",
            "require-rehearsal = true\nrehearsal-transcript",
        ),
    ] {
        let plan = change(plan, from, to).replace(crate::site::SAMPLE_MODULE, &library());
        fs::write(site.path("plan.toml"), plan).unwrap();
        if at == now {
            chapter.case(wrong, said(&site, &site.execute("plan.toml")));
        } else {
            let refused = Room::new([]).run_at(&site, "plan.toml", at);
            chapter.case(wrong, told(&site, refused));
        }
    }
}

fn confirmations(chapter: &mut Chapter, site: &Site, good: &str) {
    fs::write(site.path("plan.toml"), good).unwrap();
    let digest = digest(site);
    let other = format!(
        "{}{}",
        if digest.starts_with('0') { "1" } else { "0" },
        &digest[1..]
    );
    for (wrong, typed) in [
        ("an officer types another digest", format!("{other}\n")),
        (
            "an officer types too little of the digest",
            format!("{}\n", &digest[..19]),
        ),
        (
            "the second officer types another digest",
            format!("{digest}\n{other}\n"),
        ),
        ("nobody is there", String::new()),
    ] {
        chapter.case(
            wrong,
            said(site, &site.program(&["run", "plan.toml"], &typed)),
        );
        assert!(!site.exists(TRANSCRIPT), "{wrong}");
    }
}

fn tokens(chapter: &mut Chapter, site: &Site, good: &str) {
    let second = "token = \"second-custodian\"";
    let swapped = change(good, "\"first-custodian.pem\"", "?");
    let swapped = change(
        &swapped,
        "\"second-custodian.pem\"",
        "\"first-custodian.pem\"",
    );
    let swapped = change(&swapped, "?", "\"second-custodian.pem\"");
    for (wrong, plan) in [
        (
            "a custodian's token that is not there",
            change(good, second, "token = \"left-at-home\""),
        ),
        (
            "a custodian's token without the key",
            change(good, "key = \"custodian\"", "key = \"other\""),
        ),
        ("each custodian with the other's token", swapped),
        (
            "the HSM's token that is not there",
            change(good, "label = \"kdh\"", "label = \"vault\""),
        ),
        (
            "the HSM's token with another serial number",
            change(good, "label = \"kdh\"", "label = \"kdh\"\nserial = \"0\""),
        ),
        (
            "the audit key that is not there",
            change(good, "key = \"audit\"", "key = \"seal\""),
        ),
        (
            "a CA's key that is not there",
            change(good, "key = \"ca-ops\"", "key = \"ca-other\""),
        ),
        (
            "the key is there already",
            change(
                good,
                "token = \"third-custodian\"\nkey = \"custodian\"",
                "token = \"kdh\"\nkey = \"audit\"",
            ),
        ),
    ] {
        chapter.case(wrong, said(site, &confirmed(site, &plan)));
        assert!(!site.exists(TRANSCRIPT), "{wrong}");
        assert_eq!(site.keys("third-custodian"), [""; 0], "{wrong}");
    }
}

/// The second custodian comes back years later with the key of then, certified under another name.
fn under_another_name(chapter: &mut Chapter, site: &Site) {
    let plan = import_plan_with_participants();
    site.write_plan("plan.toml", &plan);
    Room::new([FIRST_COMPONENT, SECOND_COMPONENT])
        .run(site, "plan.toml")
        .unwrap();
    let made = KeyName::new(KEY).unwrap();
    site.token("kdh").destroy_key(&made).unwrap();
    let ca = certificate(site, "ca-ops.pem");
    let held = certificate(site, "second-custodian.pem");
    let signer = signing_key(site, "issuing", KeyRole::IssuingCa, "ca-ops");
    let issuer = Issuer {
        certificate: &ca,
        signer: &signer,
    };
    let random = site.token("kdh").random(16).unwrap();
    let renamed = Subject {
        role: Role::Custodian,
        name: Role::Custodian
            .subject(ca.subject(), "Somebody Else")
            .unwrap(),
        public_key: held.public_key().clone(),
        serial: SerialNumber::from_random(&random).unwrap(),
        validity: Validity {
            not_before: held.not_before(),
            not_after: held.not_after(),
        },
        hosts: Vec::new(),
    };
    let renamed = issue_certificate(&issuer, &renamed).unwrap();
    drop(signer);
    fs::write(site.path("renamed.pem"), renamed.to_pem()).unwrap();
    let plan = change(&plan, FIRST, "\"renamed.pem\"");
    let plan = change(
        &plan,
        "token = \"first-custodian\"",
        "token = \"second-custodian\"",
    );
    let at = plan.find("[participants.second]").unwrap();
    let (first, second) = plan.split_at(at);
    let second = change(second, SECOND, "\"third-custodian.pem\"");
    let second = change(&second, "\"second-custodian\"", "\"third-custodian\"");
    let plan = change(
        &format!("{first}{second}"),
        "tmk-transcript.jsonl",
        "later.jsonl",
    );
    site.write_plan("plan.toml", &plan);
    chapter.case(
        "a custodian under another name, with another component of the key",
        told(site, Room::new([FIRST_COMPONENT]).run(site, "plan.toml")),
    );
    assert!(!site.keys("kdh").contains(&KEY.to_owned()));
}

/// What a token says of itself.
fn flags(label: &str) -> String {
    let output = Command::new("pkcs11-tool")
        .args(["--module", &library(), "--list-slots"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().skip_while(|line| {
        !(line.contains("token label") && line.ends_with(&format!(": {label}")))
    });
    let flags = lines.find(|line| line.contains("token flags"));
    flags.unwrap_or_else(|| panic!("{text}")).to_owned()
}
