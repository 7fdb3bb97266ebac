//! Work of the host's that is watched until there is none left.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

/// How far it has come. On standard error there is a bar where somebody sees it, and otherwise a line for each step
/// forward.
pub(super) struct Watched {
    bar: ProgressBar,
    seen: bool,
    /// What is done, in words behind a number.
    done: &'static str,
    /// More may be found than there was when it began.
    most: u64,
    before: Option<u64>,
}

impl Watched {
    pub(super) fn new(done: &'static str) -> Self {
        let seen = io::stderr().is_terminal();
        let bar = if seen {
            bar(done)
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            seen,
            done,
            most: 0,
            before: None,
        }
    }

    /// So much is left.
    pub(super) fn show(&mut self, left: u64) {
        self.most = self.most.max(left);
        let done = self.most - left;
        self.bar.set_length(self.most);
        self.bar.set_position(done);
        if !self.seen && self.before != Some(left) {
            let _ = writeln!(io::stderr(), "{done} of {} {}", self.most, self.done);
        }
        self.before = Some(left);
    }

    /// Nothing is.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn bar(done: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}} of {{len}} {done}, {{elapsed}} so far");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
