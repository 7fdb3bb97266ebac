//! A terminal on a real token, with a host to speak to.

use std::{fs, future::Future, path::PathBuf, sync::Arc, time::Duration};

use hsm::{InProcessMemoryConsent, KeyClass, KeySummary, Token};
use krd_client::{
    Clock, Config, Evidence, KrdError, SlotOutcome, SlotStatus, Terminal, TokenAccess, TrustedCas,
};
use pki::{Certificate, Role, Signer as _};
use secrecy::SecretString;
use tempfile::TempDir;
use time::OffsetDateTime;
use tr34::{OaepHash, Profile};

use crate::{
    host::{CODE, ScriptedHost, TODAY},
    tokens::new_token,
    world::SERIAL,
};

struct StoppedClock(OffsetDateTime);

impl Clock for StoppedClock {
    fn now(&self) -> OffsetDateTime {
        self.0
    }
}

/// All that a play needs.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) host: ScriptedHost,
    pub(crate) token: Token,
    pub(crate) config: Config,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let host = ScriptedHost::start().await;
        let config = Config {
            serial: SERIAL.parse().unwrap(),
            host: host.address.to_string(),
            server_name: "127.0.0.1".to_owned(),
            profile: Profile::X9_2019,
            signing_time_skew: time::Duration::minutes(5),
            rsa_bits: 2048,
            min_rsa_bits: 2048,
            oaep_hashes: vec![OaepHash::Sha1],
            in_process_memory: InProcessMemoryConsent::from_configuration("accepted"),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(10),
            trust: TrustedCas {
                krd: TODAY.ca_krd.certificate.clone(),
                kdh: TODAY.ca_kdh.certificate.clone(),
                ops: TODAY.ca_ops.certificate.clone(),
            },
            token: TokenAccess {
                module: PathBuf::new(),
                label: "terminal".to_owned(),
                serial: None,
                pin_file: PathBuf::new(),
                accept_imported_keys: false,
            },
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            host,
            token: new_token("terminal"),
            config,
        }
    }

    /// Anew for each act, as by the command.
    pub(crate) fn open(&self) -> Result<Terminal, KrdError> {
        let evidence = Evidence::in_folder(&self.folder.path().join("evidence"))?;
        let clock = Arc::new(StoppedClock(TODAY.now));
        Terminal::with_token(self.config.clone(), self.token.clone(), clock, evidence)
    }

    pub(crate) fn terminal(&self) -> Terminal {
        self.open().unwrap()
    }

    /// Up to and including Bind, with one key assigned.
    pub(crate) async fn bound() -> Self {
        let stage = Self::set().await;
        stage.prepare().await;
        stage
    }

    /// What [`Self::bound`] does on what was set.
    pub(crate) async fn prepare(&self) {
        let terminal = self.terminal();
        terminal.keygen().unwrap();
        terminal.enroll(&code()).await.unwrap();
        terminal.bind().await.unwrap();
        self.host.assign("tmk", 1);
    }

    /// Up to and including the first load.
    pub(crate) async fn loaded() -> Self {
        let stage = Self::bound().await;
        stage.load().await.unwrap();
        stage
    }

    /// The outcome for the one slot.
    pub(crate) async fn load(&self) -> Result<SlotOutcome, KrdError> {
        let mut report = self.terminal().load(None).await?;
        report.slots.pop().unwrap().outcome
    }

    pub(crate) fn slot(&self) -> SlotStatus {
        self.terminal().status().unwrap().slots.pop().unwrap()
    }

    /// How many keys the terminal has loaded, named by a record or not.
    pub(crate) fn key_count(&self) -> usize {
        self.loaded_keys().len()
    }

    pub(crate) fn loaded_keys(&self) -> Vec<KeySummary> {
        let mut keys = self.token.list_keys().unwrap();
        keys.retain(|key| key.class == KeyClass::Secret);
        keys
    }

    pub(crate) fn evidence(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("evidence").join(name)).unwrap()
    }
}

pub(crate) fn code() -> SecretString {
    CODE.to_owned().into()
}

/// Another terminal's certificate.
pub(crate) fn neighbour() -> Certificate {
    let key = TODAY.krd_key.public_key();
    let ca = &TODAY.ca_krd;
    ca.certify(TODAY.now, Role::Krd, "KRD-000002", key, |_| {})
}

/// Runs a test on a runtime as `krd` has it.
pub(crate) fn on_stage<F: Future<Output = ()>>(play: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(play());
}

pub(crate) fn reason(outcome: Result<SlotOutcome, KrdError>) -> &'static str {
    let error = outcome.unwrap_err();
    error.reason().unwrap_or_else(|| panic!("{error}"))
}
