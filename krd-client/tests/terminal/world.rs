//! Software keys, a small PKI, and good messages to start from.

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use krd_client::{Expectation, ExpectedFreshness, KdhTrust, RememberedCrl, SigningTimeBounds};
use p256::pkcs8::DecodePrivateKey as _;
use pki::{
    Certificate, CrlContents, CrlNumber, Issuer, Name, PublicKey, PublicKeyKind, RevocationReason,
    RevokedCertificate, Role, SerialNumber, Signer, Subject, Validity, issue_certificate,
    issue_crl, issue_root,
};
use sha2::Sha256;
use time::{Duration, OffsetDateTime, macros::datetime};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, KeyToken, KrdNonce,
    OaepHash, Profile, SigningTime, TokenDraft,
};

/// The moment at which the tables take place.
pub(crate) const NOW: OffsetDateTime = datetime!(2030-06-01 12:00 UTC);
pub(crate) const DAY: Duration = Duration::DAY;

pub(crate) const SERIAL: &str = "KRD-000001";
pub(crate) const HEADER: &str = "D0000K0AB00E0000";
pub(crate) const OTHER_HEADER: &str = "D0000P0AE00E0000";
pub(crate) const TDEA_HEADER: &str = "D0000K0TB00E0000";
pub(crate) const NONCE: [u8; 16] = *b"sixteen bytes ok";

// ---------------------------------------------------------------- keys

enum Private {
    Rsa(Box<rsa::pkcs1v15::SigningKey<Sha256>>),
    P256(p256::ecdsa::SigningKey),
}

/// Names a folder with keys that were made before: a process that a test starts takes those.
pub(crate) const KEYS: &str = "KRD_TEST_KEYS";

/// A key in memory, made by `openssl`.
pub(crate) struct SoftSigner {
    file: String,
    pem: Vec<u8>,
    private: Private,
    public_key: PublicKey,
}

impl SoftSigner {
    fn rsa(holder: &str) -> Self {
        Self::of(
            holder,
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        )
    }

    fn p256(holder: &str) -> Self {
        Self::of(
            holder,
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        )
    }

    fn of(holder: &str, arguments: &[&str]) -> Self {
        let file = format!("{holder}.pem");
        let pem = match env::var_os(KEYS) {
            Some(folder) => fs::read(Path::new(&folder).join(&file)).unwrap(),
            None => openssl(&[&["genpkey"], arguments].concat(), &[]),
        };
        let spki = openssl(&["pkey", "-pubout", "-outform", "DER"], &pem);
        let public_key = PublicKey::from_spki_der(&spki).unwrap();
        let text = str::from_utf8(&pem).unwrap();
        let private = match public_key.kind() {
            PublicKeyKind::Rsa { .. } => {
                let key = rsa::PrivateKey::from_pkcs8_pem(text).unwrap();
                Private::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(key)))
            }
            PublicKeyKind::P256 => {
                Private::P256(p256::ecdsa::SigningKey::from_pkcs8_pem(text).unwrap())
            }
        };
        Self {
            file,
            pem,
            private,
            public_key,
        }
    }
}

impl Signer for SoftSigner {
    type Error = std::convert::Infallible;

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Self::Error> {
        use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _};
        Ok(match &self.private {
            Private::Rsa(key) => key.sign(message).to_vec(),
            Private::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        })
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

// ---------------------------------------------------------------- the PKI

/// A CA with its key.
pub(crate) struct Ca {
    pub(crate) key: SoftSigner,
    pub(crate) certificate: Certificate,
}

impl Ca {
    fn issuer(&self) -> Issuer<'_, SoftSigner> {
        Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        }
    }

    /// A certificate by this CA, changed by `change` from a good one.
    pub(crate) fn certify(
        &self,
        now: OffsetDateTime,
        role: Role,
        common_name: &str,
        key: &PublicKey,
        change: impl FnOnce(&mut Subject),
    ) -> Certificate {
        let mut subject = Subject {
            role,
            name: role
                .subject(self.certificate.subject(), common_name)
                .unwrap(),
            public_key: key.clone(),
            serial: serial(common_name, role),
            validity: days(now, -1, 365),
            hosts: match role {
                Role::HostTls => vec!["127.0.0.1".to_owned()],
                _ => Vec::new(),
            },
        };
        change(&mut subject);
        issue_certificate(&self.issuer(), &subject).unwrap()
    }

    /// A list by this CA, changed by `change` from a good one: number 7, empty.
    pub(crate) fn crl(
        &self,
        now: OffsetDateTime,
        change: impl FnOnce(&mut CrlContents),
    ) -> Vec<u8> {
        let mut contents = CrlContents {
            number: CrlNumber(7),
            this_update: now - DAY,
            next_update: now + DAY * 7,
            revoked: Vec::new(),
        };
        change(&mut contents);
        issue_crl(&self.issuer(), &contents).unwrap()
    }
}

/// An entry of a revocation list.
pub(crate) fn revoked(certificate: &Certificate, now: OffsetDateTime) -> RevokedCertificate {
    RevokedCertificate {
        serial: certificate.serial().clone(),
        at: now - DAY,
        reason: Some(RevocationReason::KeyCompromise),
    }
}

