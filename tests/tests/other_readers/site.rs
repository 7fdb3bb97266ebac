//! Throw-away keys and certificates of a bank and a terminal, in one folder. OpenSSL's command line makes
//! them and does what needs a key.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use der::{Encode as _, Tag, TagNumber, asn1::ObjectIdentifier};
use pki::Certificate;
use system_tests::{openssl::openssl, readers::BouncyCastle};
use tempfile::TempDir;
use tr34::{
    ContentCipher, EnvelopedKeyBlock, IssuerAndSerial, KeyBlockFrame, OaepHash, Profile,
    SignerPart, SigningTime, TokenDraft,
};

use super::tokens::{Parcel, Token};

const ENVELOPED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");

const OAEP: [&str; 2] = ["-pkeyopt", "rsa_padding_mode:oaep"];

/// A certificate, with its private key beside it.
pub(crate) struct Holder {
    pub(crate) name: &'static str,
    pub(crate) certificate: Certificate,
}

impl Holder {
    pub(crate) fn identity(&self) -> IssuerAndSerial {
        self.certificate.issuer_and_serial().unwrap()
    }

    /// Whether what a token says of its signer and its signature is about this one, and right.
    pub(crate) fn signed(&self, part: &SignerPart) -> bool {
        let key = self.certificate.public_key();
        part.signer() == &self.identity()
            && key.verify(part.signed_bytes(), part.signature()).is_ok()
    }
}

