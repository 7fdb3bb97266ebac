//! An officer confirms the plan.

use ratatui::layout::Position;

use super::{Guide, Key, Pen, Step, status, typing};
use crate::people::{
    digest::{GROUPS_PER_LINE, MIN_TYPED, grouped},
    screen::page::wrapped,
};

/// Characters of the whole digest.
const ROOM: usize = 64;

pub(crate) struct ConfirmDigest<'a> {
    officer: &'a str,
    /// Without the blanks between groups.
    typed: String,
    /// The first row of the plan that is shown.
    from: usize,
    /// How many of its rows are.
    shown: usize,
    /// All of the plan was on the screen.
    is_read: bool,
    complaint: Option<&'static str>,
}

impl<'a> ConfirmDigest<'a> {
    pub(crate) const fn new(officer: &'a str) -> Self {
        Self {
            officer,
            typed: String::new(),
            from: 0,
            shown: 0,
            is_read: false,
            complaint: None,
        }
    }

    fn show_plan(&mut self, pen: &mut Pen<'_>, guide: &Guide, rows: usize) {
        let agenda = &guide.agenda;
        let tokens = agenda.tokens.iter().cloned();
        let acts = agenda.acts.iter().enumerate();
        let acts = acts.map(|(index, act)| format!("{}. {act}", index + 1));
        let warning = agenda.warning().map(str::to_owned);
        let lines: Vec<_> = warning
            .into_iter()
            .chain(agenda.notes.iter().cloned())
            .chain([agenda.title.clone()])
            .chain(tokens)
            .chain(acts)
            .flat_map(|text| wrapped(&format!("  {text}"), pen.width()))
            .collect();
        self.from = self.from.min(lines.len().saturating_sub(rows));
        let to = lines.len().min(self.from + rows);
        self.shown = to - self.from;
        self.is_read |= to == lines.len();
        pen.line("The plan:");
        if lines.len() > rows {
            let part = format!("rows {} to {to} of {}", self.from + 1, lines.len());
            pen.right(pen.last_row(), &part);
        }
        for index in 0..rows {
            match lines.get(self.from + index) {
                Some(line) => drop(pen.line(line)),
                None => pen.skip(),
            }
        }
    }
}

impl Step for ConfirmDigest<'_> {
    type Answer = String;

    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position> {
        pen.line("Digest of the plan (SHA-256):");
        pen.wrapped(&grouped(&guide.agenda.digest));
        // Those above and below the plan.
        let others = if self.typed.len() > MIN_TYPED { 8 } else { 7 };
        let rows = pen.rows().saturating_sub(others);
        self.show_plan(pen, guide, rows);
        pen.skip();
        let officer = self.officer;
        pen.bold(&format!(
            "{officer}: compare all of the digest with your printout."
        ));
        pen.line(&format!(
            "Then type its first line ({GROUPS_PER_LINE} groups) from the printout, or more of it."
        ));
        pen.line("Anything else ends the ceremony; no token was opened yet.");
        let count = self.typed.len();
        let cursor = typing(pen, self.typed.chars(), count, MIN_TYPED);
        let progress = format!("{count} of {MIN_TYPED} characters");
        status(pen, self.complaint, &progress);
        Some(cursor)
    }

    fn keys(&self) -> &'static str {
        "Enter confirm | Backspace | Ctrl-U begin again | Up Down read on | Ctrl-C stop"
    }

    fn press(&mut self, key: Key) -> Option<String> {
        self.complaint = None;
        match key {
            Key::Char(typed) if typed.is_ascii_hexdigit() => {
                if self.typed.len() == ROOM {
                    self.complaint = Some("The digest has no more characters; nothing was added.");
                } else {
                    self.typed.push(typed);
                }
            }
            // Blanks and dashes stand between groups.
            Key::Char(other) if ![' ', '-'].contains(&other) => {
                self.complaint = Some("A digest has 0 to 9 and a to f only; nothing was added.");
            }
            Key::Backspace => drop(self.typed.pop()),
            Key::Clear => self.typed.clear(),
            Key::Up => self.from = self.from.saturating_sub(1),
            Key::Down => self.from += 1,
            Key::PageUp => self.from = self.from.saturating_sub(self.shown),
            Key::PageDown => self.from += self.shown,
            Key::Enter if !self.is_read => {
                self.complaint =
                    Some("The plan goes on: read it to its end with Down or Page Down.");
            }
            Key::Enter if self.typed.len() < MIN_TYPED => {
                self.complaint = Some("That is not the whole first line yet.");
            }
            Key::Enter => return Some(std::mem::take(&mut self.typed)),
            _ => {}
        }
        None
    }
}
