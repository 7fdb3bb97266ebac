//! Other hosts that send keys in TR-34 tokens. Whom to trust is for the configuration to say, and for no operator.

use std::sync::Arc;

use hsm::{HsmError, Token, Upstream, UpstreamError, UpstreamFreshness, UpstreamToken};
use kdh_proto::Reason;
use pki::{
    Certificate, CredentialError, Crl, CrlError, Role, VerifiedCrl, verify_crl, verify_unlisted,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tr34::{KeyToken, KrdNonce, RandomToken};

use crate::{
    Host, HostError,
    administration::{Operator, fault_of_key},
    config::{Config, KeySender},
    error::refused,
    names::beginning,
    store::AuditEntry,
    trust::CrlFile,
};

/// A sender, with its CA's list as it stands in its file.
pub(crate) struct Sender {
    settings: KeySender,
    list: Option<CrlFile>,
}

/// The senders of a configuration.
pub(crate) struct Senders(Vec<Sender>);

/// A token as it arrived, and what it has to fit now.
pub(crate) struct ArrivedToken {
    der: Vec<u8>,
    sender: KeySender,
    list: Option<Arc<VerifiedCrl>>,
    now: OffsetDateTime,
}

impl Senders {
    pub(crate) fn new(config: &Config) -> Self {
        let sender = |settings: &KeySender| Sender {
            settings: settings.clone(),
            list: settings
                .crl
                .clone()
                .map(|path| CrlFile::new(settings.ca.clone(), path)),
        };
        Self(config.key_senders.iter().map(sender).collect())
    }

    /// The one that operators call so.
    pub(crate) fn find(&self, name: &str) -> Option<&Sender> {
        self.0.iter().find(|sender| sender.settings.name == name)
    }

    fn require(&self, name: &str) -> Result<&Sender, HostError> {
        self.find(name).ok_or_else(|| {
            let name = beginning(name);
            let cause = format!(
                "the host knows no sender {name:?}: correct the name, or have it entered as one of \
                 [[key-senders]] in the host's configuration"
            );
            refused(Reason::NotFound, cause)
        })
    }
}

impl Sender {
    /// The label of the import pair.
    pub(crate) fn pair(&self) -> &str {
        self.settings.pair.label()
    }
}

impl ArrivedToken {
    /// Of this sender, with the list that is good now.
    ///
    /// # Errors
    /// There is no such sender, or its CA's list, in its file or in the token, is no good.
    pub(crate) async fn new(host: &Host, sender: &str, der: &[u8]) -> Result<Self, HostError> {
        let sender = host.senders().require(sender)?;
        let now = host.now();
        let list = match &sender.list {
            Some(list) => Some(list.current(host.store(), now).await.map_err(no_list)?),
            None => None,
        };
        accept_list(host, &sender.settings, der, now).await?;
        Ok(Self {
            der: der.to_vec(),
            sender: sender.settings.clone(),
            list,
            now,
        })
    }

    /// By this token of the HSM, which may have to keep its nonce.
    pub(crate) fn verify(&self, by: &Token) -> Result<UpstreamToken, HsmError> {
        let sender = &self.sender;
        by.verify_upstream(
            &self.der,
            &Upstream {
                profile: sender.profile,
                ca: &sender.ca,
                sender: &sender.certificate,
                crl: self.list.as_ref().map(|list| list.crl().der()),
                own: &sender.receiver,
                pair: &sender.pair,
                freshness: sender.freshness,
                now: self.now,
            },
        )
    }
}

/// Takes note of the list that a token brings, which its CA signed whoever sent the token: an older one is not
/// accepted again.
///
/// # Errors
/// It is no good, or older than one that was accepted before.
async fn accept_list(
    host: &Host,
    sender: &KeySender,
    der: &[u8],
    now: OffsetDateTime,
) -> Result<(), HostError> {
    // What does not parse is refused where it is verified.
    let Ok(token) = KeyToken::parse(sender.profile, der) else {
        return Ok(());
    };
    let Some(list) = token.crl() else {
        return Ok(());
    };
    let mut tx = host.store().write(now).await?;
    let last_seen = tx.crl_number(&sender.ca).await?;
    let list = verify_crl(list, &sender.ca, now, last_seen)
        .map_err(|error| fault_of_token(UpstreamError::Crl(error).into()))?;
    tx.raise_crl_number(&sender.ca, list.number()).await?;
    Ok(tx.commit().await?)
}

/// What the sender signed, of which there is one whatever is put around it.
pub(crate) fn signed_digest(token: &UpstreamToken) -> String {
    hex::encode(Sha256::digest(token.token().signed_by().signed_bytes()))
}

/// What an operator learns of a token that will not do.
pub(crate) fn fault_of_token(error: HsmError) -> HostError {
    match error {
        HsmError::Upstream(error) => match *error {
            UpstreamError::NoNonce { pair } => {
                let cause = format!(
                    "no nonce of import pair {pair} waits for a token; each is good for one: make one with \
                     kdhctl import nonce, and have the sender answer it"
                );
                refused(Reason::RequestInvalid, cause)
            }
            error => refused(Reason::RequestInvalid, error),
        },
        other => fault_of_key(other),
    }
}

/// The list in the sender's file is for the host's people to put in place; the operator can tell them.
fn no_list(error: HostError) -> HostError {
    match error {
        HostError::Internal(cause) => refused(
            Reason::WrongState,
            format!("{cause}: put a current one there"),
        ),
        other => other,
    }
}

/// Makes a nonce that a sender has to answer, in every token that shares the work: the random-number token with
/// it. One that waited is forgotten.
pub(crate) async fn make_nonce(
    host: &Host,
    operator: &Operator,
    sender: &str,
) -> Result<KrdNonce, HostError> {
    let settings = host.senders().require(sender)?.settings.clone();
    if settings.freshness != UpstreamFreshness::Nonce {
        let cause = format!(
            "tokens of {sender} are known as fresh by their signing time (signed-within-hours): have one made \
             without a nonce"
        );
        return Err(refused(Reason::WrongState, cause));
    }
    let (pair, profile) = (settings.pair.clone(), settings.profile);
    let nonce = host
        .in_hsm(move |keys| keys.make_import_nonce(&pair, profile))
        .await?;
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "key-import.nonce-made",
        device: None,
        outcome: "ok",
        detail: serde_json::json!({
            "sender": sender,
            "pair": settings.pair.label(),
            "nonce": hex::encode(nonce.as_bytes()),
        }),
    })
    .await?;
    tx.commit().await?;
    Ok(nonce)
}

