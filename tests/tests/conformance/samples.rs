//! Where the samples are, and what opens them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::Document;
use pki::PublicKey;
use rsa::{PrivateKey, pkcs8::DecodePrivateKey as _};
use tr34::{IssuerAndSerial, SignerPart};

/// The samples of one collection.
pub(crate) struct Samples(PathBuf);

/// Runs a test on a collection, if it is there.
pub(crate) fn with(collection: &str, test: impl FnOnce(&Samples)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors")
        .join(collection);
    if folder.is_dir() {
        test(&Samples(folder));
    } else {
        report_skipped(collection);
    }
}

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn report_skipped(collection: &str) {
    eprintln!("skipped: no published samples {collection}");
}

/// A sample certificate: who it is, and its key. No more is read: they have expired, and some have an
/// extension twice.
pub(crate) struct Certified {
    pub(crate) id: IssuerAndSerial,
    key: PublicKey,
}

impl Certified {
    /// Whether what a token says of its signer and its signature is about this one, and right.
    pub(crate) fn signed(&self, part: &SignerPart) -> bool {
        part.signer() == &self.id
            && self
                .key
                .verify(part.signed_bytes(), part.signature())
                .is_ok()
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature).is_ok()
    }
}

impl Samples {
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).expect(file)
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect(file)
    }

    pub(crate) fn pem(&self, file: &str) -> Vec<u8> {
        let (_, document) = Document::from_pem(&self.text(file)).expect(file);
        document.into_vec()
    }

    pub(crate) fn certified(&self, file: &str) -> Certified {
        let der = self.pem(file);
        let certificate: x509_cert::Certificate = der::Decode::from_der(&der).expect(file);
        let spki = certificate.tbs_certificate().subject_public_key_info();
        let spki = der::Encode::to_der(spki).expect(file);
        Certified {
            id: IssuerAndSerial::of_certificate(&der).expect(file),
            key: PublicKey::from_spki_der(&spki).expect(file),
        }
    }

    pub(crate) fn private_key(&self, file: &str) -> PrivateKey {
        PrivateKey::from_pkcs8_pem(&self.text(file)).expect(file)
    }
}
