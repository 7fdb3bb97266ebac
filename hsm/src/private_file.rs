//! Files with secrets: what stands in one was put there by the user who runs the program, and nobody
//! else reads it.

use std::{
    fs::File,
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Why a file cannot be trusted with a secret, nor a secret with it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be opened.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device, ...
    #[error("not a regular file")]
    NotAFile,
    /// Its mode lets group or others in.
    #[error("mode {0:04o} lets others than its owner touch it; 0600 or 0400 is needed")]
    Open(u32),
    /// Its owner can read it, change it and open it to others at any time.
    #[error(
        "it belongs to user {owner}, but user {user} runs this program; run it as user {owner}, or \
         make user {user} the owner (chown {user})"
    )]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who runs the program: the effective user.
        user: u32,
    },
}

/// Opens a file that belongs to the effective user, with no mode bits for group or others. A link may
/// lead to it: what is checked is the open file, so it is what is read.
///
/// # Errors
/// The file cannot be opened, or is not such a file.
pub fn open_private_file(path: &Path) -> Result<File, PrivateFileError> {
    // Of a pipe under this name, nobody waits for the other end.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(PrivateFileError::Foreign { owner, user });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Open(mode));
    }
    Ok(file)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::fs::{PermissionsExt, chown, symlink},
        process::Command,
    };

    use tempfile::TempDir;

    use super::*;

    fn folder_with_file(mode: u32) -> (TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn files_of_their_owner_alone_are_opened() {
        for mode in [0o600, 0o400, 0o700] {
            let (folder, path) = folder_with_file(mode);
            let link = folder.path().join("link");
            symlink("file", &link).unwrap();
            for path in [path, link] {
                let mut text = String::new();
                let mut file = open_private_file(&path).unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "1234", "{mode:o}");
            }
        }
    }

    #[test]
    fn files_that_others_can_touch_are_refused() {
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o660] {
            let (folder, path) = folder_with_file(mode);
            let link = folder.path().join("link");
            symlink("file", &link).unwrap();
            for path in [path, link] {
                match open_private_file(&path) {
                    Err(PrivateFileError::Open(found)) => assert_eq!(found, mode),
                    other => panic!("{mode:o}: {other:?}"),
                }
            }
        }
    }

    /// Only root can give a file away.
    #[test]
    #[expect(clippy::print_stderr, reason = "says what is not tested")]
    fn files_of_another_user_are_refused() {
        let user = rustix::process::geteuid().as_raw();
        for (owner, mode) in [(1, 0o600), (1, 0o644), (12_345, 0o600), (12_345, 0o400)] {
            let (folder, path) = folder_with_file(mode);
            if let Err(error) = chown(&path, Some(owner), None) {
                eprintln!("skipped: a file cannot be given to another user: {error}");
                return;
            }
            // A link of one's own makes no file one's own.
            let link = folder.path().join("link");
            symlink("file", &link).unwrap();
            for path in [path, link] {
                match open_private_file(&path) {
                    Err(error @ PrivateFileError::Foreign { .. }) => {
                        let error = error.to_string();
                        assert!(error.contains(&format!("user {owner}, ")), "{error}");
                        assert!(error.contains(&format!("chown {user}")), "{error}");
                    }
                    other => panic!("{owner} {mode:o}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (folder, _) = folder_with_file(0o600);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let opened = open_private_file(folder.path());
        assert!(matches!(opened, Err(PrivateFileError::NotAFile)));
        let pipe = folder.path().join("pipe");
        let mkfifo = Command::new("mkfifo").arg("-m600").arg(&pipe).status();
        assert!(mkfifo.unwrap().success());
        let opened = open_private_file(&pipe);
        assert!(matches!(opened, Err(PrivateFileError::NotAFile)));
        let missing = open_private_file(&folder.path().join("nothing"));
        assert!(matches!(missing, Err(PrivateFileError::Io(_))));
        symlink("nowhere", folder.path().join("link")).unwrap();
        let dangling = open_private_file(&folder.path().join("link"));
        assert!(matches!(dangling, Err(PrivateFileError::Io(_))));
    }
}
