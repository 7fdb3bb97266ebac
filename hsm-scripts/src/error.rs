//! Why a ceremony did not begin, or stopped.

use std::path::PathBuf;

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
    Hsm(#[from] HsmError),
    /// A certificate or revocation list could not be made.
    #[error("{0}")]
    Pki(String),
    /// An act failed. What it had made was destroyed; the acts before it stand.
    #[error(
        "act {number} ({name}) failed: {cause}\n{} before it stands. To go on, write a plan with \
         this act and those behind it", if *number == 1 { "Nothing" } else { "What was made" }
    )]
    Act {
        /// Counted from 1.
        number: usize,
        /// The kind of act.
        name: &'static str,
        /// What happened.
        cause: Box<CeremonyError>,
    },
}

impl CeremonyError {
    pub(crate) fn file(path: &std::path::Path, cause: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
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
            other => Self::Pki(other.to_string()),
        }
    }
}
