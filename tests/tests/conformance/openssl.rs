//! OpenSSL's command line on the published samples: it verifies every signature, whatever is odd about the
//! token, and does not read the credential whose fields are out of order.

use system_tests::openssl::openssl;

use super::samples::{Samples, with};

fn verify(samples: &Samples, token: &str, signer: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let [token, signer] = [token, signer].map(|file| samples.path(file).display().to_string());
    let content = folder.path().join("content").display().to_string();
    let verify = [
        "cms",
        "-verify",
        "-noverify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        &token,
        "-certfile",
        &signer,
        "-out",
        &content,
    ];
    openssl(&verify, &folder.path().join("log")).map(drop)
}

#[test]
fn it_verifies_every_signed_sample() {
    with("tr34-2019", |samples| {
        let (kdh_1, ca_krd) = ("b.2.1.5-kdh-1.cert.pem", "b.2.1.4-ca-krd.cert.pem");
        for (token, signer) in [
            ("b.8-one-pass-key-token.der", kdh_1),
            ("b.8-one-pass-key-token-original-malformed.der", kdh_1),
            ("b.9-two-pass-key-token.der", kdh_1),
            ("b.9-two-pass-key-token-original-malformed.der", kdh_1),
            ("b.10-rbt-ca.der", ca_krd),
            ("b.11-rbt-kdh.der", kdh_1),
            ("b.13-ubt-ca.der", ca_krd),
            ("b.14-ubt-kdh.der", kdh_1),
        ] {
            verify(samples, token, signer).unwrap();
            let other = if signer == kdh_1 { ca_krd } else { kdh_1 };
            verify(samples, token, other).unwrap_err();
        }
    });
    with("aws-2012", |samples| {
        verify(samples, "tdes-k1.token.der", "tdes-k1.kdh.cert.pem").unwrap();
    });
}

#[test]
fn it_does_not_read_the_credential_of_the_kdh() {
    with("tr34-2019", |samples| {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for (token, reads) in [("b.6-ct-kdh.der", false), ("b.7-ct-krd.der", true)] {
            let token = samples.path(token).display().to_string();
            let print = [
                "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", &token,
            ];
            assert_eq!(openssl(&print, &log).is_ok(), reads, "{token}");
        }
    });
}
