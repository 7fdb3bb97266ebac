//! The PKI of the sample plans, seen through OpenSSL.

use std::{fs, process::Command};

use crate::{
    common::on_every_module,
    site::{
        CRL_REISSUE, NEW_KDH, SINGLE_SUB_CA, Site, TWO_SUB_CAS, assert_no_secret, assert_refused,
        assert_success, change, printed, token_files, unattended,
    },
};

pub(crate) const TOKENS: [&str; 6] = [
    "root",
    "issuing",
    "kdh",
    "operator",
    "first-custodian",
    "second-custodian",
];

impl Site {
    /// What OpenSSL says, and whether it is content.
    fn openssl(&self, arguments: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder())
            .output()
            .unwrap();
        (output.status.success(), printed(&output))
    }

    /// Verifies a certificate against the root, its CA and that CA's revocation list, if it has one.
    fn verify(&self, options: &str, ca: &str, leaf: &str) -> (bool, String) {
        self.openssl(&format!(
            "verify -x509_strict -CAfile root.pem -untrusted {ca}.pem {options} {leaf}.pem"
        ))
    }

    fn assert_verified(&self, options: &str, ca: &str, leaf: &str) {
        let (good, text) = self.verify(options, ca, leaf);
        assert!(good, "{leaf}: {text}");
    }

    /// Verifies a revocation list, and returns options to use it.
    fn use_crl(&self, file: &str, ca: &str, number: &str) -> String {
        let (good, text) = self.openssl(&format!(
            "crl -inform DER -in {file}.der -CAfile {ca}.pem -crlnumber -out {file}.crl.pem"
        ));
        assert!(good && text.contains("verify OK"), "{text}");
        assert!(text.contains(&format!("crlNumber=0x0{number}")), "{text}");
        format!("-crl_check -CRLfile {file}.crl.pem")
    }

    fn all_keys(&self) -> Vec<Vec<String>> {
        TOKENS.iter().map(|token| self.keys(token)).collect()
    }

    /// Executed again, in the same folder and in another one, the plan changes nothing.
    fn assert_not_again(&self, outputs: &[&str]) {
        let (keys, files) = (self.all_keys(), self.files());
        let output = self.execute("plan.toml");
        for file in outputs {
            assert_refused(&output, file);
        }
        assert!(files == self.files(), "a file was touched");

        fs::create_dir(self.path("again")).unwrap();
        let again = change(
            &self.read("plan.toml"),
            "output = \".\"",
            "output = \"again\"",
        );
        fs::write(self.path("again.toml"), again).unwrap();
        assert_refused(&self.execute("again.toml"), "ca-root");
        assert_eq!(fs::read_dir(self.path("again")).unwrap().count(), 0);
        assert_eq!(self.all_keys(), keys);
    }
}

fn made_from(plan: &str) -> Site {
    let site = Site::new(&TOKENS);
    site.write_plan("plan.toml", &unattended(plan));
    let output = site.execute("plan.toml");
    assert_success(&output);
    let transcript = site.read("pki-transcript.jsonl");
    let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
    assert_eq!(verified.last_event, "finished");
    assert_no_secret(&printed(&output), &site.pins());
    assert_no_secret(&transcript, &site.pins());
    site
}

#[test]
fn two_sub_cas() {
    on_every_module(|_| {
        let site = made_from(TWO_SUB_CAS);
        assert_eq!(site.keys("root"), ["ca-root"; 2]);
        assert_eq!(
            site.keys("issuing"),
            ["ca-kdh", "ca-kdh", "ca-krd", "ca-krd", "ca-ops", "ca-ops"]
        );
        assert_eq!(
            site.keys("kdh"),
            [
                "audit",
                "audit",
                "host-tls",
                "host-tls",
                "kdh-signing",
                "kdh-signing",
                "ksk.1",
                "ksm.1"
            ]
        );
        assert_eq!(site.keys("operator"), ["operator"; 2]);

        let first_list = site.use_crl("crl-ca-kdh", "ca-kdh", "1");
        site.use_crl("crl-ca-krd", "ca-krd", "1");
        let custodians = site.use_crl("crl-ca-ops", "ca-ops", "1");
        site.assert_verified(&first_list, "ca-kdh", "kdh");
        site.assert_verified("-purpose sslserver", "ca-ops", "host-tls");
        site.assert_verified("-purpose sslclient", "ca-ops", "operator");
        for other in ["first-custodian", "second-custodian", "audit"] {
            site.assert_verified(&custodians, "ca-ops", other);
        }
        for ca in ["ca-krd", "ca-kdh", "ca-ops"] {
            site.assert_verified("", ca, ca);
        }
        for (ca, leaf) in [("ca-krd", "kdh"), ("ca-ops", "kdh"), ("ca-kdh", "operator")] {
            assert!(!site.verify("", ca, leaf).0, "{leaf} under {ca}");
        }
        assert!(!site.verify("-purpose sslserver", "ca-ops", "operator").0);
        assert!(!site.verify("-purpose sslclient", "ca-ops", "host-tls").0);
        site.assert_not_again(&["root.pem", "ca-krd.pem", "kdh.pem", "crl-ca-krd.der"]);

        a_host_gets_a_second_credential(&site);
        a_revoked_host_is_refused(&site);
        nothing_is_issued_under_another_cas_certificate(&site);
    });
}

