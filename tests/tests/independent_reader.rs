//! OpenSSL's command line as the independent reader: it verifies and opens what the system made, for
//! a terminal whose RSA key OpenSSL made.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use der::{Any, Decode as _, Encode as _, Sequence, asn1::ObjectIdentifier};
use hsm_modules::TestModule;
use system_tests::{
    fixture::Fixture,
    host::HostOptions,
    master_key::MasterKey,
    on_every_module,
    openssl::openssl,
    process::Ended,
    site::Topology,
    terminal::{Terminal, TerminalOptions},
};

const DEVICE: &str = "SN-1";
const ENVELOPED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");

/// RFC 5652 3: what OpenSSL wants round the enveloped data.
#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: Any,
}

/// A terminal that has loaded a key, and the reader with its private key.
struct Reader {
    site: Fixture,
    terminal: Terminal,
    private_key: PathBuf,
}

impl Reader {
    /// An enrolled and bound terminal with an RSA key of OpenSSL's.
    fn new(module: &'static TestModule, topology: Topology) -> Self {
        let site = Fixture::new(module, topology);
        let private_key = site.folder().join("krd-private.pem");
        let host = site.start_host(&HostOptions::default()).unwrap();
        let options = TerminalOptions {
            imported_keys: true,
            ..TerminalOptions::default()
        };
        let terminal = site.make_terminal(DEVICE, options).unwrap();
        let reader = Self {
            site,
            terminal,
            private_key,
        };
        reader
            .terminal
            .import_encryption_key(&reader.private_key)
            .unwrap();
        let code = reader.site.add_device(DEVICE).unwrap();
        reader.terminal.act(&["keygen"]).unwrap();
        reader.terminal.take_code(&code).unwrap();
        reader.terminal.enroll().succeed().unwrap();
        reader.terminal.act(&["bind"]).unwrap();
        for key in reader.site.keys.deliverable(module) {
            reader.site.register_key(key).unwrap();
            reader.site.assign_key(DEVICE, &key.name, key).unwrap();
            reader.terminal.act(&["load", &key.name]).unwrap();
            let token = reader.evidence("kt-kdh.der");
            fs::rename(token, reader.token_of(key)).unwrap();
        }
        host.stop().unwrap();
        reader
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        let ended = openssl(arguments, &self.site.log("openssl")).unwrap();
        // What it verified it says on either.
        ended.stdout + &ended.stderr
    }

    fn evidence(&self, name: &str) -> PathBuf {
        self.terminal.evidence().join(name)
    }

