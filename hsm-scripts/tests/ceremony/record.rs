//! The record of a ceremony: who confirmed and did what, signed and sealed; and what is refused.

use std::{collections::BTreeMap, fs};

use hsm::HsmError;
use hsm_modules::{ALL, spy};
use kdh_ceremony::{CeremonyError, Mode, Plan, Trust, verify_transcript};
use pki::Certificate;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::{
    bank::{
        self, CUSTODIAN, FOUNDING, Forgery, IMPORTED, certify_third_custodian, founded,
        import_plan_with_participants, write,
    },
    common::{spy_log, with_spy_on_every_module},
    forged::{revoke, says},
    room::Room,
    site::{
        FIRST, FIRST_KCV, KEY, NEW_CUSTODIAN, SAMPLE_MODULE, SECOND, SECOND_KCV, Site,
        assert_no_secret, assert_refused, assert_success, change, import_plan_with_files, printed,
        unattended,
    },
};

/// What is said where no revocation list was given.
pub(crate) const NOT_LOOKED_AT: &str = "and the audit key sealed it; whether a certificate was revoked was not looked at: no revocation list was given \
     (--crl).";

#[test]
fn a_ceremony_is_confirmed_signed_sealed_and_verified() {
    bank::on(&ALL, |_| {
        let site = founded();
        let verify = |arguments: &[&str]| site.program(&[&["verify"], arguments].concat(), "");
        let with_ca = ["--ca", "ca-ops.pem"];

        // The founding one: sealed with the key that it made, confirmed by nobody.
        let founding = verify(&[&[FOUNDING], &with_ca[..]].concat());
        assert_refused(
            &founding,
            "MISSING: Nobody confirmed the plan: it ran unattended.",
        );
        assert_refused(&founding, "The HSM's audit key sealed the record.");
        let accepted = verify(&[&[FOUNDING, "--accept-unsigned"], &with_ca[..]].concat());
        assert_success(&accepted);

        // With participants nothing is missing.
        certify_third_custodian(&site);
        site.write_plan("import.toml", &import_plan_with_participants());
        let mut room = Room::new([FIRST, SECOND]);
        room.run(&site, "import.toml").unwrap();
        assert_eq!(site.keys("kdh"), ["audit", "audit", KEY]);
        room.assert_all_asked();
        for (transcript, said) in [
            (
                CUSTODIAN,
                "certified it for CN=Third Custodian,OU=Custodian,O=Example Bank,C=DE",
            ),
            (
                IMPORTED,
                "First Custodian entered component 1 of 2, check value A19083 (act 1). Signed.",
            ),
        ] {
            assert_refused(
                &verify(&[transcript]),
                "line 3 is signed; name the ceremony CA's certificate (--ca)",
            );
            let output = verify(&[&[transcript], &with_ca[..]].concat());
            assert_success(&output);
            for part in [
                said,
                "First Custodian confirmed the plan by its digest. Signed.",
                "Second Custodian confirmed the plan by its digest. Signed.",
                "The record holds: no line was altered",
                NOT_LOOKED_AT,
            ] {
                assert!(
                    printed(&output).contains(part),
                    "{part}: {}",
                    printed(&output)
                );
            }
            let text = site.read(transcript);
            assert_no_secret(&text, &site.pins());
            // What was done in the HSM, by name.
            for function in ["C_Login", "C_OpenSession", "C_FindObjects"] {
                assert!(text.contains(function), "{function}: {text}");
            }
        }
        let certified = site.read(CUSTODIAN);
        assert!(
            certified.contains("C_GenerateKeyPair(CKM_EC"),
            "{certified}"
        );
        assert!(certified.contains("C_Sign(CKM_"), "{certified}");
        assert!(site.read(IMPORTED).contains("C_DestroyObject"));

        // Two ceremonies are no sittings of one.
        let both = verify(&[&[CUSTODIAN, IMPORTED], &with_ca[..]].concat());
        assert_refused(
            &both,
            "tmk-transcript.jsonl: this is the transcript of another plan",
        );
        let twice = verify(&[&[CUSTODIAN, CUSTODIAN], &with_ca[..]].concat());
        assert_refused(&twice, "this sitting began before the one before it ended");
        assert_refused(
            &verify(&[CUSTODIAN, "--ca", "root.pem"]),
            "is no sub-CA; name the certificate of the CA that certified the participants",
        );
        assert_refused(&verify(&[CUSTODIAN, "--ca", "missing.pem"]), "missing.pem");
        assert_refused(
            &verify(&[&[CUSTODIAN, "--rehearsal"], &with_ca[..]].concat()),
            "this is not the transcript of a rehearsal",
        );

        let output = verify(&[&[IMPORTED, "--json"], &with_ca[..]].concat());
        assert_success(&output);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["accepted"], true);
        let transcript = &document["transcripts"][0];
        assert_eq!(transcript["missing"], json!([]));
        assert_eq!(transcript["sealed"], true);
        let subject = &transcript["seal"]["subject"];
        assert_eq!(
            subject,
            "CN=Audit key of HSM 1,OU=Audit,O=Example Bank,C=DE"
        );
        assert_eq!(transcript["mode"], "real");
        assert_eq!(transcript["rehearsed"], Value::Null);
        let officers = json!(["First Custodian", "Second Custodian"]);
        assert_eq!(transcript["officers"], officers);
        let modules = transcript["modules"].as_object().unwrap();
        assert!(!modules.is_empty());
        for (module, digest) in modules {
            assert_eq!(
                *digest,
                hex::encode(Sha256::digest(fs::read(module).unwrap()))
            );
        }
        let ca = Certificate::from_pem(&site.read("ca-ops.pem")).unwrap();
        let fingerprint = hex::encode(ca.fingerprint());
        assert_eq!(document["ca"]["certificate-sha256"], fingerprint);
        assert_eq!(document["ca"]["subject"], ca.subject().to_string());
        assert_eq!(document["crl"], Value::Null);
        let says = document["says"].as_str().unwrap();
        assert!(says.ends_with(NOT_LOOKED_AT), "{says}");
        assert_eq!(transcript["participants"][1]["name"], "Second Custodian");
        assert_eq!(transcript["lines"][1]["by"], "First Custodian");
        let bad = verify(&[IMPORTED, "--json"]);
        assert!(!bad.status.success());
        let document: Value = serde_json::from_slice(&bad.stdout).unwrap();
        assert_eq!(document["accepted"], false);
        assert!(document["error"].to_string().contains("line 3 is signed"));

        let report = [&[IMPORTED, "--report", "report.html"], &with_ca[..]].concat();
        assert_success(&verify(&report));
        let page = site.read("report.html");
        let modules = modules
            .iter()
            .map(|(path, digest)| format!("{path} <code>{}</code>", digest.as_str().unwrap()));
        for part in modules {
            assert!(page.contains(&part), "{part}: {page}");
        }
        for part in [
            "The record holds: no line was altered",
            NOT_LOOKED_AT,
            "<dt>Mode</dt><dd>real; the plan demanded no rehearsal</dd>",
            "<dt>Officers</dt><dd>First Custodian, Second Custodian</dd>",
            "<dt>Seal</dt><dd>by the HSM&#39;s audit key: CN=Audit key of HSM 1,OU=Audit,O=Example Bank,C=DE, \
             certificate ",
            "<div>Place, date</div><div><b>First Custodian</b>security officer and custodian</div>\
             <div><b>Second Custodian</b>security officer and custodian</div><div>Witness</div>",
            "check value CBDF95",
            "C_Sign(CKM_",
            "<dt>Against the CA</dt><dd>CN=",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        // Nothing is overwritten.
        assert_refused(&verify(&report), "report.html");

        // With a list, on which is somebody else.
        let third = Certificate::from_pem(&site.read("third-custodian.pem")).unwrap();
        revoke(&site, &third);
        let list = format!("{}.crl", third.serial());
        let looked_at = [&[IMPORTED, "--json", "--crl", &list], &with_ca[..]].concat();
        let output = verify(&looked_at);
        assert_success(&output);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["crl"]["number"], 1);
        let of = document["crl"]["this-update"].as_str().unwrap();
        let says = document["says"].as_str().unwrap();
        let expected = "; no certificate is on the revocation list number 1, of ";
        assert!(says.ends_with(&format!("{expected}{of}.")), "{says}");
        // The books say it as the program does.
        let ceremony = include_str!("../../../docs/ceremony.md");
        let transcript = include_str!("../../../docs/transcript.md");
        for (book, part) in [(ceremony, expected), (transcript, NOT_LOOKED_AT)] {
            assert!(book.contains(part), "{part}");
        }
    });
}

