//! A component that is given out is shown to its custodian, once.

use hsm::{ClearKey, Kcv};
use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step};
use crate::people::{Component, component::spelled};

pub(crate) struct ShowComponent<'a> {
    pub(crate) component: &'a Component<'a>,
    pub(crate) value: &'a ClearKey,
    pub(crate) kcv: &'a Kcv,
}

impl Step for ShowComponent<'_> {
    type Answer = ();

    fn draw(&mut self, pen: &mut Pen<'_>, _guide: &Guide) -> Option<Position> {
        let Component {
            custodian,
            number,
            of,
            ..
        } = *self.component;
        pen.bold(&format!(
            "{custodian} writes down component {number} of {of}"
        ));
        pen.line(&format!(
            "of key {}, {}",
            self.component.key, self.component.kind
        ));
        pen.skip();
        pen.wrapped("It is shown this once. Write both down on your sheet and compare them twice.");
        pen.skip();
        // Straight into the buffer that is wiped: nothing else has a copy.
        for line in spelled(self.value).lines() {
            pen.indented(line);
        }
        pen.line(&format!("    check value  {}", self.kcv));
        None
    }

    fn keys(&self) -> &'static str {
        "w both are written down, clear the screen | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<()> {
        matches!(key, Key::Char('w' | 'W')).then_some(())
    }
}
