//! What all services share.

use std::sync::Arc;

use kdh_proto::Reason;
use pki::{Certificate, CredentialError, VerifiedCrl, verify_sub_ca};
use serde_json::json;
use time::OffsetDateTime;
use tr34::SigningTime;

use crate::{
    alarms::Alarms,
    approvals,
    claims::{UnderWay, give_back_leftovers},
    clock::Clock,
    config::Config,
    credentials::Credentials,
    error::{HostError, StartError, refused},
    export::Exports,
    kdh::{self, Kdh, KdhState},
    key_profile,
    key_sender::{self, Senders},
    keys::{HostKeys, off_the_async_threads},
    limits::Limits,
    refused_rows::RefusedRows,
    rollout::Rollouts,
    stages::Stages,
    state::ApprovedAct,
    storage::{self, Rotation},
    store::{Actor, AuditEntry, Store, StoreError, bdk_title},
    trust::CrlFile,
};

/// The host: configuration, database, keys, clock. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
    for_operators: bool,
}

struct Inner {
    config: Config,
    store: Store,
    /// The same, of which operators have a share.
    operators_store: Store,
    keys: HostKeys,
    rotation: Rotation,
    refused_rows: RefusedRows,
    /// Terminals'.
    credentials: Credentials,
    /// The host's own.
    kdh_credential: Credentials,
    crl_ca_krd: CrlFile,
    crl_ca_kdh: CrlFile,
    senders: Senders,
    under_way: UnderWay,
    limits: Limits,
    exports: Exports,
    alarms: Alarms,
    rollouts: Rollouts,
    stages: Stages,
    clock: Box<dyn Clock>,
}

impl Host {
    /// Opens the database and the HSM, checks that everything fits together, and puts in order what
    /// a crash may have left.
    ///
    /// # Errors
    /// Every fault that was found.
    pub async fn start(config: Config, clock: Box<dyn Clock>) -> Result<Self, StartError> {
        let now = clock.now();
        let mut faults = certificate_faults(&config, now);
        faults.extend(key_sender::faults(&config, now));
        let store = Store::open(&config.store).await;
        let store =
            store.map_err(|error| StartError::one(format!("store: {}: {error}", config.store)))?;
        let trail = async { store.read(now).await?.verify_audit().await };
        match trail.await {
            Ok(Ok(records)) => tracing::info!(records, "the audit trail holds"),
            Ok(Err(broken)) => faults.push(format!("store: {broken}")),
            Err(error) => faults.push(format!("store: {error}")),
        }
        let certificates = &config.certificates;
        let crl_ca_krd = CrlFile::new(certificates.ca_krd.clone(), certificates.crl_ca_krd.clone());
        let crl_ca_kdh = CrlFile::new(certificates.ca_kdh.clone(), certificates.crl_ca_kdh.clone());
        for list in [&crl_ca_krd, &crl_ca_kdh] {
            if let Err(error) = list.current(&store, now).await {
                faults.push(error.to_string());
            }
        }
        let kdh_credential = Credentials::new(certificates.ca_kdh.clone());
        if let Ok(crl) = crl_ca_kdh.current(&store, now).await {
            faults.extend(kdh_fault(
                &config.certificates.kdh,
                &kdh_credential,
                &crl,
                now,
            ));
        }
        if !faults.is_empty() {
            return Err(StartError(faults));
        }
        let for_keys = config.clone();
        let keys = tokio::task::spawn_blocking(move || HostKeys::open(&for_keys))
            .await
            .map_err(StartError::one)??;
        let limits = Limits::new(config.device_calls_per_minute);
        let inner = Arc::new(Inner {
            credentials: Credentials::new(config.certificates.ca_krd.clone()),
            kdh_credential,
            senders: Senders::new(&config),
            config,
            operators_store: store.for_operators(),
            store,
            keys,
            rotation: Rotation::default(),
            refused_rows: RefusedRows::default(),
            crl_ca_krd,
            crl_ca_kdh,
            under_way: UnderWay::default(),
            limits,
            exports: Exports::default(),
            alarms: Alarms::default(),
            rollouts: Rollouts::default(),
            stages: Stages::default(),
            clock,
        });
        let host = Self {
            inner,
            for_operators: false,
        };
        let key_faults = host.key_faults().await.map_err(StartError::one)?;
        if !key_faults.is_empty() {
            return Err(StartError(key_faults));
        }
        host.begin().await.map_err(StartError::one)?;
        host.warn_of_lost_kdhs().await.map_err(StartError::one)?;
        key_profile::warn(&host).await.map_err(StartError::one)?;
        Ok(host)
    }