/// As it is sent.
pub(crate) fn random_token(nonce: KrdNonce) -> Vec<u8> {
    RandomToken::new(nonce).to_der()
}

/// What is wrong with the senders of a configuration. That time has passed for one of them is none of it: its
/// tokens are refused, and the host serves its terminals.
pub(crate) fn faults(config: &Config, now: OffsetDateTime) -> Vec<String> {
    let mut faults = Vec::new();
    for sender in &config.key_senders {
        let name = &sender.name;
        let mut fault = |field: &str, cause: &dyn std::fmt::Display| {
            faults.push(format!("key-senders.{name}.{field}: {cause}"));
        };
        match verify_unlisted(&sender.certificate, &sender.ca, Role::Kdh, now) {
            Ok(()) => {}
            Err(error @ (CredentialError::Expired | CredentialError::NotYetValid)) => {
                tracing::warn!(sender = name, %error, "this sender's tokens are refused");
            }
            Err(error) => fault(
                "certificate",
                &format!(
                    "{error}: name the sender's certificate (KDH) and the CA that certified it"
                ),
            ),
        }
        if let Some(other) = namesake(config, &sender.ca) {
            fault(
                "ca",
                &format!(
                    "it is called as {other} is, and has another key: lists are told apart by their CA's name, \
                     so have one of them named otherwise"
                ),
            );
        }
        if let Err(error) = Role::Krd.verify(&sender.receiver) {
            fault(
                "receiver",
                &format!(
                    "{error}: name the certificate of pair {} as a receiver (KRD), which the act \
                     import-credential of kdh-ceremony makes",
                    sender.pair
                ),
            );
        }
        if let Some(path) = &sender.crl {
            match list_fault(sender, path, now) {
                None => {}
                Some(Ok(error)) => {
                    tracing::warn!(sender = name, %error, "this sender's tokens are refused");
                }
                Some(Err(error)) => fault("crl", &format!("{}: {error}", path.display())),
            }
        }
    }
    faults
}

/// Another CA of the configuration that has this one's name.
fn namesake(config: &Config, ca: &Certificate) -> Option<String> {
    let own = [
        ("ca-krd", &config.certificates.ca_krd),
        ("ca-kdh", &config.certificates.ca_kdh),
    ];
    let own = own.map(|(key, ca)| (format!("certificates.{key}"), ca));
    let of_senders = config.key_senders.iter();
    let of_senders = of_senders.map(|other| (format!("that of {:?}", other.name), &other.ca));
    let mut others = own.into_iter().chain(of_senders);
    let same_name = |other: &Certificate| {
        other.subject() == ca.subject() && other.public_key() != ca.public_key()
    };
    others
        .find(|(_, other)| same_name(other))
        .map(|(key, _)| key)
}

/// What is wrong with a list; `Ok` if only time has passed.
fn list_fault(
    sender: &KeySender,
    path: &std::path::Path,
    now: OffsetDateTime,
) -> Option<Result<String, String>> {
    let read = || {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        Crl::from_pem_or_der(&bytes).map_err(|error| error.to_string())
    };
    let list = match read() {
        Ok(list) => list,
        Err(error) => return Some(Err(error)),
    };
    match verify_crl(list.der(), &sender.ca, now, None) {
        Ok(_) => None,
        Err(error @ (CrlError::Stale(_) | CrlError::NotYetValid(_))) => Some(Ok(error.to_string())),
        Err(error) => Some(Err(error.to_string())),
    }
}
