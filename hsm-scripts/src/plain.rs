//! Text that people read on a screen and trust: nothing in it moves the cursor, hides, or turns the
//! order of what is beside it round.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a character shows as itself and changes nothing else.
pub(crate) fn is_plain(character: char) -> bool {
    !matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
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
