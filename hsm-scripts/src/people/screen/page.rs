//! A page: the title, the guide, one step of the ceremony, and the keys.
//!
//! All of it is ASCII but for names, and says nothing by colour alone: it is read on serial consoles too.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Position, Rect, Size},
    style::Style,
    text::Span,
};

use super::{guide::Guide, steps::Step};

/// The least that a page takes.
pub(super) const LEAST: Size = Size::new(80, 24);
/// Rows of the guide on the smallest console.
const GUIDE: u16 = 5;
/// Everything is set off from the edge.
const MARGIN: u16 = 1;
/// Columns of a mark of the guide, before its text.
const MARK: usize = 8;

/// Draws a step of the ceremony, or says that there is no room for it.
pub(super) fn draw(frame: &mut Frame<'_>, guide: &Guide, step: &mut impl Step) {
    let area = frame.area();
    let mut cursor = None;
    if fits(area.as_size()) {
        let mut pen = Pen::new(frame.buffer_mut(), area);
        title(&mut pen, guide);
        pen.rule();
        let extra = (area.height - LEAST.height) / 2;
        show_guide(&mut pen, guide, GUIDE + extra);
        pen.rule();
        cursor = step.draw(&mut pen.without_last(2), guide);
        pen.row = area.bottom() - 2;
        pen.rule();
        pen.line(step.keys());
    } else {
        let mut pen = Pen::new(frame.buffer_mut(), area);
        pen.wrapped(&too_small(area.as_size()));
        pen.wrapped("Make it larger: nothing is lost.");
        pen.wrapped(if step.needs_no_room() {
            step.keys()
        } else {
            "Ctrl-C stop"
        });
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

pub(super) const fn fits(size: Size) -> bool {
    size.width >= LEAST.width && size.height >= LEAST.height
}

pub(super) fn too_small(size: Size) -> String {
    format!(
        "This console has {} x {} characters; the screens of a ceremony take {} x {}.",
        size.width, size.height, LEAST.width, LEAST.height
    )
}

fn title(pen: &mut Pen<'_>, guide: &Guide) {
    let row = pen.row;
    let progress = guide.progress();
    let room = pen.width().saturating_sub(Span::raw(&progress).width() + 2);
    pen.line(&fitted(&guide.agenda.title, room));
    pen.right(row, &progress);
    let bar = Rect::new(pen.area.x, row, pen.area.width, 1);
    pen.buffer.set_style(bar, Style::new().reversed());
}

/// As many stations as there is room for, the one of now among them and one that was done before it.
fn show_guide(pen: &mut Pen<'_>, guide: &Guide, rows: u16) {
    let end = pen.row + rows;
    let rows = usize::from(rows);
    let last_start = guide.stations.len().saturating_sub(rows);
    let start = guide.at.saturating_sub(1).min(last_start);
    let shown = guide.stations.iter().enumerate().skip(start).take(rows);
    for (index, station) in shown {
        let (mark, style) = match index.cmp(&guide.at) {
            _ if station.failed => ("FAILED", Style::new().bold()),
            std::cmp::Ordering::Less => ("done", Style::new()),
            std::cmp::Ordering::Equal => ("NOW", Style::new().bold()),
            std::cmp::Ordering::Greater => ("next", Style::new()),
        };
        let room = pen.width() - MARK;
        pen.styled(
            &format!("{mark:<6}  {}", fitted(&station.text, room)),
            style,
        );
    }
    pen.row = end;
}

/// Writes one row after the other.
pub(super) struct Pen<'b> {
    buffer: &'b mut Buffer,
    area: Rect,
    row: u16,
}

impl<'b> Pen<'b> {
    fn new(buffer: &'b mut Buffer, area: Rect) -> Self {
        let row = area.y;
        Self { buffer, area, row }
    }

    /// The rows from here, without the last ones.
    fn without_last(&mut self, rows: u16) -> Pen<'_> {
        let area = Rect {
            height: self.area.height - rows,
            ..self.area
        };
        Pen {
            buffer: self.buffer,
            area,
            row: self.row,
        }
    }

    pub(super) fn width(&self) -> usize {
        (self.area.width.saturating_sub(2 * MARGIN)).into()
    }

    /// Rows that are left.
    pub(super) fn rows(&self) -> usize {
        self.area.bottom().saturating_sub(self.row).into()
    }

    pub(super) fn skip(&mut self) {
        self.row += 1;
    }

    /// A row; what does not fit is left out. Returns where it ends.
    pub(super) fn line(&mut self, text: &str) -> Position {
        self.styled(text, Style::new())
    }

    /// Where a character of the next row stands.
    pub(super) fn at(&self, column: usize) -> Position {
        let column = u16::try_from(column).unwrap_or(u16::MAX);
        Position::new(self.area.x + MARGIN + column, self.row)
    }

    /// A row that is set off, of which there is no copy but in the buffer.
    pub(super) fn indented(&mut self, text: &str) {
        let Position { x, y } = self.at(4);
        self.row += 1;
        if y < self.area.bottom() {
            self.buffer
                .set_stringn(x, y, text, self.width() - 4, Style::new().bold());
        }
    }

    pub(super) fn wrapped_bold(&mut self, text: &str) {
        for line in wrapped(text, self.width()) {
            self.bold(&line);
        }
    }

    pub(super) fn bold(&mut self, text: &str) {
        self.styled(text, Style::new().bold());
    }

    fn styled(&mut self, text: &str, style: Style) -> Position {
        let row = self.row;
        self.row += 1;
        let start = self.area.x + MARGIN;
        if row >= self.area.bottom() {
            return Position::new(start, self.area.bottom().saturating_sub(1));
        }
        let (end, _) = self
            .buffer
            .set_stringn(start, row, text, self.width(), style);
        Position::new(end, row)
    }

    /// Text at the right of a row.
    pub(super) fn right(&mut self, row: u16, text: &str) {
        let width = Span::raw(text).width().min(self.width());
        let start = self.area.right() - MARGIN - u16::try_from(width).unwrap_or_default();
        self.buffer
            .set_stringn(start, row, text, width, Style::new());
    }

    /// The row that was written last.
    pub(super) const fn last_row(&self) -> u16 {
        self.row.saturating_sub(1)
    }

    /// Text in as many rows as it takes.
    pub(super) fn wrapped(&mut self, text: &str) {
        for line in wrapped(text, self.width()) {
            self.line(&line);
        }
    }

    fn rule(&mut self) {
        if self.row < self.area.bottom() {
            let dashes = "-".repeat(self.area.width.into());
            let (x, y) = (self.area.x, self.row);
            self.buffer.set_string(x, y, dashes, Style::new());
        }
        self.row += 1;
    }
}

