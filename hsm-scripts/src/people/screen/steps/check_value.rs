//! A custodian compares the HSM's answer with their sheet.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step};
use crate::people::{Component, Entered, KcvAnswer};

pub(crate) struct CheckValue<'a> {
    pub(crate) component: &'a Component<'a>,
    pub(crate) entered: &'a Entered,
}

impl Step for CheckValue<'_> {
    type Answer = KcvAnswer;

    fn draw(&mut self, pen: &mut Pen<'_>, _guide: &Guide) -> Option<Position> {
        let Component {
            custodian,
            number,
            of,
            ..
        } = *self.component;
        pen.bold(&format!("{custodian} compares the check value"));
        pen.line(&format!("of component {number} of {of}"));
        pen.skip();
        pen.line("From what was typed, the HSM computed");
        pen.skip();
        pen.bold(&format!("    check value  {}", self.entered.kcv));
        if let Some(parity) = &self.entered.parity {
            pen.line(&format!("    {parity}"));
        }
        pen.skip();
        pen.line("Is this the check value on your sheet?");
        pen.line("    y  yes");
        pen.line("    n  no, I type the component again");
        pen.line("    s  no, and I stop the ceremony");
        None
    }

    fn keys(&self) -> &'static str {
        "y yes | n type again | s stop the ceremony | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<KcvAnswer> {
        match key {
            Key::Char('y' | 'Y') => Some(KcvAnswer::Yes),
            Key::Char('n' | 'N') => Some(KcvAnswer::TypeAgain),
            Key::Char('s' | 'S') => Some(KcvAnswer::Stop),
            _ => None,
        }
    }
}
