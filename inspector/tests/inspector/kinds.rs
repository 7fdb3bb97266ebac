//! Each kind in each profile is told from all others.

use inspector::inspect;
use serde_json::Value;
use tr34::Profile;

use crate::tokens::{KN, NOW, all};

#[test]
fn each_kind_of_each_profile_is_recognised() {
    for profile in Profile::ALL {
        for (word, der) in all(profile) {
            let inspection = inspect(&der, NOW).expect(word);
            assert_eq!(inspection.kind, word, "{profile}");
            assert!(
                inspection.profiles.contains(&profile.name()),
                "{profile} {word}"
            );
            assert_eq!(inspection.profile, inspection.profiles[0]);
            assert_eq!(inspection.length, der.len());
        }
    }
}

/// Profiles share a form only where their tables say the same.
#[test]
fn profiles_are_told_apart_where_they_differ() {
    let shared = |profile: Profile, kind: &str| {
        let (_, der) = all(profile)
            .into_iter()
            .find(|(word, _)| *word == kind)
            .unwrap();
        inspect(&der, NOW).unwrap().profiles
    };
    assert_eq!(
        shared(Profile::X9_2019, "kt-kdh-two-pass"),
        ["x9-2019", "x9-2019-annex-d"]
    );
    for (profile, kind) in [
        (Profile::X9_2019Samples, "kt-kdh-two-pass"),
        (Profile::Aws2012, "kt-kdh-two-pass"),
        (Profile::Clover, "kt-kdh-two-pass"),
        (Profile::Clover, "ubt-ca"),
        (Profile::Clover, "ct-krd"),
        (Profile::X9_2019Samples, "ct-kdh"),
        (Profile::X9_2019AnnexD, "key-block"),
        (Profile::Clover, "rbt-ca"),
    ] {
        assert_eq!(shared(profile, kind), [profile.name()], "{kind}");
    }
    assert_eq!(shared(Profile::X9_2019, "ubt-ca").len(), 4);
}

#[test]
fn the_keys_of_the_report_are_stable() {
    for (word, der) in all(Profile::X9_2019) {
        let Value::Object(report) = serde_json::to_value(inspect(&der, NOW).unwrap()).unwrap()
        else {
            panic!("{word}: no object");
        };
        for key in [
            "kind",
            "profile",
            "signer",
            "recipient",
            "nonce",
            "header",
            "ke_algorithm",
            "oaep_hash",
            "crl_number",
            "warnings",
        ] {
            assert!(report.contains_key(key), "{word}: {key}");
        }
    }
}

#[test]
fn a_key_token_is_shown_in_full() {
    let (_, der) = all(Profile::X9_2019).swap_remove(3);
    let report = serde_json::to_value(inspect(&der, NOW).unwrap()).unwrap();
    assert_eq!(report["kind"], "kt-kdh-two-pass");
    assert_eq!(report["profile"], "x9-2019");
    assert_eq!(report["signer"]["serial"], "4B".repeat(9));
    assert_eq!(report["recipient"]["serial"], "3B".repeat(9));
    assert_eq!(report["nonce"], hex::encode_upper("sixteen bytes ok"));
    assert_eq!(report["header"]["text"], "D0000K0AB00E0000");
    assert_eq!(report["header"]["usage"], "K0: key encryption or wrapping");
    assert_eq!(report["header"]["algorithm"], "AES");
    assert_eq!(report["ke_algorithm"], "AES-128-CBC");
    assert_eq!(report["oaep_hash"], "sha256");
    assert_eq!(report["signing_time"], Value::Null);
}

/// What is unusual about a profile's tokens is said, and nothing of the default one's.
#[test]
fn departures_are_warnings_with_a_clause() {
    for profile in Profile::ALL {
        for (word, der) in all(profile) {
            for warning in inspect(&der, NOW).unwrap().warnings {
                assert!(!warning.what.is_empty(), "{profile} {word}");
                assert!(
                    ["RFC ", "TR-34", "X.690", "ANSI", "NIST"]
                        .iter()
                        .any(|known| warning.clause.contains(known)),
                    "{profile} {word}: {}",
                    warning.clause
                );
            }
        }
    }
    let (_, der) = all(Profile::X9_2019).swap_remove(3);
    let warnings = inspect(&der, NOW).unwrap().warnings;
    let about_form = |clause: &str| clause.contains("5652") || clause.contains("4055");
    assert!(
        !warnings.iter().any(|warning| about_form(&warning.clause)),
        "{warnings:?}"
    );
}

#[test]
fn the_key_of_a_clear_key_block_is_not_shown() {
    for profile in Profile::ALL {
        let (_, der) = all(profile).swap_remove(10);
        let inspection = inspect(&der, NOW).unwrap();
        assert_eq!(inspection.key_length, Some(KN.len()));
        let json = serde_json::to_string(&inspection).unwrap();
        let shown = format!("{json}{inspection:?}").to_lowercase();
        for (form, half) in [
            ("text", "do not pr".to_owned()),
            ("digits", hex::encode(&KN[..8])),
            ("digits", hex::encode(&KN[8..])),
        ] {
            assert!(!shown.contains(&half), "{form}: {shown}");
        }
        assert!(shown.contains("in clear"), "{shown}");
    }
}
