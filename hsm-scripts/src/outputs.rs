//! New files: whole or not at all, and never over an old one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

use pki::Certificate;

use crate::CeremonyError;

/// Writes a file that did not exist: a temporary name, to the disk, then its name. Leaves nothing if
/// that fails.
///
/// # Errors
/// The file exists or cannot be written.
pub fn write_new(path: &Path, contents: &[u8]) -> Result<(), CeremonyError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temporary)
        .map_err(|error| CeremonyError::file(temporary, error))?;
    let named = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        // Unlike a rename, a link refuses to replace a file.
        .and_then(|()| fs::hard_link(temporary, path));
    let removed = fs::remove_file(temporary);
    named.map_err(|error| CeremonyError::file(path, error))?;
    let settled = removed
        .map_err(|error| CeremonyError::file(temporary, error))
        .and_then(|()| sync_folder_of(path));
    settled.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Sees to it that the name of a file is on the disk too.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), CeremonyError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| CeremonyError::file(path, error))
}

/// Reads a certificate in PEM.
pub(crate) fn load_certificate(path: &Path) -> Result<Certificate, CeremonyError> {
    let pem = fs::read_to_string(path).map_err(|error| CeremonyError::file(path, error))?;
    Certificate::from_pem(&pem).map_err(|error| CeremonyError::file(path, error))
}