/// Whether a text of the guide is whole on the smallest console.
pub(super) fn fits_guide(text: &str) -> bool {
    Span::raw(text).width() + MARK + usize::from(2 * MARGIN) <= usize::from(LEAST.width)
}

/// Text that fits, or its beginning with dots behind.
fn fitted(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut fitted = String::new();
    for character in text.chars() {
        fitted.push(character);
        if Span::raw(&fitted).width() + 3 > width {
            fitted.pop();
            break;
        }
    }
    fitted + "..."
}

/// Text in lines that fit; those behind the first are indented as it is.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let indent = paragraph.len() - paragraph.trim_start().len();
        let indent = " ".repeat(indent.min(width / 2));
        let mut line = indent.clone();
        for word in paragraph.split_whitespace() {
            // A word that is too long for any line goes into several.
            for piece in pieces(word, width - indent.len()) {
                let blank = usize::from(line.len() > indent.len());
                if Span::raw(&line).width() + blank + Span::raw(&piece).width() > width {
                    lines.push(std::mem::replace(&mut line, indent.clone()));
                } else if blank == 1 {
                    line.push(' ');
                }
                line.push_str(&piece);
            }
        }
        lines.push(line);
    }
    lines
}

fn pieces(word: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for character in word.chars() {
        if let Some(piece) = pieces.last_mut() {
            piece.push(character);
            if Span::raw(&*piece).width() > width {
                piece.pop();
                pieces.push(character.into());
            }
        }
    }
    pieces
}
