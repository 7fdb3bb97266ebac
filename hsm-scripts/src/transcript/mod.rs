//! The transcript: JSON lines, each with the hash of the one before, signed by those who took part and
//! sealed by the HSM's audit key. Never a secret.
//!
//! ```text
//! line        what a line's hash is of, and what its signature
//! event       kinds of lines
//! writer      a transcript that is being written
//! chain       no line was altered, left out or moved
//! beginning   what the first line says
//! components  what acts used of what people did
//! verify      who signed what, by which certificate
//! sittings    the transcripts of one plan, one after the other
//! missing     what a record that holds does not show
//! story       what happened, in plain words
//! conclusion  whether it holds, in a sentence
//! report      the same on a page
//! ```

mod beginning;
mod chain;
mod components;
mod conclusion;
mod event;
mod line;
mod missing;
mod report;
mod sittings;
mod story;
mod verify;
mod writer;

use pki::{CredentialError, CrlNumber};

pub(crate) use self::verify::finished_rehearsal;
pub(crate) use self::writer::Transcript;
pub use self::{
    chain::{VerifiedTranscript, verify_transcript},
    conclusion::conclusion,
    missing::Missing,
    report::report,
    sittings::verify_records,
    story::Entry,
    verify::{Expected, Person, Record, Seal, Trust, TrustError},
};

/// Where a transcript does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// There is no line.
    #[error("the transcript is empty")]
    Empty,
    /// A line is not one of a transcript.
    #[error("line {0} is not a line of a transcript")]
    Malformed(u64),
    /// A text that a screen would show otherwise, or not at all.
    #[error("line {0} holds U+{1:04X}, a control or format character")]
    Invisible(u64, u32),
    /// A line was altered.
    #[error("line {0} was altered")]
    Altered(u64),
    /// A line does not follow on the one before.
    #[error("line {0} does not follow on the one before")]
    Unlinked(u64),
    /// A field that the event has is missing, or not what it should be.
    #[error("line {0} lacks {1}, or has something else in its place")]
    Field(u64, &'static str),
    /// The first line begins no ceremony.
    #[error("line 1 is not the beginning of a ceremony")]
    NoBeginning,
    /// Another ceremony begins in the middle.
    #[error("line {0} begins another ceremony")]
    BeginsAgain(u64),
    /// A certificate of the beginning is none.
    #[error("line 1: the certificate of {0} is none")]
    NoCertificate(String),
    /// One person takes part under two ids.
    #[error("line 1: {0} and {1} are the same person: they have the same subject or public key")]
    SamePerson(String, String),
    /// A participant's step without their signature.
    #[error("line {0} says that {1} did this, and their signature does not follow")]
    NotSigned(u64, String),
    /// A signature that is not behind a step of the one who signed.
    #[error("line {0} is a signature of {1}, but the line before is no step of theirs")]
    SignsNothing(u64, String),
    /// Somebody took a step or signed whom the beginning does not name.
    #[error("line {0} is by {1:?}, who is no participant of this ceremony")]
    Stranger(u64, String),
    /// The signature is by another certificate than the beginning's.
    #[error("line {0} is signed with another certificate than the one of {1} in line 1")]
    OtherCertificate(u64, String),
    /// A signature that does not verify.
    #[error("line {0}: the signature of {1} does not verify")]
    BadSignature(u64, String),
    /// A certificate that is not accepted at the time of the line.
    #[error("line {0}: the certificate of {1} is not accepted: {2}")]
    Signer(u64, String, CredentialError),
    /// A certificate that is on the revocation list.
    #[error(
        "line {0}: the certificate of {1} is on the revocation list, number {2}; if it was revoked \
         after the ceremony, give the list that was current then"
    )]
    Revoked(u64, String, CrlNumber),
    /// Nothing to check signatures against.
    #[error("line {0} is signed; name the ceremony CA's certificate (--ca) to check it against")]
    NoCa(u64),
    /// The list says nothing of the time of the ceremony.
    #[error("the revocation list ended before the ceremony began; give a newer one")]
    OldList,
    /// The seal is not by the key that the beginning names or that an act made.
    #[error("line {0} is sealed by another key than the ceremony's audit key")]
    OtherSeal(u64),
    /// Lines behind the seal.
    #[error("line {0} stands behind the seal")]
    BehindSeal(u64),
    /// Somebody confirmed another plan.
    #[error("line {0} confirms another plan than the one of line 1")]
    OtherPlan(u64),
    /// A rehearsal where a ceremony is looked for.
    #[error(
        "this is the transcript of a rehearsal: nothing real was made; --rehearsal verifies one"
    )]
    Rehearsal,
    /// A ceremony where a rehearsal is looked for.
    #[error("this is not the transcript of a rehearsal, which --rehearsal verifies")]
    NoRehearsal,
    /// An act used a component, and who it says held it took no such step.
    #[error(
        "line {0} uses component {1} of {2}, and no step of theirs before it says that they held it, with \
         this check value"
    )]
    NoStep(u64, u64, String),
    /// One person held two components of a key.
    #[error("line {0} uses two components of {1}, and nobody holds two components of a key")]
    TwoComponents(u64, String),
    /// Sittings of different plans.
    #[error("this is the transcript of another plan than the one before it")]
    OtherCeremony,
    /// Sittings in the wrong order, or the same one twice.
    #[error("this sitting began before the one before it ended; name them in order, each once")]
    Order,
    /// An id is another person's than at the sitting before.
    #[error("line 1: {0} is another person than in the transcript before it")]
    OtherPerson(String),
    /// A person has another id than at the sitting before.
    #[error(
        "line 1: {0} is the person who is called {1} in the transcript before it; nobody takes part twice"
    )]
    OtherId(String, String),
}

