//! The configuration: what the file says ([`raw`]) becomes what the host may rely on ([`Config`]),
//! with every fault named at once.

mod key_senders;
mod raw;
mod store;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use hsm::KeyName;
use pki::Certificate;
use tr34::{OaepHash, Profile};

pub use self::{
    key_senders::KeySender,
    store::{PostgresServer, PostgresSettings, StoreSettings},
};
use crate::{error::StartError, names::Model, profile::Profiles};

/// The size of an RSA key that is as strong as a key of 128 bits (NIST SP 800-57, table 2).
pub const RSA_BITS_FOR_AES_128: usize = 3072;

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperatorRole {
    /// Devices and their activation codes.
    Fleet,
    /// Keys and their assignment.
    Keys,
    /// Everything readable, nothing else.
    Audit,
    /// What `CA_KRD` signs for terminals whose KDH is lost: one asks, another one approves.
    Recovery,
    /// A payment switch: receives the keys that two operators have agreed on, and nothing else.
    Switch,
}

impl OperatorRole {
    const ALL: [Self; 5] = [
        Self::Fleet,
        Self::Keys,
        Self::Audit,
        Self::Recovery,
        Self::Switch,
    ];

    /// The word in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Keys => "keys",
            Self::Audit => "audit",
            Self::Recovery => "recovery",
            Self::Switch => "switch",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// What Ke is for Kn that are TDEA keys. For those that are AES keys it is AES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeForTdea {
    /// AES, the stronger one.
    Aes,
    /// Three-key TDEA, for terminals that know no other cipher.
    Tdea,
}

/// What happens when a terminal's RSA key is weaker than the key it shall carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStrength {
    /// It is logged.
    Warn,
    /// It is refused.
    Require,
}

/// What becomes of the rules for key profiles that are refused in strict mode only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPolicy {
    /// What they say is refused.
    Strict,
    /// It is a warning.
    Lenient,
}

/// Whether key profiles may give one key to many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedKeys {
    /// They may not.
    Refuse,
    /// They may, with a warning.
    Allow,
}

/// What becomes of slots without a key, once a device enrols or comes into a group whose key profile has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysForNewDevices {
    /// An operator assigns them, or starts a rollout.
    Wait,
    /// The host makes them.
    Make,
}

/// A token and how it is opened.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// Label, serial number, sessions.
    pub token: hsm::TokenConfig,
    /// Where its PIN is.
    pub pin_file: PathBuf,
    /// Tokens that hold the same keys and share the work. These have no replicas of their own.
    pub replicas: Vec<TokenSettings>,
}

impl TokenSettings {
    /// Whether both name one token.
    pub fn is_same_token(&self, other: &Self) -> bool {
        let name = |settings: &Self| {
            let token = &settings.token;
            (
                settings.module.clone(),
                token.label.clone(),
                token.serial.clone(),
            )
        };
        name(self) == name(other)
    }
}

/// Certificates and revocation lists.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The root, if the chain to it shall be checked at start-up.
    pub root: Option<Certificate>,
    /// Issues terminals' certificates.
    pub ca_krd: Certificate,
    /// Issued this host's KDH certificate.
    pub ca_kdh: Certificate,
    /// Issued the TLS certificate and the operators'.
    pub ca_ops: Certificate,
    /// This host's KDH certificate.
    pub kdh: Certificate,
    /// The TLS certificate of both listeners.
    pub host_tls: Certificate,
    /// The file with `CA_KRD`'s revocation list.
    pub crl_ca_krd: PathBuf,
    /// The file with `CA_KDH`'s revocation list.
    pub crl_ca_kdh: PathBuf,
}

