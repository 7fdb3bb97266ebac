//! The plan's digest: how it is shown, and what an officer has to type of it.

/// How digests are shown to people.
pub(super) const GROUP: usize = 4;
pub(super) const GROUPS_PER_LINE: usize = 8;
/// Characters of the plan's digest that an officer types at least: the first line. These are 128 bits:
/// too many to find another plan that begins with those of a reviewed one, and also to find two plans
/// that begin alike, of which one is given to the reviewers.
pub(super) const MIN_TYPED: usize = GROUP * GROUPS_PER_LINE;

/// A digest as people compare and type it: groups in indented lines of equal length.
pub(crate) fn grouped(digest: &str) -> String {
    let mut text = String::new();
    for (index, character) in digest.chars().enumerate() {
        if index % (GROUP * GROUPS_PER_LINE) == 0 {
            text.push_str(if index == 0 { "  " } else { "\n  " });
        } else if index % GROUP == 0 {
            text.push(' ');
        }
        text.push(character);
    }
    text
}

/// Whether that is the beginning of the digest, or more of it. Says otherwise what was typed instead.
pub(super) fn judge(typed: &str, digest: &str) -> Result<(), String> {
    let typed = typed.replace([' ', '-'], "").to_ascii_lowercase();
    if typed.len() < MIN_TYPED {
        Err(format!(
            "less than the digest's first {MIN_TYPED} characters"
        ))
    } else if digest.starts_with(&typed) {
        Ok(())
    } else {
        Err("something else than the digest".to_owned())
    }
}
