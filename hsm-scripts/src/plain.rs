//! Text that people read on a screen and trust: nothing in it moves the cursor, hides, or turns the
//! order of what is beside it round.

use icu_properties::props::{BinaryProperty as _, DefaultIgnorableCodePoint};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a character shows as itself and changes nothing else. Variation selectors and fillers do not show.
pub(crate) fn is_plain(character: char) -> bool {
    let changes = matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    !changes && !DefaultIgnorableCodePoint::for_char(character)
}

/// Several lines, each of them as [`escaped`]: what a token, a file or a certificate says in them moves nothing on the
/// screen.
pub fn escaped_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(escaped).collect();
    lines.join("\n")
}

/// The text with everything that is not plain written as `\u{…}`, to speak about it.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_unicode());
        }
    }
    escaped
}