/// A KDH credential: its certificate, and its key by its label in the kdh token.
#[derive(Clone, Debug)]
pub struct KdhSettings {
    /// The certificate.
    pub certificate: Certificate,
    /// The key's label.
    pub key: KeyName,
}

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub store: StoreSettings,
    /// Where terminals connect.
    pub terminals: SocketAddr,
    /// Where operators connect.
    pub administration: SocketAddr,
    /// Where the addresses in use are written once both listeners serve.
    pub addresses_file: Option<PathBuf>,
    /// The token with `CA_KRD`'s key.
    pub issuing_token: TokenSettings,
    /// The token with the KDH's keys and the master keys.
    pub kdh_token: TokenSettings,
    /// Certificates and revocation lists.
    pub certificates: Certificates,
    /// The label of the key of this host's KDH certificate.
    pub kdh_key: KeyName,
    /// KDH credentials to which terminals are still bound, and from which they are handed over.
    pub retiring_kdhs: Vec<KdhSettings>,
    /// Other hosts that send keys in TR-34 tokens.
    pub key_senders: Vec<KeySender>,
    /// In which form of TR-34 terminals speak.
    pub profiles: Profiles,
    /// The hash in RSA-OAEP.
    pub oaep_hash: OaepHash,
    /// What Ke is for TDEA keys.
    pub ke_for_tdea: KeForTdea,
    /// What to do about weak wrapping keys.
    pub key_strength: KeyStrength,
    /// How the policy for key profiles is enforced.
    pub key_policy: KeyPolicy,
    /// Whether key profiles may name registered keys.
    pub shared_keys: SharedKeys,
    /// Who gives devices that come later their first keys.
    pub keys_for_new_devices: KeysForNewDevices,
    /// The smallest RSA key of a terminal.
    pub min_rsa_bits: usize,
    /// Life of a terminal's certificates.
    pub certificate_validity: Duration,
    /// Life of an activation code.
    pub activation_code_lifetime: Duration,
    /// How long a delivery may stay unconfirmed.
    pub delivery_lifetime: Duration,
    /// How long a delivery by a token in a file may stay unconfirmed.
    pub one_pass_lifetime: Duration,
    /// How long what takes two operators may wait for the second one.
    pub approval_lifetime: Duration,
    /// How long a pair of storage keys is kept when its last row has moved.
    pub keep_old_pair: Duration,
    /// Connections at the same time, per listener.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a connection without a client certificate may live.
    pub anonymous_timeout: Duration,
    /// Calls of one device.
    pub device_calls_per_minute: NonZeroU32,
    /// Rows that are brought under a new pair of storage keys.
    pub rewrap_per_second: NonZeroU32,
    /// Keys that rollouts make.
    pub rollout_per_second: NonZeroU32,
    /// How long exported keys are kept when they have arrived.
    pub export_keep: Duration,
    /// How long calls in flight may go on when the host is stopped.
    pub stop_timeout: Duration,
    /// Who may call the administration. The audit trail knows them by their names.
    pub operators: Vec<Operator>,
}

/// An operator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The common name in the certificate.
    pub name: String,
    /// This certificate and no other, whatever else the CA may have signed.
    pub certificate: Certificate,
    /// What they may do.
    pub roles: Vec<OperatorRole>,
}

impl Operator {
    /// Why two operators may be one person, who could then approve what they asked for.
    fn is_taken_for(&self, other: &Self) -> Option<String> {
        if self.name == other.name {
            return None;
        }
        let (name, other_name) = (&self.name, &other.name);
        if self.certificate.public_key() == other.certificate.public_key() {
            return Some(format!("{name:?} and {other_name:?} have one key"));
        }
        let plain = |name: &str| name.split_whitespace().collect::<String>().to_lowercase();
        (plain(name) == plain(other_name)).then(|| {
            format!("{name:?} and {other_name:?} differ in nothing but capitals and spaces")
        })
    }
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// Every fault that can be found without opening the HSM or the database.
    pub fn load(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| StartError::one(format!("{}: {error}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder)
    }

    /// As [`Self::load`], from text.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, StartError> {
        let raw: raw::Config = toml::from_str(text).map_err(StartError::one)?;
        let mut check = Check {
            folder,
            faults: Vec::new(),
        };
        match check.config(raw) {
            Some(config) if check.faults.is_empty() => Ok(config),
            _ => Err(StartError(check.faults)),
        }
    }
}

/// Collects faults; a check that fails gives `None` and the next one goes on.
struct Check<'a> {
    folder: &'a Path,
    faults: Vec<String>,
}

