//! The host's keys in its tokens, checked against its certificates before anything is served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hsm::{HsmError, KeyName, KeyRole, Module, Pin, SecretKey, SigningKey, Token};
use pki::{Certificate, PublicKey, Signer as _};
use tr34::{ContentCipher, IssuerAndSerial, Kbh, KeyBlockFrame, KeyTokenDraft, KrdNonce, OaepHash};

use crate::{
    config::{Config, TokenSettings},
    error::{HostError, StartError},
    names::KeyAlias,
    store::StoredKey,
};

/// Labels of the host's keys.
const CA_KRD: &str = "ca-krd";
const KDH_SIGNING: &str = "kdh-signing";
const HOST_TLS: &str = "host-tls";

/// The host's keys. Calls block until the HSM has answered; [`off_the_async_threads`] moves them
/// away.
#[derive(Clone, Debug)]
pub(crate) struct HostKeys {
    pub(crate) ca_krd: SigningKey,
    pub(crate) host_tls: SigningKey,
    kdh_signing: SigningKey,
    kdh_id: IssuerAndSerial,
    kdh_token: Token,
    oaep: OaepHash,
    /// Registered keys as they were when the HSM was asked about them. A row of the database that says
    /// something else has been changed by somebody else.
    held: Arc<Mutex<HashMap<KeyAlias, StoredKey>>>,
}

/// What goes into a key token.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) key: StoredKey,
    pub(crate) nonce: KrdNonce,
    pub(crate) recipient: PublicKey,
    pub(crate) recipient_id: IssuerAndSerial,
    pub(crate) crl: Vec<u8>,
}

impl HostKeys {
    /// Opens both tokens, finds the keys, and seals and opens a throw-away key.
    ///
    /// # Errors
    /// Every fault that can be found: a token that does not open, a key that is missing, weak or not
    /// the certificate's, an HSM that cannot seal.
    pub(crate) fn open(config: &Config) -> Result<Self, StartError> {
        let issuing = open("issuing-token", &config.issuing_token)?;
        let same_token = config.issuing_token.module == config.kdh_token.module
            && config.issuing_token.token.label == config.kdh_token.token.label;
        let kdh_token = if same_token {
            issuing.clone()
        } else {
            open("kdh-token", &config.kdh_token)?
        };
        let certificates = &config.certificates;
        let mut faults = Vec::new();
        let mut find = |token: &Token, role, label, certificate: &Certificate| {
            signing_key(token, role, label, certificate)
                .map_err(|fault| faults.push(fault))
                .ok()
        };
        let ca_krd = find(&issuing, KeyRole::IssuingCa, CA_KRD, &certificates.ca_krd);
        let kdh_signing = find(
            &kdh_token,
            KeyRole::KdhSigning,
            KDH_SIGNING,
            &certificates.kdh,
        );
        let host_tls = find(
            &kdh_token,
            KeyRole::TlsServer,
            HOST_TLS,
            &certificates.host_tls,
        );
        let (Some(ca_krd), Some(kdh_signing), Some(host_tls)) = (ca_krd, kdh_signing, host_tls)
        else {
            return Err(StartError(faults));
        };
        if config.oaep_hash == OaepHash::Sha1 {
            tracing::warn!("oaep-hash = \"sha1\": Ke travels under RSA-OAEP with SHA-1");
        }
        let report = kdh_token.self_test(config.oaep_hash).map_err(|error| {
            StartError::one(format!(
                "kdh-token: this HSM cannot seal key tokens: {error}"
            ))
        })?;
        tracing::info!(?report, "the HSM sealed and opened a throw-away key");
        let kdh_id = certificates
            .kdh
            .issuer_and_serial()
            .map_err(StartError::one)?;
        Ok(Self {
            ca_krd,
            host_tls,
            kdh_signing,
            kdh_id,
            kdh_token,
            oaep: config.oaep_hash,
            held: Arc::default(),
        })
    }

    /// Finds a master key and computes its check value.
    pub(crate) fn master_key(&self, label: &str) -> Result<(SecretKey, hsm::Kcv), HsmError> {
        let key = self
            .kdh_token
            .secret_key(KeyRole::TransportKey, &KeyName::new(label)?)?;
        let kcv = self.kdh_token.kcv(&key)?;
        Ok((key, kcv))
    }

