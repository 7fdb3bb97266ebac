//! Copies of the messages that went to and fro, for demonstration and for other tools.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::KrdError;

/// Where copies go, if anywhere. No secret is ever among them.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    folder: Option<PathBuf>,
}

impl Evidence {
    /// Keeps nothing.
    pub const fn none() -> Self {
        Self { folder: None }
    }

    /// Writes into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn in_folder(folder: &Path) -> Result<Self, KrdError> {
        fs::create_dir_all(folder).map_err(|reason| KrdError::Evidence {
            path: folder.to_owned(),
            reason,
        })?;
        Ok(Self {
            folder: Some(folder.to_owned()),
        })
    }

    /// Writes a file, in place of one of the same name.
    pub(crate) fn keep(&self, name: &str, content: impl AsRef<[u8]>) -> Result<(), KrdError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.join(name);
        fs::write(&path, content).map_err(|reason| KrdError::Evidence { path, reason })
    }
}
