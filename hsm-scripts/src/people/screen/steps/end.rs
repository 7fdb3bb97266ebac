//! It is over.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, show_told};
use crate::people::{Ending, grouped};

pub(crate) struct End<'a> {
    pub(crate) ending: &'a Ending<'a>,
}

impl Step for End<'_> {
    type Answer = ();

    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position> {
        let Ending {
            outcome,
            transcript,
            head,
        } = self.ending;
        pen.wrapped_bold(outcome);
        pen.skip();
        pen.wrapped(&format!("Transcript: {}", transcript.display()));
        pen.line("Its last hash, for the minutes; printed once more when this screen goes:");
        pen.wrapped(&grouped(head));
        pen.skip();
        show_told(pen, guide);
        None
    }

    fn keys(&self) -> &'static str {
        "Enter leave"
    }

    fn press(&mut self, key: Key) -> Option<()> {
        matches!(key, Key::Enter | Key::Interrupt).then_some(())
    }

    fn can_be_stopped(&self) -> bool {
        false
    }

    fn needs_no_room(&self) -> bool {
        true
    }
}
