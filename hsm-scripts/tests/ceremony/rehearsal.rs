//! Rehearsals touch nothing that is real; `hsm check` leaves nothing behind.

use crate::{
    common::{SOFTHSM, in_token_directory},
    site::{
        KEY, Site, TWO_SUB_CAS, assert_no_secret, assert_refused, assert_success, change,
        import_plan_with_files, printed, token_files, unattended,
    },
};

/// The root of the sample, and the import.
fn small_plan(site: &Site) -> String {
    let import = unattended(&import_plan_with_files(site));
    let start = TWO_SUB_CAS.find("[[acts]]").unwrap();
    let end = TWO_SUB_CAS.find("# Certifies terminals").unwrap();
    let root_ca = &TWO_SUB_CAS[start..end];
    let tokens = format!("[tokens.root]\nmodule = \"{SOFTHSM}\"\nlabel = \"root\"\n\n[tokens.kdh]");
    let plan = change(&import, "[tokens.kdh]", &tokens);
    change(&plan, "[[acts]]\n", &format!("{root_ca}[[acts]]\n"))
}

#[test]
fn a_rehearsal_leaves_tokens_and_outputs_untouched() {
    in_token_directory(|| {
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

#[test]
fn softhsm_is_found_to_splice_to_wrap_and_to_know_sha1_only() {
    in_token_directory(|| {
        let site = Site::new(&["kdh"]);
        let check = ["hsm", "check", "--module", SOFTHSM, "--label"];
        let with = |more: &[&str]| site.program(&[&check[..], more].concat(), "");
        let output = with(&["kdh", "--pin-file", "kdh.pin", "--json"]);
        assert_success(&output);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["sealing"], "splice");
        assert_eq!(report["combining"], "key-wrap");
        assert_eq!(report["oaep"], serde_json::json!(["sha1"]));
        assert!(report["problems"].to_string().contains("SHA-1"), "{report}");
        let output = with(&["kdh", "--pin-file", "kdh.pin"]);
        assert_success(&output);
        for word in ["splice", "key-wrap", "sha1"] {
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
fn a_token_is_not_initialized_twice_nor_with_open_pins() {
    in_token_directory(|| {
        let site = Site::new(&["kdh"]);
        let init = ["token", "init", "--module", SOFTHSM, "--label"];
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
