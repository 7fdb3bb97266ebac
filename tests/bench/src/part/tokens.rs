//! Key tokens, as the host makes them and without the host: sealed and signed by the crates `hsm` and
//! `tr34` alone.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;
use hsm::{KeyName, KeyRole, Module, Pin, SealRequest, SecretKey, SigningKey, Token, TokenConfig};
use pki::{Certificate, PublicKey, Signer as _};
use serde::{Deserialize, Serialize};
use system_tests::{hostile::load_certificate, secret_file::random_bytes};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, KeyBlockFrame, KeyToken,
    KrdNonce, OaepHash, Profile, SigningTime,
};

use super::Measure;
use crate::{
    fleet,
    race::{Pace, race},
};

/// Key tokens for terminals in turn, by so many callers, of a token with a session for each.
#[derive(Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) module: PathBuf,
    pub(crate) token: String,
    pub(crate) pin_file: PathBuf,
    /// Label of the key that signs.
    pub(crate) kdh_key: String,
    /// Label of Kn.
    pub(crate) kn: String,
    /// Header of Kn.
    pub(crate) header: String,
    pub(crate) oaep_sha256: bool,
    /// The host's certificate.
    pub(crate) certificate: PathBuf,
    /// The revocation list that tokens carry.
    pub(crate) crl: PathBuf,
    pub(crate) fleet: PathBuf,
    pub(crate) callers: usize,
    pub(crate) length: Duration,
}

impl Measure for Tokens {
    type Found = Pace;

    fn measure(self) -> Result<Pace> {
        let maker = Maker::open(&self)?;
        let recipients: Result<Vec<Recipient>> = fleet::read(&self.fleet)?
            .iter()
            .map(|member| Recipient::new(&member.recipient()?))
            .collect();
        let recipients = recipients?;
        let callers = (0..self.callers).map(|caller| {
            let mut turns = recipients.iter().cycle().skip(caller);
            let maker = &maker;
            move || {
                turns
                    .next()
                    .map_or(Ok(()), |recipient| maker.make(recipient))
            }
        });
        race(callers.collect(), self.length)
    }
}

/// Who receives a key token.
struct Recipient {
    id: IssuerAndSerial,
    key: PublicKey,
}

impl Recipient {
    fn new(certificate: &Certificate) -> Result<Self> {
        Ok(Self {
            id: certificate.issuer_and_serial()?,
            key: certificate.public_key().clone(),
        })
    }
}

/// The host's part that makes key tokens.
struct Maker {
    token: Token,
    kdh_signing: SigningKey,
    kdh_id: IssuerAndSerial,
    kn: SecretKey,
    header: Kbh,
    oaep: OaepHash,
    crl: Vec<u8>,
}

impl Maker {
    fn open(order: &Tokens) -> Result<Self> {
        let pin = Pin::from_file(&order.pin_file)?;
        let config = TokenConfig {
            workers: order.callers,
            ..TokenConfig::new(&order.token)
        };
        let token = Module::load(&order.module)?.open(&config, &pin)?;
        let kdh_signing = KeyName::new(&order.kdh_key)?;
        let kn = KeyName::new(&order.kn)?;
        Ok(Self {
            kdh_signing: token.signing_key(KeyRole::KdhSigning, &kdh_signing)?,
            kdh_id: load_certificate(&order.certificate)?.issuer_and_serial()?,
            kn: token.secret_key(KeyRole::TransportKey, &kn)?,
            header: order.header.parse()?,
            oaep: if order.oaep_sha256 {
                OaepHash::Sha256
            } else {
                OaepHash::Sha1
            },
            crl: fs::read(&order.crl)?,
            token,
        })
    }

    fn make(&self, recipient: &Recipient) -> Result<()> {
        let kind = self.kn.kind();
        let frame =
            KeyBlockFrame::new(Profile::X9_2019, &self.kdh_id, &self.header, kind.key_len());
        let request = SealRequest {
            frame: &frame,
            recipient: &recipient.key,
            cipher: ContentCipher::for_key(kind),
            oaep: self.oaep,
        };
        let sealed = self.token.seal(&self.kn, &request)?;
        let enveloped = EnvelopedKeyBlock::new(
            recipient.id.clone(),
            self.oaep,
            sealed.encrypted_key,
            sealed.encryption,
            sealed.ciphertext,
        )?;
        let nonce = KrdNonce::from_bytes(random_bytes()?);
        let draft = KeyToken::draft(
            Profile::X9_2019,
            &enveloped,
            &self.header,
            &Freshness::Nonce(nonce),
            SigningTime::from_unix_seconds(0)?,
            &self.kdh_id,
            &self.crl,
        )?;
        let signature = self.kdh_signing.sign(draft.to_be_signed())?;
        draft.into_token(&signature)?;
        Ok(())
    }
}