/// Everybody, with RSA keys that are made once.
pub(crate) struct World {
    pub(crate) now: OffsetDateTime,
    root: Ca,
    pub(crate) ca_krd: Ca,
    pub(crate) ca_kdh: Ca,
    pub(crate) ca_ops: Ca,
    /// Has the name of `ca_kdh` and another key.
    pub(crate) impostor: Ca,
    pub(crate) kdh_key: SoftSigner,
    pub(crate) kdh: Certificate,
    pub(crate) other_kdh_key: SoftSigner,
    pub(crate) other_kdh: Certificate,
    pub(crate) krd_key: SoftSigner,
    pub(crate) krd: Certificate,
    pub(crate) tls_key: SoftSigner,
}

/// The world of the tables, at [`NOW`].
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(|| World::at(NOW));

impl World {
    pub(crate) fn at(now: OffsetDateTime) -> Self {
        let root = root(now);
        let ca = |holder, common_name| sub_ca(&root, now, holder, common_name);
        let ca_krd = ca("ca-krd", "CA KRD");
        let ca_kdh = ca("ca-kdh", "CA KDH");
        let ca_ops = ca("ca-ops", "CA OPS");
        let impostor = ca("impostor", "CA KDH");
        let kdh_key = SoftSigner::rsa("kdh");
        let other_kdh_key = SoftSigner::rsa("other-kdh");
        let krd_key = SoftSigner::rsa("krd");
        let certify = |ca: &Ca, role, name, key: &SoftSigner| {
            ca.certify(now, role, name, key.public_key(), |_| {})
        };
        Self {
            kdh: ca_kdh.certify(now, Role::Kdh, "KDH 1", kdh_key.public_key(), |subject| {
                subject.serial = aligned_serial(&ca_kdh.certificate, 1);
            }),
            other_kdh: {
                let key = other_kdh_key.public_key();
                ca_kdh.certify(now, Role::Kdh, "KDH 2", key, |subject| {
                    subject.serial = aligned_serial(&ca_kdh.certificate, 2);
                })
            },
            krd: certify(&ca_krd, Role::Krd, SERIAL, &krd_key),
            tls_key: SoftSigner::p256("tls"),
            now,
            root,
            ca_krd,
            ca_kdh,
            ca_ops,
            impostor,
            kdh_key,
            other_kdh_key,
            krd_key,
        }
    }

    /// Writes every key into a folder for [`KEYS`].
    pub(crate) fn keep_keys(&self, folder: &Path) {
        let cas = [
            &self.root,
            &self.ca_krd,
            &self.ca_kdh,
            &self.ca_ops,
            &self.impostor,
        ];
        let keys = [
            &self.kdh_key,
            &self.other_kdh_key,
            &self.krd_key,
            &self.tls_key,
        ];
        for key in cas.into_iter().map(|ca| &ca.key).chain(keys) {
            fs::write(folder.join(&key.file), &key.pem).unwrap();
        }
    }

    pub(crate) fn root(&self) -> &Certificate {
        &self.root.certificate
    }

    /// The KDH's key, certified by `ca` in this role, with a change.
    pub(crate) fn kdh_with(
        &self,
        ca: &Ca,
        role: Role,
        change: impl FnOnce(&mut Subject),
    ) -> Certificate {
        ca.certify(self.now, role, "KDH 1", self.kdh_key.public_key(), change)
    }
}

fn root(now: OffsetDateTime) -> Ca {
    let key = SoftSigner::rsa("root");
    let subject = ca_subject(&key, Role::RootCa, "Root", now);
    let certificate = issue_root(&key, &subject).unwrap();
    Ca { key, certificate }
}

fn sub_ca(root: &Ca, now: OffsetDateTime, holder: &str, common_name: &str) -> Ca {
    let key = SoftSigner::rsa(holder);
    let subject = ca_subject(&key, Role::SubCa, common_name, now);
    let certificate = issue_certificate(&root.issuer(), &subject).unwrap();
    Ca { key, certificate }
}

