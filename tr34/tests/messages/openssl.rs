//! OpenSSL's command line as the independent reader and writer. Without it these tests say that
//! they are skipped.

use std::{fs, path::Path, process::Command};

use der::{Any, Decode, Sequence, asn1::ObjectIdentifier};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, IssuerAndSerial, KdhCredentialToken, KrdCredentialToken,
    OaepHash, RandomToken,
};

use crate::common::*;

fn openssl(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("openssl").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            report_skipped(&error);
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn report_skipped(error: &std::io::Error) {
    eprintln!("skipped: openssl cannot be run: {error}");
}

fn write(folder: &Path, file: &str, bytes: &[u8]) -> String {
    let path = folder.join(file);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn openssl_reads_what_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let ct_krd = KrdCredentialToken::new(CERTIFICATE).unwrap().to_der(P);
    let ct_kdh = KdhCredentialToken::new(CERTIFICATE, CRL).unwrap().to_der(P);
    for (file, der, words) in [
        ("ct-krd", &ct_krd, &["CN=Example KDH"][..]),
        (
            "ct-kdh",
            &ct_kdh,
            &["CN=Example KDH", "CN=Example CA KDH", "crl"],
        ),
        (
            "kt-kdh",
            &good(Kind::TwoPassKey),
            &[
                "version: 3",
                "pkcs7-envelopedData",
                "1.2.840.113549.1.9.25.3",
                "messageDigest",
            ],
        ),
    ] {
        let path = write(folder.path(), file, der);
        let arguments = [
            "cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", &path,
        ];
        let Some(printed) = openssl(&arguments) else {
            return;
        };
        let printed = printed.replace(" = ", "=");
        for word in words {
            assert!(printed.contains(word), "{file}: {word} in {printed}");
        }
        let written = folder.path().join("written").to_str().unwrap().to_owned();
        openssl(&[
            "cms", "-cmsout", "-inform", "DER", "-in", &path, "-outform", "DER", "-out", &written,
        ]);
        assert_eq!(&fs::read(written).unwrap(), der, "{file}");
    }
    for (file, der) in [
        ("rt-krd", RandomToken::new(nonce()).to_der()),
        ("enveloped", enveloped().to_der(P).unwrap()),
        ("identity", kdh().to_der()),
    ] {
        let path = write(folder.path(), file, &der);
        openssl(&["asn1parse", "-inform", "DER", "-in", &path]);
    }
}

/// The outer structure that OpenSSL puts round an `EnvelopedData`.
#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: Any,
}

#[test]
fn what_openssl_envelopes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let content = write(folder.path(), "content", &[0x42; 133]);
    let certificate = write(folder.path(), "certificate", CERTIFICATE);
    let pem = folder.path().join("pem").to_str().unwrap().to_owned();
    let written = folder.path().join("written").to_str().unwrap().to_owned();
    let to_pem = ["x509", "-inform", "DER", "-in", &certificate, "-out", &pem];
    if openssl(&to_pem).is_none() {
        return;
    }
    let recipient = IssuerAndSerial::of_certificate(CERTIFICATE).unwrap();
    for (md, hash) in [("sha1", OaepHash::Sha1), ("sha256", OaepHash::Sha256)] {
        for (name, cipher) in [
            ("-aes-128-cbc", ContentCipher::Aes128Cbc),
            ("-aes-256-cbc", ContentCipher::Aes256Cbc),
            ("-des3", ContentCipher::DesEde3Cbc),
        ] {
            let hash_option = format!("rsa_oaep_md:{md}");
            openssl(&[
                "cms",
                "-encrypt",
                "-binary",
                name,
                "-in",
                &content,
                "-outform",
                "DER",
                "-out",
                &written,
                "-recip",
                &pem,
                "-keyopt",
                "rsa_padding_mode:oaep",
                "-keyopt",
                &hash_option,
            ]);
            let info = ContentInfo::from_der(&fs::read(&written).unwrap()).unwrap();
            let der = der::Encode::to_der(&info.content).unwrap();
            let enveloped = EnvelopedKeyBlock::parse(P, &der).unwrap();
            assert_eq!(enveloped.recipient(), &recipient);
            assert_eq!(enveloped.oaep_hash(), hash);
            assert_eq!(enveloped.cipher(), cipher);
            assert_eq!(enveloped.encrypted_key().len(), 256);
            assert_eq!(enveloped.ciphertext().len(), cipher.padded_len(133));
        }
    }
}