    /// Whether the HSM still holds every key that the database names, and can seal it with the
    /// present KDH certificate. Rows of devices' keys that somebody has changed keep no host from starting: they are
    /// refused one by one.
    async fn key_faults(&self) -> Result<Vec<String>, HostError> {
        let mut tx = self.store().read(self.now()).await?;
        let rows = tx.keys().await?;
        let bdks = tx.bdks().await?;
        let unsealed = tx.unsealed_device_keys().await?;
        let numbers = tx.rows_by_storage_key().await?;
        let has_sealed = tx.sealing_record().await?.is_some();
        let held = self.keys().storage_numbers();
        let under: Vec<_> = numbers.iter().map(|(number, _)| *number).collect();
        let mut lacking = None;
        for (number, rows) in numbers {
            let is_held = held.iter().any(|held| held.get() == number);
            if !is_held && tx.was_storage_key(number).await? {
                lacking = Some((number, rows));
            }
        }
        drop(tx);
        let before = rows
            .iter()
            .filter(|key| key.authenticated().is_none())
            .count();
        if !has_sealed && (before > 0 || unsealed > 0) {
            return Ok(vec![format!(
                "store: {before} registered keys and {unsealed} keys of devices are from before the HSM sealed \
                 their rows: look at them, and have it seal them, by kdh-host adopt-keys"
            )]);
        }
        if let Some((number, rows)) = lacking {
            return Ok(vec![format!(
                "kdh-token: {rows} rows of keys are under pair {number} of storage keys, which is not whole in \
                 every token: bring ksk.{number} and ksm.{number} back to each from the HSM's backup"
            )]);
        }
        match approvals::in_force(self, ApprovedAct::StorageRotation).await {
            Ok(rotations) => {
                for rotation in rotations {
                    let target = storage::target(&rotation)?;
                    // Of which nothing is under it yet may have to be put on record, too, that it began.
                    let any = under.contains(&target.get());
                    if any && storage::has_begun(&rotation)? {
                        self.keys().use_storage(target);
                    }
                }
            }
            // With one pair there is no question which is in use.
            Err(error @ HostError::Store(StoreError::NotSealed(_))) if held.len() == 1 => {
                tracing::error!(%error, "no rotation of storage keys goes on");
            }
            Err(error) => return Err(error),
        }
        let keys = self.keys().prove(rows).await?;
        let bdks = bdks.into_iter().collect::<Result<_, _>>();
        let bdks = bdks.map_err(|name: String| StoreError::NotSealed(bdk_title(&name)))?;
        let bdks = self.keys().prove(bdks).await?;
        self.in_hsm(move |hsm| {
            let mut faults = hsm.faults_of(keys.iter().map(|key| &**key));
            faults.extend(bdks.iter().filter_map(|bdk| {
                let fault = hsm.hold_bdk(bdk).err()?;
                Some(format!("BDK {}: {fault}", bdk.name))
            }));
            Ok(faults)
        })
        .await
    }

    /// Says which KDHs have terminals that this host cannot serve any more.
    async fn warn_of_lost_kdhs(&self) -> Result<(), HostError> {
        for kdh in &self.keys().kdhs().retiring {
            if let Err(error) = self.crl_ca_kdh(kdh).await {
                tracing::warn!(%error, "a retiring KDH hands no terminal over");
            }
        }
        for kdh in kdh::list(self).await? {
            if kdh.state == KdhState::Absent {
                tracing::warn!(
                    kdh = hex::encode_upper(kdh.id.serial_bytes()),
                    devices = kdh.devices,
                    "terminals are bound to a KDH that the configuration lacks: they get nothing"
                );
            }
        }
        Ok(())
    }