    fn token_of(&self, key: &MasterKey) -> PathBuf {
        self.evidence(&format!("kt-kdh-{}.der", key.name))
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    /// A certificate that a ceremony made.
    fn pki(&self, name: &str) -> String {
        text(&self.site.pki(name))
    }

    fn ca_kdh(&self) -> String {
        self.pki(self.site.topology().ca_kdh())
    }

    fn assert_chain_and_list(&self, certificate: &str, ca: &str, list: &str) {
        let pem = text(&self.scratch("crl.pem"));
        let list = self.pki(list);
        let shown = self.openssl(&[
            "crl", "-inform", "DER", "-in", &list, "-CAfile", ca, "-noout",
        ]);
        assert!(shown.contains("verify OK"), "{shown}");
        self.openssl(&["crl", "-inform", "DER", "-in", &list, "-out", &pem]);
        let shown = self.openssl(&[
            "verify",
            "-x509_strict",
            "-crl_check",
            "-CAfile",
            &self.pki("root.pem"),
            "-untrusted",
            ca,
            "-CRLfile",
            &pem,
            certificate,
        ]);
        assert!(shown.contains(": OK"), "{shown}");
    }

    /// Verifies a key token's signature, the signer's chain and the list that the token brings, and
    /// leaves what was signed in `to`.
    fn verify_token(&self, token: &Path, to: &Path) -> Result<Ended> {
        // From the message itself OpenSSL takes no CA.
        let cas = self.scratch("cas.pem");
        let chain = [self.pki("root.pem"), self.ca_kdh()].map(|pem| fs::read(pem).unwrap());
        fs::write(&cas, chain.concat())?;
        let (token, to, cas, signer) = (text(token), text(to), text(&cas), self.pki("kdh.pem"));
        let verify = ["cms", "-verify", "-binary", "-purpose", "any", "-crl_check"];
        let files = [
            "-inform",
            "DER",
            "-in",
            &token,
            "-certfile",
            &signer,
            "-CAfile",
            &cas,
            "-out",
            &to,
        ];
        openssl(&[&verify[..], &files].concat(), &self.site.log("openssl"))
    }

    /// Verifies a key token and returns the key block that is inside, as OpenSSL opened it.
    fn open_token(&self, token: &Path) -> PathBuf {
        let (enveloped, block) = (self.scratch("enveloped.der"), self.scratch("block.der"));
        self.verify_token(token, &enveloped).unwrap();
        let content = Any::from_der(&fs::read(&enveloped).unwrap()).unwrap();
        let wrapped = ContentInfo {
            content_type: ENVELOPED_DATA,
            content,
        };
        fs::write(&enveloped, wrapped.to_der().unwrap()).unwrap();
        self.openssl(&[
            "cms",
            "-decrypt",
            "-binary",
            "-inform",
            "DER",
            "-in",
            &text(&enveloped),
            "-recip",
            &text(&self.evidence("krd.pem")),
            "-inkey",
            &text(&self.private_key),
            "-out",
            &text(&block),
        ]);
        block
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn openssl_reads_everything(module: &'static TestModule, topology: Topology) {
    let reader = Reader::new(module, topology);

    let krd = text(&reader.evidence("krd.pem"));
    reader.assert_chain_and_list(&krd, &reader.pki("ca-krd.pem"), "crl-ca-krd.der");
    let krd_auth = text(&reader.evidence("krd-auth.pem"));
    reader.assert_chain_and_list(&krd_auth, &reader.pki("ca-krd.pem"), "crl-ca-krd.der");
    let list = topology.crl_ca_kdh();
    reader.assert_chain_and_list(&reader.pki("kdh.pem"), &reader.ca_kdh(), list);

    for request in ["krd-csr.der", "krd-auth-csr.der"] {
        let file = text(&reader.evidence(request));
        let shown = reader.openssl(&["req", "-verify", "-noout", "-inform", "DER", "-in", &file]);
        assert!(
            shown.to_lowercase().contains("verify ok"),
            "{request}: {shown}"
        );
    }
    for certificate in [
        "root.pem",
        "ca-krd.pem",
        "ca-ops.pem",
        "kdh.pem",
        "host-tls.pem",
    ] {
        reader.openssl(&["x509", "-noout", "-text", "-in", &reader.pki(certificate)]);
    }
    for token in ["ct-krd.der", "ct-kdh.der", "rt-krd.der"] {
        let file = text(&reader.evidence(token));
        reader.openssl(&["asn1parse", "-inform", "DER", "-in", &file]);
    }
    for (token, certificate) in [("ct-krd.der", &krd), ("ct-kdh.der", &reader.pki("kdh.pem"))] {
        let file = text(&reader.evidence(token));
        let inside = reader.openssl(&["pkcs7", "-inform", "DER", "-print_certs", "-in", &file]);
        let certificate = fs::read_to_string(certificate).unwrap();
        assert!(inside.contains(certificate.trim()), "{token}");
    }

    for key in reader.site.keys.deliverable(module) {
        let block = reader.open_token(&reader.token_of(key));
        let parsed = reader.openssl(&["asn1parse", "-inform", "DER", "-in", &text(&block)]);
        let kn = format!("[HEX DUMP]:{}", hex::encode_upper(key.held_by(module)));
        assert!(
            parsed.contains(&kn),
            "{}: the key is in its block",
            key.name
        );
        // As text where it is printable.
        assert!(
            parsed.contains(&format!(":{}", key.header())),
            "{}: {parsed}",
            key.name
        );
    }
}

fn openssl_reads_everything_under_two_sub_cas(module: &'static TestModule) {
    openssl_reads_everything(module, Topology::TwoSubCas);
}

fn openssl_reads_everything_under_a_single_sub_ca(module: &'static TestModule) {
    openssl_reads_everything(module, Topology::SingleSubCa);
}

/// What it accepts above it does not accept with one bit changed.
fn openssl_refuses_a_token_that_was_changed(module: &'static TestModule) {
    let reader = Reader::new(module, Topology::TwoSubCas);
    let original = reader.token_of(&reader.site.keys.aes_128);
    let out = reader.scratch("out.der");
    reader.verify_token(&original, &out).unwrap();
    let mut token = fs::read(original).unwrap();
    // The last byte of the signature.
    *token.last_mut().unwrap() ^= 1;
    let changed = reader.scratch("changed.der");
    fs::write(&changed, token).unwrap();
    let refused = reader.verify_token(&changed, &out).unwrap_err().to_string();
    assert!(refused.contains("Verification failure"), "{refused}");
}

on_every_module!(
    openssl_reads_everything_under_two_sub_cas,
    openssl_reads_everything_under_a_single_sub_ca,
    openssl_refuses_a_token_that_was_changed,
);
