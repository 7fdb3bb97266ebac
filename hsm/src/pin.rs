//! PINs: from a file of the user's own that nobody else can read, or from a prompt.

use std::{
    fmt,
    io::{self, Read},
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{HsmError, open_private_file};

/// Longer than any token's PIN.
const MAX_PIN_LEN: usize = 255;

/// A token's PIN, wiped when dropped.
#[derive(Clone)]
pub struct Pin(SecretString);

impl Pin {
    /// From a secret that the caller already holds.
    pub const fn new(pin: SecretString) -> Self {
        Self(pin)
    }

    /// From a file as [`open_private_file`] opens it. One newline at the end is not part of the PIN.
    ///
    /// # Errors
    /// [`HsmError::PinFile`]: the file cannot be read, is another user's, has mode bits for group or
    /// others, is empty, too long, or not UTF-8.
    pub fn from_file(path: &Path) -> Result<Self, HsmError> {
        read_pin(path)
            .map(Self)
            .map_err(|reason| HsmError::PinFile {
                from: path.display().to_string(),
                reason,
            })
    }

    /// From the terminal, with echo off.
    ///
    /// # Errors
    /// [`HsmError::PinFile`]: there is no terminal, or nothing was typed.
    pub fn prompt(prompt: &str) -> Result<Self, HsmError> {
        let failed = |reason: String| HsmError::PinFile {
            from: "prompt".to_owned(),
            reason,
        };
        let pin = rpassword::prompt_password(prompt).map_err(|error| failed(error.to_string()))?;
        if pin.is_empty() {
            return Err(failed("nothing was typed".to_owned()));
        }
        Ok(Self(pin.into()))
    }

    pub(crate) const fn as_secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({} bytes)", self.0.expose_secret().len())
    }
}

fn read_pin(path: &Path) -> Result<SecretString, String> {
    let mut file = open_private_file(path).map_err(|error| error.to_string())?;
    // A fixed buffer: growing would leave copies behind.
    let mut buffer = Zeroizing::new([0_u8; MAX_PIN_LEN + 2]);
    let len = read_up_to(&mut file, buffer.as_mut_slice()).map_err(|error| error.to_string())?;
    let content = &buffer[..len];
    let pin = content.strip_suffix(b"\n").unwrap_or(content);
    match pin.len() {
        0 => Err("empty".to_owned()),
        1..=MAX_PIN_LEN => str::from_utf8(pin)
            .map(|pin| SecretString::from(pin.to_owned()))
            .map_err(|_| "not UTF-8".to_owned()),
        _ => Err(format!("more than {MAX_PIN_LEN} bytes")),
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn pin_file(content: &[u8], mode: u32) -> Result<Pin, HsmError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Pin::from_file(&path)
    }

    fn reason(result: Result<Pin, HsmError>) -> String {
        match result {
            Err(HsmError::PinFile { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_newline_is_not_part_of_the_pin() {
        for (content, pin) in [
            (&b"1234"[..], "1234"),
            (b"1234\n", "1234"),
            (b"1234\n\n", "1234\n"),
            (b" 1234", " 1234"),
        ] {
            for mode in [0o600, 0o400] {
                let read = pin_file(content, mode).unwrap();
                assert_eq!(read.as_secret().expose_secret(), pin);
            }
        }
    }

    #[test]
    fn what_is_not_a_pin_is_refused() {
        assert_eq!(reason(pin_file(b"", 0o600)), "empty");
        assert_eq!(reason(pin_file(b"\n", 0o600)), "empty");
        assert_eq!(reason(pin_file(b"\xff\xfe12", 0o600)), "not UTF-8");
        assert_eq!(reason(pin_file(&[b'1'; 256], 0o600)), "more than 255 bytes");
        assert!(pin_file(&[b'1'; 255], 0o600).is_ok());
    }

    #[test]
    fn what_is_not_a_private_file_is_refused() {
        assert!(reason(pin_file(b"1234", 0o640)).contains("others than its owner"));
        let directory = tempfile::tempdir().unwrap();
        let missing = Pin::from_file(&directory.path().join("nothing"));
        assert!(reason(missing).contains("No such file"));
    }

    #[test]
    fn debug_shows_no_pin() {
        let pin = Pin::new(SecretString::from("1234"));
        assert_eq!(format!("{pin:?}"), "Pin(4 bytes)");
    }
}
