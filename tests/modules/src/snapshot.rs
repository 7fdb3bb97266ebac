//! What lies in a folder, kept in memory: to be put into others as often as it is needed.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Files with their paths below a folder, and their modes.
#[derive(Debug)]
pub struct Snapshot(Vec<File>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    mode: u32,
    content: Vec<u8>,
}

impl Snapshot {
    /// Of the files in these parts of a folder. An empty part is the folder itself.
    ///
    /// # Errors
    /// A part is missing or cannot be read.
    pub fn take(folder: &Path, parts: &[&str]) -> io::Result<Self> {
        let mut files = Vec::new();
        for part in parts {
            collect(folder, Path::new(part), &mut files)?;
        }
        Ok(Self(files))
    }

    /// Writes the files to another folder, over what is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for file in &self.0 {
            let path = folder.join(&file.path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, &file.content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        Ok(())
    }
}

fn collect(root: &Path, part: &Path, files: &mut Vec<File>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(part))? {
        let entry = entry?;
        let path = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(File {
                mode: entry.metadata()?.permissions().mode(),
                content: fs::read(entry.path())?,
                path,
            });
        }
    }
    Ok(())
}