    /// Puts in order what a crash may have left, and writes the beginning to the trail.
    async fn begin(&self) -> Result<(), HostError> {
        give_back_leftovers(self).await?;
        let mut tx = self.store().write(self.now()).await?;
        // The oldest one: there was no other, unless it was changed together with this program.
        let kdhs = self.keys().kdhs();
        let oldest = kdhs.all().last().unwrap_or(&kdhs.present);
        let completed = tx.complete_bindings(&oldest.id).await?;
        if completed > 0 {
            tx.record(AuditEntry {
                actor: &Actor::Host,
                action: "host.bindings-completed",
                device: None,
                outcome: "ok",
                detail: json!({
                    "devices": completed,
                    "why": "they bound before it was put down to which KDH",
                }),
            })
            .await?;
        }
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "host.started",
            device: None,
            outcome: "ok",
            detail: json!({
                "version": env!("CARGO_PKG_VERSION"),
                // No rows are without a seal from here on.
                "storage-key": self.keys().storage()?.get(),
            }),
        })
        .await?;
        Ok(tx.commit().await?)
    }

    /// Writes the end to the trail and closes the database.
    pub(crate) async fn stop(&self) -> Result<(), HostError> {
        let mut tx = self.store().write(self.now()).await?;
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "host.stopped",
            device: None,
            outcome: "ok",
            detail: json!({}),
        })
        .await?;
        tx.commit().await?;
        if let Some(means) = self.stages().means() {
            tracing::info!("milliseconds of a delivery, on average: stages={means}");
        }
        self.store().close().await;
        Ok(())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The same host for what operators call: of the database's connections they have a share.
    pub(crate) fn for_operators(&self) -> Self {
        Self {
            for_operators: true,
            ..self.clone()
        }
    }

    pub(crate) fn store(&self) -> &Store {
        if self.for_operators {
            &self.inner.operators_store
        } else {
            &self.inner.store
        }
    }

    pub(crate) fn keys(&self) -> &HostKeys {
        &self.inner.keys
    }

    pub(crate) fn rotation(&self) -> &Rotation {
        &self.inner.rotation
    }

    pub(crate) fn refused_rows(&self) -> &RefusedRows {
        &self.inner.refused_rows
    }

    pub(crate) fn senders(&self) -> &Senders {
        &self.inner.senders
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.inner.under_way
    }

    pub(crate) fn stages(&self) -> &Stages {
        &self.inner.stages
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.inner.exports
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    pub(crate) fn rollouts(&self) -> &Rollouts {
        &self.inner.rollouts
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.inner.clock.now()
    }

    /// Now, as a token states it.
    pub(crate) fn signing_time(&self) -> Result<SigningTime, HostError> {
        let seconds = u64::try_from(self.now().unix_timestamp());
        let time = SigningTime::from_unix_seconds(seconds.unwrap_or_default());
        time.map_err(|error| HostError::Internal(error.to_string()))
    }

    /// `CA_KRD`'s revocation list, good now.
    pub(crate) async fn crl_ca_krd(&self) -> Result<Arc<VerifiedCrl>, HostError> {
        self.inner
            .crl_ca_krd
            .current(self.store(), self.now())
            .await
    }

    /// `CA_KDH`'s revocation list, good now, whatever it says of this host's own KDHs.
    pub(crate) async fn list_of_ca_kdh(&self) -> Result<Arc<VerifiedCrl>, HostError> {
        self.inner
            .crl_ca_kdh
            .current(self.store(), self.now())
            .await
    }

    /// `CA_KDH`'s revocation list, good now, by which the certificate of this KDH is good too.
    ///
    /// # Errors
    /// It is not. A retiring KDH then serves nobody any more: its terminals have to be taken from it.
    pub(crate) async fn crl_ca_kdh(&self, kdh: &Kdh) -> Result<Arc<VerifiedCrl>, HostError> {
        let crl = self.list_of_ca_kdh().await?;
        match kdh_fault(
            &kdh.certificate,
            &self.inner.kdh_credential,
            &crl,
            self.now(),
        ) {
            Some(fault) if self.keys().kdhs().is_retiring(&kdh.id) => {
                Err(refused(Reason::NotBound, fault))
            }
            Some(fault) => Err(HostError::Internal(fault)),
            None => Ok(crl),
        }
    }

    /// Uses the HSM without holding up other calls.
    pub(crate) async fn in_hsm<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HostKeys) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        let host = self.clone();
        off_the_async_threads(move || work(host.keys())).await
    }
}

