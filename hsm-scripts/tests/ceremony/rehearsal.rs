//! Rehearsals touch nothing that is real; `hsm check` leaves nothing behind.

use std::process::Command;

use hsm_modules::{KRYOPTIC_UNFIT, Peculiarity, SOFTHSM};
use serde_json::json;

use crate::{
    common::on_every_module,
    site::{
        KEY, Site, TWO_SUB_CAS, assert_no_secret, assert_refused, assert_success, change,
        import_plan_with_files, library, printed, token_files, unattended,
    },
};

/// The root of the sample, and the import.
fn small_plan(site: &Site) -> String {
    let import = unattended(&import_plan_with_files(site));
    let start = TWO_SUB_CAS.find("[[acts]]").unwrap();
    let end = TWO_SUB_CAS.find("# Certifies terminals").unwrap();
    let root_ca = &TWO_SUB_CAS[start..end];
    let library = library();
    let tokens = format!("[tokens.root]\nmodule = \"{library}\"\nlabel = \"root\"\n\n[tokens.kdh]");
    let plan = change(&import, "[tokens.kdh]", &tokens);
    change(&plan, "[[acts]]\n", &format!("{root_ca}[[acts]]\n"))
}

#[test]
fn a_rehearsal_leaves_tokens_and_outputs_untouched() {
    on_every_module(|_| {
        let site = Site::new(&["root", "kdh"]);
        site.write_plan("plan.toml", &small_plan(&site));
        let tokens = token_files();
        let files = site.files();
        let output = site.program(&["run", "plan.toml", "--rehearse"], "");
        assert_success(&output);
        assert!(
            printed(&output).contains("REHEARSAL"),
            "{}",
            printed(&output)
        );
        assert!(tokens == token_files(), "a token was touched");
        // New files are all in the rehearsal's folder.
        let mut transcripts = Vec::new();
        for (path, contents) in site.files() {
            if let Some(before) = files.get(&path) {
                assert!(*before == contents, "{} was touched", path.display());
                continue;
            }
            let inside = path.strip_prefix(site.folder()).unwrap();
            let folder = inside.components().next().unwrap().as_os_str();
            let folder = folder.to_string_lossy();
            assert!(folder.starts_with("plan.rehearsal-"), "{}", path.display());
            if inside.ends_with("tmk-transcript.jsonl") {
                transcripts.push(String::from_utf8(contents).unwrap());
            }
        }
        assert_eq!(transcripts.len(), 1);
        let transcript = &transcripts[0];
        kdh_ceremony::verify_transcript(transcript).unwrap();
        let began = transcript.lines().next().unwrap();
        assert!(began.contains("\"mode\":\"rehearsal\""), "{began}");
        assert!(transcript.contains("\"finished\""), "{transcript}");
        assert_no_secret(transcript, &site.pins());
        assert_no_secret(&printed(&output), &site.pins());

        // What was rehearsed is then executed.
        assert_success(&site.execute("plan.toml"));
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_eq!(site.keys("root"), ["ca-root", "ca-root"]);
        let real = site.read("tmk-transcript.jsonl");
        let began = real.lines().next().unwrap();
        assert!(began.contains("\"mode\":\"real\""), "{began}");
        assert!(!real.contains("rehearsal"), "{real}");
    });
}

/// At one go, and without a custodian.
#[test]
fn a_plan_of_two_sittings_is_rehearsed_at_one() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let plan = unattended(&import_plan_with_files(&site));
        let second = "custodian = \"Second Custodian\"";
        let plan = change(&plan, second, &format!("{second}\nsitting = 2"));
        site.write_plan("plan.toml", &plan);
        let output = site.program(&["run", "plan.toml", "--rehearse"], "");
        assert_success(&output);
        assert!(
            printed(&output).contains("at 2 sittings"),
            "{}",
            printed(&output)
        );
        let of_rehearsal =
            |(path, _): &(std::path::PathBuf, Vec<u8>)| path.ends_with("tmk-transcript.jsonl");
        let (_, transcript) = site.files().into_iter().find(of_rehearsal).unwrap();
        let transcript = String::from_utf8(transcript).unwrap();
        let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
        assert_eq!(verified.last_event, "finished");
        assert_eq!(site.keys("kdh"), [""; 0]);
    });
}

