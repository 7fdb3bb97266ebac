//! The activation code: from a file that only its owner can read, or typed without echo.

use std::{fs::File, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Far longer than any code.
const MAX_LEN: u64 = 256;

/// Reads the code. A line end behind it is not part of it.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<SecretString> {
    let text = match file {
        Some(path) => from_file(path).with_context(|| path.display().to_string())?,
        None => Zeroizing::new(
            rpassword::prompt_password("Activation code: ")
                .context("cannot ask for the activation code; use --code-file")?,
        ),
    };
    let code = text.trim_end_matches(['\r', '\n']);
    if code.is_empty() {
        bail!("the activation code is empty");
    }
    Ok(SecretString::from(code.to_owned()))
}

fn from_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    // Of the open file: what is checked is what is read.
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("mode {mode:04o} lets others than its owner touch it; 0600 or 0400 is needed");
    }
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}
