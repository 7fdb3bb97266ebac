//! What a token can do, for a person or a program to read.

use std::path::Path;

use hsm::{CombiningWay, Module, Pin, SealingWay, TokenConfig, TokenInfo};
use serde::Serialize;
use tr34::OaepHash;

use crate::CeremonyError;

/// Mechanisms that matter here, and what for.
const MECHANISMS: [(&str, &str); 15] = [
    ("CKM_RSA_PKCS_KEY_PAIR_GEN", "keys of CAs and of the KDH"),
    ("CKM_EC_KEY_PAIR_GEN", "keys for TLS"),
    ("CKM_SHA256_RSA_PKCS", "signing certificates and key tokens"),
    ("CKM_RSA_PKCS", "the same, where the one above is missing"),
    ("CKM_ECDSA", "signing in TLS"),
    ("CKM_AES_KEY_GEN", "making Ke"),
    ("CKM_AES_CBC", "sealing by splice, combining by key wrap"),
    ("CKM_AES_CBC_PAD", "sealing: the end of a key block"),
    ("CKM_RSA_PKCS_OAEP", "wrapping Ke for a terminal"),
    ("CKM_CONCATENATE_DATA_AND_BASE", "sealing by concatenation"),
    ("CKM_CONCATENATE_BASE_AND_DATA", "sealing by concatenation"),
    ("CKM_XOR_BASE_AND_DATA", "combining by XOR"),
    ("CKM_AES_KEY_WRAP", "combining by key wrap"),
    ("CKM_AES_CMAC", "check values of AES keys"),
    ("CKM_DES3_ECB", "check values of TDEA keys"),
];

/// The answer of `hsm check`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The library, with its version.
    pub module: String,
    /// The token: label, model, serial number.
    pub token: String,
    /// The way in which key tokens would be sealed.
    pub sealing: Option<&'static str>,
    /// The way in which components would be combined.
    pub combining: Option<&'static str>,
    /// The hashes with which a throw-away key was sealed and opened.
    pub oaep: Vec<&'static str>,
    /// What was sealed and opened to find that out, in words.
    pub self_test: Option<String>,
    /// Mechanisms that matter here.
    pub mechanisms: Vec<Mechanism>,
    /// What keeps a host from serving, or limits it.
    pub problems: Vec<String>,
}

/// A mechanism that matters here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mechanism {
    /// `CKM_...`.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
    /// Whether the token lists it. That it works is another matter.
    pub listed: bool,
}

impl Report {
    /// Whether a host could serve with this token.
    pub const fn can_serve(&self) -> bool {
        self.self_test.is_some()
    }
}

/// The tokens of a module.
///
/// # Errors
/// The module cannot be loaded or does not answer.
pub fn tokens(module: &Path) -> Result<Vec<TokenInfo>, CeremonyError> {
    Ok(Module::load(module)?.tokens()?)
}

/// Opens a token, seals and opens throw-away keys in it, and reports. Leaves nothing behind.
///
/// # Errors
/// The module or the token cannot be opened.
pub fn check(module: &Path, label: &str, pin: &Pin) -> Result<Report, CeremonyError> {
    let module = Module::load(module)?;
    let description = module.describe()?;
    let mut config = TokenConfig::new(label);
    config.workers = 1;
    let token = module.open(&config, pin)?;
    let info = token.info().clone();
    let found = token.capabilities()?;
    let mut problems = Vec::new();
    if let Err(missing) = &found.sealing {
        problems.push(format!("cannot seal key tokens: {missing}"));
    }
    if let Err(missing) = &found.combining {
        problems.push(format!("cannot combine components: {missing}"));
    }
    if found.oaep == [OaepHash::Sha1] {
        problems.push(
            "RSA-OAEP with SHA-1 only: the host's and the terminals' configurations have to say \
             \"sha1\""
                .to_owned(),
        );
    }
    // The strongest hash comes first.
    let self_test = match found.oaep.first() {
        Some(hash) => {
            let passed = token.self_test(*hash)?;
            Some(format!(
                "{} throw-away keys were sealed and opened, Ke under RSA-OAEP with {}",
                passed.key_lengths.len(),
                word(*hash)
            ))
        }
        None => None,
    };
    let mechanisms = MECHANISMS.map(|(name, purpose)| Mechanism {
        name,
        purpose,
        listed: found.mechanisms.iter().any(|listed| listed == name),
    });
    Ok(Report {
        module: format!(
            "{} ({}, version {})",
            description.library, description.manufacturer, description.version
        ),
        token: format!("{} ({}, serial {})", info.label, info.model, info.serial),
        sealing: found.sealing.as_ref().ok().map(|way| match way {
            SealingWay::Splice => "splice",
        }),
        combining: found.combining.as_ref().ok().map(|way| match way {
            CombiningWay::Xor => "xor",
            CombiningWay::KeyWrap => "key-wrap",
        }),
        oaep: found.oaep.iter().map(|hash| word(*hash)).collect(),
        self_test,
        mechanisms: mechanisms.into(),
        problems,
    })
}

const fn word(hash: OaepHash) -> &'static str {
    match hash {
        OaepHash::Sha1 => "sha1",
        OaepHash::Sha256 => "sha256",
    }
}