impl Check<'_> {
    fn config(&mut self, raw: raw::Config) -> Option<Config> {
        // All of it first, so that every fault is found before the first `?` gives up.
        self.ranges(&raw);
        let store = self.store(raw.store);
        let terminals = self.address("terminals.address", &raw.terminals.address);
        let administration = self.address("administration.address", &raw.administration.address);
        let issuing_token = self.token("issuing-token", raw.issuing_token);
        let kdh_token = self.token("kdh-token", raw.kdh_token);
        let certificates = self.certificates(&raw.certificates);
        let oaep_hash = self.word(
            "oaep-hash",
            &raw.oaep_hash,
            &OaepHash::ALL.map(|hash| (hash.name(), hash)),
        );
        let ke_for_tdea = self.word(
            "ke-for-tdea",
            &raw.ke_for_tdea,
            &[("aes", KeForTdea::Aes), ("tdea", KeForTdea::Tdea)],
        );
        let key_strength = self.word(
            "key-strength",
            &raw.key_strength,
            &[
                ("warn", KeyStrength::Warn),
                ("require", KeyStrength::Require),
            ],
        );
        let key_policy = self.word(
            "key-policy",
            &raw.key_policy,
            &[
                ("strict", KeyPolicy::Strict),
                ("lenient", KeyPolicy::Lenient),
            ],
        );
        let shared_keys = self.word(
            "shared-keys",
            &raw.shared_keys,
            &[("refuse", SharedKeys::Refuse), ("allow", SharedKeys::Allow)],
        );
        let keys_for_new_devices = self.word(
            "keys-for-new-devices",
            &raw.keys_for_new_devices,
            &[
                ("wait", KeysForNewDevices::Wait),
                ("make", KeysForNewDevices::Make),
            ],
        );
        let operators = self.operators(raw.operators);
        let kdh_key = self.key_name("kdh-key", &raw.kdh_key);
        let retiring_kdhs = self.retiring_kdhs(&raw.retiring_kdh);
        let key_senders = self.key_senders(&raw.key_senders);
        let profiles = self.profiles(raw.models, oaep_hash);
        if let (Some(key), Some(certificates)) = (&kdh_key, &certificates) {
            self.distinct_kdhs(key, &certificates.kdh, &retiring_kdhs);
        }
        let seconds = Duration::from_secs;
        Some(Config {
            store: store?,
            terminals: terminals?,
            administration: administration?,
            addresses_file: raw.addresses_file.map(|path| self.path(&path)),
            issuing_token: issuing_token?,
            kdh_token: kdh_token?,
            certificates: certificates?,
            kdh_key: kdh_key?,
            retiring_kdhs,
            key_senders,
            profiles,
            oaep_hash: oaep_hash?,
            ke_for_tdea: ke_for_tdea?,
            key_strength: key_strength?,
            key_policy: key_policy?,
            shared_keys: shared_keys?,
            keys_for_new_devices: keys_for_new_devices?,
            min_rsa_bits: usize::try_from(raw.min_rsa_bits).ok()?,
            certificate_validity: seconds(raw.certificate_validity_days.saturating_mul(86_400)),
            activation_code_lifetime: seconds(raw.activation_code_hours.saturating_mul(3600)),
            delivery_lifetime: seconds(raw.delivery_minutes.saturating_mul(60)),
            one_pass_lifetime: seconds(raw.one_pass_days.saturating_mul(86_400)),
            approval_lifetime: seconds(raw.approval_hours.saturating_mul(3600)),
            keep_old_pair: seconds(raw.storage.keep_old_pair_hours.saturating_mul(3600)),
            connections: usize::try_from(raw.limits.connections).ok()?,
            connections_per_address: usize::try_from(raw.limits.connections_per_address).ok()?,
            handshake_timeout: seconds(raw.limits.handshake_seconds),
            anonymous_timeout: seconds(raw.limits.anonymous_seconds),
            device_calls_per_minute: NonZeroU32::new(raw.limits.device_calls_per_minute)?,
            rewrap_per_second: NonZeroU32::new(raw.limits.rewrap_per_second)?,
            rollout_per_second: NonZeroU32::new(raw.limits.rollout_per_second)?,
            export_keep: seconds(raw.export.keep_days.saturating_mul(86_400)),
            stop_timeout: seconds(raw.limits.stop_seconds),
            operators,
        })
    }

    fn ranges(&mut self, raw: &raw::Config) {
        self.range(
            "min-rsa-bits",
            raw.min_rsa_bits,
            pki::MIN_RSA_BITS as u64,
            4096,
        );
        self.range(
            "certificate-validity-days",
            raw.certificate_validity_days,
            1,
            3660,
        );
        self.range(
            "activation-code-hours",
            raw.activation_code_hours,
            1,
            24 * 90,
        );
        self.range("delivery-minutes", raw.delivery_minutes, 1, 60 * 24 * 30);
        self.range("one-pass-days", raw.one_pass_days, 1, 366);
        self.range("approval-hours", raw.approval_hours, 1, 24 * 30);
        self.range("export.keep-days", raw.export.keep_days, 1, 366);
        self.range(
            "storage.keep-old-pair-hours",
            raw.storage.keep_old_pair_hours,
            0,
            24 * 366,
        );
        self.range("limits.connections", raw.limits.connections, 1, 100_000);
        self.range(
            "limits.connections-per-address",
            raw.limits.connections_per_address,
            1,
            100_000,
        );
        self.range(
            "limits.anonymous-seconds",
            raw.limits.anonymous_seconds,
            5,
            600,
        );
        self.range(
            "limits.device-calls-per-minute",
            raw.limits.device_calls_per_minute.into(),
            10,
            1_000_000,
        );
        self.range(
            "limits.rewrap-per-second",
            raw.limits.rewrap_per_second.into(),
            1,
            100_000,
        );
        self.range(
            "limits.rollout-per-second",
            raw.limits.rollout_per_second.into(),
            1,
            100_000,
        );
        self.range(
            "limits.handshake-seconds",
            raw.limits.handshake_seconds,
            1,
            300,
        );
        self.range("limits.stop-seconds", raw.limits.stop_seconds, 1, 300);
    }

    fn fault(&mut self, key: &str, cause: impl std::fmt::Display) {
        self.faults.push(format!("{key}: {cause}"));
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        text.parse()
            .map_err(|_| self.fault(key, format!("{text:?} is no address; write IP:PORT")))
            .ok()
    }

    fn range(&mut self, key: &str, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.fault(key, format!("{value} is not between {min} and {max}"));
        }
    }

    fn word<T: Copy>(&mut self, key: &str, word: &str, known: &[(&str, T)]) -> Option<T> {
        let found = known.iter().find(|(known, _)| *known == word);
        if found.is_none() {
            let known: Vec<_> = known.iter().map(|(known, _)| *known).collect();
            self.fault(key, format!("{word:?} is not one of {}", known.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    fn token(&mut self, key: &str, raw: raw::Token) -> Option<TokenSettings> {
        let module = self.path(&raw.module);
        if !module.is_file() {
            self.fault(
                &format!("{key}.module"),
                format!("there is no library {}", module.display()),
            );
        }
        if raw.label.is_empty() || raw.label.len() > 32 {
            self.fault(
                &format!("{key}.label"),
                "a token label has 1 to 32 characters",
            );
        }
        self.range(&format!("{key}.workers"), raw.workers, 1, 256);
        self.range(&format!("{key}.queue"), raw.queue, 1, 100_000);
        self.range(
            &format!("{key}.deadline-seconds"),
            raw.deadline_seconds,
            1,
            300,
        );
        self.range(
            &format!("{key}.probe-after-seconds"),
            raw.probe_after_seconds,
            1,
            3600,
        );
        self.range(&format!("{key}.max-stuck"), raw.max_stuck, 0, 256);
        let pin_file = self.path(&raw.pin_file);
        if let Err(error) = hsm::Pin::from_file(&pin_file) {
            self.fault(&format!("{key}.pin-file"), error);
        }
        let mut token = hsm::TokenConfig::new(&raw.label);
        token.serial = raw.serial;
        token.workers = usize::try_from(raw.workers).ok()?;
        token.queue = usize::try_from(raw.queue).ok()?;
        token.deadline = Duration::from_secs(raw.deadline_seconds);
        token.probe_after = Some(Duration::from_secs(raw.probe_after_seconds));
        token.max_stuck = usize::try_from(raw.max_stuck).ok()?;
        let mut replicas = Vec::new();
        for (index, replica) in raw.replicas.into_iter().enumerate() {
            let key = format!("{key}.replicas[{index}]");
            let replica = self.token(&key, replica)?;
            if !replica.replicas.is_empty() {
                self.fault(&key, "a replica has no replicas");
            }
            replicas.push(replica);
        }
        let settings = TokenSettings {
            module,
            token,
            pin_file,
            replicas,
        };
        for (index, replica) in settings.replicas.iter().enumerate() {
            let before = settings.replicas[..index].iter();
            if before
                .chain([&settings])
                .any(|other| other.is_same_token(replica))
            {
                self.fault(
                    &format!("{key}.replicas[{index}]"),
                    "this token is listed already",
                );
            }
        }
        Some(settings)
    }

    fn certificates(&mut self, raw: &raw::Certificates) -> Option<Certificates> {
        let root = raw
            .root
            .as_ref()
            .map(|path| self.certificate("certificates.root", path));
        let ca_krd = self.certificate("certificates.ca-krd", &raw.ca_krd);
        let ca_kdh = self.certificate("certificates.ca-kdh", &raw.ca_kdh);
        let ca_ops = self.certificate("certificates.ca-ops", &raw.ca_ops);
        let kdh = self.certificate("certificates.kdh", &raw.kdh);
        let host_tls = self.certificate("certificates.host-tls", &raw.host_tls);
        Some(Certificates {
            root: match root {
                Some(root) => Some(root?),
                None => None,
            },
            ca_krd: ca_krd?,
            ca_kdh: ca_kdh?,
            ca_ops: ca_ops?,
            kdh: kdh?,
            host_tls: host_tls?,
            crl_ca_krd: self.path(&raw.crl_ca_krd),
            crl_ca_kdh: self.path(&raw.crl_ca_kdh),
        })
    }

    fn certificate(&mut self, key: &str, path: &Path) -> Option<Certificate> {
        let path = self.path(path);
        let read = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|pem| Certificate::from_pem(&pem).map_err(|error| error.to_string()));
        read.map_err(|error| self.fault(key, format!("{}: {error}", path.display())))
            .ok()
    }

    fn key_name(&mut self, key: &str, label: &str) -> Option<KeyName> {
        KeyName::new(label)
            .map_err(|error| self.fault(key, error))
            .ok()
    }

    fn retiring_kdhs(&mut self, raw: &[raw::RetiringKdh]) -> Vec<KdhSettings> {
        let mut retiring = Vec::new();
        for raw in raw {
            let certificate = self.certificate("retiring-kdh.certificate", &raw.certificate);
            let key = self.key_name("retiring-kdh.key", &raw.key);
            if let (Some(certificate), Some(key)) = (certificate, key) {
                retiring.push(KdhSettings { certificate, key });
            }
        }
        retiring
    }

    /// A credential that is named twice, or two that share a key, were mixed up.
    fn distinct_kdhs(&mut self, key: &KeyName, present: &Certificate, retiring: &[KdhSettings]) {
        let mut seen = vec![(key, present)];
        for settings in retiring {
            let (key, certificate) = (&settings.key, &settings.certificate);
            if seen.iter().any(|(other, _)| *other == key) {
                self.fault(
                    "retiring-kdh.key",
                    format!("{:?} is named twice", key.label()),
                );
            }
            if seen.iter().any(|(_, other)| *other == certificate) {
                let serial = certificate.serial();
                self.fault(
                    "retiring-kdh.certificate",
                    format!("the certificate {serial} is named twice"),
                );
            }
            seen.push((key, certificate));
        }
    }

    fn profiles(&mut self, raw: Vec<raw::Model>, oaep: Option<OaepHash>) -> Profiles {
        let mut by_model = BTreeMap::new();
        for raw::Model { name, profile } in raw {
            if Model::parse(&name).is_err() {
                self.fault("models.name", format!("{name:?} is no name of a model"));
            }
            let profile = match profile.parse::<Profile>() {
                Ok(profile) => profile,
                Err(error) => {
                    self.fault("models.profile", error);
                    continue;
                }
            };
            if let Some(hash) = oaep
                && !profile.has_oaep_hash(hash)
            {
                let hash = hash.name();
                self.fault(
                    "models.profile",
                    format!("tokens of profile {profile} cannot say oaep-hash = \"{hash}\""),
                );
            }
            if by_model.insert(name.clone(), profile).is_some() {
                self.fault("models.name", format!("{name:?} stands there twice"));
            }
        }
        Profiles::new(by_model)
    }

    fn operators(&mut self, raw: Vec<raw::Operator>) -> Vec<Operator> {
        let mut operators = Vec::<Operator>::new();
        for raw in raw {
            let mut roles = Vec::new();
            for word in &raw.roles {
                match OperatorRole::parse(word) {
                    Some(role) => roles.push(role),
                    None => self.fault(
                        "operators.roles",
                        format!(
                            "{word:?} is not one of {}",
                            OperatorRole::ALL.map(OperatorRole::as_str).join(", ")
                        ),
                    ),
                }
            }
            let key = "operators.certificate";
            let Some(certificate) = self.certificate(key, &raw.certificate) else {
                continue;
            };
            let Some(name) = certificate.common_name() else {
                self.fault(
                    key,
                    format!("{}: no common name", raw.certificate.display()),
                );
                continue;
            };
            // Two certificates of one name are one operator whose certificate is being renewed.
            if operators
                .iter()
                .any(|other| other.certificate == certificate)
            {
                self.fault(
                    key,
                    format!("the certificate of {name:?} stands there twice"),
                );
            }
            if roles.contains(&OperatorRole::Switch) && roles.len() > 1 {
                self.fault(
                    "operators.roles",
                    format!("{name:?} is a switch, and may be nothing else"),
                );
            }
            let operator = Operator {
                name,
                certificate,
                roles,
            };
            for other in &operators {
                if let Some(fault) = operator.is_taken_for(other) {
                    self.fault(key, fault);
                }
            }
            operators.push(operator);
        }
        operators
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
