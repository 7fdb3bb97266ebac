//! One person is left alone with the screen.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, show_news};

pub(crate) struct Alone<'a> {
    pub(crate) person: &'a str,
}

impl Step for Alone<'_> {
    type Answer = ();

    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position> {
        let person = self.person;
        pen.bold(&format!("Now {person}, alone."));
        pen.skip();
        pen.wrapped(
            "Everybody else looks away from the screen and the keyboard, and stays where the witness \
             can see them.",
        );
        pen.skip();
        pen.wrapped(&format!(
            "{person}: open your sheet, and press Enter when nobody else can see screen or keyboard."
        ));
        show_news(pen, guide);
        None
    }

    fn keys(&self) -> &'static str {
        "Enter I am alone | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<()> {
        (key == Key::Enter).then_some(())
    }
}
