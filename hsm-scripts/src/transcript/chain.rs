//! The chain: no line was altered, left out or moved.

use serde_json::Value;

use super::{TranscriptError, event, line::Line};
use crate::plain::is_plain;

/// A transcript whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTranscript {
    /// How many lines there are.
    pub lines: u64,
    /// What happened last, the seal apart: `finished`, unless the ceremony stopped.
    pub last_event: String,
    /// The hash of the last line, hex: to be compared with the one in the minutes.
    pub head: String,
}

/// Follows a transcript's chain. It shows that no line was altered, left out or moved; lines missing
/// at the end show in the last event and the seal, and a chain that was made anew shows in the
/// signatures and the last hash. Every byte counts, so that no two readers see something else in it.
///
/// # Errors
/// The first line that does not hold.
pub fn verify_transcript(text: &str) -> Result<VerifiedTranscript, TranscriptError> {
    let lines = read(text)?;
    let last = lines.last().ok_or(TranscriptError::Empty)?;
    Ok(VerifiedTranscript {
        lines: last.sequence,
        last_event: last_before_seal(&lines).event.clone(),
        head: last.hash.clone(),
    })
}

/// The lines, of which there is at least one.
pub(super) fn read(text: &str) -> Result<Vec<Line>, TranscriptError> {
    let mut lines = Vec::<Line>::new();
    for (number, text) in (1..).zip(text.split_inclusive('\n')) {
        let line: Line =
            serde_json::from_str(text).map_err(|_| TranscriptError::Malformed(number))?;
        // It is shown; a forger could paint over what stands beside it.
        let unseen = unseen_in(&line.event)
            .or_else(|| unseen_in(&line.at))
            .or_else(|| unseen(&line.detail));
        if let Some(character) = unseen {
            return Err(TranscriptError::Invisible(number, character.into()));
        }
        let head = lines.last().map_or("", |last| &*last.hash);
        if line.sequence != number || line.previous != head {
            return Err(TranscriptError::Unlinked(number));
        }
        // The hash is of what was read: of a key that stands there twice, of the last one alone.
        let as_written = line.to_text().is_ok_and(|written| written == text);
        if line.hash != line.compute_hash() || !as_written {
            return Err(TranscriptError::Altered(number));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(TranscriptError::Empty);
    }
    Ok(lines)
}

/// What happened last, the seal apart.
pub(super) fn last_before_seal(lines: &[Line]) -> &Line {
    let before = lines.iter().rev().find(|line| line.event != event::SEALED);
    before.unwrap_or(&lines[0])
}

/// The first character that a screen does not show.
fn unseen(detail: &Value) -> Option<char> {
    match detail {
        Value::String(text) => unseen_in(text),
        Value::Array(values) => values.iter().find_map(unseen),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(name, value)| unseen_in(name).or_else(|| unseen(value))),
        _ => None,
    }
}

fn unseen_in(text: &str) -> Option<char> {
    text.chars().find(|character| !is_plain(*character))
}
