//! Software keys, a small PKI and the means to make what the product itself would refuse to make.

use std::{
    path::Path,
    process::{Command, Output},
    sync::LazyLock,
};

use der::{
    Any, Decode, Encode, Sequence,
    asn1::{BitString, Null, ObjectIdentifier},
};
use p256::pkcs8::DecodePrivateKey;
use pki::{
    Certificate, CrlContents, CrlNumber, Issuer, Name, PublicKey, PublicKeyKind,
    RevokedCertificate, Role, SerialNumber, Signer, Subject, Validity, VerifiedCrl,
    issue_certificate, issue_crl, issue_root, verify_crl,
};
use sha2::Sha256;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use time::{Duration, OffsetDateTime, macros::datetime};
use x509_cert::{Version, ext::Extension, name::Name as X509Name};

/// The moment at which all tests take place.
pub(crate) const NOW: OffsetDateTime = datetime!(2030-06-01 12:00 UTC);
pub(crate) const DAY: Duration = Duration::DAY;

// ---------------------------------------------------------------- keys

#[derive(Clone)]
enum Private {
    Rsa(Box<rsa::pkcs1v15::SigningKey<Sha256>>),
    P256(p256::ecdsa::SigningKey),
}

/// A key in memory, made by `openssl`.
#[derive(Clone)]
pub(crate) struct SoftSigner {
    private: Private,
    public_key: PublicKey,
    pem: String,
}

impl SoftSigner {
    pub(crate) fn rsa() -> Self {
        Self::from_pem(rsa_pem(2048))
    }

    pub(crate) fn p256() -> Self {
        Self::from_pem(ec_pem("P-256"))
    }

    fn from_pem(pem: String) -> Self {
        let spki = openssl_in(&["pkey", "-pubout", "-outform", "DER"], pem.as_bytes());
        let public_key = PublicKey::from_spki_der(&spki).unwrap();
        let private = match public_key.kind() {
            PublicKeyKind::Rsa { .. } => {
                let key = rsa::PrivateKey::from_pkcs8_pem(&pem).unwrap();
                Private::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(key)))
            }
            PublicKeyKind::P256 => {
                Private::P256(p256::ecdsa::SigningKey::from_pkcs8_pem(&pem).unwrap())
            }
        };
        Self {
            private,
            public_key,
            pem,
        }
    }

    /// PKCS#8.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn raw_sign(&self, message: &[u8]) -> Vec<u8> {
        use p256::ecdsa::signature::{SignatureEncoding, Signer};
        match &self.private {
            Private::Rsa(key) => key.sign(message).to_vec(),
            Private::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}

impl Signer for SoftSigner {
    type Error = std::convert::Infallible;

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Self::Error> {
        Ok(self.raw_sign(message))
    }
}

/// A private RSA key as `openssl` makes it, of any size.
pub(crate) fn rsa_pem(bits: usize) -> String {
    let bits = format!("rsa_keygen_bits:{bits}");
    let pem = openssl_in(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits], &[]);
    String::from_utf8(pem).unwrap()
}

/// A private key on a named curve as `openssl` makes it.
pub(crate) fn ec_pem(curve: &str) -> String {
    let curve = format!("ec_paramgen_curve:{curve}");
    let pem = openssl_in(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve], &[]);
    String::from_utf8(pem).unwrap()
}

// ---------------------------------------------------------------- the PKI

/// One root, two sub-CAs and the keys of their subjects. Made once: RSA keys take time.
pub(crate) struct Pki {
    pub(crate) root_key: SoftSigner,
    pub(crate) root: Certificate,
    pub(crate) ca_key: SoftSigner,
    pub(crate) ca: Certificate,
    pub(crate) other_ca_key: SoftSigner,
    pub(crate) other_ca: Certificate,
    pub(crate) rsa: SoftSigner,
    pub(crate) p256: SoftSigner,
}

pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let root_key = SoftSigner::rsa();
    let ca_key = SoftSigner::rsa();
    let other_ca_key = SoftSigner::rsa();
    let root = issue_root(&root_key, &root_subject(&root_key)).unwrap();
    let issuer = Issuer {
        certificate: &root,
        signer: &root_key,
    };
    let ca = issue_certificate(&issuer, &ca_subject(&ca_key, "CA KRD", 0x21)).unwrap();
    let other_ca = issue_certificate(&issuer, &ca_subject(&other_ca_key, "CA KDH", 0x22)).unwrap();
    Pki {
        root_key,
        root,
        ca_key,
        ca,
        other_ca_key,
        other_ca,
        rsa: SoftSigner::rsa(),
        p256: SoftSigner::p256(),
    }
});

