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
    more: String,
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
            more: String::new(),
        }
    }

    /// With how fast it goes, and how long it takes still.
    pub(super) fn with_rate(done: &'static str) -> Self {
        let watched = Self::new(done);
        let template =
            format!("{{bar:40}} {{pos}} of {{len}} {done}, {{per_sec}}, {{eta}} left\n{{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            watched.bar.set_style(style);
        }
        watched
    }

    /// What else there is to be said of what is shown next.
    pub(super) fn say(&mut self, more: String) {
        self.bar.set_message(more.clone());
        if self.more != more {
            self.more = more;
            // It is shown also if nothing else has changed.
            self.before = None;
        }
    }

    /// So much is left.
    pub(super) fn show(&mut self, left: u64) {
        self.most = self.most.max(left);
        let done = self.most - left;
        self.bar.set_length(self.most);
        self.bar.set_position(done);
        if !self.seen && self.before != Some(left) {
            let more = if self.more.is_empty() { "" } else { "; " };
            let line = format!("{done} of {} {}{more}{}", self.most, self.done, self.more);
            let _ = writeln!(io::stderr(), "{line}");
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
