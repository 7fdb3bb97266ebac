//! How rows, names and values are laid out, as wide as the screen.

use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

/// A blank on each side of what a column holds.
const PADDING: u16 = 2;

/// Names with their values, one below the other.
pub(crate) fn pairs(rows: impl Iterator<Item = [String; 2]>) -> String {
    pairs_within(screen_width(), rows)
}

/// Rows below a header. Where the screen is too narrow for a word in them, each row by itself: what it holds, by name.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<_> = rows.collect();
    rows_within(screen_width(), header, &rows)
}

/// `None` if nobody is looking, or the screen does not say.
fn screen_width() -> Option<u16> {
    Table::new().width().filter(|width| *width > 0)
}

fn rows_within<const N: usize>(
    width: Option<u16>,
    header: [&str; N],
    rows: &[[String; N]],
) -> String {
    let least = least_widths(header, rows);
    let needed: u32 = least.iter().copied().map(u32::from).sum();
    match width {
        Some(width) if u32::from(width) < needed && !rows.is_empty() => blocks(width, header, rows),
        _ => table_within(width, header, rows, &least),
    }
}

/// Each row by itself, below a line.
fn blocks<const N: usize>(width: u16, header: [&str; N], rows: &[[String; N]]) -> String {
    let line = "─".repeat(width.into());
    let blocks = rows.iter().map(|row| {
        let named = header.iter().zip(row);
        let named = named.map(|(name, value)| [(*name).to_owned(), value.clone()]);
        format!("{line}\n{}", pairs_within(Some(width), named))
    });
    blocks.collect::<Vec<_>>().join("\n")
}

/// How wide each column has to be at least, so that no word in it is broken.
fn least_widths<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<u16> {
    // A cell is as wide as the widest of its lines.
    let apart = |cell: &str| cell.replace(' ', "\n");
    let mut words = Table::new();
    words.set_header(header.map(apart));
    words.add_rows(
        rows.iter()
            .map(|row| row.each_ref().map(|cell| apart(cell))),
    );
    let widths = words.column_max_content_widths().into_iter();
    widths.map(|word| word.saturating_add(PADDING)).collect()
}

fn table_within<const N: usize>(
    width: Option<u16>,
    header: [&str; N],
    rows: &[[String; N]],
    least: &[u16],
) -> String {
    let mut table = within(width);
    let line = LineStyle::none().fill('─');
    table.load_style(TableStyle::new().header_separator(line));
    table.set_header(header).add_rows(rows.to_vec());
    if width.is_some() {
        let widths = least.iter().copied().map(Width::Fixed);
        table.set_constraints(widths.map(ColumnConstraint::LowerBoundary));
    }
    table.trim_fmt()
}

fn pairs_within(width: Option<u16>, rows: impl Iterator<Item = [String; 2]>) -> String {
    let mut table = within(width);
    table.load_style(TableStyle::new());
    table.add_rows(rows);
    table.trim_fmt()
}

fn within(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.force_no_tty();
    if let Some(width) = width {
        table.set_width(width);
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 3] = ["ID", "STATE", "WHY"];

    fn row(cells: [&str; 3]) -> [String; 3] {
        cells.map(str::to_owned)
    }

    fn laid_out(width: Option<u16>) -> String {
        let rows = [
            row(["5f0c1a9e", "ASKED", "every year"]),
            row(["6f0c1a9e", "APPROVED", "-"]),
        ];
        format!("\n{}", rows_within(width, HEADER, &rows))
    }

    #[test]
    fn rows_stand_below_each_other_as_long_as_every_word_has_room() {
        let whole = "
 ID        STATE     WHY
────────────────────────────────
 5f0c1a9e  ASKED     every year
 6f0c1a9e  APPROVED  -";
        for width in [None, Some(32), Some(80), Some(u16::MAX)] {
            assert_eq!(laid_out(width), whole, "{width:?}");
        }
        let narrow = "
 ID        STATE     WHY
───────────────────────────
 5f0c1a9e  ASKED     every
                     year
 6f0c1a9e  APPROVED  -";
        assert_eq!(laid_out(Some(27)), narrow);
        let blocks = "
──────────────────────────
 ID     5f0c1a9e
 STATE  ASKED
 WHY    every year
──────────────────────────
 ID     6f0c1a9e
 STATE  APPROVED
 WHY    -";
        assert_eq!(laid_out(Some(26)), blocks);
    }

    #[test]
    fn words_are_as_wide_as_they_are_seen() {
        let wide = [["日本語".to_owned()]];
        assert!(rows_within(Some(8), ["A"], &wide).starts_with(" A\n"));
        assert!(rows_within(Some(7), ["A"], &wide).starts_with("───────\n A "));
        // Lines of a cell are words of their own.
        let two = [["D0000K0A\ninitial key".to_owned()]];
        assert!(rows_within(Some(10), ["A"], &two).starts_with(" A\n"));
        assert!(rows_within(Some(9), ["A"], &two).starts_with("─────────\n A "));
        let header = ["DECIDED BY"];
        let narrow = rows_within(Some(9), header, &[["ada".to_owned()]]);
        assert!(narrow.starts_with(" DECIDED\n BY\n"), "{narrow}");
    }

    #[test]
    fn without_rows_there_is_a_header_on_every_screen() {
        for width in [None, Some(0), Some(3), Some(80)] {
            let header = rows_within(width, HEADER, &[]);
            assert!(header.starts_with(" ID  STATE  WHY\n"), "{header}");
        }
    }

    #[test]
    fn no_word_is_broken_that_has_room_beside_its_name() {
        let header = [
            "ID",
            "OF",
            "ABOUT",
            "STATE",
            "ASKED BY",
            "WHY",
            "DECIDED BY",
            "EXPIRES",
        ];
        let rows = [
            [
                "5f0c1a9e",
                "EXPORT_TARGET",
                "switch",
                "APPROVED",
                "ada",
                "the acquirer has a new switch, and wants its keys as a stream",
                "bob",
                "2026-01-04T00:00:00Z",
            ],
            [
                "6f0c1a9e",
                "STORAGE_ROTATION",
                "pair 2",
                "ASKED",
                "bob",
                "yearly",
                "-",
                "2026-02-04T00:00:00Z",
            ],
        ];
        let rows = rows.map(|row| row.map(str::to_owned));
        let words = rows.iter().flatten().flat_map(|cell| cell.split(' '));
        let words: Vec<_> = header
            .iter()
            .flat_map(|name| name.split(' '))
            .chain(words)
            .collect();
        let widest_pair = "DECIDED BY".len() + "2026-01-04T00:00:00Z".len() + 4;
        for width in widest_pair..200 {
            let shown = rows_within(u16::try_from(width).ok(), header, &rows);
            for line in shown.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            for word in &words {
                let found = shown.split_whitespace().any(|found| found == *word);
                assert!(found, "{width}: {word}: {shown}");
            }
        }
    }
}
