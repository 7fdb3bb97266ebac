//! The host's keys in its tokens, checked against its certificates before anything is served.

mod importing;
mod key_tokens;
mod making;
mod opening;
mod registered;
mod sealing;
mod storage_pairs;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use hsm::{Failure, Health, HsmError, SigningKey, TokenGroup};
use pki::Signer as _;
use tr34::{ContentCipher, IssuerAndSerial, KeyKind, OaepHash, Profile, TokenDraft};

pub(crate) use self::key_tokens::TokenOrder;
use self::{registered::Held, storage_pairs::Pairs};
use crate::{
    bdks::Bdks,
    config::KeForTdea,
    error::HostError,
    kdh::{Kdh, Kdhs},
    names::KeyAlias,
};

/// Keys or rows in one job of the HSM: others wait for its end.
const AT_ONCE: usize = 64;

/// The host's keys. Calls that are not async block until the HSM has answered;
/// [`off_the_async_threads`] moves them away.
#[derive(Clone, Debug)]
pub(crate) struct HostKeys {
    pub(crate) ca_krd: SigningKey,
    pub(crate) host_tls: SigningKey,
    kdhs: Kdhs,
    ca_krd_id: IssuerAndSerial,
    profiles: Vec<Profile>,
    issuing_tokens: TokenGroup,
    kdh_tokens: TokenGroup,
    oaep: OaepHash,
    ke_for_tdea: KeForTdea,
    pairs: Arc<Mutex<Pairs>>,
    bdks: Arc<Bdks>,
    held: Arc<Mutex<HashMap<KeyAlias, Held>>>,
}

impl HostKeys {
    /// This host's KDH credentials.
    pub(crate) const fn kdhs(&self) -> &Kdhs {
        &self.kdhs
    }

    /// How tokens name `CA_KRD` as the one who signed.
    pub(crate) const fn ca_krd_id(&self) -> &IssuerAndSerial {
        &self.ca_krd_id
    }

    /// Signs a token without a key as this KDH.
    pub(crate) fn sign_as_kdh(
        &self,
        kdh: &IssuerAndSerial,
        draft: TokenDraft,
    ) -> Result<Vec<u8>, HostError> {
        sign(&self.kdh(kdh)?.key, draft)
    }

    /// The credential of this KDH, which is one of this host's.
    pub(crate) fn kdh(&self, id: &IssuerAndSerial) -> Result<&Kdh, HostError> {
        let kdh = self.kdhs.find(id);
        kdh.ok_or_else(|| HostError::Internal("the KDH is not one of this host's".to_owned()))
    }

    /// Signs a token as `CA_KRD`, the authority over terminals.
    pub(crate) fn sign_as_ca_krd(&self, draft: TokenDraft) -> Result<Vec<u8>, HostError> {
        sign(&self.ca_krd, draft)
    }

    /// Tokens without which a host would start, in words.
    pub(crate) fn absences(&self) -> Vec<String> {
        let groups = [
            ("issuing-token", &self.issuing_tokens),
            ("kdh-token", &self.kdh_tokens),
        ];
        let absent = |(section, tokens): (&str, &TokenGroup)| {
            let reasons = tokens.members().iter().filter_map(|token| match token.health() {
                Health::Lost { reason } => Some(format!(
                    "{section}: {token:?} is not there ({reason}): a host would start without it"
                )),
                Health::Ready | Health::Failed(_) => None,
            });
            reasons.collect::<Vec<_>>()
        };
        groups.into_iter().flat_map(absent).collect()
    }

    /// Whether key tokens can be made.
    pub(crate) fn health(&self) -> Health {
        self.kdh_tokens.health()
    }

    /// What this process cannot mend, if anything is: of either role, since neither comes back.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let groups = [&self.kdh_tokens, &self.issuing_tokens];
        groups.into_iter().find_map(|tokens| match tokens.health() {
            Health::Failed(failure) => Some(failure),
            Health::Ready | Health::Lost { .. } => None,
        })
    }

    /// Has `watcher` called when any token's health has changed.
    pub(crate) fn watch(&self, watcher: impl Fn() + Clone + Send + 'static) {
        self.issuing_tokens.watch(watcher.clone());
        self.kdh_tokens.watch(watcher);
    }

    /// The tokens with the master keys, and with those that are shared with others.
    pub(crate) const fn kdh_tokens(&self) -> &TokenGroup {
        &self.kdh_tokens
    }

    /// An answer of the HSM about rows, for as long as anything waits for the HSM.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, HsmError>>,
    ) -> Result<T, HsmError> {
        let answer = tokio::time::timeout(self.kdh_tokens.deadline(), answer).await;
        answer.unwrap_or_else(|_| Err(too_late("rows of keys")))
    }

    /// Under which a key of this kind travels.
    const fn cipher(&self, kind: KeyKind) -> ContentCipher {
        match (kind, self.ke_for_tdea) {
            (KeyKind::Tdea2 | KeyKind::Tdea3, KeForTdea::Tdea) => ContentCipher::DesEde3Cbc,
            _ => ContentCipher::for_key(kind),
        }
    }
}

fn too_late(operation: &'static str) -> HsmError {
    HsmError::Unavailable {
        operation,
        reason: "deadline".to_owned(),
    }
}

fn no_token() -> HostError {
    HostError::Internal("no token".to_owned())
}

fn sign(key: &SigningKey, draft: TokenDraft) -> Result<Vec<u8>, HostError> {
    let signature = key.sign(draft.to_be_signed())?;
    draft.into_token(&signature).map_err(ours)
}

fn ours(error: impl std::fmt::Display) -> HostError {
    HostError::Internal(error.to_string())
}

/// Runs what blocks on the HSM where blocking is allowed.
pub(crate) async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HostError::Internal(error.to_string()))?
}
