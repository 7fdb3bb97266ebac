//! What a token can do, for a person or a program to read.

use std::path::Path;

use hsm::{CombiningWay, Module, Pin, SealingWay, TokenConfig};
use serde::Serialize;
use tr34::OaepHash;

use crate::CeremonyError;

/// The answer of `hsm check`.
#[derive(Debug, Serialize)]
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
    /// Mechanisms that matter here and that the token lists.
    pub mechanisms: Vec<String>,
    /// What keeps a host from serving, or limits it.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether a host could serve with this token.
    pub fn can_serve(&self) -> bool {
        self.sealing.is_some() && !self.oaep.is_empty()
    }
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
        problems.push(format!("cannot seal key tokens: lacks {missing}"));
    }
    if let Err(missing) = &found.combining {
        problems.push(format!("cannot combine components: lacks {missing}"));
    }
    if found.sealing.is_ok() && found.oaep.is_empty() {
        problems.push("a throw-away key could not be sealed and opened".to_owned());
    }
    if !found.oaep.is_empty() && !found.oaep.contains(&OaepHash::Sha256) {
        problems.push(
            "RSA-OAEP with SHA-1 only: the host's and the terminals' configurations have to say \
             \"sha1\""
                .to_owned(),
        );
    }
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
        oaep: found
            .oaep
            .iter()
            .map(|hash| match hash {
                OaepHash::Sha1 => "sha1",
                OaepHash::Sha256 => "sha256",
            })
            .collect(),
        mechanisms: found.mechanisms.clone(),
        problems,
    })
}
