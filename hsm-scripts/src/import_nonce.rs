//! The random-number token (`RT_KRD`) that another host answers with a key.

use std::path::Path;

use hsm::{KeyName, Token};
use tr34::{Profile, RandomToken};

use crate::{CeremonyError, outputs::write_new};

/// Makes a nonce of the sender's profile for an import pair, which keeps it until a token that answers it was imported, and writes the
/// random-number token with it to a new file. A nonce that waited before is forgotten. Returns it in hex, to
/// compare with the sender.
///
/// # Errors
/// There is no such pair, the token keeps no records, or the file exists.
pub fn make(
    token: &Token,
    pair: &str,
    profile: Profile,
    file: &Path,
) -> Result<String, CeremonyError> {
    let pair = KeyName::new(pair)?;
    if file.symlink_metadata().is_ok() {
        return Err(CeremonyError::file(
            file,
            "exists already; choose another name",
        ));
    }
    let nonce = token.make_import_nonce(&pair, profile)?;
    let hex = hex::encode_upper(nonce.as_bytes());
    write_new(file, &RandomToken::new(nonce).to_der())?;
    Ok(hex)
}