/// What the PKCS#11 spy saw is what the transcript says, call by call.
#[test]
fn every_call_that_does_something_is_on_the_record() {
    with_spy_on_every_module(|place| {
        let site = Site::new(&["kdh"]);
        let plan = unattended(&import_plan_with_files(&site));
        let spy = spy().unwrap();
        let plan = change(&plan, SAMPLE_MODULE, spy.to_str().unwrap());
        site.write_plan("plan.toml", &plan);
        assert_success(&site.execute("plan.toml"));
        let mut recorded = BTreeMap::<String, u64>::new();
        for line in site.read(IMPORTED).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let counts = line["detail"]["operations"]["kdh"].as_object();
            for (name, times) in counts.into_iter().flatten() {
                let function = name.split('(').next().unwrap();
                *recorded.entry(function.to_owned()).or_default() += times.as_u64().unwrap();
            }
        }
        let log = fs::read_to_string(spy_log(place)).unwrap();
        let called = |function: &str| {
            let ends = format!(": {function}");
            log.lines().filter(|line| line.ends_with(&ends)).count() as u64
        };
        for (recorded_as, begins_with) in [
            ("C_Login", "C_Login"),
            ("C_OpenSession", "C_OpenSession"),
            ("C_FindObjects", "C_FindObjectsInit"),
            ("C_CreateObject", "C_CreateObject"),
            ("C_CopyObject", "C_CopyObject"),
            ("C_DestroyObject", "C_DestroyObject"),
            ("C_GenerateKey", "C_GenerateKey"),
            ("C_GenerateKeyPair", "C_GenerateKeyPair"),
            ("C_DeriveKey", "C_DeriveKey"),
            ("C_UnwrapKey", "C_UnwrapKey"),
            ("C_Sign", "C_SignInit"),
            ("C_Encrypt", "C_EncryptInit"),
            ("C_Decrypt", "C_DecryptInit"),
            ("C_GenerateRandom", "C_GenerateRandom"),
        ] {
            let recorded = recorded.remove(recorded_as).unwrap_or(0);
            assert_eq!(recorded, called(begins_with), "{recorded_as}: {log}");
        }
        // Of these a module is asked twice, for a length first.
        let rest: Vec<_> = recorded.keys().map(String::as_str).collect();
        assert!(
            rest.iter()
                .all(|name| ["C_GetAttributeValue", "C_WrapKey"].contains(name)),
            "{rest:?}"
        );
        assert!(called("C_CreateObject") > 0, "{log}");
    });
}

