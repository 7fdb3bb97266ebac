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
    /// What stands behind the numbers in a bar.
    pace: &'static str,
    more: String,
    /// The last line.
    line: String,
}

impl Watched {
    /// With how long it is watched already.
    pub(super) fn new(done: &'static str) -> Self {
        Self::with(done, "{elapsed} so far")
    }

    /// With how fast it goes, and how long it takes still.
    pub(super) fn with_rate(done: &'static str) -> Self {
        Self::with(done, "{per_sec}, {eta} left\n{msg}")
    }

    fn with(done: &'static str, pace: &'static str) -> Self {
        let seen = io::stderr().is_terminal();
        let bar = if seen {
            ProgressBar::no_length()
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            seen,
            done,
            pace,
            more: String::new(),
            line: String::new(),
        }
    }

    /// What else there is to be said of what is shown next.
    pub(super) fn say(&mut self, more: String) {
        self.bar.set_message(more.clone());
        self.more = more;
    }

    /// So much is done of all there is; `None` where nobody knows how much that is.
    pub(super) fn show(&mut self, done: u64, all: Option<u64>) {
        let line = self.line_of(done, all);
        if self.seen {
            self.draw(done, all);
        } else if self.line != line {
            let _ = writeln!(io::stderr(), "{line}");
        }
        self.line = line;
    }

    fn line_of(&self, done: u64, all: Option<u64>) -> String {
        let of = all.map_or_else(String::new, |all| format!(" of {all}"));
        let more = if self.more.is_empty() { "" } else { "; " };
        format!("{done}{of} {}{more}{}", self.done, self.more)
    }

    fn draw(&self, done: u64, all: Option<u64>) {
        let numbers = match all {
            Some(_) => "{bar:40} {pos} of {len}",
            None => "{pos}",
        };
        let template = format!("{numbers} {}, {}", self.done, self.pace);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        match all {
            Some(all) => self.bar.set_length(all),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(done);
        if self.line.is_empty() {
            // What was done before says nothing of how fast it goes.
            self.bar.reset_eta();
        }
    }

    /// Nothing is left.
    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_said_of_all_there_is() {
        let mut watched = Watched::new("keys moved");
        assert_eq!(watched.line_of(3, Some(10)), "3 of 10 keys moved");
        assert_eq!(watched.line_of(3, None), "3 keys moved");
        watched.say("2 refused".to_owned());
        assert_eq!(watched.line_of(0, Some(0)), "0 of 0 keys moved; 2 refused");
    }

    #[test]
    fn a_bar_takes_every_form_of_what_is_done() {
        for watched in [Watched::new("keys"), Watched::with_rate("keys")] {
            for (done, all) in [(3, Some(10)), (4, None), (10, Some(10))] {
                watched.draw(done, all);
                assert_eq!(watched.bar.position(), done);
                assert_eq!(watched.bar.length(), all);
            }
        }
    }
}
