//! How far something long has come: a bar where somebody sees it, and otherwise a line now and then.

use std::io::{self, IsTerminal as _};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

/// Lines from beginning to end, where there is no bar.
const LINES: u64 = 20;

pub(super) struct Bar {
    shown: Option<ProgressBar>,
    what: &'static str,
    len: u64,
    /// The part of [`LINES`] that was told last.
    told: u64,
}

impl Bar {
    /// For so many of `what`, of which some may be done.
    pub(super) fn new(what: &'static str, len: u64, done: u64) -> Result<Self> {
        let shown = if io::stderr().is_terminal() {
            let template =
                format!("{{bar:40}} {{pos}} of {{len}} {what}, {{per_sec}}, {{eta}} left");
            let bar = ProgressBar::new(len).with_style(ProgressStyle::with_template(&template)?);
            bar.set_position(done);
            bar.reset_eta();
            Some(bar)
        } else {
            None
        };
        Ok(Self {
            shown,
            what,
            len,
            told: part(done, len),
        })
    }

    pub(super) fn at(&mut self, done: u64) {
        if let Some(bar) = &self.shown {
            return bar.set_position(done);
        }
        let part = part(done, self.len);
        if part > self.told {
            self.told = part;
            say(&format!("         {done} of {} {}", self.len, self.what));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn part(done: u64, len: u64) -> u64 {
    done * LINES / len.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few() {
        let told = (0..=100_000).map(|done| part(done, 100_000));
        let mut told: Vec<_> = told.collect();
        told.dedup();
        let expected: Vec<_> = (0..=LINES).collect();
        assert_eq!(told, expected);
        assert_eq!(part(0, 0), 0);
    }
}