/// Custodians sign what they enter also where nobody confirms.
#[test]
fn an_unattended_ceremony_has_the_signatures_of_its_custodians() {
    bank::on(&ALL, |_| {
        let site = founded();
        site.write_private("first.hex", FIRST);
        site.write_private("second.hex", SECOND);
        let mut plan = unattended(&import_plan_with_participants());
        for (id, kcv) in [("first", FIRST_KCV), ("second", SECOND_KCV)] {
            let custodian = format!("custodian = \"{id}\"");
            let with_file = format!("{custodian}\nfile = \"{id}.hex\"\nkcv = \"{kcv}\"");
            plan = change(&plan, &custodian, &with_file);
        }
        site.write_plan("import.toml", &plan);
        assert_success(&site.execute("import.toml"));
        let verify = ["verify", IMPORTED, "--ca", "ca-ops.pem"];
        let output = site.program(&verify, "");
        assert_refused(
            &output,
            "Second Custodian entered component 2 of 2, check value EC8692 (act 1). Signed.",
        );
        assert_refused(
            &output,
            "MISSING: Nobody confirmed the plan: it ran unattended.",
        );
        assert_eq!(
            printed(&output).matches("MISSING").count(),
            1,
            "{}",
            printed(&output)
        );
        assert_success(&site.program(&[&verify[..], &["--accept-unsigned"]].concat(), ""));
        // Not without the seal that there was a key for.
        let text = site.read(IMPORTED);
        let cut = text.trim_end().rfind('\n').unwrap();
        write(&site, "cut.jsonl", &text[..=cut]);
        let cut = [
            "verify",
            "cut.jsonl",
            "--ca",
            "ca-ops.pem",
            "--accept-unsigned",
        ];
        assert_refused(
            &site.program(&cut, ""),
            "MISSING: The audit key did not seal it: it says nothing of why.",
        );
    });
}

