//! OpenSSL's verdict on mutations of signed tokens: whatever our reader takes, with its signature verified,
//! OpenSSL takes as well. So we never take what a sound reader of CMS refuses. The other way round there are
//! many: a profile is stricter than CMS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use fuzzing::{
    mutation::{Random, mutated, with_right_digest},
    setting,
};
use good_tokens::{
    Kind, Maker,
    der::{octets, set},
    tree::Node,
};
use pki::{Certificate, PublicKey};
use rsa::{
    pkcs1v15::SigningKey,
    pkcs8::DecodePrivateKey as _,
    signature::{SignatureEncoding as _, Signer as _},
};
use sha2::Sha256;
use tr34::{
    CaRebindToken, CaUnbindToken, IssuerAndSerial, KdhCredentialToken, KdhRebindToken,
    KdhUnbindToken, KeyToken, KrdCredentialToken, MalformedToken, Profile, SignerPart,
};

const KINDS: [Kind; 8] = [
    Kind::KrdCredential,
    Kind::KdhCredential,
    Kind::TwoPassKey,
    Kind::OnePassKey,
    Kind::KdhUnbind,
    Kind::KdhRebind,
    Kind::CaUnbind,
    Kind::CaRebind,
];

/// Mutations of each kind; `FUZZ_SEED` and `FUZZ_COUNT` have others made.
const COUNT: u64 = 1000;

/// OpenSSL is asked about each that we take, and about one in so many that we refuse.
const ASKED_ANYWAY: u64 = 10;

const CERTIFICATE: &str = "certificate.pem";
const PROFILE: Profile = Profile::X9_2019;

/// Somebody with a certificate by itself.
struct Signer {
    folder: tempfile::TempDir,
    key: SigningKey<Sha256>,
    public_key: PublicKey,
    name: IssuerAndSerial,
}

impl Signer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = openssl(
            folder.path(),
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                "key.pem",
                "-out",
                "certificate.pem",
                "-subj",
                "/CN=KDH",
                "-days",
                "30",
            ],
        );
        assert!(made);
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        let certificate = Certificate::from_pem(&read("certificate.pem")).unwrap();
        let key = rsa::PrivateKey::from_pkcs8_pem(&read("key.pem")).unwrap();
        Self {
            key: SigningKey::new(key),
            public_key: certificate.public_key().clone(),
            name: certificate.issuer_and_serial().unwrap(),
            folder,
        }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(bytes).to_vec()
    }

    fn token(&self, kind: Kind) -> Vec<u8> {
        let maker = Maker {
            signer: self.name.clone(),
            sign: &|bytes| self.sign(bytes),
        };
        maker.token(kind, PROFILE)
    }

    /// With the signature of what is to be signed now, if the bytes have the form of a signed token.
    fn signed_again(&self, bytes: &[u8]) -> Vec<u8> {
        let mut token = Node::parse(bytes);
        let attributes = token
            .at("attrs")
            .map(|attributes| set(&[&attributes.content()]));
        let content = token.at("content").map(|content| content.content());
        let Some(to_be_signed) = attributes.or(content) else {
            return bytes.to_vec();
        };
        match token.at("signer/x04") {
            Some(signature) => {
                *signature = Node::Bytes(octets(&self.sign(&to_be_signed)));
                token.to_der()
            }
            None => bytes.to_vec(),
        }
    }

    /// Whether our reader takes a token, and its signature if it has one.
    fn is_taken(&self, kind: Kind, der: &[u8]) -> bool {
        let by = match kind {
            Kind::KrdCredential => return KrdCredentialToken::parse(PROFILE, der).is_ok(),
            Kind::KdhCredential => return KdhCredentialToken::parse(PROFILE, der).is_ok(),
            kind => signed_by(kind, der),
        };
        by.is_ok_and(|by| {
            let verified = self.public_key.verify(by.signed_bytes(), by.signature());
            *by.signer() == self.name && verified.is_ok()
        })
    }

    /// Whether OpenSSL does.
    fn openssl_takes(&self, kind: Kind, der: &[u8]) -> bool {
        let token = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        fs::write(token.path(), der).unwrap();
        let verb: &[&str] = match kind {
            Kind::KrdCredential | Kind::KdhCredential => &["cms", "-cmsout", "-noout"],
            _ => &[
                "cms",
                "-verify",
                "-noverify",
                "-binary",
                "-certfile",
                CERTIFICATE,
            ],
        };
        let file = token.path().to_str().unwrap();
        let files = ["-inform", "DER", "-in", file, "-out", "/dev/null"];
        openssl(self.folder.path(), &[verb, &files].concat())
    }
}

fn signed_by(kind: Kind, der: &[u8]) -> Result<SignerPart, MalformedToken> {
    macro_rules! signed_by {
        ($token:ident) => {
            $token::parse(PROFILE, der).map(|token| token.signed_by().clone())
        };
    }
    match kind {
        Kind::KdhUnbind => signed_by!(KdhUnbindToken),
        Kind::KdhRebind => signed_by!(KdhRebindToken),
        Kind::CaUnbind => signed_by!(CaUnbindToken),
        Kind::CaRebind => signed_by!(CaRebindToken),
        _ => signed_by!(KeyToken),
    }
}

/// Whether it succeeds.
fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().unwrap().success()
}

/// Leaves a token to be looked at.
fn kept(der: &[u8], name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, der).unwrap();
    path
}

#[test]
#[expect(clippy::print_stderr, reason = "what was found is counted")]
fn what_we_take_openssl_takes() {
    let signer = Signer::new();
    let good = KINDS.map(|kind| signer.token(kind));
    for (kind, token) in KINDS.iter().zip(&good) {
        assert!(
            signer.is_taken(*kind, token) && signer.openssl_takes(*kind, token),
            "{kind}"
        );
    }
    let first = setting("FUZZ_SEED", 1);
    let count = setting("FUZZ_COUNT", COUNT);
    let [asked, both, only_openssl] = &[const { AtomicUsize::new(0) }; 3];
    let try_out = |kind: Kind, good: &[Vec<u8>], seed: u64| {
        let mut random = Random::new(seed);
        let mut der = mutated(good, &mut random);
        // Half of them are signed again, so that what the signature would have kept out gets in.
        if random.below(2) == 0 {
            der = signer.signed_again(&with_right_digest(&der));
        }
        let taken = signer.is_taken(kind, &der);
        if good.contains(&der) || !(taken || seed.is_multiple_of(ASKED_ANYWAY)) {
            return;
        }
        asked.fetch_add(1, Relaxed);
        match (taken, signer.openssl_takes(kind, &der)) {
            (true, true) => drop(both.fetch_add(1, Relaxed)),
            (false, true) => drop(only_openssl.fetch_add(1, Relaxed)),
            (false, false) => {}
            (true, false) => {
                let kept = kept(&der, &format!("{kind}-{seed}.der"));
                panic!("{} is taken, and OpenSSL refuses it", kept.display());
            }
        }
    };
    let try_out = &try_out;
    thread::scope(|scope| {
        for (kind, token) in KINDS.into_iter().zip(good.chunks(1)) {
            scope.spawn(move || (first..first + count).for_each(|seed| try_out(kind, token, seed)));
        }
    });
    eprintln!(
        "of {} mutations OpenSSL saw {}: {} both take, {} only OpenSSL",
        count * KINDS.len() as u64,
        asked.load(Relaxed),
        both.load(Relaxed),
        only_openssl.load(Relaxed)
    );
}
