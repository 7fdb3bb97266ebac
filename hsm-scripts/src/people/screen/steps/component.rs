//! A custodian types a component.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, show_news, status, typing};
use crate::people::{Component, Typed, Typing, component::MAX_TYPED};

pub(crate) struct EnterComponent<'a> {
    component: &'a Component<'a>,
    why: Typing,
    /// Digits only.
    typed: Typed,
    complaint: Option<String>,
}

impl<'a> EnterComponent<'a> {
    pub(crate) fn new(component: &'a Component<'a>, why: Typing) -> Self {
        Self {
            component,
            why,
            typed: Typed::with_room(MAX_TYPED),
            complaint: None,
        }
    }

    /// What has to be said of what was typed so far.
    fn verdict(&self) -> String {
        let (count, digits) = (self.typed.count(), self.component.digits());
        if count < digits {
            return format!("{count} of {digits} digits");
        }
        if count > digits {
            let more = count - digits;
            return format!("{count} of {digits} digits: {more} too many");
        }
        match self.component.read(&self.typed) {
            Ok(clear) => match self.component.parity(&clear) {
                Some(parity) => format!("{count} of {digits} digits, {parity}"),
                None => format!("{count} of {digits} digits"),
            },
            Err(fault) => fault,
        }
    }
}

impl Step for EnterComponent<'_> {
    type Answer = Typed;

    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position> {
        let Component {
            custodian,
            number,
            of,
            ..
        } = *self.component;
        let (back, instruction) = match self.why {
            Typing::Enter => (
                "",
                "Type it from your sheet. It is not shown: a star stands for each digit. The HSM answers \
                 with its check value, which you then compare with your sheet.",
            ),
            Typing::Back => (
                " back",
                "Type it from your sheet, to show that it is written down. It is not shown: a star stands \
                 for each digit.",
            ),
        };
        pen.bold(&format!(
            "{custodian} types component {number} of {of}{back}"
        ));
        pen.line(&format!(
            "of key {}, {}",
            self.component.key, self.component.kind
        ));
        pen.skip();
        pen.wrapped(instruction);
        pen.skip();
        let count = self.typed.count();
        let stars = std::iter::repeat_n('*', count);
        let cursor = typing(pen, stars, count, self.component.digits());
        status(pen, self.complaint.as_deref(), &self.verdict());
        show_news(pen, guide);
        Some(cursor)
    }

    fn keys(&self) -> &'static str {
        "Enter to the HSM | Backspace take back | Ctrl-U begin again | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<Typed> {
        self.complaint = None;
        let (count, digits) = (self.typed.count(), self.component.digits());
        match key {
            Key::Char(typed) if typed.is_ascii_hexdigit() => {
                let fits = self.typed.push(typed);
                let complaint = "That is far too much; nothing was added.";
                self.complaint = (!fits).then(|| complaint.to_owned());
            }
            // Components are printed in groups.
            Key::Char(' ' | '-') => {}
            Key::Char(_) => {
                let complaint = "That was not 0 to 9 or A to F; nothing was added.";
                self.complaint = Some(complaint.to_owned());
            }
            Key::Backspace => self.typed.take_back(),
            Key::Clear => self.typed.clear(),
            Key::Enter if count == digits => return Some(self.typed.take()),
            Key::Enter => {
                self.complaint = Some(format!(
                    "{kind} has {digits} digits, and {count} were typed. Nothing was used.",
                    kind = self.component.kind
                ));
            }
            _ => {}
        }
        None
    }
}
