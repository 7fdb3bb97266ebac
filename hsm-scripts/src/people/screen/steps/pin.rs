//! A token's PIN is typed.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, status};
use crate::people::{MAX_PIN_LEN, Typed};

pub(crate) struct EnterPin<'a> {
    token: &'a str,
    holder: Option<&'a str>,
    typed: Typed,
    complaint: Option<&'static str>,
}

impl<'a> EnterPin<'a> {
    pub(crate) fn new(token: &'a str, holder: Option<&'a str>) -> Self {
        Self {
            token,
            holder,
            typed: Typed::with_room(MAX_PIN_LEN),
            complaint: None,
        }
    }
}

impl Step for EnterPin<'_> {
    type Answer = Typed;

    fn draw(&mut self, pen: &mut Pen<'_>, _guide: &Guide) -> Option<Position> {
        let holder = self.holder.unwrap_or("Whoever holds the PIN");
        pen.bold(&format!("PIN of token {:?}", self.token));
        pen.skip();
        pen.wrapped(&format!(
            "{holder}: only you look at the keyboard. Make sure of the PIN: a wrong one is tried \
             once, and the ceremony ends, so that the token is not locked."
        ));
        pen.skip();
        let count = self.typed.count();
        // A long one does not have to be seen to its end.
        let cursor = pen.line(&format!("> {}", "*".repeat(count.min(40))));
        status(pen, self.complaint, &format!("{count} characters"));
        Some(cursor)
    }

    fn keys(&self) -> &'static str {
        "Enter go on | Backspace take back | Ctrl-U begin again | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<Typed> {
        self.complaint = None;
        match key {
            Key::Char(character) => {
                let fits = self.typed.push(character);
                self.complaint = (!fits).then_some("No token has a longer PIN; nothing was added.");
            }
            Key::Backspace => self.typed.take_back(),
            Key::Clear => self.typed.clear(),
            Key::Enter if self.typed.count() == 0 => {
                self.complaint = Some("Nothing was typed yet.");
            }
            Key::Enter => return Some(self.typed.take()),
            _ => {}
        }
        None
    }
}
