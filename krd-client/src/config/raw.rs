//! The file as it is written, and the step from there to checked values.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hsm::InProcessMemoryConsent;
use pki::{Certificate, Role};
use serde::Deserialize;
use tr34::{OaepHash, Profile};

use super::{Config, ConfigFault, TokenAccess, TrustedCas};

const RSA_BITS: [usize; 3] = [2048, 3072, 4096];
const MIN_RSA_BITS: std::ops::RangeInclusive<usize> = pki::MIN_RSA_BITS..=4096;
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=300;
const SKEW_SECONDS: std::ops::RangeInclusive<u32> = 0..=3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    serial_number: String,
    host: String,
    server_name: String,
    #[serde(default = "default_profile")]
    profile: String,
    #[serde(default = "default_signing_time_skew")]
    signing_time_skew_seconds: u32,
    #[serde(default = "default_rsa_bits")]
    rsa_bits: usize,
    #[serde(default = "default_rsa_bits")]
    min_rsa_bits: usize,
    #[serde(default = "default_oaep_hashes")]
    oaep_hashes: Vec<String>,
    #[serde(default = "refused")]
    open_in_process_memory: String,
    #[serde(default = "default_connect_timeout")]
    connect_timeout_seconds: u64,
    #[serde(default = "default_call_timeout")]
    call_timeout_seconds: u64,
    trust: RawTrust,
    token: RawToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrust {
    #[serde(rename = "ca-krd")]
    krd: PathBuf,
    #[serde(rename = "ca-kdh")]
    kdh: PathBuf,
    #[serde(rename = "ca-ops")]
    ops: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawToken {
    module: PathBuf,
    label: String,
    serial: Option<String>,
    pin_file: PathBuf,
    #[serde(default = "refused")]
    imported_keys: String,
}

fn default_profile() -> String {
    Profile::default().name().to_owned()
}

const fn default_signing_time_skew() -> u32 {
    300
}

const fn default_rsa_bits() -> usize {
    2048
}

fn default_oaep_hashes() -> Vec<String> {
    vec!["sha256".to_owned()]
}

fn refused() -> String {
    "refused".to_owned()
}

const fn default_connect_timeout() -> u64 {
    10
}

const fn default_call_timeout() -> u64 {
    30
}

/// Collects the faults, so that all of them are told at once.
#[derive(Default)]
struct Faults(Vec<ConfigFault>);

impl Faults {
    /// The value, or its fault noted under `key`.
    fn note<T>(&mut self, key: &'static str, value: Result<T, impl fmt::Display>) -> Option<T> {
        value
            .map_err(|problem| {
                self.0.push(ConfigFault {
                    key,
                    problem: problem.to_string(),
                });
            })
            .ok()
    }
}

impl RawConfig {
    pub(super) fn verify(self, folder: &Path) -> Result<Config, Vec<ConfigFault>> {
        let mut faults = Faults::default();
        let checked = self.checked_parts(folder, &mut faults);
        // A part is missing exactly where a fault was noted.
        match checked {
            Some(config) if faults.0.is_empty() => Ok(config),
            _ => Err(faults.0),
        }
    }

    fn checked_parts(self, folder: &Path, faults: &mut Faults) -> Option<Config> {
        let serial = faults.note("serial-number", self.serial_number.parse());
        let host = faults.note("host", address(self.host));
        let server_name = faults.note("server-name", not_empty(self.server_name));
        let profile = faults.note("profile", self.profile.parse::<Profile>());
        let signing_time_skew = faults.note(
            "signing-time-skew-seconds",
            within(self.signing_time_skew_seconds, SKEW_SECONDS, "seconds"),
        );
        let rsa_bits = faults.note("rsa-bits", key_size(self.rsa_bits));
        let min_rsa_bits = faults.note(
            "min-rsa-bits",
            within(self.min_rsa_bits, MIN_RSA_BITS, "bits"),
        );
        let oaep_hashes = faults.note("oaep-hashes", oaep_hashes(&self.oaep_hashes));
        let in_process_memory = faults.note(
            "open-in-process-memory",
            accepted(&self.open_in_process_memory),
        );
        let connect_timeout = faults.note(
            "connect-timeout-seconds",
            within(self.connect_timeout_seconds, TIMEOUT_SECONDS, "seconds"),
        );
        let call_timeout = faults.note(
            "call-timeout-seconds",
            within(self.call_timeout_seconds, TIMEOUT_SECONDS, "seconds"),
        );
        let krd = faults.note("trust.ca-krd", sub_ca(&folder.join(self.trust.krd)));
        let kdh = faults.note("trust.ca-kdh", sub_ca(&folder.join(self.trust.kdh)));
        let ops = faults.note("trust.ca-ops", sub_ca(&folder.join(self.trust.ops)));
        let label = faults.note("token.label", not_empty(self.token.label));
        let imported_keys = faults.note("token.imported-keys", accepted(&self.token.imported_keys));

        Some(Config {
            serial: serial?,
            host: host?,
            server_name: server_name?,
            profile: profile?,
            signing_time_skew: time::Duration::seconds(signing_time_skew?.into()),
            rsa_bits: rsa_bits?,
            min_rsa_bits: min_rsa_bits?,
            oaep_hashes: oaep_hashes?,
            in_process_memory: in_process_memory?.then(consent).flatten(),
            connect_timeout: Duration::from_secs(connect_timeout?),
            call_timeout: Duration::from_secs(call_timeout?),
            trust: TrustedCas {
                krd: krd?,
                kdh: kdh?,
                ops: ops?,
            },
            token: TokenAccess {
                module: folder.join(self.token.module),
                label: label?,
                serial: self.token.serial,
                pin_file: folder.join(self.token.pin_file),
                accept_imported_keys: imported_keys?,
            },
        })
    }
}

fn consent() -> Option<InProcessMemoryConsent> {
    InProcessMemoryConsent::from_configuration(InProcessMemoryConsent::WORD)
}

/// The unsafe choices are written words.
fn accepted(word: &str) -> Result<bool, String> {
    match word {
        "refused" => Ok(false),
        InProcessMemoryConsent::WORD => Ok(true),
        other => Err(format!("{other:?} is neither \"refused\" nor \"accepted\"")),
    }
}

fn not_empty(text: String) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    Ok(text)
}