#[test]
fn a_check_says_what_a_token_can_do() {
    on_every_module(|place| {
        let can = &place.module().can;
        let site = Site::new(&["kdh"]);
        let library = library();
        let check = ["hsm", "check", "--module", &library, "--label"];
        let with = |more: &[&str]| site.program(&[&check[..], more].concat(), "");
        let output = with(&["kdh", "--pin-file", "kdh.pin", "--json"]);
        assert_success(&output);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |key: &str| report[key].as_str().unwrap();
        assert!(text("token").starts_with("kdh ("), "{report}");
        assert!(text("module").contains("version"), "{report}");
        assert_eq!(text("sealing"), can.sealing);
        assert_eq!(text("combining"), can.combining);
        assert_eq!(report["opening"].as_str(), can.opening.first().copied());
        let oaep = if can.oaep_sha256 {
            json!(["sha256", "sha1"])
        } else {
            json!(["sha1"])
        };
        assert_eq!(report["oaep"], oaep);
        let problems = report["problems"].to_string();
        assert_eq!(
            problems.contains("SHA-1 only"),
            !can.oaep_sha256,
            "{problems}"
        );
        assert_eq!(
            problems.contains("process memory only"),
            can.opening.is_empty(),
            "{problems}"
        );
        let kinds = report["key-kinds"].as_array().unwrap();
        assert_eq!(kinds.contains(&json!("AES-192")), can.unaligned, "{report}");
        assert_eq!(kinds.contains(&json!("TDEA-2KEY")), can.tdea, "{report}");
        let stored = report["storing"].as_array().unwrap();
        assert!(stored.contains(&json!("AES-192")), "{report}");
        assert_eq!(stored.contains(&json!("TDEA-3KEY")), can.tdea, "{report}");
        let derived = report["derivations"].as_array().unwrap();
        assert!(derived.contains(&json!("AES-256")), "{report}");
        let exports = report["exports"].as_array().unwrap();
        assert!(exports.contains(&json!("key-wrap")), "{report}");
        let makes_blocks = can.unaligned && can.sealing == "concatenate";
        assert_eq!(exports.contains(&json!("tr31")), makes_blocks, "{report}");
        assert_eq!(report["ke"], json!(can.ke));
        assert_eq!(
            problems.contains("no Ke for TDEA"),
            !can.tdea_ke(),
            "{problems}"
        );
        assert!(
            can.tdea_ke() || problems.contains("CKM_DES3_CBC"),
            "{problems}"
        );
        for speed in report["speed"].as_array().unwrap() {
            assert!(speed["per-second"].as_f64().unwrap() > 0.0, "{speed}");
        }
        assert_eq!(report["can-serve"], true);
        let limits_keys = !can.is(Peculiarity::NoLimits);
        assert_eq!(report["limits-keys"], limits_keys, "{report}");
        let keeps_data = !can.is(Peculiarity::NoData);
        assert_eq!(report["keeps-data"], keeps_data, "{report}");

        let output = with(&["kdh", "--pin-file", "kdh.pin"]);
        assert_success(&output);
        for word in [can.sealing, can.combining, "sha1", "A host could serve"] {
            assert!(printed(&output).contains(word), "{}", printed(&output));
        }
        assert_eq!(site.keys("kdh"), [""; 0]);
        assert_no_secret(&printed(&output), &site.pins());

        assert_refused(&with(&["vault", "--pin-file", "kdh.pin"]), "vault");
        assert_refused(&with(&["kdh", "--pin-file", "kdh.so-pin"]), "incorrect");
        assert_refused(&with(&["kdh", "--pin-file", "missing.pin"]), "missing.pin");
        assert_eq!(site.keys("kdh"), [""; 0]);
    });
}

#[test]
fn a_check_of_an_unfit_module_fails_and_names_what_is_missing() {
    hsm_modules::on(&[&KRYOPTIC_UNFIT], |_| {
        let site = Site::new(&["kdh"]);
        let library = library();
        let check = ["hsm", "check", "--module", &library, "--label", "kdh"];
        let with = |more: &[&str]| site.program(&[&check[..], more].concat(), "");
        let output = with(&["--pin-file", "kdh.pin", "--json"]);
        assert!(!output.status.success());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for way in ["sealing", "opening", "combining"] {
            assert_eq!(report[way], serde_json::Value::Null, "{report}");
        }
        assert_eq!(
            (&report["oaep"], &report["can-serve"]),
            (&json!([]), &json!(false))
        );
        let problems = report["problems"].to_string();
        for missing in ["splice needs CKM_AES_CBC", "CKM_CONCATENATE_DATA_AND_BASE"] {
            assert!(problems.contains(missing), "{problems}");
        }
        let output = with(&["--pin-file", "kdh.pin"]);
        assert!(!output.status.success());
        let printed = printed(&output);
        assert!(printed.contains("A host could not serve"), "{printed}");
    });
}

/// `OpenSC`'s tool makes keys that this program would not make.
#[test]
fn a_check_names_weak_keys_and_fails() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let library = library();
        let pin = std::fs::read_to_string(site.path("kdh.pin")).unwrap();
        let made = Command::new("pkcs11-tool")
            .args([
                "--module",
                &library,
                "--token-label",
                "kdh",
                "--login",
                "--pin",
            ])
            .arg(pin.trim())
            .args([
                "--keypairgen",
                "--key-type",
                "rsa:2048",
                "--label",
                "kdh-signing",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let check = ["hsm", "check", "--module", &library, "--label", "kdh"];
        let more = ["--pin-file", "kdh.pin", "--json"];
        let output = site.program(&[&check[..], &more].concat(), "");
        assert!(!output.status.success());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["can-serve"], false);
        let key = &report["keys"][0];
        assert_eq!(
            (&key["label"], &key["strong"]),
            (&json!("kdh-signing"), &json!(false))
        );
        let problems = report["problems"].to_string();
        assert!(problems.contains("kdh-signing is weaker"), "{problems}");
        // pkcs11-tool's pairs may do everything.
        assert!(
            key["weaknesses"].to_string().contains("CKA_DECRYPT is set"),
            "{key}"
        );
        assert_eq!(
            report["sealing"], "splice",
            "the rest is reported all the same"
        );
    });
}

#[test]
fn a_token_is_not_initialized_twice_nor_with_open_pins() {
    // Kryoptic makes up the files of its empty slots each time that it is loaded.
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let init = ["token", "init", "--module", &library(), "--label"];
        let with = |more: &[&str]| site.program(&[&init[..], more].concat(), "");
        let tokens = token_files();
        let pins = ["--pin-file", "kdh.pin", "--so-pin-file", "kdh.so-pin"];
        assert_refused(&with(&[&["kdh"], &pins[..]].concat()), "kdh");
        // PINs are never made up over old ones.
        let again = with(&[&["other", "--generate-pins"], &pins[..]].concat());
        assert_refused(&again, "kdh.pin");
        std::fs::write(site.path("open.pin"), "12345678").unwrap();
        let open = with(&[
            "other",
            "--pin-file",
            "open.pin",
            "--so-pin-file",
            "kdh.so-pin",
        ]);
        assert_refused(&open, "open.pin");
        assert!(tokens == token_files(), "a token was touched");
    });
}