/// Every role whose certificate is checked as a credential.
pub(crate) const END_ENTITIES: [Role; 7] = [
    Role::Kdh,
    Role::Krd,
    Role::KrdTls,
    Role::HostTls,
    Role::Operator,
    Role::Custodian,
    Role::Audit,
];

impl Pki {
    pub(crate) fn issuer(&self) -> Issuer<'_, SoftSigner> {
        Issuer {
            certificate: &self.ca,
            signer: &self.ca_key,
        }
    }

    pub(crate) fn other_issuer(&self) -> Issuer<'_, SoftSigner> {
        Issuer {
            certificate: &self.other_ca,
            signer: &self.other_ca_key,
        }
    }

    pub(crate) fn root_issuer(&self) -> Issuer<'_, SoftSigner> {
        Issuer {
            certificate: &self.root,
            signer: &self.root_key,
        }
    }

    /// The key that a role demands.
    pub(crate) fn key_for(&self, role: Role) -> &SoftSigner {
        match role {
            Role::KrdTls | Role::HostTls | Role::Operator | Role::Custodian | Role::Audit => {
                &self.p256
            }
            Role::RootCa | Role::SubCa | Role::Kdh | Role::Krd => &self.rsa,
        }
    }

    /// A subject that the CA certifies.
    pub(crate) fn subject(&self, role: Role) -> Subject {
        Subject {
            role,
            name: role.subject(self.ca.subject(), "SN-0001").unwrap(),
            public_key: self.key_for(role).public_key().clone(),
            serial: serial(0x31, 16),
            validity: validity(-1, 365),
            hosts: match role {
                Role::HostTls => vec!["kdh.example".to_owned(), "192.0.2.7".to_owned()],
                _ => Vec::new(),
            },
        }
    }

    /// A good certificate in a role.
    pub(crate) fn certificate(&self, role: Role) -> Certificate {
        issue_certificate(&self.issuer(), &self.subject(role)).unwrap()
    }

    /// The CA's list at [`NOW`], number 7.
    pub(crate) fn crl(&self, revoked: &[SerialNumber]) -> Vec<u8> {
        issue_crl(&self.issuer(), &crl_contents(revoked)).unwrap()
    }

    pub(crate) fn verified_crl(&self, revoked: &[SerialNumber]) -> VerifiedCrl {
        verify_crl(&self.crl(revoked), &self.ca, NOW, None).unwrap()
    }
}

pub(crate) fn root_subject(key: &SoftSigner) -> Subject {
    Subject {
        role: Role::RootCa,
        name: name("CN=Root,O=Example Bank,C=DE"),
        public_key: key.public_key().clone(),
        serial: serial(0x11, 16),
        validity: validity(-10, 3650),
        hosts: Vec::new(),
    }
}

pub(crate) fn ca_subject(key: &SoftSigner, common_name: &str, seed: u8) -> Subject {
    Subject {
        role: Role::SubCa,
        name: name(&format!("CN={common_name},O=Example Bank,C=DE")),
        public_key: key.public_key().clone(),
        serial: serial(seed, 16),
        validity: validity(-5, 1000),
        hosts: Vec::new(),
    }
}

pub(crate) fn crl_contents(revoked: &[SerialNumber]) -> CrlContents {
    CrlContents {
        number: CrlNumber(7),
        this_update: NOW - DAY,
        next_update: NOW + DAY * 7,
        revoked: revoked
            .iter()
            .map(|serial| RevokedCertificate {
                serial: serial.clone(),
                at: NOW - DAY * 2,
                reason: Some(pki::RevocationReason::KeyCompromise),
            })
            .collect(),
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A serial number of `len` bytes that starts from `seed`.
pub(crate) fn serial(seed: u8, len: u8) -> SerialNumber {
    let random: Vec<u8> = (0..len).map(|i| seed.wrapping_add(i)).collect();
    SerialNumber::from_random(&random).unwrap()
}

/// Days before and after [`NOW`].
pub(crate) fn validity(from: i64, until: i64) -> Validity {
    Validity {
        not_before: NOW + Duration::days(from),
        not_after: NOW + Duration::days(until),
    }
}

// ---------------------------------------------------------------- structures, taken apart

/// `SIGNED{}` of X.509, for certificates, requests and revocation lists alike.
#[derive(Clone, Sequence)]
pub(crate) struct Signed {
    pub(crate) content: Any,
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    pub(crate) signature: BitString,
}

/// RFC 5280 4.1 with every field open to tampering.
#[derive(Clone, Sequence)]
pub(crate) struct Tbs {
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Default::default"
    )]
    pub(crate) version: Version,
    pub(crate) serial_number: Any,
    pub(crate) signature: AlgorithmIdentifierOwned,
    pub(crate) issuer: X509Name,
    pub(crate) validity: x509_cert::time::Validity,
    pub(crate) subject: X509Name,
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) extensions: Option<Vec<Extension>>,
}