fn ca_subject(key: &SoftSigner, role: Role, common_name: &str, now: OffsetDateTime) -> Subject {
    Subject {
        role,
        name: name(&format!("CN={common_name},O=Example Bank,C=DE")),
        public_key: key.public_key().clone(),
        serial: serial(common_name, role),
        validity: days(now, -30, 1000),
        hosts: Vec::new(),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// 16 bytes that follow from the holder.
fn serial(common_name: &str, role: Role) -> SerialNumber {
    use sha2::Digest as _;
    let digest = Sha256::digest(format!("{common_name} {role:?}"));
    SerialNumber::from_random(&digest[..16]).unwrap()
}

/// As long as it must be for a token to seal keys of 16 bytes by splice.
fn aligned_serial(ca: &Certificate, first: u8) -> SerialNumber {
    let len = pki::aligned_serial_length(ca.subject(), &[16], &[16], 16).unwrap();
    let random: Vec<u8> = (first..).take(len).collect();
    SerialNumber::from_random(&random).unwrap()
}

pub(crate) fn days(now: OffsetDateTime, from: i64, until: i64) -> Validity {
    Validity {
        not_before: now + Duration::days(from),
        not_after: now + Duration::days(until),
    }
}

// ---------------------------------------------------------------- a key token and its reader

/// What a key token is made of.
pub(crate) struct Sent {
    pub(crate) profile: Profile,
    pub(crate) signer: IssuerAndSerial,
    pub(crate) key: &'static SoftSigner,
    pub(crate) recipient: IssuerAndSerial,
    pub(crate) oaep: OaepHash,
    pub(crate) cipher: ContentCipher,
    pub(crate) header: Kbh,
    pub(crate) nonce: KrdNonce,
    /// Of a one-pass token, which has no nonce then.
    pub(crate) signed_at: Option<OffsetDateTime>,
    pub(crate) crl: Vec<u8>,
}

impl Sent {
    /// Of a good token.
    pub(crate) fn good() -> Self {
        let world = &*WORLD;
        Self {
            profile: Profile::X9_2019,
            signer: id(&world.kdh),
            key: &world.kdh_key,
            recipient: id(&world.krd),
            oaep: OaepHash::Sha256,
            cipher: ContentCipher::Aes128Cbc,
            header: header(HEADER),
            nonce: KrdNonce::from_bytes(NONCE),
            signed_at: None,
            crl: world.ca_kdh.crl(NOW, |_| {}),
        }
    }

    pub(crate) fn token(&self) -> Vec<u8> {
        // The block is not opened here: what the token's checks see of it are lengths.
        let enveloped = EnvelopedKeyBlock::new(
            self.recipient.clone(),
            self.oaep,
            vec![0xE1; 256],
            self.cipher
                .with_iv(&[0x1F; 16][..self.cipher.block_len()])
                .unwrap(),
            vec![0xC1; 144],
        )
        .unwrap();
        let freshness = match self.signed_at {
            None => Freshness::Nonce(self.nonce.clone()),
            Some(at) => Freshness::SigningTime(signing_time(at)),
        };
        let draft = KeyToken::draft(
            self.profile,
            &enveloped,
            &self.header,
            &freshness,
            signing_time(NOW),
            &self.signer,
            &self.crl,
        );
        sign(draft.unwrap(), self.key)
    }
}

pub(crate) fn sign(draft: TokenDraft, key: &SoftSigner) -> Vec<u8> {
    let signature = key.sign(draft.to_be_signed()).unwrap();
    draft.into_token(&signature).unwrap()
}

pub(crate) fn signing_time(at: OffsetDateTime) -> SigningTime {
    SigningTime::from_unix_seconds(at.unix_timestamp().try_into().unwrap()).unwrap()
}

/// What the terminal knows.
pub(crate) struct Known {
    pub(crate) profile: Profile,
    pub(crate) ca: Certificate,
    pub(crate) last_crl: Option<CrlNumber>,
    /// The list of that number.
    pub(crate) crl: Vec<u8>,
    pub(crate) min_rsa_bits: usize,
    pub(crate) now: OffsetDateTime,
    pub(crate) kdh: Certificate,
    pub(crate) nonce: KrdNonce,
    /// Where no nonce was sent.
    pub(crate) signing_time: Option<SigningTimeBounds>,
    pub(crate) own_id: IssuerAndSerial,
    pub(crate) oaep_hashes: Vec<OaepHash>,
    pub(crate) header: Kbh,
}

impl Known {
    /// By the terminal that [`Sent::good`] is for.
    pub(crate) fn good() -> Self {
        let world = &*WORLD;
        Self {
            profile: Profile::X9_2019,
            ca: world.ca_kdh.certificate.clone(),
            last_crl: Some(CrlNumber(7)),
            crl: world.ca_kdh.crl(NOW, |_| {}),
            min_rsa_bits: 2048,
            now: NOW,
            kdh: world.kdh.clone(),
            nonce: KrdNonce::from_bytes(NONCE),
            signing_time: None,
            own_id: id(&world.krd),
            oaep_hashes: vec![OaepHash::Sha256],
            header: header(HEADER),
        }
    }

    pub(crate) fn trust(&self) -> KdhTrust<'_> {
        KdhTrust {
            profile: self.profile,
            ca: &self.ca,
            last_crl: self.last_crl.map(|number| RememberedCrl {
                number,
                der: &self.crl,
            }),
            min_rsa_bits: self.min_rsa_bits,
            now: self.now,
        }
    }

    pub(crate) fn expectation(&self) -> Expectation<'_> {
        Expectation {
            trust: self.trust(),
            kdh: &self.kdh,
            freshness: match self.signing_time {
                None => ExpectedFreshness::Nonce(&self.nonce),
                Some(bounds) => ExpectedFreshness::SigningTime(bounds),
            },
            own_id: &self.own_id,
            oaep_hashes: &self.oaep_hashes,
            header: &self.header,
        }
    }
}

pub(crate) fn id(certificate: &Certificate) -> IssuerAndSerial {
    certificate.issuer_and_serial().unwrap()
}

pub(crate) fn header(text: &str) -> Kbh {
    text.parse().unwrap()
}
