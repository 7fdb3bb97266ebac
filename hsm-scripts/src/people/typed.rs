//! What somebody typed and nobody else may see.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

/// Text that is not shown: a component or a PIN. No Clone; wiped on drop.
///
/// It never takes more than it was made for: to grow would leave a copy behind.
#[must_use]
pub struct Typed(Zeroizing<String>);

impl Typed {
    /// Nothing yet, with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(Zeroizing::new(String::with_capacity(bytes)))
    }

    /// A copy of `text`; the caller wipes the original.
    pub fn copy_from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Adds a character, if there is room for it.
    pub fn push(&mut self, character: char) -> bool {
        let fits = self.0.len() + character.len_utf8() <= self.0.capacity();
        if fits {
            self.0.push(character);
        }
        fits
    }

    /// Characters so far.
    pub fn count(&self) -> usize {
        self.0.chars().count()
    }

    /// What was typed, and no more to be typed here.
    pub fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    /// Takes the last character back. Its bytes are wiped with the rest.
    pub fn take_back(&mut self) {
        self.0.pop();
    }

    /// Wipes what there is, to begin again.
    pub fn clear(&mut self) {
        self.0.zeroize();
    }

    /// The only reader; a reviewer searches for this name.
    pub fn expose_typed(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_never_moves() {
        let mut typed = Typed::with_room(4);
        let place = typed.expose_typed().as_ptr();
        for character in ['1', '\u{e9}', '3'] {
            assert!(typed.push(character));
        }
        // The second has two bytes.
        assert!(!typed.push('4'));
        assert_eq!((typed.expose_typed(), typed.count()), ("1\u{e9}3", 3));
        typed.take_back();
        assert!(!typed.push('\u{9375}'));
        assert!(typed.push('4'));
        assert_eq!(typed.expose_typed(), "1\u{e9}4");
        typed.clear();
        assert_eq!(typed.expose_typed(), "");
        for _ in 0..4 {
            assert!(typed.push('5'));
        }
        assert_eq!(typed.expose_typed().as_ptr(), place);
        let taken = typed.take();
        assert_eq!((taken.expose_typed(), typed.count()), ("5555", 0));
        assert_eq!(taken.expose_typed().as_ptr(), place);
        assert!(!typed.push('6'));
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Typed::copy_from("1234")), "Typed(..)");
    }
}
