//! What can go wrong, by whose fault it is, and what of it is told to whom.

use std::time::Duration;

use hsm::HsmError;
use kdh_proto::Reason;
use pki::IssueError;

use crate::{names::BadName, store::StoreError};

/// When a caller may try again after [`Reason::Overloaded`].
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call did not succeed. The cause goes to the log; the caller learns the reason.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The caller's fault.
    #[error("{}: {cause}", reason.as_str())]
    Refused {
        /// What the caller learns.
        reason: Reason,
        /// What the log says.
        cause: String,
    },
    /// Somebody calls too often.
    #[error("{caller} calls too often")]
    RateLimited {
        /// A certificate's serial number, or a device's.
        caller: String,
        /// When they may call again.
        retry_after: Duration,
    },
    /// The HSM's.
    #[error("HSM: {0}")]
    Hsm(#[from] HsmError),
    /// The database's.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Ours.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why the host does not start, all faults at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct StartError(pub Vec<String>);

impl StartError {
    /// A single fault.
    pub fn one(fault: impl std::fmt::Display) -> Self {
        Self(vec![fault.to_string()])
    }
}

/// Why the host serves no more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not begin, or a listener failed.
    #[error(transparent)]
    Faults(#[from] StartError),
    /// The HSM is of no more use to this process.
    #[error("{0}")]
    Hsm(hsm::Failure),
}

/// Refuses a call.
pub(crate) fn refused(reason: Reason, cause: impl std::fmt::Display) -> HostError {
    HostError::Refused {
        reason,
        cause: cause.to_string(),
    }
}

impl From<BadName> for HostError {
    fn from(bad_name: BadName) -> Self {
        refused(Reason::RequestInvalid, bad_name)
    }
}

impl From<sqlx::Error> for HostError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<IssueError<HsmError>> for HostError {
    fn from(error: IssueError<HsmError>) -> Self {
        match error {
            IssueError::Signing(error) => Self::Hsm(error),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl HostError {
    /// The reason that a terminal or a switch learns. Here and in [`Self::for_operator`] errors become reasons, and
    /// nowhere else.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { reason, .. } => *reason,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::Hsm(HsmError::Busy) => Reason::Overloaded,
            Self::Hsm(HsmError::Unavailable { .. }) => Reason::HsmUnavailable,
            Self::Hsm(HsmError::Unsupported { .. }) => Reason::HsmUnsupported,
            // A missing or weak key, a damaged row: nothing that the caller could change. Each is
            // named, so that a new one has to be decided on.
            Self::Hsm(
                HsmError::ModuleNotLoaded { .. }
                | HsmError::PinIncorrect { .. }
                | HsmError::PinLocked { .. }
                | HsmError::PinFile { .. }
                | HsmError::TokenNotFound { .. }
                | HsmError::TokenNotUnique { .. }
                | HsmError::TokenExists { .. }
                | HsmError::TokenInUse { .. }
                | HsmError::NoFreeSlot
                | HsmError::Name(_)
                | HsmError::KeyNotFound { .. }
                | HsmError::KeyNotUnique { .. }
                | HsmError::KeyExists { .. }
                | HsmError::WeakKey { .. }
                | HsmError::WrongRole { .. }
                | HsmError::UsageNotAllowed { .. }
                | HsmError::WeakCipher { .. }
                | HsmError::SelfTest { .. }
                | HsmError::OpeningFailed
                | HsmError::KcvMismatch { .. }
                | HsmError::KeyDiffers { .. }
                | HsmError::BadComponent { .. }
                | HsmError::BadSum { .. }
                | HsmError::SumExists { .. }
                | HsmError::KeyLength { .. }
                | HsmError::KeyKind { .. }
                | HsmError::Derivation(_)
                | HsmError::Export(_)
                | HsmError::Import(_)
                | HsmError::Upstream(_)
                | HsmError::Storage(_)
                | HsmError::BadAnswer { .. }
                | HsmError::Call { .. },
            )
            | Self::Store(
                StoreError::Damaged(_)
                | StoreError::NotSealed(_)
                | StoreError::NotRecorded(_)
                | StoreError::ForeignTrail(_)
                | StoreError::NoNextVersion(_)
                | StoreError::Lock(_)
                | StoreError::Database(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }),
            )
            | Self::Internal(_) => Reason::Internal,
            // The last two of a connection that was made again: another host took over, or the server was set
            // otherwise.
            Self::Store(
                StoreError::Database(_)
                | StoreError::NotCommitted(_)
                | StoreError::InUse
                | StoreError::Unfit(_),
            ) => Reason::StoreUnavailable,
        }
    }

    /// What an operator learns: of what they can mend, also what it is and what to do. Rows that somebody has changed
    /// are theirs to restore, and no fault of the program's.
    pub(crate) fn for_operator(&self) -> (Reason, String) {
        let reason = self.reason();
        match self {
            Self::Refused { cause, .. } => (reason, cause.clone()),
            Self::Hsm(cause @ HsmError::Unsupported { .. }) => (reason, cause.to_string()),
            Self::Store(
                cause @ (StoreError::NotSealed(_)
                | StoreError::NotRecorded(_)
                | StoreError::ForeignTrail(_)
                | StoreError::NoNextVersion(_)),
            ) => (Reason::WrongState, cause.to_string()),
            _ => (reason, String::new()),
        }
    }

    /// When the caller may try again, if that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => (self.reason() == Reason::Overloaded).then_some(RETRY_AFTER),
        }
    }

    /// Whether the host's own people have to look at it.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::RateLimited { .. })
    }
}
