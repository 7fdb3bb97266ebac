//! New files: whole or not at all, and never over an old one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

use crate::CeremonyError;

/// Writes a file that did not exist: a temporary name, to the disk, then its name.
pub(crate) fn write_new(path: &Path, contents: &[u8]) -> Result<(), CeremonyError> {
    let failed = |error: std::io::Error| CeremonyError::file(path, error);
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temporary)
        .map_err(failed)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        // Unlike a rename, a link refuses to replace a file.
        .and_then(|()| fs::hard_link(temporary, path));
    let removed = fs::remove_file(temporary);
    written.and(removed).map_err(failed)?;
    sync_folder(path)
}

/// The name is on the disk too.
fn sync_folder(path: &Path) -> Result<(), CeremonyError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| CeremonyError::file(path, error))
}
