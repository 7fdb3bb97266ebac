//! The `openssl` command as an independent reader of what we make, and as a writer that we read.

use std::{fs, path::Path, process::Output};

use pki::{Certificate, CrlNumber, Role, Signer, verify_credential, verify_crl, verify_sub_ca};
use tempfile::TempDir;

use crate::common::{END_ENTITIES, NOW, PKI, openssl_in, run_openssl, serial};

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// A folder with the anchors, the CA's list and one certificate.
fn folder(leaf: &Certificate, crl: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("root.pem", PKI.root.to_pem().as_bytes());
    write("ca.pem", PKI.ca.to_pem().as_bytes());
    write("leaf.pem", leaf.to_pem().as_bytes());
    write("crl.pem", &openssl_in(&["crl", "-inform", "DER"], crl));
    folder
}

/// `openssl verify` of `leaf.pem`, at [`NOW`].
fn verify(folder: &Path, more: &[&str]) -> Output {
    let now = NOW.unix_timestamp().to_string();
    let arguments = [
        &[
            "verify",
            "-x509_strict",
            "-attime",
            &now,
            "-CAfile",
            "root.pem",
            "-untrusted",
            "ca.pem",
        ],
        more,
        &["leaf.pem"],
    ]
    .concat();
    run_openssl(folder, &arguments, &[])
}

