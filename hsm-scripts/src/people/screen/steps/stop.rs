//! Somebody pressed Ctrl-C.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step};

pub(crate) struct Stop;

impl Step for Stop {
    /// Whether it was meant.
    type Answer = bool;

    fn draw(&mut self, pen: &mut Pen<'_>, _guide: &Guide) -> Option<Position> {
        pen.bold("Ctrl-C was pressed. Stop the ceremony?");
        pen.skip();
        pen.wrapped(
            "What the act of now has made is taken back. Acts that are done stand. The transcript \
             says that it was stopped.",
        );
        pen.skip();
        pen.line("    y  yes, stop it");
        pen.line("    n  no, go on where it was");
        None
    }

    fn keys(&self) -> &'static str {
        "y stop the ceremony | n go on"
    }

    fn press(&mut self, key: Key) -> Option<bool> {
        match key {
            Key::Char('y' | 'Y') => Some(true),
            Key::Char('n' | 'N') => Some(false),
            _ => None,
        }
    }

    fn needs_no_room(&self) -> bool {
        true
    }
}
