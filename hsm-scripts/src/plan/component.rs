//! A component that comes in a file.

use std::{io::Read as _, path::Path};

use hsm::{ClearKey, open_private_file};
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::CeremonyError;

/// A component is one line of hex, in groups if its printer liked it so.
const MAX_LEN: usize = 256;

/// Reads a component, in hex, from a file as [`open_private_file`] opens it.
pub(crate) fn load_component(path: &Path, kind: KeyKind) -> Result<ClearKey, CeremonyError> {
    let failed = |cause: &str| CeremonyError::file(path, cause);
    let file = open_private_file(path).map_err(|error| CeremonyError::file(path, error))?;
    // Large enough never to be moved, which would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(4 * MAX_LEN));
    file.take(MAX_LEN as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| CeremonyError::file(path, error))?;
    if text.len() > MAX_LEN {
        return Err(failed("is too long for a component"));
    }
    let component =
        ClearKey::from_hex(text.trim()).map_err(|error| CeremonyError::file(path, error))?;
    if component.len() != kind.key_len() {
        return Err(failed(&format!(
            "has {} bytes, but {kind} takes {}",
            component.len(),
            kind.key_len()
        )));
    }
    Ok(component)
}
