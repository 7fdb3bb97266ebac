//! Opens the tokens, finds the keys, and refuses a configuration that they do not bear out.

use std::sync::{Arc, Mutex};

use hsm::{
    Health, HsmError, KeyName, KeyRole, Module, Pin, SelfTestReport, SigningKey, StorageNumber,
    Token, TokenGroup,
};
use pki::{Certificate, Signer as _};
use tr34::{ContentCipher, OaepHash};

use super::{HostKeys, storage_pairs::Pairs};
use crate::{
    config::{Config, KeForTdea, KeySender, TokenSettings},
    error::StartError,
    kdh::{Kdh, Kdhs},
};

/// Labels of the host's keys.
const CA_KRD: &str = "ca-krd";
const HOST_TLS: &str = "host-tls";

impl HostKeys {
    /// Opens the tokens, finds the keys, and seals and opens a throw-away key.
    ///
    /// # Errors
    /// Every fault that can be found: a token that does not open, a key that is missing, weak or not
    /// the certificate's, an HSM that cannot seal.
    pub(crate) fn open(config: &Config) -> Result<Self, StartError> {
        let mut opened = Opened::default();
        let issuing_tokens = opened.group("issuing-token", &config.issuing_token)?;
        let kdh_tokens = opened.group("kdh-token", &config.kdh_token)?;
        let certificates = &config.certificates;
        let mut faults = Vec::new();
        let mut find = |tokens: &TokenGroup, role, label: &str, certificate: &Certificate| {
            signing_key(tokens, role, label, certificate)
                .map_err(|fault| faults.push(fault))
                .ok()
        };
        let ca_krd = find(
            &issuing_tokens,
            KeyRole::IssuingCa,
            CA_KRD,
            &certificates.ca_krd,
        );
        let mut kdh = |key: &KeyName, certificate: &Certificate| {
            Some(Kdh {
                key: find(&kdh_tokens, KeyRole::KdhSigning, key.label(), certificate)?,
                certificate: certificate.clone(),
                id: certificate.issuer_and_serial().ok()?,
            })
        };
        let present = kdh(&config.kdh_key, &certificates.kdh);
        let retiring = config.retiring_kdhs.iter();
        let retiring: Vec<_> = retiring
            .map(|settings| kdh(&settings.key, &settings.certificate))
            .collect();
        let host_tls = find(
            &kdh_tokens,
            KeyRole::TlsServer,
            HOST_TLS,
            &certificates.host_tls,
        );
        let retiring: Option<Vec<Kdh>> = retiring.into_iter().collect();
        let (Some(ca_krd), Some(present), Some(retiring), Some(host_tls)) =
            (ca_krd, present, retiring, host_tls)
        else {
            return Err(StartError(faults));
        };
        if config.oaep_hash == OaepHash::Sha1 {
            tracing::warn!("oaep-hash = \"sha1\": Ke travels under RSA-OAEP with SHA-1");
        }
        let reports = kdh_tokens.self_test(config.oaep_hash).map_err(|error| {
            StartError::one(format!(
                "kdh-token: this HSM cannot seal key tokens: {error}"
            ))
        })?;
        for report in &reports {
            tracing::info!("self-test of kdh-token: {report}");
        }
        if config.ke_for_tdea == KeForTdea::Tdea {
            require_tdea(&reports)?;
            tracing::warn!("ke-for-tdea = \"tdea\": TDEA keys travel under a Ke for TDEA");
        }
        require_receivers(&kdh_tokens, &config.key_senders)?;
        let storage = storage_keys(&kdh_tokens)?;
        let ca_krd_id = certificates.ca_krd.issuer_and_serial();
        let ca_krd_id = ca_krd_id.map_err(StartError::one)?;
        Ok(Self {
            ca_krd,
            host_tls,
            kdhs: Kdhs { present, retiring },
            profiles: config.profiles.in_use().collect(),
            ca_krd_id,
            issuing_tokens,
            kdh_tokens,
            oaep: config.oaep_hash,
            ke_for_tdea: config.ke_for_tdea,
            pairs: Arc::new(Mutex::new(Pairs::new(storage))),
            bdks: Arc::default(),
            held: Arc::default(),
        })
    }
}

/// The tokens that are open: one may play both roles, and is opened once.
#[derive(Default)]
struct Opened(Vec<(TokenSettings, Token)>);

