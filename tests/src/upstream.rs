//! Another host that sends keys in TR-34 tokens, with its keys in memory. What it encrypts, OpenSSL encrypts.

use std::{fs, path::Path};

use anyhow::{Result, anyhow};
use hsm_modules::makers;
use pki::{Certificate, Issuer, Role, SerialNumber, Subject, Validity};
use time::{Duration, OffsetDateTime};
use tr34::{
    ContentEncryption, EnvelopedKeyBlock, Freshness, Kbh, KeyBlockFrame, KeyToken, OaepHash,
    Profile, SigningTime,
};

use crate::{hostile::SoftKey, readers::BouncyCastle, secret_file::random_bytes};

const PROFILE: Profile = Profile::X9_2019;

/// The host, and the CA that certified it.
pub struct Upstream {
    ca: (Certificate, SoftKey),
    kdh: (Certificate, SoftKey),
}

/// What a token is made of.
pub struct Sent<'a> {
    /// The receiver's certificate, PEM.
    pub receiver: &'a Path,
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
    /// The key.
    pub kn: &'a [u8],
    /// The key over it: AES-256.
    pub ke: &'a [u8; 32],
    /// Its header.
    pub header: &'a str,
    /// By what it is known as fresh; the present time if nothing is said.
    pub freshness: Option<Freshness>,
}

impl Upstream {
    /// With fresh keys.
    ///
    /// # Errors
    /// `openssl` fails.
    pub fn new() -> Result<Self> {
        let (root_key, ca_key) = (SoftKey::rsa(2048)?, SoftKey::rsa(2048)?);
        let key = SoftKey::rsa(2048)?;
        let root = subject(Role::RootCa, "CN=Switch Root,O=Switch,C=DE", &root_key)?;
        let root = pki::issue_root(&root_key, &root)?;
        let by_root = Issuer {
            certificate: &root,
            signer: &root_key,
        };
        let ca = subject(Role::SubCa, "CN=Switch CA,O=Switch,C=DE", &ca_key)?;
        let ca = pki::issue_certificate(&by_root, &ca)?;
        let issuer = Issuer {
            certificate: &ca,
            signer: &ca_key,
        };
        let mut kdh = subject(Role::Kdh, "CN=Switch", &key)?;
        kdh.name = Role::Kdh.subject(ca.subject(), "Switch")?;
        let kdh = pki::issue_certificate(&issuer, &kdh)?;
        Ok(Self {
            ca: (ca, ca_key),
            kdh: (kdh, key),
        })
    }

