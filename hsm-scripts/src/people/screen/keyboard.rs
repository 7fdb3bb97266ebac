//! Keys, out of the bytes that a terminal in raw mode sends for them.

use std::time::Duration;

use crate::{
    CeremonyError,
    people::input::{Arrival, CTRL_C, Input},
};

/// The bytes of one key come together; a lone Escape is followed by nothing.
const TOGETHER: Duration = Duration::from_millis(30);
const ESCAPE: u8 = 0x1b;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Backspace,
    /// Ctrl-U: begin again.
    Clear,
    Up,
    Down,
    PageUp,
    PageDown,
    /// Ctrl-C.
    Interrupt,
    /// The terminal has another size.
    Resize,
    /// One that means nothing here.
    Other,
}

/// The next key; `None` if there was none for as long as that was waited for.
pub(super) fn key(
    input: &mut Input,
    patience: Option<Duration>,
) -> Result<Option<Key>, CeremonyError> {
    let byte = match input.next(patience)? {
        Arrival::Byte(byte) => byte,
        Arrival::Interrupt => return Ok(Some(Key::Interrupt)),
        Arrival::Resize => return Ok(Some(Key::Resize)),
        Arrival::Nothing => return Ok(None),
    };
    Ok(Some(match byte {
        CTRL_C => Key::Interrupt,
        b'\r' | b'\n' => Key::Enter,
        0x08 | 0x7f => Key::Backspace,
        0x15 => Key::Clear,
        ESCAPE => sequence(input)?,
        0x20..=0x7e => Key::Char(byte.into()),
        0xc2.. => character(input, byte)?,
        _ => Key::Other,
    }))
}

/// What comes with a key; nothing, if that was all.
fn more(input: &mut Input) -> Result<Option<u8>, CeremonyError> {
    Ok(match input.next(Some(TOGETHER))? {
        Arrival::Byte(byte) => Some(byte),
        _ => None,
    })
}

/// A key that is sent as a control sequence (ECMA-48 5.4), or by a terminal in its application mode.
fn sequence(input: &mut Input) -> Result<Key, CeremonyError> {
    let Some(b'[' | b'O') = more(input)? else {
        return Ok(Key::Other);
    };
    let mut parameter = None;
    while let Some(byte) = more(input)? {
        match byte {
            b'A' if parameter.is_none() => return Ok(Key::Up),
            b'B' if parameter.is_none() => return Ok(Key::Down),
            b'~' if parameter == Some(b'5') => return Ok(Key::PageUp),
            b'~' if parameter == Some(b'6') => return Ok(Key::PageDown),
            0x40..=0x7e => break,
            // A second parameter makes it another key.
            _ => parameter = Some(if parameter.is_none() { byte } else { 0 }),
        }
    }
    Ok(Key::Other)
}

/// A character beyond ASCII, in UTF-8.
fn character(input: &mut Input, first: u8) -> Result<Key, CeremonyError> {
    let mut bytes = [first, 0, 0, 0];
    let len = match first {
        ..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    for place in &mut bytes[1..len] {
        match more(input)? {
            Some(byte) => *place = byte,
            None => return Ok(Key::Other),
        }
    }
    let text = str::from_utf8(&bytes[..len]).ok();
    let character = text.and_then(|text| text.chars().next());
    Ok(character.map_or(Key::Other, Key::Char))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream};

    use super::*;

    /// The keys that these bytes are.
    fn keys(bytes: &[u8]) -> Vec<Key> {
        let (source, mut terminal) = UnixStream::pair().unwrap();
        let mut input = Input::of(source.into()).unwrap();
        terminal.write_all(bytes).unwrap();
        let mut keys = Vec::new();
        while let Some(key) = key(&mut input, Some(Duration::ZERO)).unwrap() {
            keys.push(key);
        }
        keys
    }

    #[test]
    fn keys_are_what_terminals_send_for_them() {
        for (bytes, expected) in [
            (&b"a"[..], Key::Char('a')),
            (b" ", Key::Char(' ')),
            (b"~", Key::Char('~')),
            ("\u{e9}".as_bytes(), Key::Char('\u{e9}')),
            ("\u{9375}".as_bytes(), Key::Char('\u{9375}')),
            ("\u{1f511}".as_bytes(), Key::Char('\u{1f511}')),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x15", Key::Clear),
            (b"\x03", Key::Interrupt),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[B", Key::Down),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
        ] {
            assert_eq!(keys(bytes), [expected], "{bytes:?}");
        }
    }

    /// And nothing of them is taken for a character.
    #[test]
    fn what_is_no_key_of_ours_is_one_that_means_nothing() {
        for bytes in [
            &b"\x00"[..],
            b"\t",
            b"\x04",
            b"\x1b",
            b"\x1bx",
            b"\x1b[",
            b"\x1b[C",
            b"\x1b[5",
            b"\x1b[5A",
            b"\x1b[1;5A",
            b"\x1b[15~",
            b"\x1b[5;5~",
            b"\x1b[55~",
            b"\x1b[200~",
            b"\x1bOP",
            b"\x80",
            b"\xc0",
            b"\xc3",
            b"\xc3a",
            b"\xe9\x8d",
            b"\xed\xa0\x80",
            b"\xf8\x88\x80\x80",
            b"\xff",
        ] {
            assert_eq!(keys(bytes), [Key::Other], "{bytes:?}");
        }
    }

    #[test]
    fn keys_that_come_together_are_taken_one_by_one() {
        let expected = [
            Key::Up,
            Key::Char('7'),
            Key::Other,
            Key::Char('A'),
            Key::Enter,
        ];
        assert_eq!(keys(b"\x1b[A7\x1b[CA\r"), expected);
        let many = vec![b'7'; 1000];
        assert_eq!(keys(&many), vec![Key::Char('7'); 1000]);
    }

    #[test]
    fn an_end_of_the_input_is_an_error() {
        let (source, terminal) = UnixStream::pair().unwrap();
        let mut input = Input::of(source.into()).unwrap();
        drop(terminal);
        let error = key(&mut input, None).unwrap_err().to_string();
        assert_eq!(
            error,
            "stopped: nobody answers: the input has ended; start again when somebody does"
        );
    }
}
