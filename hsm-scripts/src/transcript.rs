//! The transcript: JSON lines, each with the hash of the one before. Never a secret.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::CeremonyError;

/// Keeps these hashes from meaning anything else.
const DOMAIN: &[u8] = b"kdh.ceremony.transcript.v1";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sequence: u64,
    at: String,
    event: String,
    detail: Value,
    /// SHA-256 of the line before, hex; empty at the beginning.
    previous: String,
    hash: String,
}

impl Line {
    fn compute_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.sequence.to_be_bytes());
        let detail = self.detail.to_string();
        for field in [&self.previous, &self.at, &self.event, &detail] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        hex::encode(hash.finalize())
    }
}

/// A transcript that is being written. Each line is on the disk before the next act.
#[derive(Debug)]
pub(crate) struct Transcript {
    file: File,
    path: PathBuf,
    sequence: u64,
    head: String,
}

impl Transcript {
    /// Begins a new file.
    pub(crate) fn begin(path: &Path) -> Result<Self, CeremonyError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| CeremonyError::file(path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            sequence: 0,
            head: String::new(),
        })
    }

    /// Adds a line.
    pub(crate) fn record(
        &mut self,
        at: OffsetDateTime,
        event: &str,
        detail: Value,
    ) -> Result<(), CeremonyError> {
        let failed = |error: &dyn std::fmt::Display| CeremonyError::file(&self.path, error);
        let mut line = Line {
            sequence: self.sequence + 1,
            at: at.format(&Rfc3339).map_err(|error| failed(&error))?,
            event: event.to_owned(),
            detail,
            previous: self.head.clone(),
            hash: String::new(),
        };
        line.hash = line.compute_hash();
        let mut text = serde_json::to_string(&line).map_err(|error| failed(&error))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed(&error))?;
        self.sequence = line.sequence;
        self.head = line.hash;
        Ok(())
    }
}

/// Where a transcript does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// A line is not one of a transcript.
    #[error("line {0} is not a line of a transcript")]
    Malformed(u64),
    /// A line was altered.
    #[error("line {0} was altered")]
    Altered(u64),
    /// A line does not follow on the one before.
    #[error("line {0} does not follow on the one before")]
    Unlinked(u64),
}

/// Follows a transcript's chain; returns how many lines hold.
///
/// # Errors
/// The first line that does not.
pub fn verify_transcript(text: &str) -> Result<u64, TranscriptError> {
    let mut sequence = 0;
    let mut head = String::new();
    for text in text.lines() {
        let number = sequence + 1;
        let line: Line =
            serde_json::from_str(text).map_err(|_| TranscriptError::Malformed(number))?;
        if line.sequence != number || line.previous != head {
            return Err(TranscriptError::Unlinked(number));
        }
        if line.hash != line.compute_hash() {
            return Err(TranscriptError::Altered(number));
        }
        sequence = number;
        head = line.hash;
    }
    Ok(sequence)
}
