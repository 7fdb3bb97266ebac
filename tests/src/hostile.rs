//! A terminal whose keys are in memory, so that it can send whatever it likes: the enemy in the
//! tests of the host.

use std::{convert::Infallible, path::Path, process::Command, time::Duration};

use aes::{
    Aes128, Aes256,
    cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding::Pkcs7},
};
use anyhow::{Context as _, Result, bail};
use cbc::Decryptor;
use des::TdesEde3;
use kdh_proto::v1::{
    EnrollRequest, EnrollResponse, Receipt, ReceiptStatement, RequestKeyResponse,
    key_distribution_client::KeyDistributionClient,
};
use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _};
use pki::{Certificate, PublicKey, Signer};
use prost::Message as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use tr34::{ContentEncryption, EnvelopedKeyBlock};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(30);

/// The name in the host's TLS certificate.
const SERVER_NAME: &str = "localhost";

#[derive(Clone)]
enum Private {
    Rsa(Box<rsa::PrivateKey>),
    P256(p256::SecretKey),
}

/// A private key in memory, made by `openssl`.
#[derive(Clone)]
pub struct SoftKey {
    private: Private,
    public_key: PublicKey,
}

impl SoftKey {
    /// RSA of this size.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn rsa(bits: usize) -> Result<Self> {
        let pem = generate(&[
            "-algorithm",
            "RSA",
            "-pkeyopt",
            &format!("rsa_keygen_bits:{bits}"),
        ])?;
        let private = rsa::PrivateKey::from_pkcs8_pem(&pem)?;
        Ok(Self {
            public_key: PublicKey::from_spki_der(&public_half(&pem)?)?,
            private: Private::Rsa(Box::new(private)),
        })
    }

    /// P-256.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn p256() -> Result<Self> {
        let pem = generate(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])?;
        let private = p256::SecretKey::from_pkcs8_pem(&pem)?;
        Ok(Self {
            public_key: PublicKey::from_spki_der(&public_half(&pem)?)?,
            private: Private::P256(private),
        })
    }

    /// A key that [`Self::to_pkcs8`] wrote.
    ///
    /// # Errors
    /// It is neither an RSA key nor one of P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let (private, public_half) = if let Ok(key) = rsa::PrivateKey::from_pkcs8_der(der) {
            let public_half = key.to_public_key().to_public_key_der()?;
            (Private::Rsa(Box::new(key)), public_half)
        } else {
            let key = p256::SecretKey::from_pkcs8_der(der)?;
            let public_half = key.public_key().to_public_key_der()?;
            (Private::P256(key), public_half)
        };
        Ok(Self {
            public_key: PublicKey::from_spki_der(public_half.as_bytes())?,
            private,
        })
    }

    /// Signs as [`Signer::sign`] does.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Rsa(key) => rsa::pkcs1v15::SigningKey::<Sha256>::new((**key).clone())
                .sign(message)
                .to_vec(),
            Private::P256(key) => {
                let key = p256::ecdsa::SigningKey::from(key);
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }

    /// PKCS#8.
    ///
    /// # Errors
    /// It does not encode.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>> {
        Ok(match &self.private {
            Private::Rsa(key) => key.to_pkcs8_der()?.as_bytes().to_vec(),
            Private::P256(key) => key.to_pkcs8_der()?.as_bytes().to_vec(),
        })
    }

    /// The public half.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// A certificate request with this subject.
    ///
    /// # Errors
    /// The subject is no name.
    pub fn csr(&self, subject: &str) -> Result<Vec<u8>> {
        Ok(pki::issue_csr(self, &subject.parse()?)?)
    }
}

impl Signer for SoftKey {
    type Error = Infallible;

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Infallible> {
        Ok(Self::sign(self, message))
    }
}

/// `openssl genpkey`; PKCS#8, PEM.
///
/// # Errors
/// `openssl` fails.
pub fn generate(arguments: &[&str]) -> Result<String> {
    let made = Command::new("openssl")
        .arg("genpkey")
        .args(arguments)
        .output()?;
    if !made.status.success() {
        bail!("openssl genpkey: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(String::from_utf8(made.stdout)?)
}

fn public_half(pem: &str) -> Result<Vec<u8>> {
    use std::io::Write as _;
    let mut process = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut input = process.stdin.take().context("no standard input")?;
    input.write_all(pem.as_bytes())?;
    drop(input);
    Ok(process.wait_with_output()?.stdout)
}

/// What a terminal presents itself with.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: SoftKey,
}

/// Connects to a host's terminals' listener, with or without an identity.
///
/// # Errors
/// The host cannot be reached, or refuses the handshake.
pub async fn connect(
    address: &str,
    ca_ops: &Certificate,
    identity: Option<&Identity>,
) -> Result<KeyDistributionClient<Channel>> {
    let channel = open_channel(address, ca_ops, identity).await?;
    Ok(KeyDistributionClient::new(channel))
}

/// As [`connect`], for any service there.
///
/// # Errors
/// As there.
pub async fn open_channel(
    address: &str,
    ca_ops: &Certificate,
    identity: Option<&Identity>,
) -> Result<Channel> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca_ops.der().to_vec().into())?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => config.with_client_auth_cert(
            vec![identity.certificate.der().to_vec().into()],
            rustls_pki_types::PrivatePkcs8KeyDer::from(identity.key.to_pkcs8()?).into(),
        )?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(token_tls::connect(address, SERVER_NAME, config, CONNECT).await?)
}