impl TranscriptError {
    /// What to do next, where the error does not say it itself.
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Signer(..) => {
                "\nNobody vouches for this signature: name the CA that certified the people of this ceremony (--ca), or \
                 find out how they came to take part."
            }
            Self::Revoked(..) | Self::NoCa(_) | Self::OldList | Self::Order => "",
            Self::Rehearsal => ". Ask for the transcript of the ceremony itself",
            Self::NoRehearsal => ". Ask for the transcript of the rehearsal, or leave that out",
            Self::OtherCeremony => ". Name the transcripts of one ceremony",
            _ => {
                "\nThis is not what the ceremony wrote. Ask for the file that it wrote, and compare its last hash with \
                 the minutes; if there is none, find out who had it."
            }
        }
    }
}

/// Why a transcript is not that of a finished rehearsal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RehearsalError {
    #[error("{0}")]
    Transcript(#[from] TranscriptError),
    #[error("it is the transcript of another plan, with the digest {0}")]
    OtherPlan(String),
    #[error("the rehearsal did not finish: the last that it says is {0:?}")]
    NotFinished(String),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    /// A transcript of one line, written without care.
    fn one_line(event: &str, detail: serde_json::Value) -> String {
        let line = line::Line {
            sequence: 1,
            at: "1970-01-01T00:00:00Z".to_owned(),
            event: event.to_owned(),
            detail,
            previous: String::new(),
            hash: String::new(),
        };
        line.hashed().to_text().unwrap()
    }

    #[test]
    fn what_would_paint_over_the_screen_is_refused() {
        let invisible = |code| Err(TranscriptError::Invisible(1, code));
        for (event, detail, expected) in [
            ("finished", json!({"a": "b"}), Ok(())),
            ("\u{1b}[2Jfinished", json!({}), invisible(0x1b)),
            ("finished\n", json!({}), invisible(0x0a)),
            ("\u{202e}dehsinif", json!({}), invisible(0x202e)),
            ("finished", json!({"a": "\u{200b}"}), invisible(0x200b)),
            ("finished", json!({"a\u{ad}": 1}), invisible(0xad)),
            (
                "finished",
                json!({"a": [{"b": "\u{2066}"}]}),
                invisible(0x2066),
            ),
            ("finished", json!("\r"), invisible(0x0d)),
        ] {
            let text = one_line(event, detail);
            assert_eq!(verify_transcript(&text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn what_is_recorded_is_written_so_that_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript");
        let mut transcript = Transcript::default();
        let detail = json!({"cause": "two\nlines", "left": ["\u{202e}"]});
        let at = OffsetDateTime::UNIX_EPOCH;
        transcript.record(at, "failed", detail).unwrap();
        assert!(!path.exists());
        transcript.open(&path).unwrap();
        transcript.record(at, "finished", json!({})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r"two\\u{a}lines"), "{text}");
        let verified = verify_transcript(&text).unwrap();
        assert_eq!((verified.lines, &*verified.last_event), (2, "finished"));
        assert_eq!(verified.head, transcript.head());
        let again = Transcript::default().open(&path);
        assert!(matches!(again, Err(crate::CeremonyError::File { .. })));
    }
}
