//! Transcripts: what was changed afterwards is found.

use kdh_ceremony::{TranscriptError, verify_transcript};

use crate::{
    common::in_token_directory,
    site::{Site, assert_refused, assert_success, import_plan_with_files, printed, unattended},
};

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn joined(lines: &[String]) -> String {
    lines.join("\n")
}

#[test]
fn every_altered_removed_or_swapped_line_is_found() {
    in_token_directory(|| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        assert_success(&site.execute("plan.toml"));
        let text = site.read("tmk-transcript.jsonl");
        let good = lines(&text);
        let count = good.len();
        assert!(count >= 4, "{text}");
        let verified = verify_transcript(&text).unwrap();
        assert_eq!(verified.lines, count as u64);
        assert_eq!(verified.last_event, "finished");

        for index in 0..count {
            let number = index as u64 + 1;
            // Each field on its own.
            let line: serde_json::Value = serde_json::from_str(&good[index]).unwrap();
            for (field, value) in line.as_object().unwrap() {
                let mut altered = line.clone();
                altered[field] = match value {
                    serde_json::Value::Number(_) => 99.into(),
                    serde_json::Value::String(text) => format!("{text}0").into(),
                    _ => serde_json::json!({"altered": true}),
                };
                let mut bad = good.clone();
                bad[index] = altered.to_string();
                let expected = match &**field {
                    "sequence" | "previous" => TranscriptError::Unlinked(number),
                    _ => TranscriptError::Altered(number),
                };
                assert_eq!(verify_transcript(&joined(&bad)), Err(expected), "{field}");
            }
            let mut bad = good.clone();
            bad[index] = "{}".to_owned();
            assert_eq!(
                verify_transcript(&joined(&bad)),
                Err(TranscriptError::Malformed(number))
            );
            // Twice.
            let mut bad = good.clone();
            bad.insert(index, good[index].clone());
            assert_eq!(
                verify_transcript(&joined(&bad)),
                Err(TranscriptError::Unlinked(number + 1))
            );
            if index + 1 == count {
                continue;
            }
            let mut bad = good.clone();
            bad.remove(index);
            assert_eq!(
                verify_transcript(&joined(&bad)),
                Err(TranscriptError::Unlinked(number))
            );
            let mut bad = good.clone();
            bad.swap(index, index + 1);
            assert_eq!(
                verify_transcript(&joined(&bad)),
                Err(TranscriptError::Unlinked(number))
            );
        }
        // What is missing at the end is told by the last event and the last hash.
        let cut = verify_transcript(&joined(&good[..count - 1])).unwrap();
        assert_ne!(cut.last_event, "finished");
        assert_ne!(cut.head, verified.head);
        assert_eq!(verify_transcript(""), Err(TranscriptError::Empty));
    });
}

#[test]
fn the_program_verifies_transcripts() {
    in_token_directory(|| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        assert_success(&site.execute("plan.toml"));
        let name = "tmk-transcript.jsonl";
        let output = site.program(&["verify", name], "");
        assert_success(&output);
        assert!(printed(&output).contains("lines"));
        let altered = site
            .read(name)
            .replace("First Custodian", "Other Custodian");
        std::fs::write(site.path("altered.jsonl"), altered).unwrap();
        assert_refused(
            &site.program(&["verify", "altered.jsonl"], ""),
            "was altered",
        );
        assert_refused(
            &site.program(&["verify", "missing.jsonl"], ""),
            "missing.jsonl",
        );
    });
}