/// Each differs from a good plan in one thing. Nothing has happened then, and there is no transcript.
#[test]
fn who_cannot_sign_takes_no_part() {
    bank::on(&ALL, |_| {
        let site = founded();
        site.write_plan("good.toml", NEW_CUSTODIAN);
        let good = site.read("good.toml");
        let asked = change(&good, "pin-file = \"second-custodian.pin\"\n", "");
        let (first, second) = (
            "token = \"first-custodian\"",
            "token = \"second-custodian\"",
        );
        let swapped = change(&change(&good, first, "token = \"x\""), second, first);
        let swapped = change(&swapped, "token = \"x\"", second);
        let (first_pin, second_pin) = ("\"first-custodian.pin\"", "\"second-custodian.pin\"");
        let swapped = change(&change(&swapped, first_pin, "\"x\""), second_pin, first_pin);
        let swapped = change(&swapped, "\"x\"", second_pin);
        for (case, name, plan, expected) in [
            (
                "wrong PIN",
                "Second Custodian",
                &asked,
                "token second-custodian: the PIN is incorrect; it was tried once: make sure of it, and of \
                 how many tries the token has left",
            ),
            (
                "no token",
                "Second Custodian",
                &change(&asked, second, "token = \"left-at-home\""),
                "no token is called left-at-home; connect it, or correct the plan",
            ),
            (
                "no key",
                "First Custodian",
                &change(&good, "key = \"custodian\"", "key = \"other\""),
                "no key is called other; bring the token whose key was certified, or correct the plan",
            ),
            (
                "another's token",
                "First Custodian",
                &swapped,
                "its key is not the one of the certificate; bring the token whose key was certified, or correct \
                 the plan",
            ),
        ] {
            write(&site, "plan.toml", plan);
            let mut room = Room::new(["31415926"]);
            match room.run(&site, "plan.toml") {
                Err(CeremonyError::Participant {
                    name: found, cause, ..
                }) => assert_eq!((&*found, &*cause), (name, expected), "{case}"),
                other => panic!("{case}: {other:?}"),
            }
            assert!(!site.exists(CUSTODIAN), "{case}");
            assert_eq!(site.keys("third-custodian"), [""; 0], "{case}");
        }
        // The right one, asked for when it is their turn.
        write(&site, "plan.toml", &asked);
        let mut room = Room::new([site.read("second-custodian.pin").trim()]);
        room.run(&site, "plan.toml").unwrap();
        room.assert_order(&[
            "digest: First Custodian",
            "digest: Second Custodian",
            "hidden: Second Custodian, PIN of token second-custodian",
            "[act 1]",
        ]);
    });
}

