//! The activation code: from a file that only its owner can read, or typed without echo.

use std::{io::Read as _, path::Path};

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
    let file = hsm::open_private_file(path)?;
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}
