//! The configuration: a raw file becomes checked values, or all of its faults.

mod raw;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hsm::InProcessMemoryConsent;
use pki::Certificate;
use tr34::{OaepHash, Profile};

use crate::DeviceSerial;

use raw::RawConfig;

/// The CAs that the terminal trusts, preset by whoever prepares it.
#[derive(Clone, Debug)]
pub struct TrustedCas {
    /// Certifies terminals.
    pub krd: Certificate,
    /// Certifies key distribution hosts and signs their revocation list.
    pub kdh: Certificate,
    /// Certifies the host's TLS server.
    pub ops: Certificate,
}

/// Which token, and how to get into it.
#[derive(Clone, Debug)]
pub struct TokenAccess {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The token's serial number, where labels are not unique.
    pub serial: Option<String>,
    /// The file with the user PIN.
    pub pin_file: PathBuf,
    /// Whether key pairs that were not made in the token are accepted.
    pub accept_imported_keys: bool,
}

/// A configuration that was checked. The sample, `krd.sample.toml`, explains each part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this terminal is.
    pub serial: DeviceSerial,
    /// Where the host listens, `host:port`.
    pub host: String,
    /// What the host's TLS certificate must be for.
    pub server_name: String,
    /// How tokens are written.
    pub profile: Profile,
    /// How far ahead of the terminal's clock a signing time may lie.
    pub signing_time_skew: time::Duration,
    /// Bits of the terminal's own RSA key.
    pub rsa_bits: usize,
    /// Bits that the KDH's RSA key must have.
    pub min_rsa_bits: usize,
    /// The hashes of RSA-OAEP that are accepted.
    pub oaep_hashes: Vec<OaepHash>,
    /// That key blocks may be opened in process memory; `None` where they may not.
    pub in_process_memory: Option<InProcessMemoryConsent>,
    /// To connect, TLS included.
    pub connect_timeout: Duration,
    /// For each call.
    pub call_timeout: Duration,
    /// The preset CAs.
    pub trust: TrustedCas,
    /// The token.
    pub token: TokenAccess,
}

/// What is wrong with a value, named by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key, with its table: `trust.ca-kdh`.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// Not TOML, a key that does not exist, one that is missing, or a value of the wrong type.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: Box<toml::de::Error>,
    },
    /// Values that are not acceptable: all of them.
    #[error("{path} has faults:{}", Listed(.faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// At least one.
        faults: Vec<ConfigFault>,
    },
}

struct Listed<'a>(&'a [ConfigFault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|fault| write!(f, "\n  {}: {}", fault.key, fault.problem))
    }
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|reason| ConfigError::File {
            path: path.to_owned(),
            reason,
        })?;
        let raw: RawConfig = toml::from_str(&text).map_err(|reason| ConfigError::Syntax {
            path: path.to_owned(),
            reason: Box::new(reason),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        raw.verify(folder).map_err(|faults| ConfigError::Faults {
            path: path.to_owned(),
            faults,
        })
    }
}
