//! The published samples, where a copy of them lies beside the workspace; otherwise this test says that it
//! is skipped.

use std::{fs, path::Path};

use inspector::{Input, inspect};

use crate::tokens::NOW;

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn report_skipped() {
    eprintln!("skipped: no published samples");
}

#[test]
fn each_is_what_it_is() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    if !vectors.is_dir() {
        return report_skipped();
    }
    let strict = "x9-2019";
    let samples = "x9-2019-samples";
    for (file, kind, profile, oddity) in [
        ("b.3-root", "ct-krd", strict, ""),
        ("b.4-ca-kdh", "ct-krd", strict, ""),
        ("b.5-ca-krd", "ct-krd", strict, ""),
        ("b.6-ct-kdh", "ct-kdh", samples, "behind the signers"),
        ("b.7-ct-krd", "ct-krd", strict, "the certificate holds from"),
        (
            "b.8-one-pass-key-token",
            "kt-kdh-one-pass",
            samples,
            "lack their tags",
        ),
        (
            "b.8-one-pass-key-token-original-malformed",
            "kt-kdh-one-pass",
            samples,
            "as in the first print",
        ),
        (
            "b.9-two-pass-key-token",
            "kt-kdh-two-pass",
            samples,
            "not in DER's",
        ),
        (
            "b.9-two-pass-key-token-original-malformed",
            "kt-kdh-two-pass",
            samples,
            "as in the first print",
        ),
        ("b.10-rbt-ca", "rbt-ca", samples, "lacks its tag and length"),
        (
            "b.11-rbt-kdh",
            "rbt-kdh",
            samples,
            "lacks its tag and length",
        ),
        ("b.12-rt-krd", "rt-krd", strict, ""),
        ("b.13-ubt-ca", "ubt-ca", strict, "no nonce"),
        ("b.14-ubt-kdh", "ubt-kdh", samples, "8 bytes only"),
        ("b.2.2.2.1-tdea-key-block", "key-block", strict, "in clear"),
        ("b.2.2.2.4-aes-key-block", "key-block", strict, "in clear"),
        (
            "b.2.2.3.1-tdea-enveloped-data",
            "enveloped-data",
            samples,
            "TDEA key",
        ),
        (
            "b.2.2.3.2-aes-enveloped-data",
            "enveloped-data",
            samples,
            "the IV has 8 bytes",
        ),
        (
            "b.2.2.3.2-aes-enveloped-data-original-malformed",
            "enveloped-data",
            samples,
            "as in the first print",
        ),
    ] {
        for extension in ["der", "pem"] {
            let path = vectors.join(format!("tr34-2019/{file}.{extension}"));
            let Ok(bytes) = fs::read(&path) else {
                assert_eq!(extension, "pem", "{file}");
                continue;
            };
            let input = Input::read(&bytes).expect(file);
            let inspection = inspect(&input.der, NOW).expect(file);
            assert_eq!(
                (inspection.kind, inspection.profile),
                (kind, profile),
                "{file}"
            );
            let said = |oddity: &str| {
                let mut warnings = inspection.warnings.iter();
                oddity.is_empty() || warnings.any(|warning| warning.what.contains(oddity))
            };
            assert!(said(oddity), "{file}: {:?}", inspection.warnings);
        }
    }
    let aws = fs::read(vectors.join("aws-2012/tdes-k1.token.der")).unwrap();
    let inspection = inspect(&aws, NOW).unwrap();
    assert_eq!(inspection.profiles, ["aws-2012"]);
    assert_eq!(inspection.kind, "kt-kdh-two-pass");
    assert_eq!(inspection.nonce.as_deref(), Some("FEB9110E8B7D93B1"));
}