/// A terminal with its keys in memory.
#[derive(Clone)]
pub struct SoftTerminal {
    /// Its serial number.
    pub serial: String,
    /// For Ke.
    pub encryption: SoftKey,
    /// For TLS and receipts.
    pub authentication: SoftKey,
}

impl SoftTerminal {
    /// A terminal with fresh keys.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn new(serial: &str) -> Result<Self> {
        Ok(Self {
            serial: serial.to_owned(),
            encryption: SoftKey::rsa(2048)?,
            authentication: SoftKey::p256()?,
        })
    }

    /// What a well-behaved terminal sends to enrol.
    ///
    /// # Errors
    /// Never with a serial number.
    pub fn enroll_request(&self, code: &str) -> Result<EnrollRequest> {
        let subject = format!("CN={}", self.serial);
        Ok(EnrollRequest {
            serial_number: self.serial.clone(),
            activation_code: code.to_owned(),
            encryption_csr: self.encryption.csr(&subject)?,
            authentication_csr: self.authentication.csr(&subject)?,
        })
    }

    /// The identity that an enrolment gave.
    ///
    /// # Errors
    /// The host sent no certificate.
    pub fn identity(&self, enrolled: &EnrollResponse) -> Result<Identity> {
        Ok(Identity {
            certificate: Certificate::from_der(&enrolled.authentication_certificate)?,
            key: self.authentication.clone(),
        })
    }

    /// The statement of a well-behaved terminal that loaded the announced key.
    pub fn statement(
        &self,
        slot: &str,
        header: &str,
        issued: &RequestKeyResponse,
    ) -> ReceiptStatement {
        ReceiptStatement {
            context: kdh_proto::RECEIPT_CONTEXT.to_owned(),
            serial_number: self.serial.clone(),
            delivery_id: issued.delivery_id.clone(),
            slot: slot.to_owned(),
            key_version: issued.key_version,
            header: header.to_owned(),
            kcv: issued.kcv.clone(),
            kt_kdh_sha256: Sha256::digest(&issued.kt_kdh).to_vec(),
        }
    }

    /// A receipt over a statement, signed by this terminal.
    pub fn receipt(&self, statement: &ReceiptStatement) -> Receipt {
        let statement = statement.encode_to_vec();
        Receipt {
            signature: self.authentication.sign(&statement),
            statement,
        }
    }

    /// Opens Ke of a token, as its secure chip would. For tests that must know what to look for.
    ///
    /// # Errors
    /// It does not open.
    pub fn unwrap_ke(&self, token: &tr34::KeyToken) -> Result<Vec<u8>> {
        let Private::Rsa(key) = &self.encryption.private else {
            bail!("not an RSA key");
        };
        unwrap_ke(key, token)
    }
}

/// Ke out of a key token, with the terminal's private key.
///
/// # Errors
/// It does not open.
pub fn unwrap_ke(key: &rsa::PrivateKey, token: &tr34::KeyToken) -> Result<Vec<u8>> {
    let encrypted = token.enveloped().encrypted_key();
    Ok(match token.enveloped().oaep_hash() {
        tr34::OaepHash::Sha256 => key.decrypt(rsa::Oaep::<Sha256>::new(), encrypted)?,
        tr34::OaepHash::Sha1 => key.decrypt(rsa::Oaep::<sha1::Sha1>::new(), encrypted)?,
    })
}

/// The key block in an `EnvelopedData`, with the clear Ke.
///
/// # Errors
/// Ke has not the cipher's length, or the padding is wrong.
pub fn open_key_block(enveloped: &EnvelopedKeyBlock, ke: &[u8]) -> Result<Vec<u8>> {
    let mut block = enveloped.ciphertext().to_vec();
    let opened = match enveloped.encryption() {
        ContentEncryption::Aes128Cbc(iv) => {
            Decryptor::<Aes128>::new_from_slices(ke, iv)?.decrypt_padded::<Pkcs7>(&mut block)
        }
        ContentEncryption::Aes256Cbc(iv) => {
            Decryptor::<Aes256>::new_from_slices(ke, iv)?.decrypt_padded::<Pkcs7>(&mut block)
        }
        ContentEncryption::DesEde3Cbc(iv) => {
            Decryptor::<TdesEde3>::new_from_slices(ke, iv)?.decrypt_padded::<Pkcs7>(&mut block)
        }
    };
    match opened {
        Ok(opened) => Ok(opened.to_vec()),
        Err(_) => bail!("the padding is wrong"),
    }
}

/// Reads a certificate that a ceremony made.
///
/// # Errors
/// It is not there.
pub fn load_certificate(path: &Path) -> Result<Certificate> {
    let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(Certificate::from_pem(&pem)?)
}
