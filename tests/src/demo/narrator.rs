//! Says what happens and where.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::Error;
use system_tests::process::Failed;

/// Where nobody listens any more, the work goes on.
pub(crate) fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Tells the story in numbered steps.
#[derive(Debug, Default)]
pub(crate) struct Narrator {
    number: usize,
    title: String,
    since: Option<Instant>,
    logs: PathBuf,
}

impl Narrator {
    /// Where to look if nothing better is known.
    pub(crate) fn logs_are_in(&mut self, folder: PathBuf) {
        self.logs = folder;
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, title: &str) {
        self.number += 1;
        title.clone_into(&mut self.title);
        self.since = Some(Instant::now());
        print(&format!("\n{:>2}  {title}", self.number));
    }

    /// Says something about this step.
    #[expect(clippy::unused_self, reason = "only a narrator speaks")]
    pub(crate) fn say(&self, text: &str) {
        for line in text.lines() {
            print(&format!("    {line}"));
        }
    }

    /// How long this step has taken.
    pub(crate) fn took(&self) -> String {
        let took = self.since.map(|since| since.elapsed());
        format!("{:.2} s", took.unwrap_or_default().as_secs_f32())
    }

    /// The one line that says what failed and where to look.
    pub(crate) fn failure(&self, error: &Error) -> String {
        let log = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failed>())
            .map_or(&self.logs, |Failed(ended)| &ended.log);
        let at = if self.title.is_empty() {
            "the start"
        } else {
            &self.title
        };
        let cause = format!("{error:#}").replace('\n', " | ");
        format!("demo: FAILED at \"{at}\": {cause} (log: {})", log.display())
    }
}