    /// Writes the certificates that the receiver trusts, `switch-kdh.pem` and `switch-ca.pem`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("switch-kdh.pem"), self.kdh.0.to_pem())?;
        Ok(fs::write(folder.join("switch-ca.pem"), self.ca.0.to_pem())?)
    }

    /// A token.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn token(&self, sent: &Sent<'_>) -> Result<Vec<u8>> {
        let receiver = Certificate::from_pem(&fs::read_to_string(sent.receiver)?)?;
        let (id, header) = (self.kdh.0.issuer_and_serial()?, sent.header.parse::<Kbh>()?);
        let frame = KeyBlockFrame::new(PROFILE, &id, &header, sent.kn.len());
        let block = [frame.prefix(), sent.kn, frame.suffix()].concat();
        let iv = random_bytes::<16>()?;
        let (key, iv_hex) = (hex::encode(sent.ke), hex::encode(iv));
        let arguments = ["enc", "-aes-256-cbc", "-K", &key, "-iv", &iv_hex];
        let ciphertext = makers::openssl(&arguments, &block);
        let enveloped = EnvelopedKeyBlock::new(
            receiver.issuer_and_serial()?,
            sent.oaep,
            encrypt_to(sent.receiver, sent.oaep, sent.ke)?,
            ContentEncryption::Aes256Cbc(iv),
            ciphertext,
        )?;
        let now = OffsetDateTime::now_utc();
        let signed_at = SigningTime::from_unix_seconds(now.unix_timestamp().try_into()?)?;
        let freshness = sent.freshness.clone();
        let freshness = freshness.unwrap_or(Freshness::SigningTime(signed_at));
        let crl = self.list(now)?;
        let draft = KeyToken::draft(
            PROFILE, &enveloped, &header, &freshness, signed_at, &id, &crl,
        )?;
        let signature = self.kdh.1.sign(draft.to_be_signed());
        Ok(draft.into_token(&signature)?)
    }

    /// A token in Clover's way, by Bouncy Castle, in answer to a nonce. The list, which it does not bring, is
    /// `switch-ca.crl` in the folder.
    ///
    /// # Errors
    /// Java or Bouncy Castle is not there.
    pub fn clover(&self, folder: &Path, sent: &Sent<'_>, nonce: &[u8]) -> Result<Vec<u8>> {
        self.publish(folder)?;
        fs::write(
            folder.join("switch-ca.crl"),
            self.list(OffsetDateTime::now_utc())?,
        )?;
        for (name, key) in [
            ("switch-kdh.key", &self.kdh.1),
            ("switch-ca.key", &self.ca.1),
        ] {
            fs::write(folder.join(name), pkcs8_pem(&key.to_pkcs8()?))?;
        }
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let options = [
            ("--out", file("")),
            ("--krd-cert", sent.receiver.to_string_lossy().into_owned()),
            ("--kdh-cert", file("switch-kdh.pem")),
            ("--kdh-key", file("switch-kdh.key")),
            ("--new-kdh-cert", file("switch-kdh.pem")),
            ("--ca-krd-cert", file("switch-ca.pem")),
            ("--ca-krd-key", file("switch-ca.key")),
            ("--crl", file("switch-ca.crl")),
            ("--nonce", hex::encode(nonce)),
            ("--kn", hex::encode(sent.kn)),
            ("--header", sent.header.to_owned()),
        ];
        let options: Vec<&str> = options
            .iter()
            .flat_map(|(option, value)| [*option, value.as_str()])
            .collect();
        BouncyCastle::compile(folder, &folder.join("java.log"))?.make_clover(&options)?;
        Ok(fs::read(folder.join("kt-kdh.der"))?)
    }

    fn list(&self, now: OffsetDateTime) -> Result<Vec<u8>> {
        let issuer = Issuer {
            certificate: &self.ca.0,
            signer: &self.ca.1,
        };
        let contents = pki::CrlContents {
            number: pki::CrlNumber(1),
            this_update: now - Duration::HOUR,
            next_update: now + Duration::DAY,
            revoked: Vec::new(),
        };
        Ok(pki::issue_crl(&issuer, &contents)?)
    }
}

fn pkcs8_pem(der: &[u8]) -> Vec<u8> {
    makers::openssl(&["pkey", "-inform", "DER"], der)
}

/// A key under the RSA key of a certificate, by OpenSSL.
///
/// # Errors
/// A file cannot be read or written.
fn encrypt_to(certificate: &Path, oaep: OaepHash, key: &[u8]) -> Result<Vec<u8>> {
    let public_key = certificate.with_extension("public");
    let pem = makers::openssl(&["x509", "-pubkey", "-noout"], &fs::read(certificate)?);
    fs::write(&public_key, pem)?;
    Ok(makers::rsa_oaep(&public_key, oaep.name(), key))
}

fn subject(role: Role, name: &str, key: &SoftKey) -> Result<Subject> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
    Ok(Subject {
        role,
        name: name.parse().map_err(|error| anyhow!("{error}"))?,
        public_key: key.public_key().clone(),
        serial: SerialNumber::from_random(&random_bytes::<16>()?)?,
        validity: Validity {
            not_before: now - Duration::HOUR,
            not_after: now + Duration::days(30),
        },
        hosts: Vec::new(),
    })
}
