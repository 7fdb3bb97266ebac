//! Whether a token can be worked with.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works, as far as anyone knows.
    Ready,
    /// It does not answer, and is being opened again, with growing pauses.
    Lost {
        /// What was seen of it.
        reason: String,
    },
    /// It is not tried any more by this process.
    Failed(Failure),
}

/// Why a token is not tried any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// When it came back it refused the PIN, which was tried once: another try brings it closer to
    /// locking.
    PinRefused {
        /// The token's label.
        token: String,
    },
    /// More calls than are replaced do not come back from the module. Only a new process is rid of
    /// them.
    Stuck {
        /// The token's label.
        token: String,
        /// How many.
        calls: usize,
    },
}

impl Health {
    /// Whether it works, as far as anyone knows.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Lost { reason } => write!(f, "lost: {reason}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinRefused { token } => write!(
                f,
                "token {token} refuses its PIN, which was tried once and will not be tried again: put \
                 the right PIN into its file, and start anew"
            ),
            Self::Stuck { token, calls } => write!(
                f,
                "token {token}: {calls} call(s) did not come back from the PKCS#11 module, more than can be \
                 replaced: only a new process is rid of them"
            ),
        }
    }
}

/// Who is told that the health of something has changed.
#[derive(Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Vec<Watcher>>>);

type Watcher = Box<dyn Fn() + Send>;

impl Watchers {
    pub(crate) fn add(&self, watcher: impl Fn() + Send + 'static) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(Box::new(watcher));
    }

    pub(crate) fn tell(&self) {
        let watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter() {
            watcher();
        }
    }
}
