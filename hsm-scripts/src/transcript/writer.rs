//! A transcript that is being written.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use hsm::SigningKey;
use pki::Signer as _;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    event,
    line::{Line, SIGNATURE},
    story::is_told,
};
use crate::{CeremonyError, outputs::sync_folder_of, plain::escaped};

/// A transcript that is being written. Once it has a file, each line is on the disk before the next act.
///
/// Begins in memory: a ceremony that ends before a token was opened leaves no file.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    path: PathBuf,
    /// None as long as nothing has happened.
    file: Option<File>,
    /// What comes into the file first.
    held: String,
    sequence: u64,
    head: String,
}

impl Transcript {
    /// Writes what was held into a new file. From here on each line goes to the disk.
    pub(crate) fn open(&mut self, path: &Path) -> Result<(), CeremonyError> {
        path.clone_into(&mut self.path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.path)
            .map_err(|error| CeremonyError::file(&self.path, error))?;
        sync_folder_of(&self.path)?;
        self.file = Some(file);
        let held = std::mem::take(&mut self.held);
        self.write(&held)
    }

    /// Adds a line.
    pub(crate) fn record(
        &mut self,
        at: OffsetDateTime,
        event: &str,
        detail: Value,
    ) -> Result<(), CeremonyError> {
        let line = self.line(at, event, detail)?;
        self.add(vec![line])
    }

    /// Adds a line with a signature over it and, by the hash before it, over everything before.
    pub(crate) fn record_signed(
        &mut self,
        at: OffsetDateTime,
        event: &str,
        detail: Value,
        key: &SigningKey,
    ) -> Result<(), CeremonyError> {
        let line = self.line(at, event, detail)?;
        self.add(vec![signed(line, key)?])
    }

    /// Adds a step and behind it the signature of who took it: both, or neither if their token does not sign.
    pub(crate) fn record_step(
        &mut self,
        at: OffsetDateTime,
        (event, detail): (&str, Value),
        (signer, key): (Value, &SigningKey),
    ) -> Result<(), CeremonyError> {
        let step = self.line(at, event, detail)?;
        let signature = Line {
            sequence: step.sequence + 1,
            at: step.at.clone(),
            event: event::SIGNED.to_owned(),
            detail: plain(signer),
            previous: step.hash.clone(),
            hash: String::new(),
        };
        self.add(vec![step, signed(signature, key)?])
    }

    fn line(&self, at: OffsetDateTime, event: &str, detail: Value) -> Result<Line, CeremonyError> {
        let at = at.format(&Rfc3339);
        let line = Line {
            sequence: self.sequence + 1,
            at: at.map_err(|error| CeremonyError::file(&self.path, error))?,
            event: event.to_owned(),
            detail: plain(detail),
            previous: self.head.clone(),
            hash: String::new(),
        };
        debug_assert!(is_told(&line), "nothing tells {event} in words");
        Ok(line.hashed())
    }

    fn add(&mut self, lines: Vec<Line>) -> Result<(), CeremonyError> {
        let texts: Result<String, _> = lines.iter().map(Line::to_text).collect();
        let text = texts.map_err(|error| CeremonyError::file(&self.path, error))?;
        if self.file.is_some() {
            self.write(&text)?;
        } else {
            self.held.push_str(&text);
        }
        if let Some(last) = lines.into_iter().last() {
            self.sequence = last.sequence;
            self.head = last.hash;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), CeremonyError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|error| CeremonyError::file(&self.path, error))
    }

    /// The hash of the last line, hex: who keeps it keeps the whole transcript from being replaced.
    pub(crate) fn head(&self) -> &str {
        &self.head
    }
}

/// With a signature in its detail, over all the rest of it.
fn signed(mut line: Line, key: &SigningKey) -> Result<Line, CeremonyError> {
    let signature = key.sign(&line.signed_bytes())?;
    line.detail[SIGNATURE] = json!(hex::encode(signature));
    Ok(line.hashed())
}

/// With every text as a screen shows it: an error's may have several lines.
fn plain(detail: Value) -> Value {
    match detail {
        Value::String(text) => Value::String(escaped(&text)),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (escaped(&name), plain(value)))
            .collect(),
        other => other,
    }
}