/// What is in a plan is compared with what is in the HSM before anything is made.
#[test]
fn an_audit_key_that_is_not_the_certificates_is_refused() {
    bank::on(&ALL, |_| {
        let site = founded();
        let plan = change(NEW_CUSTODIAN, "key = \"audit\"", "key = \"custodian\"");
        let audit = "audit = { token = \"kdh\"";
        let plan = change(&plan, audit, "audit = { token = \"third-custodian\"");
        let plan = change(
            &plan,
            "key = \"custodian\"\nissuer",
            "key = \"new\"\nissuer",
        );
        site.write_plan("plan.toml", &plan);
        let refused = Room::new([]).run(&site, "plan.toml");
        assert!(
            matches!(
                &refused,
                Err(CeremonyError::Hsm(HsmError::KeyNotFound { .. }))
            ),
            "{refused:?}"
        );
        let third = "token = \"third-custodian\", key = \"custodian\"";
        let kdh = change(&plan, third, "token = \"issuing\", key = \"ca-ops\"");
        site.write_plan("plan.toml", &kdh);
        let refused = Room::new([]).run(&site, "plan.toml").unwrap_err();
        let expected = "audit: CN=Audit key of HSM 1,OU=Audit,O=Example Bank,C=DE is not the certificate of the \
                        key ca-ops in token issuing; name the one that was made with it";
        assert_eq!(refused.to_string(), expected);
        assert!(!site.exists(CUSTODIAN));
    });
}

/// The act's output has a name that somebody takes as soon as it begins.
#[test]
fn a_ceremony_that_fails_is_sealed_too() {
    bank::on(&ALL, |_| {
        let site = founded();
        let wrong = import_plan_with_participants();
        site.write_plan("import.toml", &change(&wrong, "CBDF95", "CBDF96"));
        let failed = Room::new([FIRST, SECOND, SECOND, SECOND]).run(&site, "import.toml");
        assert!(
            matches!(failed, Err(CeremonyError::Act { .. })),
            "{failed:?}"
        );
        assert_eq!(
            verify_transcript(&site.read(IMPORTED)).unwrap().last_event,
            "failed"
        );
        let verify = [
            "verify",
            IMPORTED,
            "--ca",
            "ca-ops.pem",
            "--accept-unsigned",
        ];
        let output = site.program(&verify, "");
        assert_refused(
            &output,
            "MISSING: The ceremony failed: the combined check value is CBDF95, not CBDF96, for the third time",
        );
        assert_refused(&output, "Second Custodian entered component 2 of 2");
        assert_refused(&output, "The HSM's audit key sealed the record.");
    });
}

