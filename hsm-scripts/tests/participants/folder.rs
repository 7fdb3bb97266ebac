//! A folder in which OpenSSL plays the CAs and certifies people who may take part, and others.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

const CUSTODIAN: &str = "basicConstraints = critical,CA:false\n\
    keyUsage = critical,digitalSignature\nsubjectKeyIdentifier = hash\n\
    authorityKeyIdentifier = keyid:always\n";
const CA: &str = "basicConstraints = critical,CA:true,pathlen:0\n\
    keyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n\
    authorityKeyIdentifier = keyid:always\n";

/// A sample plan with the lines taken that are for a site with custodians, as the sample says.
pub(crate) fn with_custodians(sample: &str) -> String {
    let mut taken: Vec<&str> = Vec::new();
    for line in sample.lines() {
        let line = match line.strip_prefix('#') {
            Some(line) if !line.is_empty() && !line.starts_with(' ') => {
                let name = line.split_once(" = ").map(|(name, _)| name);
                let above = taken.last().and_then(|line| line.split_once(" = "));
                if name.is_some() && above.map(|(name, _)| name) == name {
                    taken.pop();
                }
                line
            }
            _ => line,
        };
        taken.push(line);
    }
    let plan = format!("{}\n", taken.join("\n"));
    assert_ne!(plan, sample);
    plan
}

/// A folder in which OpenSSL plays the ceremony CA and another one.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("ca.cnf", CA);
        folder.write("leaf.cnf", CUSTODIAN);
        folder.write(
            "client.cnf",
            &format!("{CUSTODIAN}extendedKeyUsage = clientAuth\n"),
        );
        for ca in ["ca-ops", "foreign"] {
            let rsa = "-newkey rsa:2048 -days 3000 -extensions v3";
            folder.write(
                "req.cnf",
                &format!("[req]\ndistinguished_name = name\n[name]\n[v3]\n{CA}"),
            );
            folder.openssl(&format!(
                "req -x509 -config req.cnf {rsa} -nodes -keyout {ca}.key -out {ca}.pem \
                 -subj /C=DE/O=Bank/CN={ca}"
            ));
        }
        for (name, subject, ca, extensions, days) in [
            (
                "first-custodian",
                "OU=Custodian/CN=First",
                "ca-ops",
                "leaf",
                1000,
            ),
            (
                "second-custodian",
                "OU=Custodian/CN=Second",
                "ca-ops",
                "leaf",
                1000,
            ),
            ("audit", "OU=Audit/CN=Audit", "ca-ops", "leaf", 1000),
            ("brief", "OU=Custodian/CN=Brief", "ca-ops", "leaf", 10),
            (
                "elsewhere",
                "OU=Custodian/CN=Elsewhere",
                "foreign",
                "leaf",
                1000,
            ),
            (
                "operator",
                "OU=Operator/CN=Operator",
                "ca-ops",
                "client",
                1000,
            ),
            ("nameless", "OU=Custodian", "ca-ops", "leaf", 1000),
            ("namesake", "OU=Custodian/CN=First", "ca-ops", "leaf", 1000),
            (
                "painter",
                "OU=Custodian/CN=Fi\u{202e}rst",
                "ca-ops",
                "leaf",
                1000,
            ),
            ("shouter", "OU=Custodian/CN=FIRST", "ca-ops", "leaf", 1000),
            ("gone", "OU=Custodian/CN=Gone", "ca-ops", "leaf", 1000),
        ] {
            folder.openssl(&format!(
                "req -new -utf8 -config req.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout \
                 {name}.key -out {name}.csr -subj /C=DE/O=Bank/{subject}"
            ));
            folder.certify(name, name, ca, extensions, days);
        }
        // The first one's key under another name.
        folder.openssl(
            "req -new -config req.cnf -key first-custodian.key -out twice.csr \
             -subj /C=DE/O=Bank/OU=Custodian/CN=Twice",
        );
        folder.certify("twice", "twice", "ca-ops", "leaf", 1000);
        folder.write(
            "ca.index.cnf",
            "[ca]\ndefault_ca = ca\n[ca]\ndatabase = index.txt\ncrlnumber = crlnumber\n\
             default_md = sha256\ndefault_crl_days = 30\ncrl_extensions = crl\n\
             [crl]\nauthorityKeyIdentifier = keyid\n",
        );
        folder.write("index.txt", "");
        folder.write("crlnumber", "01\n");
        let ca = "ca -config ca.index.cnf -keyfile ca-ops.key -cert ca-ops.pem";
        folder.openssl(&format!("{ca} -revoke gone.pem"));
        folder.openssl(&format!("{ca} -gencrl -out crl-ca-ops.der"));
        folder.openssl(
            "ca -config ca.index.cnf -keyfile foreign.key -cert foreign.pem -gencrl -out foreign-crl.pem",
        );
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn certify(&self, request: &str, name: &str, ca: &str, extensions: &str, days: u32) {
        self.openssl(&format!(
            "x509 -req -in {request}.csr -CA {ca}.pem -CAkey {ca}.key -extfile {extensions}.cnf -days {days} \
             -out {name}.pem"
        ));
    }

    pub(crate) fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    }
}
