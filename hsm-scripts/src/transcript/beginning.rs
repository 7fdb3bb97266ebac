//! What the first line says, as far as a verifier needs it.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pki::Certificate;
use serde::Deserialize;

use super::{TranscriptError, event, line::Line};

/// What the first line says.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Beginning {
    pub(super) title: String,
    #[serde(rename = "plan-sha256")]
    pub(super) plan: String,
    pub(super) tool: String,
    pub(super) mode: Mode,
    pub(super) unattended: bool,
    pub(super) officers: Vec<String>,
    pub(super) participants: BTreeMap<String, Participant>,
    pub(super) audit: Option<Audit>,
    pub(super) rehearsed: Option<String>,
    /// Each library with its SHA-256, null where it could not be read.
    #[serde(default)]
    pub(super) modules: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    Real,
    Rehearsal,
}

#[derive(Deserialize)]
pub(super) struct Participant {
    certificate: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Audit {
    /// None if an act of this ceremony makes it.
    pub(super) certificate_sha256: Option<String>,
}

impl Beginning {
    pub(super) fn of(line: &Line) -> Result<Self, TranscriptError> {
        if line.event != event::BEGAN {
            return Err(TranscriptError::NoBeginning);
        }
        Self::deserialize(&line.detail).map_err(|_| TranscriptError::NoBeginning)
    }

    /// The participants' certificates, by their ids. No two are one person's.
    pub(super) fn certificates(&self) -> Result<BTreeMap<String, Certificate>, TranscriptError> {
        let mut certificates = BTreeMap::<String, Certificate>::new();
        for (id, participant) in &self.participants {
            let certificate = decoded(&participant.certificate)
                .ok_or_else(|| TranscriptError::NoCertificate(id.clone()))?;
            let same = certificates.iter().find(|(_, other)| {
                other.subject() == certificate.subject()
                    || other.public_key() == certificate.public_key()
            });
            if let Some((other, _)) = same {
                return Err(TranscriptError::SamePerson(other.clone(), id.clone()));
            }
            certificates.insert(id.clone(), certificate);
        }
        Ok(certificates)
    }
}

/// A certificate as it stands in a line.
pub(super) fn decoded(certificate: &str) -> Option<Certificate> {
    let der = BASE64_STANDARD.decode(certificate).ok()?;
    Certificate::from_der(&der).ok()
}