/// Who takes part, and the reader that has to be compiled.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) java: BouncyCastle,
    pub(crate) ca_krd: Holder,
    pub(crate) krd: Holder,
    pub(crate) kdh: Holder,
    pub(crate) new_kdh: Holder,
    /// Of the CA that certified the KDHs.
    pub(crate) crl: Vec<u8>,
    /// While all certificates hold.
    pub(crate) now: SigningTime,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let holder = |name, ca| make_holder(folder.path(), &log, name, ca);
        holder("root", None);
        let ca_krd = holder("ca-krd", Some("root"));
        holder("ca-kdh", Some("root"));
        Self {
            java: BouncyCastle::compile(folder.path(), &log).unwrap(),
            krd: holder("krd", Some("ca-krd")),
            kdh: holder("kdh", Some("ca-kdh")),
            new_kdh: holder("new-kdh", Some("ca-kdh")),
            crl: make_crl(folder.path(), &log),
            ca_krd,
            now: SigningTime::from_unix_seconds(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap(),
            folder,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Has `openssl` turn bytes into bytes.
    fn openssl(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        self.write("in", input);
        let (from, to) = (self.text("in"), self.text("out"));
        let files = ["-in", &from, "-out", &to];
        openssl(&[arguments, &files].concat(), &self.log()).unwrap();
        fs::read(to).unwrap()
    }

    /// The token, signed.
    pub(crate) fn sign(&self, draft: TokenDraft, holder: &Holder) -> Vec<u8> {
        let key = self.text(&format!("{}.key", holder.name));
        let arguments = [
            "pkeyutl", "-sign", "-rawin", "-digest", "sha256", "-inkey", &key,
        ];
        let signature = self.openssl(&arguments, draft.to_be_signed());
        draft.into_token(&signature).unwrap()
    }

    /// Has OpenSSL verify a token, and leave its content in the file `content`.
    pub(crate) fn openssl_verifies(&self, token: &Token) {
        let signer = self.text(&format!("{}.pem", token.signer));
        let (file, content) = (text(&token.file), self.text("content"));
        let verify = [
            "cms",
            "-verify",
            "-noverify",
            "-binary",
            "-inform",
            "DER",
            "-in",
            &file,
            "-certfile",
            &signer,
            "-out",
            &content,
        ];
        openssl(&verify, &self.log()).unwrap();
    }

    /// Has OpenSSL open an `EnvelopedData` with the terminal's key.
    pub(crate) fn openssl_opens(&self, enveloped: &Path) -> Vec<u8> {
        let der = fs::read(enveloped).unwrap();
        let tag = |number, content: Vec<u8>| der::Any::new(number, content).unwrap();
        let info = tag(
            Tag::ContextSpecific {
                constructed: true,
                number: TagNumber(0),
            },
            der,
        );
        let info = [ENVELOPED_DATA.to_der().unwrap(), info.to_der().unwrap()];
        let info = tag(Tag::Sequence, info.concat()).to_der().unwrap();
        let (key, pem) = (self.text("krd.key"), self.text("krd.pem"));
        let decrypt = [
            "cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", &key, "-recip", &pem,
        ];
        self.openssl(&decrypt, &info)
    }

    /// A key on its way from the KDH to the terminal.
    pub(crate) fn seal(&self, profile: Profile, parcel: Parcel) -> EnvelopedKeyBlock {
        let header = parcel.header.parse().unwrap();
        let frame = KeyBlockFrame::new(profile, &self.kdh.identity(), &header, parcel.kn.len());
        let block = [frame.prefix(), parcel.kn, frame.suffix()].concat();
        let ke = &b"thirty-two bytes to choose from."[..parcel.cipher.key_len()];
        let iv = &b"initialisation:."[..parcel.cipher.block_len()];
        let (key, cipher) = (self.text("krd.pem"), openssl_cipher(parcel.cipher));
        let (ke_hex, iv_hex) = (hex::encode(ke), hex::encode(iv));
        let hash = oaep_option(parcel.oaep);
        let wrap = ["pkeyutl", "-encrypt", "-certin", "-inkey", &key];
        EnvelopedKeyBlock::new(
            self.krd.identity(),
            parcel.oaep,
            self.openssl(&[&wrap[..], &OAEP, &["-pkeyopt", hash]].concat(), ke),
            parcel.cipher.with_iv(iv).unwrap(),
            self.openssl(&["enc", cipher, "-K", &ke_hex, "-iv", &iv_hex], &block),
        )
        .unwrap()
    }

    /// The clear key block, with the terminal's key.
    pub(crate) fn open(&self, enveloped: &EnvelopedKeyBlock) -> Vec<u8> {
        let key = self.text("krd.key");
        let unwrap = ["pkeyutl", "-decrypt", "-inkey", &key];
        let hash = ["-pkeyopt", oaep_option(enveloped.oaep_hash())];
        let ke = self.openssl(
            &[&unwrap[..], &OAEP, &hash].concat(),
            enveloped.encrypted_key(),
        );
        let cipher = openssl_cipher(enveloped.cipher());
        let (ke, iv) = (hex::encode(ke), hex::encode(enveloped.encryption().iv()));
        let decrypt = ["enc", "-d", cipher, "-K", &ke, "-iv", &iv];
        self.openssl(&decrypt, enveloped.ciphertext())
    }
}

/// RSA 2048, PKCS#8, and a certificate from `ca`, or from itself.
fn make_holder(folder: &Path, log: &Path, name: &'static str, ca: Option<&str>) -> Holder {
    let file = |name: &str, ending: &str| text(&folder.join(format!("{name}.{ending}")));
    let (key, pem, subject) = (
        file(name, "key"),
        file(name, "pem"),
        format!("/C=XX/O=Test/CN={name}"),
    );
    let certify = ["req", "-x509", "-days", "30", "-subj", &subject];
    let files = [
        "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &pem,
    ];
    let ca = ca.map(|ca| (file(ca, "pem"), file(ca, "key")));
    let by = ca
        .iter()
        .flat_map(|(pem, key)| ["-CA", pem, "-CAkey", key])
        .collect::<Vec<_>>();
    openssl(&[&certify[..], &files, &by].concat(), log).unwrap();
    let certificate = Certificate::from_pem(&fs::read_to_string(pem).unwrap()).unwrap();
    Holder { name, certificate }
}

/// An empty list of `ca-kdh`.
fn make_crl(folder: &Path, log: &Path) -> Vec<u8> {
    let file = |name: &str| text(&folder.join(name));
    let (configuration, database, number) = (file("ca.cnf"), file("index"), file("crl-number"));
    let keys = format!(
        "database = {database}\ncrlnumber = {number}\ndefault_md = sha256\ndefault_crl_days = 30\n"
    );
    fs::write(
        &configuration,
        format!("[ca]\ndefault_ca = this\n[this]\n{keys}"),
    )
    .unwrap();
    fs::write(database, "").unwrap();
    fs::write(number, "01").unwrap();
    let (key, pem, crl, der) = (
        file("ca-kdh.key"),
        file("ca-kdh.pem"),
        file("crl.pem"),
        file("crl.der"),
    );
    let issue = ["ca", "-gencrl", "-config", &configuration, "-keyfile", &key];
    openssl(&[&issue[..], &["-cert", &pem, "-out", &crl]].concat(), log).unwrap();
    openssl(&["crl", "-in", &crl, "-outform", "DER", "-out", &der], log).unwrap();
    fs::read(der).unwrap()
}

const fn oaep_option(hash: OaepHash) -> &'static str {
    match hash {
        OaepHash::Sha1 => "rsa_oaep_md:sha1",
        OaepHash::Sha256 => "rsa_oaep_md:sha256",
    }
}

const fn openssl_cipher(cipher: ContentCipher) -> &'static str {
    match cipher {
        ContentCipher::Aes128Cbc => "-aes-128-cbc",
        ContentCipher::Aes256Cbc => "-aes-256-cbc",
        ContentCipher::DesEde3Cbc => "-des-ede3-cbc",
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
