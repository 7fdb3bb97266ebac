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

use crate::{CeremonyError, outputs::sync_folder_of, plain::is_plain};

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

    /// The line as it is written: the only form that is one of a transcript.
    fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
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
        sync_folder_of(path)?;
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
        let text = line.to_text().map_err(|error| failed(&error))?;
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed(&error))?;
        self.sequence = line.sequence;
        self.head = line.hash;
        Ok(())
    }

    /// The hash of the last line, hex: who keeps it keeps the whole transcript from being replaced.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }
}

/// A transcript whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTranscript {
    /// How many lines there are.
    pub lines: u64,
    /// What happened last: `finished`, unless the ceremony stopped.
    pub last_event: String,
    /// The hash of the last line, hex: to be compared with the one in the minutes.
    pub head: String,
}

/// Where a transcript does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// There is no line.
    #[error("the transcript is empty")]
    Empty,
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

/// Follows a transcript's chain. It shows that no line was altered, left out or moved; lines missing
/// at the end show in the last event, and a chain that was made anew shows in the last hash. Every
/// byte counts, so that no two readers see something else in it.
///
/// # Errors
/// The first line that does not hold.
pub fn verify_transcript(text: &str) -> Result<VerifiedTranscript, TranscriptError> {
    let mut last = None::<Line>;
    for (number, text) in (1..).zip(text.split_inclusive('\n')) {
        let line: Line =
            serde_json::from_str(text).map_err(|_| TranscriptError::Malformed(number))?;
        // The last one is shown; a forger could paint over the hash beside it.
        if !line.event.chars().all(is_plain) {
            return Err(TranscriptError::Malformed(number));
        }
        let head = last.as_ref().map_or("", |last| &*last.hash);
        if line.sequence != number || line.previous != head {
            return Err(TranscriptError::Unlinked(number));
        }
        // The hash is of what was read: of a key that stands there twice, of the last one alone.
        let as_written = line.to_text().is_ok_and(|written| written == text);
        if line.hash != line.compute_hash() || !as_written {
            return Err(TranscriptError::Altered(number));
        }
        last = Some(line);
    }
    let last = last.ok_or(TranscriptError::Empty)?;
    Ok(VerifiedTranscript {
        lines: last.sequence,
        last_event: last.event,
        head: last.hash,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_would_paint_over_the_screen_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (number, (event, expected)) in [
            ("finished", Ok(())),
            ("\u{1b}[2Jfinished", Err(TranscriptError::Malformed(1))),
            ("finished\n", Err(TranscriptError::Malformed(1))),
            ("\u{202e}dehsinif", Err(TranscriptError::Malformed(1))),
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(number.to_string());
            let mut transcript = Transcript::begin(&path).unwrap();
            transcript
                .record(OffsetDateTime::UNIX_EPOCH, event, Value::Null)
                .unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(verify_transcript(&text).map(drop), expected, "{event:?}");
        }
    }
}