fn address(text: String) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        None | Some(0) => Err(format!("{text:?} is not host:port")),
        Some(_) => Ok(text),
    }
}

fn key_size(bits: usize) -> Result<usize, String> {
    RSA_BITS
        .contains(&bits)
        .then_some(bits)
        .ok_or_else(|| format!("{bits} is none of 2048, 3072, 4096"))
}

fn within<T: PartialOrd + fmt::Display>(
    number: T,
    range: std::ops::RangeInclusive<T>,
    unit: &str,
) -> Result<T, String> {
    if range.contains(&number) {
        return Ok(number);
    }
    let (first, last) = range.into_inner();
    Err(format!("{number} is not {first} to {last} {unit}"))
}

fn oaep_hashes(words: &[String]) -> Result<Vec<OaepHash>, String> {
    if words.is_empty() {
        return Err("is empty: no key could be loaded".to_owned());
    }
    words
        .iter()
        .map(|word| {
            OaepHash::from_name(word)
                .ok_or_else(|| format!("{word:?} is neither \"sha256\" nor \"sha1\""))
        })
        .collect()
}

fn sub_ca(path: &Path) -> Result<Certificate, String> {
    let in_file = |problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
    let pem = fs::read_to_string(path).map_err(|error| in_file(&error))?;
    let certificate = Certificate::from_pem(&pem).map_err(|error| in_file(&error))?;
    Role::SubCa
        .verify(&certificate)
        .map_err(|error| in_file(&format_args!("not the certificate of a sub-CA: {error}")))?;
    Ok(certificate)
}