/// Beside the first one, so that terminals can be handed over.
fn a_host_gets_a_second_credential(site: &Site) {
    site.write_plan("new-kdh.toml", &unattended(NEW_KDH));
    assert_success(&site.execute("new-kdh.toml"));
    let first_list = site.use_crl("crl-ca-kdh", "ca-kdh", "1");
    for kdh in ["kdh", "kdh-2"] {
        site.assert_verified(&first_list, "ca-kdh", kdh);
    }
    let modulus = |kdh: &str| site.openssl(&format!("x509 -in {kdh}.pem -noout -modulus"));
    assert_ne!(modulus("kdh"), modulus("kdh-2"));
}

/// The second list, made as `crl-reissue.toml` says.
fn a_revoked_host_is_refused(site: &Site) {
    let (_, serial) = site.openssl("x509 -in kdh.pem -noout -serial");
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    let plan = change(CRL_REISSUE, "40A1B2C3D4E5F607", serial);
    site.write_plan("reissue.toml", &unattended(&plan));
    // Rehearsed first, with a stand-in for the CA.
    let tokens = token_files();
    let rehearsal = site.program(&["run", "reissue.toml", "--rehearse"], "");
    assert_success(&rehearsal);
    assert!(!site.exists("crl-ca-kdh-2.der"));
    assert!(tokens == token_files(), "a token was touched");

    assert_success(&site.execute("reissue.toml"));
    let second_list = site.use_crl("crl-ca-kdh-2", "ca-kdh", "2");
    let (good, text) = site.verify(&second_list, "ca-kdh", "kdh");
    assert!(!good && text.contains("certificate revoked"), "{text}");
}

/// A plan that takes one CA's key and another one's certificate leaves neither key nor file.
fn nothing_is_issued_under_another_cas_certificate(site: &Site) {
    let head = &TWO_SUB_CAS[..TWO_SUB_CAS.find("[[acts]]").unwrap()];
    let audit = "audit = { token = \"kdh\", key = \"audit\", certificate = \"audit.pem\" }";
    let head = &change(head, audit, "");
    let issuer = "issuer = { token = \"issuing\", key = \"ca-krd\", certificate = \"ca-ops.pem\" }";
    let root = "issuer = { token = \"root\", key = \"ca-root\", certificate = \"ca-ops.pem\" }";
    let subject = "subject = \"CN=Another CA,O=Example Bank,C=DE\"";
    let keys = site.all_keys();
    for (name, act) in [
        (
            "sub-ca",
            format!("token = \"issuing\"\nkey = \"another\"\n{root}\n{subject}\nyears = 1"),
        ),
        (
            "operator-credential",
            format!(
                "token = \"operator\"\nkey = \"another\"\n{issuer}\ncommon-name = \"a\"\nyears = 1"
            ),
        ),
        ("crl", format!("{issuer}\nnumber = 2\ndays = 9")),
    ] {
        let output = if name == "crl" { "file" } else { "certificate" };
        let transcript = format!("{name}.jsonl");
        let head = change(head, "pki-transcript.jsonl", &transcript);
        let plan = format!("{head}[[acts]]\nact = \"{name}\"\n{act}\n{output} = \"another\"\n");
        site.write_plan("another.toml", &unattended(&plan));
        assert_refused(&site.execute("another.toml"), "act 1");
        assert!(!site.exists("another"), "{name}");
        assert_eq!(site.all_keys(), keys, "{name}");
    }
}

#[test]
fn a_single_sub_ca() {
    on_every_module(|_| {
        let site = made_from(SINGLE_SUB_CA);
        assert_eq!(
            site.keys("issuing"),
            ["ca-krd", "ca-krd", "ca-ops", "ca-ops"]
        );
        let list = site.use_crl("crl-ca-krd", "ca-krd", "1");
        site.use_crl("crl-ca-ops", "ca-ops", "1");
        site.assert_verified(&list, "ca-krd", "kdh");
        site.assert_verified("-purpose sslserver", "ca-ops", "host-tls");
        site.assert_verified("-purpose sslclient", "ca-ops", "operator");
        assert!(!site.verify("", "ca-ops", "kdh").0);
        site.assert_not_again(&["root.pem", "ca-krd.pem", "kdh.pem", "crl-ca-krd.der"]);
    });
}
