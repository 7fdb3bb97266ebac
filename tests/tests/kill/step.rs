//! Moments at which a host dies.

use std::{fmt, process::Command};

use super::Fragile;

/// A moment, counted from when the host is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The `nth` call of a function of the HSM, before it is done.
    Call(&'static str, u32),
    /// When so many pages of transactions are on disk, and another one is written: the transaction to which that one
    /// belongs is never committed. Of SQLite.
    Page(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(function, nth) => write!(f, "{function} {nth}"),
            Self::Page(pages) => write!(f, "page {pages}"),
        }
    }
}

/// Of SQLite's log: its header, and a page with its own.
const LOG_HEADER: u32 = 32;
const LOG_PAGE: u32 = 24 + 4096;

impl Fragile {
    /// Has something done by a host that dies at this step, if it comes that far, and says whether it did. `act` says
    /// whether it was answered.
    pub(crate) fn dies(&mut self, step: Step, act: impl FnOnce(&Self) -> bool) -> bool {
        match step {
            Step::Call(function, nth) => {
                let mut faults = self.site.faults().unwrap();
                faults.tell(&format!("die {function} {nth}")).unwrap();
            }
            Step::Page(pages) => {
                self.empty_log();
                assert!(self.limit_files(&(LOG_HEADER + pages * LOG_PAGE).to_string()));
            }
        }
        let lives = act(self) && self.forget();
        if !lives {
            let ended = self.host.take().unwrap().ended().unwrap();
            assert!(!ended.success(), "{step}: {ended}");
        }
        !lives
    }

    /// It dies no more; `false` if it has.
    fn forget(&self) -> bool {
        self.limit_files("unlimited")
            && self
                .site
                .faults()
                .and_then(|mut faults| faults.tell("clear"))
                .is_ok()
    }

    /// No file of the host may grow above this many bytes, or it is killed.
    fn limit_files(&self, limit: &str) -> bool {
        let host = self.host.as_ref().unwrap();
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", host.id()))
            .arg(format!("--fsize={limit}:unlimited"))
            .status();
        limited.unwrap().success()
    }
}
