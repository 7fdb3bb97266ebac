//! The HSM is at work, and the people wait.

use std::{convert::Infallible, time::Duration};

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, show_told};

pub(crate) struct Working {
    /// For how long.
    pub(crate) elapsed: Duration,
    /// Ctrl-C was pressed meanwhile.
    pub(crate) interrupted: bool,
}

impl Step for Working {
    type Answer = Infallible;

    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position> {
        let turn = usize::try_from(self.elapsed.as_millis() / 250).unwrap_or_default();
        let spinner = ['|', '/', '-', '\\'][turn % 4];
        let seconds = self.elapsed.as_secs();
        pen.bold(&format!("{spinner} The HSM is at work: {seconds} s"));
        pen.line("To make an RSA key can take a minute or two.");
        if self.interrupted {
            pen.bold("Ctrl-C was pressed. You are asked as soon as the HSM has answered.");
        } else {
            pen.skip();
        }
        pen.skip();
        show_told(pen, guide);
        None
    }

    fn keys(&self) -> &'static str {
        "Ctrl-C stop"
    }

    fn press(&mut self, _key: Key) -> Option<Infallible> {
        None
    }
}