    /// Whether the HSM holds a registered key, still the same one, and can seal it.
    pub(crate) fn verify_held(&self, stored: &StoredKey) -> Result<(), HostError> {
        let (key, found) = self.master_key(&stored.hsm_label)?;
        if key.kind().to_string() != stored.kind {
            return Err(HostError::Internal(format!(
                "it is {} in the HSM, and {} in the database",
                key.kind(),
                stored.kind
            )));
        }
        if found != stored.kcv {
            return Err(HostError::Hsm(HsmError::KcvMismatch {
                expected: stored.kcv.clone(),
                found,
            }));
        }
        self.verify_sealable(&key, &stored.header)?;
        self.hold(stored.clone());
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<KeyAlias, StoredKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a key that was verified while it was registered.
    pub(crate) fn hold(&self, verified: StoredKey) {
        self.held().insert(verified.name.clone(), verified);
    }

    /// Whether a registered key is what it was when it was verified.
    fn require_held(&self, stored: &StoredKey) -> Result<(), HostError> {
        if self.held().get(&stored.name) == Some(stored) {
            return Ok(());
        }
        Err(HostError::Internal(format!(
            "key {}: its row in the database was changed behind the host's back",
            stored.name
        )))
    }

    /// Whether this HSM can seal a key with this header for any terminal. No key is used.
    pub(crate) fn verify_sealable(&self, key: &SecretKey, header: &Kbh) -> Result<(), HsmError> {
        let frame = self.frame(header, key.kind().key_len());
        let request = hsm::SealRequest {
            frame: &frame,
            // Stands for any RSA key.
            recipient: self.kdh_signing.public_key(),
            cipher: ContentCipher::for_key(key.kind()),
            oaep: self.oaep,
        };
        self.kdh_token.verify_sealable(key, &request)
    }

    /// Makes a key token: seals Kn and signs, all in the HSM.
    pub(crate) fn make_token(&self, order: &TokenOrder) -> Result<Vec<u8>, HostError> {
        self.require_held(&order.key)?;
        let header = &order.key.header;
        let key = self.kdh_token.secret_key(
            KeyRole::TransportKey,
            &KeyName::new(&order.key.hsm_label).map_err(HsmError::from)?,
        )?;
        let cipher = ContentCipher::for_key(key.kind());
        let frame = self.frame(header, key.kind().key_len());
        let sealed = self.kdh_token.seal(
            &key,
            &hsm::SealRequest {
                frame: &frame,
                recipient: &order.recipient,
                cipher,
                oaep: self.oaep,
            },
        )?;
        let enveloped = tr34::EnvelopedKeyBlock::new(
            order.recipient_id.clone(),
            self.oaep,
            sealed.encrypted_key,
            cipher,
            sealed.iv,
            sealed.ciphertext,
        )
        .map_err(ours)?;
        let draft = KeyTokenDraft::new(&enveloped, header, &order.nonce, &self.kdh_id, &order.crl)
            .map_err(ours)?;
        let signature = self.kdh_signing.sign(draft.to_be_signed())?;
        draft.into_token(&signature).map_err(ours)
    }

    fn frame(&self, header: &Kbh, key_len: usize) -> KeyBlockFrame {
        KeyBlockFrame::new(&self.kdh_id, header, key_len)
    }
}

fn ours(error: impl std::fmt::Display) -> HostError {
    HostError::Internal(error.to_string())
}

fn open(section: &str, settings: &TokenSettings) -> Result<Token, StartError> {
    let open = || {
        let pin = Pin::from_file(&settings.pin_file)?;
        Module::load(&settings.module)?.open(&settings.token, &pin)
    };
    open().map_err(|error: HsmError| StartError::one(format!("{section}: {error}")))
}

fn signing_key(
    token: &Token,
    role: KeyRole,
    label: &'static str,
    certificate: &Certificate,
) -> Result<SigningKey, String> {
    let find = || token.signing_key(role, &KeyName::new(label)?);
    let key = find().map_err(|error: HsmError| error.to_string())?;
    if key.public_key() != certificate.public_key() {
        return Err(format!(
            "key {label} is not the key of the certificate {}",
            certificate.subject()
        ));
    }
    Ok(key)
}

/// Runs what blocks on the HSM where blocking is allowed.
pub(crate) async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HostError::Internal(error.to_string()))?
}
