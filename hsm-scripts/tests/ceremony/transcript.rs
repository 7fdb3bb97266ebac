//! Transcripts: what was changed afterwards is found.

use kdh_ceremony::{TranscriptError, verify_transcript};

use crate::{
    common::on_every_module,
    site::{Site, assert_refused, assert_success, import_plan_with_files, printed, unattended},
};

fn lines(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

/// Replaces the first occurrence in a line, which has to be there.
fn altered(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from:?} is not in {line}");
    line.replacen(from, to, 1)
}

#[test]
fn every_altered_removed_or_swapped_line_is_found() {
    on_every_module(|_| {
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
                let other: serde_json::Value = match value {
                    serde_json::Value::Number(_) => 99.into(),
                    serde_json::Value::String(text) => format!("{text}0").into(),
                    _ => serde_json::json!({"altered": true}),
                };
                let mut bad = good.clone();
                bad[index] = altered(
                    &good[index],
                    &format!("{field:?}:{value}"),
                    &format!("{field:?}:{other}"),
                );
                let expected = match &**field {
                    "sequence" | "previous" => TranscriptError::Unlinked(number),
                    _ => TranscriptError::Altered(number),
                };
                assert_eq!(verify_transcript(&bad.concat()), Err(expected), "{field}");
            }
            let mut bad = good.clone();
            bad[index] = "{}\n".to_owned();
            assert_eq!(
                verify_transcript(&bad.concat()),
                Err(TranscriptError::Malformed(number))
            );
            // Twice.
            let mut bad = good.clone();
            bad.insert(index, good[index].clone());
            assert_eq!(
                verify_transcript(&bad.concat()),
                Err(TranscriptError::Unlinked(number + 1))
            );
            if index + 1 == count {
                continue;
            }
            let mut bad = good.clone();
            bad.remove(index);
            assert_eq!(
                verify_transcript(&bad.concat()),
                Err(TranscriptError::Unlinked(number))
            );
            let mut bad = good.clone();
            bad.swap(index, index + 1);
            assert_eq!(
                verify_transcript(&bad.concat()),
                Err(TranscriptError::Unlinked(number))
            );
        }
        // What is missing at the end is told by the last event and the last hash.
        let cut = verify_transcript(&good[..count - 1].concat()).unwrap();
        assert_ne!(cut.last_event, "finished");
        assert_ne!(cut.head, verified.head);
        assert_eq!(verify_transcript(""), Err(TranscriptError::Empty));
    });
}

const ALTERED: TranscriptError = TranscriptError::Altered(1);
const MALFORMED: TranscriptError = TranscriptError::Malformed(1);

/// Lines that a JSON reader takes for the ones that were written, and another one may not.
#[test]
fn a_line_that_is_written_otherwise_is_found() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        assert_success(&site.execute("plan.toml"));
        let text = site.read("tmk-transcript.jsonl");
        let good = lines(&text);
        let last = good.len() as u64;
        let (sequence, rest) = good[0].split_once(',').unwrap();
        let (at, _) = rest.split_once(',').unwrap();
        let sequence_and_at = format!("{sequence},{at},");
        let at_and_sequence = format!("{{{at},{},", &sequence[1..]);
        let in_order = "\"officers\":[],\"participants\":{},";
        let reordered = "\"participants\":{},\"officers\":[],";
        for (from, to, expected) in [
            // Keys that stand there twice.
            ("\"title\":", "\"title\":\"Another\",\"title\":", ALTERED),
            ("\"mode\":", "\"mode\":\"rehearsal\",\"mode\":", ALTERED),
            ("\"detail\":", "\"detail\":{},\"detail\":", MALFORMED),
            ("{", "{\"event\":\"began\",", MALFORMED),
            // Keys in another order, or missing.
            (&*sequence_and_at, &*at_and_sequence, ALTERED),
            (in_order, reordered, ALTERED),
            (&*sequence_and_at, "{", MALFORMED),
            (in_order, "", ALTERED),
            // White space.
            ("{", "{ ", ALTERED),
            ("{", " {", ALTERED),
            ("{", "\t{", ALTERED),
            (":", ": ", ALTERED),
            (",", " ,", ALTERED),
            ("[]", "[ ]", ALTERED),
            ("}\n", " }\n", ALTERED),
            ("}\n", "} \n", ALTERED),
            ("}\n", "}\r\n", ALTERED),
            ("{", "\n{", MALFORMED),
            ("{", "\u{feff}{", MALFORMED),
            // The same text or number, spelled otherwise.
            ("began", "\\u0062egan", ALTERED),
            ("\"mode\"", "\"mo\\u0064e\"", ALTERED),
            (":1,", ":1.0,", MALFORMED),
            (":1,", ":01,", MALFORMED),
            // Something behind.
            ("}\n", "}}\n", MALFORMED),
            ("}\n", "},\n", MALFORMED),
            ("}\n", "} {}\n", MALFORMED),
            ("}\n", "}garbage\n", MALFORMED),
            ("}\n", "}\0\n", MALFORMED),
        ] {
            let mut bad = good.clone();
            bad[0] = altered(&good[0], from, to);
            let found = verify_transcript(&bad.concat());
            assert_eq!(found, Err(expected), "{from:?} -> {to:?}");
        }
        for more in ["\n", " ", "garbage", "{}", "\0\n"] {
            let found = verify_transcript(&format!("{text}{more}"));
            let expected = TranscriptError::Malformed(last + 1);
            assert_eq!(found, Err(expected), "{more:?}");
        }
        let cut = verify_transcript(text.trim_end());
        assert_eq!(cut, Err(TranscriptError::Altered(last)));
    });
}

#[test]
fn the_program_verifies_transcripts() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(&import_plan_with_files(&site)));
        assert_success(&site.execute("plan.toml"));
        let name = "tmk-transcript.jsonl";
        let output = site.program(&["verify", name], "");
        assert_refused(&output, "Nobody confirmed the plan");
        let output = site.program(&["verify", name, "--accept-unsigned"], "");
        assert_success(&output);
        assert!(
            printed(&output).contains("check value CBDF95"),
            "{}",
            printed(&output)
        );
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