impl Tbs {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        let signed = Signed::from_der(certificate.der()).unwrap();
        signed.content.decode_as().unwrap()
    }

    pub(crate) fn extensions(&mut self) -> &mut Vec<Extension> {
        self.extensions.as_mut().unwrap()
    }

    pub(crate) fn extension(&mut self, oid: ObjectIdentifier) -> &mut Extension {
        let mut all = self.extensions().iter_mut();
        all.find(|extension| extension.extn_id == oid).unwrap()
    }

    /// Leaves an extension out.
    pub(crate) fn drop_extension(&mut self, oid: ObjectIdentifier) {
        self.extensions()
            .retain(|extension| extension.extn_id != oid);
    }
}

/// Signs anything, soundly, with the algorithm that goes with the key.
pub(crate) fn seal(signer: &SoftSigner, content: &impl Encode) -> Vec<u8> {
    seal_der(signer, &content.to_der().unwrap())
}

/// As [`seal`], for content that may not even be DER.
pub(crate) fn seal_der(signer: &SoftSigner, content: &[u8]) -> Vec<u8> {
    let signature = BitString::from_bytes(&signer.raw_sign(content)).unwrap();
    sequence(&[
        content,
        &algorithm(signer).to_der().unwrap(),
        &signature.to_der().unwrap(),
    ])
}

pub(crate) fn algorithm(signer: &SoftSigner) -> AlgorithmIdentifierOwned {
    match signer.public_key().kind() {
        PublicKeyKind::Rsa { .. } => AlgorithmIdentifierOwned {
            oid: const_oid::db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
            parameters: Some(Null.into()),
        },
        PublicKeyKind::P256 => AlgorithmIdentifierOwned {
            oid: const_oid::db::rfc5912::ECDSA_WITH_SHA_256,
            parameters: None,
        },
    }
}

/// A `SEQUENCE` of what is given.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    Any::new(der::Tag::Sequence, parts.concat())
        .unwrap()
        .to_der()
        .unwrap()
}

/// The same bytes with one more behind.
pub(crate) fn with_trailing_byte(der: &[u8]) -> Vec<u8> {
    [der, &[0]].concat()
}

/// The same bytes without the last one.
pub(crate) fn without_last_byte(der: &[u8]) -> Vec<u8> {
    der[..der.len() - 1].to_vec()
}

/// The same bytes with the last bit turned over: that of the signature.
pub(crate) fn with_last_bit_flipped(der: &[u8]) -> Vec<u8> {
    let mut bytes = der.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

/// The same value in BER: the outer length in one byte more than needed.
pub(crate) fn with_long_length(der: &[u8]) -> Vec<u8> {
    assert_eq!(der[1], 0x82, "a length of two bytes");
    [&[der[0], 0x83, 0], &der[2..]].concat()
}

/// The same value in BER: the outer length left open.
pub(crate) fn with_indefinite_length(der: &[u8]) -> Vec<u8> {
    assert_eq!(der[1], 0x82, "a length of two bytes");
    [&[der[0], 0x80], &der[4..], &[0, 0]].concat()
}

/// Signed with the signature changed by `tamper`.
pub(crate) fn tampered(der: &[u8], tamper: impl FnOnce(&mut Signed)) -> Vec<u8> {
    let mut signed = Signed::from_der(der).unwrap();
    tamper(&mut signed);
    signed.to_der().unwrap()
}

// ---------------------------------------------------------------- openssl

/// Runs `openssl` on standard input; it must succeed.
pub(crate) fn openssl_in(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = run_openssl(Path::new("."), arguments, input);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs `openssl` in a folder, whatever comes of it.
pub(crate) fn run_openssl(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    use std::{io::Write, process::Stdio};
    let mut child = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    // A command that does not read its input closes it; that is no fault.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}