#[test]
fn openssl_validates_our_chain_and_list() {
    for role in END_ENTITIES {
        let leaf = PKI.certificate(role);
        let clean = folder(&leaf, &PKI.crl(&[serial(0x77, 16)]));
        let output = verify(clean.path(), &["-crl_check", "-CRLfile", "crl.pem"]);
        assert!(output.status.success(), "{role:?}: {}", text(&output));

        let listed = folder(&leaf, &PKI.crl(&[leaf.serial().clone()]));
        let output = verify(listed.path(), &["-crl_check", "-CRLfile", "crl.pem"]);
        assert!(
            text(&output).contains("certificate revoked"),
            "{role:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn openssl_sees_the_purpose_that_we_gave() {
    for (role, purpose, accepted) in [
        (Role::HostTls, "sslserver", true),
        (Role::HostTls, "sslclient", false),
        (Role::KrdTls, "sslclient", true),
        (Role::KrdTls, "sslserver", false),
        (Role::Operator, "sslclient", true),
        (Role::Operator, "sslserver", false),
        (Role::Krd, "sslclient", false),
    ] {
        let folder = folder(&PKI.certificate(role), &PKI.crl(&[]));
        let output = verify(folder.path(), &["-purpose", purpose]);
        assert_eq!(
            output.status.success(),
            accepted,
            "{role:?}, {purpose}: {}",
            text(&output)
        );
    }
    for (host, option, accepted) in [
        ("kdh.example", "-verify_hostname", true),
        ("other.example", "-verify_hostname", false),
        ("192.0.2.7", "-verify_ip", true),
        ("192.0.2.8", "-verify_ip", false),
    ] {
        let folder = folder(&PKI.certificate(Role::HostTls), &PKI.crl(&[]));
        let output = verify(folder.path(), &[option, host]);
        assert_eq!(
            output.status.success(),
            accepted,
            "{host}: {}",
            text(&output)
        );
    }
}

#[test]
fn openssl_prints_what_the_profile_says() {
    let print = |certificate: &Certificate| {
        let arguments = ["x509", "-inform", "DER", "-noout", "-text"];
        String::from_utf8(openssl_in(&arguments, certificate.der())).unwrap()
    };
    let everywhere = [
        "Version: 3 (0x2)",
        "sha256WithRSAEncryption",
        "X509v3 Key Usage: critical",
    ];
    let kept_out = ["Extended Key Usage", "Subject Alternative Name", "CA:TRUE"];
    for (certificate, present, absent) in [
        (
            &PKI.root,
            &["CA:TRUE, pathlen:1", "Certificate Sign, CRL Sign"][..],
            &kept_out[..2],
        ),
        (
            &PKI.ca,
            &["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"],
            &kept_out[..2],
        ),
        (
            &PKI.certificate(Role::Kdh),
            &["Digital Signature\n"],
            &kept_out,
        ),
        (
            &PKI.certificate(Role::Krd),
            &["Key Encipherment\n", "OU = KRD,"],
            &kept_out,
        ),
        (
            &PKI.certificate(Role::KrdTls),
            &[
                "Digital Signature\n",
                "TLS Web Client Authentication\n",
                "OU = KRD-TLS,",
            ],
            &kept_out[1..],
        ),
        (
            &PKI.certificate(Role::HostTls),
            &[
                "TLS Web Server Authentication\n",
                "DNS:kdh.example, IP Address:192.0.2.7",
            ],
            &kept_out[2..],
        ),
        (
            &PKI.certificate(Role::Operator),
            &["TLS Web Client Authentication\n", "OU = Operator,"],
            &kept_out[1..],
        ),
    ] {
        let text = print(certificate);
        for part in everywhere.iter().chain(present) {
            assert!(text.contains(part), "{part} in {text}");
        }
        for part in absent {
            assert!(!text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("X509v3 Subject Key Identifier"), "{text}");
        assert!(text.contains("X509v3 Authority Key Identifier"), "{text}");
    }
}

#[test]
fn openssl_reads_and_verifies_our_list() {
    let revoked = serial(0x31, 16);
    let folder = folder(&PKI.ca, &PKI.crl(std::slice::from_ref(&revoked)));
    let output = run_openssl(
        folder.path(),
        &[
            "crl",
            "-in",
            "crl.pem",
            "-CAfile",
            "ca.pem",
            "-noout",
            "-text",
            "-crlnumber",
        ],
        &[],
    );
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "verify OK",
        "Version 2 (0x1)",
        "sha256WithRSAEncryption",
        "crlNumber=0x07",
        "X509v3 Authority Key Identifier",
        "Key Compromise",
        &revoked.to_string(),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// A CA that `openssl` runs: its own configuration, database, CRL numbers.
fn openssl_ca() -> TempDir {
    const CONFIGURATION: &str = "
[ca]
default_ca = only
[only]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
private_key = ca-key.pem
default_md = sha256
default_days = 300
default_crl_days = 20
policy = any
crl_extensions = crl
unique_subject = no
[any]
organizationalUnitName = optional
commonName = supplied
[crl]
authorityKeyIdentifier = keyid
[root]
basicConstraints = critical,CA:true,pathlen:1
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[sub_ca]
basicConstraints = critical,CA:true,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[kdh]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ca.cnf", CONFIGURATION);
    write("index.txt", "");
    write("serial", "4000000000000001\n");
    write("crlnumber", "1F\n");
    write("root-key.pem", PKI.root_key.pem());
    write("ca-key.pem", PKI.ca_key.pem());
    write("kdh-key.pem", PKI.rsa.pem());
    let run = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = run_openssl(folder.path(), &arguments, &[]);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    };
    // Certificates hold from the real now on: `openssl` has no other clock.
    run(
        "req -x509 -config ca.cnf -extensions root -key root-key.pem -subj /CN=Root -days 400 -out root.pem",
    );
    run("req -new -key ca-key.pem -subj /CN=CA -out ca.csr");
    run(
        "x509 -req -in ca.csr -CA root.pem -CAkey root-key.pem -set_serial 0x4100000000000001 -days 350 -extfile ca.cnf -extensions sub_ca -out ca.pem",
    );
    run("req -new -key kdh-key.pem -subj /CN=kdh-1 -out kdh.csr");
    run("ca -batch -config ca.cnf -extensions kdh -in kdh.csr -out kdh.pem -notext");
    run("ca -config ca.cnf -gencrl -out clean.pem");
    run("ca -config ca.cnf -revoke kdh.pem -crl_reason keyCompromise");
    run("ca -config ca.cnf -gencrl -out listed.pem");
    folder
}

#[test]
fn certificates_and_lists_made_by_openssl_are_verified() {
    let folder = openssl_ca();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let certificate = |name: &str| Certificate::from_pem(&read(name)).unwrap();
    let (root, ca, kdh) = (
        certificate("root.pem"),
        certificate("ca.pem"),
        certificate("kdh.pem"),
    );
    let now = kdh.not_before();
    assert_eq!(verify_sub_ca(&ca, &root, now), Ok(()));
    assert_eq!(kdh.public_key(), PKI.rsa.public_key());

    let list = |name: &str| {
        let crl = pki::Crl::from_pem_or_der(read(name).as_bytes()).unwrap();
        let moment = crl.this_update();
        (verify_crl(crl.der(), &ca, moment, None).unwrap(), moment)
    };
    let (clean, at) = list("clean.pem");
    assert_eq!(clean.number(), CrlNumber(0x1F));
    let verified = verify_credential(&kdh, &ca, Role::Kdh, &clean, at).unwrap();
    assert_eq!(verified.certificate(), &kdh);

    let (listed, at) = list("listed.pem");
    assert_eq!(listed.number(), CrlNumber(0x20));
    assert_eq!(listed.crl().revoked(), [kdh.serial().clone()]);
    let refused = verify_credential(&kdh, &ca, Role::Kdh, &listed, at).map(|_| ());
    assert_eq!(refused, Err(pki::CredentialError::Revoked));
}
