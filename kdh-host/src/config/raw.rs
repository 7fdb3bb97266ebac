//! The configuration file as it is written. `deploy/kdh-host.toml` explains every key.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use tr34::Profile;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    pub(super) store: Store,
    pub(super) addresses_file: Option<PathBuf>,
    #[serde(default = "oaep_hash")]
    pub(super) oaep_hash: String,
    #[serde(default = "ke_for_tdea")]
    pub(super) ke_for_tdea: String,
    #[serde(default = "key_strength")]
    pub(super) key_strength: String,
    #[serde(default = "key_policy")]
    pub(super) key_policy: String,
    #[serde(default = "shared_keys")]
    pub(super) shared_keys: String,
    #[serde(default = "keys_for_new_devices")]
    pub(super) keys_for_new_devices: String,
    #[serde(default = "min_rsa_bits")]
    pub(super) min_rsa_bits: u64,
    #[serde(default = "certificate_validity_days")]
    pub(super) certificate_validity_days: u64,
    #[serde(default = "activation_code_hours")]
    pub(super) activation_code_hours: u64,
    #[serde(default = "delivery_minutes")]
    pub(super) delivery_minutes: u64,
    #[serde(default = "one_pass_days")]
    pub(super) one_pass_days: u64,
    #[serde(default = "approval_hours")]
    pub(super) approval_hours: u64,
    pub(super) terminals: Listener,
    pub(super) administration: Listener,
    pub(super) issuing_token: Token,
    pub(super) kdh_token: Token,
    pub(super) certificates: Certificates,
    #[serde(default = "kdh_key")]
    pub(super) kdh_key: String,
    #[serde(default)]
    pub(super) retiring_kdh: Vec<RetiringKdh>,
    #[serde(default)]
    pub(super) key_senders: Vec<KeySender>,
    #[serde(default)]
    pub(super) models: Vec<Model>,
    #[serde(default)]
    pub(super) export: Export,
    #[serde(default)]
    pub(super) storage: Storage,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) operators: Vec<Operator>,
}

/// A path, or a table.
pub(super) enum Store {
    File(PathBuf),
    Server(Postgres),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Postgres {
    pub(super) host: Option<String>,
    pub(super) socket: Option<PathBuf>,
    #[serde(default = "postgres_port")]
    pub(super) port: u64,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
}

// By hand, since what serde derives for "one or the other" names no key that is wrong.
impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrTable;

        impl<'de> Visitor<'de> for PathOrTable {
            type Value = Store;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a SQLite file, or a table for PostgreSQL")
            }

            fn visit_str<E>(self, path: &str) -> Result<Store, E> {
                Ok(Store::File(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Store, A::Error> {
                Postgres::deserialize(MapAccessDeserializer::new(table)).map(Store::Server)
            }
        }

        deserializer.deserialize_any(PathOrTable)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Listener {
    pub(super) address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Token {
    pub(super) module: PathBuf,
    pub(super) label: String,
    pub(super) serial: Option<String>,
    pub(super) pin_file: PathBuf,
    #[serde(default = "workers")]
    pub(super) workers: u64,
    #[serde(default = "queue")]
    pub(super) queue: u64,
    #[serde(default = "deadline_seconds")]
    pub(super) deadline_seconds: u64,
    #[serde(default = "probe_after_seconds")]
    pub(super) probe_after_seconds: u64,
    #[serde(default = "max_stuck")]
    pub(super) max_stuck: u64,
    #[serde(default)]
    pub(super) replicas: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Certificates {
    pub(super) root: Option<PathBuf>,
    pub(super) ca_krd: PathBuf,
    pub(super) ca_kdh: PathBuf,
    pub(super) ca_ops: PathBuf,
    pub(super) kdh: PathBuf,
    pub(super) host_tls: PathBuf,
    pub(super) crl_ca_krd: PathBuf,
    pub(super) crl_ca_kdh: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RetiringKdh {
    pub(super) certificate: PathBuf,
    pub(super) key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct KeySender {
    pub(super) name: String,
    #[serde(default = "profile")]
    pub(super) profile: String,
    pub(super) certificate: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) crl: Option<PathBuf>,
    pub(super) pair: String,
    pub(super) receiver: PathBuf,
    pub(super) signed_within_hours: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) profile: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Storage {
    pub(super) keep_old_pair_hours: u64,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Export {
    pub(super) keep_days: u64,
}

impl Default for Export {
    fn default() -> Self {
        Self { keep_days: 30 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Limits {
    pub(super) connections: u64,
    pub(super) connections_per_address: u64,
    pub(super) handshake_seconds: u64,
    pub(super) anonymous_seconds: u64,
    pub(super) device_calls_per_minute: u32,
    pub(super) rewrap_per_second: u32,
    pub(super) rollout_per_second: u32,
    pub(super) stop_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 64,
            handshake_seconds: 10,
            anonymous_seconds: 30,
            device_calls_per_minute: 120,
            rewrap_per_second: 500,
            rollout_per_second: 500,
            stop_seconds: 20,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Operator {
    pub(super) certificate: PathBuf,
    pub(super) roles: Vec<String>,
}

const fn postgres_port() -> u64 {
    5432
}

fn kdh_key() -> String {
    "kdh-signing".to_owned()
}

fn profile() -> String {
    Profile::default().to_string()
}

fn oaep_hash() -> String {
    "sha256".to_owned()
}

fn ke_for_tdea() -> String {
    "aes".to_owned()
}

fn key_strength() -> String {
    "require".to_owned()
}

fn key_policy() -> String {
    "strict".to_owned()
}

fn keys_for_new_devices() -> String {
    "wait".to_owned()
}

fn shared_keys() -> String {
    "refuse".to_owned()
}

const fn min_rsa_bits() -> u64 {
    2048
}

const fn certificate_validity_days() -> u64 {
    1095
}

const fn activation_code_hours() -> u64 {
    72
}

const fn delivery_minutes() -> u64 {
    60
}

const fn one_pass_days() -> u64 {
    14
}

const fn approval_hours() -> u64 {
    72
}

const fn workers() -> u64 {
    4
}

const fn queue() -> u64 {
    64
}

const fn deadline_seconds() -> u64 {
    5
}

const fn probe_after_seconds() -> u64 {
    2
}

const fn max_stuck() -> u64 {
    8
}