/// Random bytes for identifiers, serial numbers and activation codes, from the operating system: an
/// HSM that is busy need not be asked by whoever knocks. Keys are made in the HSM.
pub(crate) fn random<const LEN: usize>() -> Result<[u8; LEN], HostError> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).map_err(|error| HostError::Internal(error.to_string()))?;
    Ok(bytes)
}

/// Checks a configuration without serving and without the database; with the HSM if asked to.
///
/// # Errors
/// Every fault that was found.
pub fn check(config: &Config, now: OffsetDateTime, with_hsm: bool) -> Result<(), StartError> {
    let mut faults = certificate_faults(config, now);
    faults.extend(key_sender::faults(config, now));
    let certificates = &config.certificates;
    let kdh_credential = Credentials::new(certificates.ca_kdh.clone());
    for (key, issuer, path) in [
        ("crl-ca-krd", &certificates.ca_krd, &certificates.crl_ca_krd),
        ("crl-ca-kdh", &certificates.ca_kdh, &certificates.crl_ca_kdh),
    ] {
        let verified = std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let crl = pki::Crl::from_pem_or_der(&bytes).map_err(|error| error.to_string())?;
                pki::verify_crl(crl.der(), issuer, now, None).map_err(|error| error.to_string())
            });
        match verified {
            Ok(crl) if path == &certificates.crl_ca_kdh => {
                faults.extend(kdh_fault(&certificates.kdh, &kdh_credential, &crl, now));
            }
            Ok(_) => {}
            Err(error) => {
                faults.push(format!("certificates.{key}: {}: {error}", path.display()));
            }
        }
    }
    if with_hsm {
        match HostKeys::open(config) {
            Ok(keys) => faults.extend(keys.absences()),
            Err(StartError(found)) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(StartError(faults))
    }
}

/// What is wrong with the KDH certificate or the list that every token carries, if anything is.
fn kdh_fault(
    kdh: &Certificate,
    credential: &Credentials,
    crl: &VerifiedCrl,
    now: OffsetDateTime,
) -> Option<String> {
    let len = crl.crl().der().len();
    if len > tr34::MAX_CRL_LEN {
        return Some(format!(
            "the revocation list of CA_KDH has {len} bytes; a token carries at most {}",
            tr34::MAX_CRL_LEN
        ));
    }
    let fault = |error: &dyn std::fmt::Display| format!("certificates.kdh: {error}");
    match credential.candidate(kdh.der(), pki::Role::Kdh) {
        Ok(candidate) => {
            let verified = credential.verify(candidate, crl, now);
            verified.err().map(|error| fault(&error))
        }
        Err(error) => Some(fault(&error)),
    }
}

/// Whether the certificates of the configuration fit together now.
fn certificate_faults(config: &Config, now: OffsetDateTime) -> Vec<String> {
    let certificates = &config.certificates;
    let mut faults = Vec::new();
    let mut check = |key: &str, result: Result<(), CredentialError>| {
        if let Err(error) = result {
            faults.push(format!("certificates.{key}: {error}"));
        }
    };
    if let Some(root) = &certificates.root {
        check("ca-krd", verify_sub_ca(&certificates.ca_krd, root, now));
        check("ca-kdh", verify_sub_ca(&certificates.ca_kdh, root, now));
        check("ca-ops", verify_sub_ca(&certificates.ca_ops, root, now));
    }
    check(
        "host-tls",
        pki::verify_unlisted(
            &certificates.host_tls,
            &certificates.ca_ops,
            pki::Role::HostTls,
            now,
        ),
    );
    for operator in &config.operators {
        match pki::verify_unlisted(
            &operator.certificate,
            &certificates.ca_ops,
            pki::Role::Operator,
            now,
        ) {
            Ok(()) => {}
            // One operator's calendar must not keep the host from starting.
            Err(error @ (CredentialError::Expired | CredentialError::NotYetValid)) => {
                tracing::warn!(operator = operator.name, %error, "this operator cannot connect");
            }
            Err(error) => faults.push(format!("operators: {}: {error}", operator.name)),
        }
    }
    faults
}
