//! The steps of a ceremony as the screen shows them: one page each.

mod alone;
mod check_value;
mod component;
mod digest;
mod end;
mod pin;
mod shown;
mod stop;
mod working;

use ratatui::layout::Position;

pub(super) use self::{
    alone::Alone, check_value::CheckValue, component::EnterComponent, digest::ConfirmDigest,
    end::End, pin::EnterPin, shown::ShowComponent, stop::Stop, working::Working,
};
use super::{
    guide::Guide,
    keyboard::Key,
    page::{Pen, wrapped},
};
use crate::people::digest::{GROUP, GROUPS_PER_LINE};

/// What happens now, and how it is answered.
pub(super) trait Step {
    type Answer;

    /// Draws it; returns where the cursor stands, if something is typed.
    fn draw(&mut self, pen: &mut Pen<'_>, guide: &Guide) -> Option<Position>;
    /// What each key does.
    fn keys(&self) -> &'static str;
    /// Takes a key; returns the answer when that was the last one.
    fn press(&mut self, key: Key) -> Option<Self::Answer>;
    /// Whether Ctrl-C asks to stop the ceremony; it is a key like others where not.
    fn can_be_stopped(&self) -> bool {
        true
    }
    /// Whether its keys work on a console that has no room for it.
    fn needs_no_room(&self) -> bool {
        false
    }
}

/// What is typed in groups, with a place for each character that is to come. Returns where the cursor
/// stands.
fn typing(
    pen: &mut Pen<'_>,
    typed: impl Iterator<Item = char>,
    count: usize,
    of: usize,
) -> Position {
    const PER_LINE: usize = GROUP * GROUPS_PER_LINE;
    let all = count.max(of);
    let mut places = typed.chain(std::iter::repeat('_'));
    let mut cursor = Position::ORIGIN;
    for start in (0..all).step_by(PER_LINE) {
        let mut line = if start == 0 { "> " } else { "  " }.to_owned();
        for index in start..all.min(start + PER_LINE) {
            if index > start && index % GROUP == 0 {
                line.push(' ');
            }
            if index == count {
                cursor = pen.at(line.len());
            }
            line.extend(places.next());
        }
        let end = pen.line(&line);
        if all == count {
            cursor = end;
        }
    }
    cursor
}

/// What was told, as much of its end as there is room for.
fn show_told(pen: &mut Pen<'_>, guide: &Guide) {
    show_end(pen, &guide.told);
}

/// The same of what nobody has answered to yet.
fn show_news(pen: &mut Pen<'_>, guide: &Guide) {
    pen.skip();
    show_end(pen, guide.news());
}

fn show_end(pen: &mut Pen<'_>, told: &[String]) {
    let told = told.iter();
    let lines: Vec<_> = told.flat_map(|text| wrapped(text, pen.width())).collect();
    for line in &lines[lines.len().saturating_sub(pen.rows())..] {
        pen.line(line);
    }
}

/// Under what is typed: what was wrong with the last key, or how far it is.
fn status(pen: &mut Pen<'_>, complaint: Option<&str>, progress: &str) {
    match complaint {
        Some(complaint) => pen.bold(&format!("! {complaint}")),
        None => drop(pen.line(&format!("  {progress}"))),
    }
}