#[test]
fn a_rehearsal_is_none_and_a_plan_may_demand_one() {
    bank::on(&ALL, |_| {
        let site = founded();
        let plan = change(NEW_CUSTODIAN, "# require-rehearsal", "require-rehearsal");
        let plan = change(&plan, "# rehearsal-transcript", "rehearsal-transcript");
        site.write_plan("custodian.toml", &plan);
        let faults = || match Plan::load(
            &site.path("custodian.toml"),
            Mode::Real,
            OffsetDateTime::now_utc(),
        ) {
            Ok(_) => String::new(),
            Err(CeremonyError::Plan(faults)) => faults.join("\n"),
            Err(other) => panic!("{other:?}"),
        };
        let way_on =
            "; rehearse this plan (kdh-ceremony run PLAN --rehearse) and copy the transcript there";
        let missing = faults();
        assert!(missing.starts_with("rehearsal-transcript: "), "{missing}");
        assert!(missing.ends_with(way_on), "{missing}");

        let digest = Plan::load(
            &site.path("custodian.toml"),
            Mode::Rehearsal,
            OffsetDateTime::now_utc(),
        );
        let digest = digest.unwrap().digest();
        let typed = format!("{0}\n{0}\n", &digest[..32]);
        let rehearsal = site.program(&["run", "custodian.toml", "--rehearse"], &typed);
        assert_success(&rehearsal);
        let folder = fs::read_dir(site.folder()).unwrap();
        let mut folders = folder.map(|entry| entry.unwrap().path());
        let folder = folders.find(|path| path.is_dir()).unwrap();
        let rehearsed = fs::read_to_string(folder.join(CUSTODIAN)).unwrap();
        assert!(!site.exists("third-custodian.pem"));

        // It is verified for what it is only.
        let stand_in = folder.join("ceremony-ca.pem");
        let verify = |more: &[&str]| {
            let transcript = folder.join(CUSTODIAN);
            let arguments = ["verify", transcript.to_str().unwrap(), "--ca"];
            site.program(&[&arguments[..], more].concat(), "")
        };
        let output = verify(&[stand_in.to_str().unwrap(), "--rehearsal"]);
        assert_success(&output);
        assert!(printed(&output).contains("REHEARSAL, nothing real was made"));
        assert_refused(
            &verify(&[stand_in.to_str().unwrap()]),
            "this is the transcript of a rehearsal: nothing real was made",
        );
        assert_refused(
            &verify(&["ca-ops.pem", "--rehearsal"]),
            "line 3: the certificate of first is not accepted",
        );
        let mut passed_off = Forgery::of(&rehearsed);
        passed_off.lines[0].2["mode"] = json!("real");
        let passed_off = passed_off.write(&BTreeMap::new());
        for ca in [stand_in, site.path("ca-ops.pem")] {
            let ca = Certificate::from_pem(&fs::read_to_string(ca).unwrap()).unwrap();
            let trust = Trust::new(Some(ca), None).unwrap();
            let found = says(&passed_off, &trust).unwrap_err();
            assert!(found.starts_with("line 3: the "), "{found}");
        }

        // Copied to where the plan says, if it is one.
        let copied = |text: &str| {
            write(&site, "custodian-rehearsal.jsonl", text);
            faults()
        };
        let lines: Vec<&str> = rehearsed.split_inclusive('\n').collect();
        let mut other = Forgery::of(&rehearsed);
        other.lines[0].2["plan-sha256"] = json!("0".repeat(64));
        for (text, expected) in [
            (String::new(), "the transcript is empty".to_owned()),
            (
                change(&rehearsed, "\"act\":1", "\"act\":2"),
                "line 9 was altered".to_owned(),
            ),
            (
                lines[..lines.len() - 2].concat(),
                "the rehearsal did not finish: the last that it says is \"custodian-credential\""
                    .to_owned(),
            ),
            (
                passed_off,
                "this is not the transcript of a rehearsal, which --rehearsal verifies".to_owned(),
            ),
            (
                other.write(&BTreeMap::new()),
                format!(
                    "it is the transcript of another plan, with the digest {}",
                    "0".repeat(64)
                ),
            ),
        ] {
            assert_eq!(
                copied(&text),
                format!("rehearsal-transcript: {expected}{way_on}")
            );
        }
        assert_eq!(copied(&rehearsed), "");
        Room::new([]).run(&site, "custodian.toml").unwrap();
        let head = verify_transcript(&rehearsed).unwrap().head;
        assert!(
            site.read(CUSTODIAN)
                .contains(&format!("\"rehearsed\":\"{head}\""))
        );
        let output = site.program(&["verify", CUSTODIAN, "--ca", "ca-ops.pem"], "");
        assert_success(&output);
        assert!(
            printed(&output).contains("It was rehearsed"),
            "{}",
            printed(&output)
        );
        let report = [
            "verify",
            CUSTODIAN,
            "--ca",
            "ca-ops.pem",
            "--report",
            "page",
        ];
        assert_success(&site.program(&report, ""));
        let page = site.read("page");
        for part in [
            "<dt>Mode</dt><dd>real; rehearsed, as line 1 says</dd>",
            &format!("It was rehearsed; that transcript ends with {head}."),
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    });
}