impl Opened {
    /// The tokens of a role. One that is not there is taken for lost if another one is there.
    fn group(&mut self, section: &str, settings: &TokenSettings) -> Result<TokenGroup, StartError> {
        let open = if settings.replicas.is_empty() {
            Module::open
        } else {
            Module::open_or_await
        };
        let replicas = settings.replicas.iter().enumerate();
        let sections = replicas.map(|(index, _)| format!("{section}.replicas[{index}]"));
        let sections: Vec<String> = [section.to_owned()].into_iter().chain(sections).collect();
        let token = self.token(section, settings, open)?;
        let replicas = sections[1..].iter().zip(&settings.replicas);
        let replicas = replicas.map(|(section, replica)| self.token(section, replica, open));
        let replicas: Result<Vec<Token>, StartError> = replicas.collect();
        let group = TokenGroup::new(token, replicas?);
        let mut faults = Vec::new();
        for (section, token) in sections.iter().zip(group.members()) {
            if let Health::Lost { reason } = token.health() {
                tracing::error!(
                    section,
                    ?token,
                    reason,
                    "a token is not there: it takes part when it is back"
                );
                faults.push(format!("{section}: {reason}"));
            }
        }
        if group.health().is_ready() {
            return Ok(group);
        }
        faults.push(format!(
            "{section}: one of its tokens has to be there: connect or insert one, or correct its label or \
             serial number in the configuration"
        ));
        Err(StartError(faults))
    }

    fn token(
        &mut self,
        section: &str,
        settings: &TokenSettings,
        open: impl Fn(&Module, &hsm::TokenConfig, &Pin) -> Result<Token, HsmError>,
    ) -> Result<Token, StartError> {
        let mut opened = self.0.iter();
        if let Some((_, token)) = opened.find(|(known, _)| known.is_same_token(settings)) {
            return Ok(token.clone());
        }
        let open = || {
            let pin = Pin::from_file(&settings.pin_file)?;
            open(&Module::load(&settings.module)?, &settings.token, &pin)
        };
        let token =
            open().map_err(|error: HsmError| StartError::one(format!("{section}: {error}")))?;
        self.0.push((settings.clone(), token.clone()));
        Ok(token)
    }
}

fn signing_key(
    tokens: &TokenGroup,
    role: KeyRole,
    label: &str,
    certificate: &Certificate,
) -> Result<SigningKey, String> {
    let find = || tokens.signing_key(role, &KeyName::new(label)?);
    let key = find().map_err(|error: HsmError| error.to_string())?;
    if key.public_key() != certificate.public_key() {
        return Err(format!(
            "key {label} is not the key of the certificate {}",
            certificate.subject()
        ));
    }
    Ok(key)
}

/// The pairs of storage keys that the tokens have.
fn storage_keys(tokens: &TokenGroup) -> Result<Vec<StorageNumber>, StartError> {
    let numbers = tokens.storage_numbers();
    let numbers = numbers.map_err(|error| StartError::one(format!("kdh-token: {error}")))?;
    if numbers.is_empty() {
        return Err(StartError::one(
            "kdh-token: it has no storage keys (ksk.1 and ksm.1), under which the keys of terminals are kept: \
             make them by a ceremony with the act storage-keys",
        ));
    }
    Ok(numbers)
}

/// Refuses senders whose keys one of the HSMs cannot receive.
fn require_receivers(tokens: &TokenGroup, senders: &[KeySender]) -> Result<(), StartError> {
    let faults = senders.iter().filter_map(|sender| {
        let (pair, receiver) = (&sender.pair, &sender.receiver);
        let able = tokens.require_receiver(pair, receiver, sender.freshness);
        let fault = able.err()?;
        Some(format!("key-senders.{}: kdh-token: {fault}", sender.name))
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(StartError(faults))
}

/// Refuses a configuration that needs what one of the HSMs cannot do.
fn require_tdea(reports: &[&SelfTestReport]) -> Result<(), StartError> {
    let able = |report: &&SelfTestReport| report.verify_cipher(ContentCipher::DesEde3Cbc);
    reports.iter().try_for_each(able).map_err(|missing| {
        StartError::one(format!(
            "ke-for-tdea = \"tdea\": kdh-token: this HSM cannot seal keys under TDEA: {missing}"
        ))
    })
}
