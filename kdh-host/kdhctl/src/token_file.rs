//! Tokens that are written into files.

use std::{fs::OpenOptions, io::Write, path::Path};

use der::pem::{self, LineEnding};

use crate::failure::Failure;

/// As RFC 7468 has it.
const PEM_LABEL: &str = "CMS";

/// Refuses a file that is there: a token that goes nowhere counts as having left all the same.
pub(crate) fn require_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let path = path.display();
        return Err(Failure::usage(format!(
            "--out {path}: nothing is overwritten"
        )));
    }
    Ok(())
}

/// Writes a token as PEM, behind lines of text, into a file that does not exist yet. `again` is what to do if
/// that fails.
pub(crate) fn write_new(
    path: &Path,
    text: &str,
    token: &[u8],
    again: &'static str,
) -> Result<(), Failure> {
    let pem = pem::encode_string(PEM_LABEL, LineEnding::LF, token)
        .map_err(|error| fault(path, &error, again))?;
    write_new_text(path, &format!("{text}{pem}"), again)
}

/// Writes text into a file that does not exist yet.
pub(crate) fn write_new_text(path: &Path, text: &str, again: &'static str) -> Result<(), Failure> {
    write_new_bytes(path, text.as_bytes(), again)
}

/// Writes bytes into a file that does not exist yet.
pub(crate) fn write_new_bytes(
    path: &Path,
    bytes: &[u8],
    again: &'static str,
) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| fault(path, &error, again))
}

fn fault(path: &Path, fault: &dyn std::fmt::Display, again: &'static str) -> Failure {
    Failure::failed(format!("--out {}: {fault}", path.display()), Some(again))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const AGAIN: &str = "do it again";

    #[test]
    fn a_token_is_written_as_pem_and_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.pem");
        require_new(&path).unwrap();
        write_new(&path, "", &[0x30, 0x00], AGAIN).unwrap();
        assert_eq!(require_new(&path).unwrap_err().exit_code, 2);
        let written = || std::fs::read_to_string(&path).unwrap();
        let pem = "-----BEGIN CMS-----\nMAA=\n-----END CMS-----\n";
        assert_eq!(written(), pem);
        let taken = write_new(&path, "", &[0x30, 0x03], AGAIN).unwrap_err();
        assert_eq!(taken.exit_code, 1);
        for part in ["token.pem", AGAIN] {
            assert!(taken.to_string().contains(part), "{taken}");
        }
        assert_eq!(written(), pem);
        write_new(&folder.path().join("none/token.pem"), "", &[0x30], AGAIN).unwrap_err();
        write_new(folder.path(), "", &[0x30], AGAIN).unwrap_err();
    }
}
