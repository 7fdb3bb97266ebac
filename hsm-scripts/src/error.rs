//! Why a ceremony did not begin, or stopped.

use std::path::{Path, PathBuf};

use hsm::HsmError;

/// What went wrong, and what stands.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The plan is not executable; every fault is named. No HSM was opened.
    #[error("the plan has faults:\n  {}", .0.join("\n  "))]
    Plan(Vec<String>),
    /// The people in the room did not agree.
    #[error("stopped: {0}")]
    Declined(String),
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The HSM.
    #[error("HSM: {0}")]
    Hsm(HsmError),
    /// A certificate or revocation list could not be made.
    #[error("{0}")]
    Pki(String),
    /// The tokens are not as an act needs them. Nothing has happened.
    #[error("act {number} ({name}) cannot be done: {cause}\nNothing has happened.")]
    AtTheOutset {
        /// Counted from 1.
        number: usize,
        /// The kind of act.
        name: &'static str,
        /// What is in the way.
        cause: Box<CeremonyError>,
    },
    /// An act failed. What it had made was taken back; the acts before it stand.
    #[error("act {number} ({name}) failed: {cause}\n{}", way_on(*.number, .left, .standing))]
    Act {
        /// Counted from 1.
        number: usize,
        /// The kind of act.
        name: &'static str,
        /// What happened.
        cause: Box<CeremonyError>,
        /// What the act had made and could not be taken back.
        left: Vec<String>,
        /// The acts that stand, with what they made.
        standing: Vec<String>,
    },
}

// Its message holds that of the HSM's error, which is therefore not its source.
impl From<HsmError> for CeremonyError {
    fn from(error: HsmError) -> Self {
        Self::Hsm(error)
    }
}

impl CeremonyError {
    pub(crate) fn file(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn pki(cause: impl std::fmt::Display) -> Self {
        Self::Pki(cause.to_string())
    }
}

/// What stands, and how to go on from there.
fn way_on(failed: usize, left: &[String], standing: &[String]) -> String {
    let mut text = String::new();
    if !left.is_empty() {
        text = format!(
            "This could not be taken back; see to it by hand:\n  {}\n",
            left.join("\n  ")
        );
    }
    text + &if standing.is_empty() {
        "No act stands. Keep the transcript under another name, mend the cause, and execute the \
         same plan again."
            .to_owned()
    } else {
        format!(
            "These acts stand, and a plan that holds one of them is refused:\n  {}\nTo go on, mend \
             the cause and write a plan with act {failed} and those behind it, and another \
             transcript.",
            standing.join("\n  ")
        )
    }
}

impl From<hsm::NameError> for CeremonyError {
    fn from(error: hsm::NameError) -> Self {
        Self::Hsm(error.into())
    }
}

impl From<pki::IssueError<HsmError>> for CeremonyError {
    fn from(error: pki::IssueError<HsmError>) -> Self {
        match error {
            pki::IssueError::Signing(error) => Self::Hsm(error),
            other => Self::pki(other),
        }
    }
}
