//! Folders with SoftHSM tokens. A folder stands for a place: what lies in it is what a program there
//! can reach, and a token that is moved to another folder is gone from the first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{process::Program, programs::Programs};

/// Where the module is on the systems that we know.
const MODULES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

const SPIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/pkcs11-spy.so",
    "/usr/lib64/pkcs11/pkcs11-spy.so",
    "/usr/lib/pkcs11/pkcs11-spy.so",
    "/usr/local/lib/pkcs11/pkcs11-spy.so",
];

/// SoftHSM's module.
///
/// # Errors
/// It is not installed.
pub fn module() -> Result<PathBuf> {
    first_of(&MODULES).context("SoftHSM is not installed (package softhsm2)")
}

/// The spy of `OpenSC`, which stands between a program and a module and writes down what crosses.
///
/// # Errors
/// It is not installed.
pub fn spy_module() -> Result<PathBuf> {
    first_of(&SPIES).context("pkcs11-spy is not installed (package opensc-pkcs11)")
}

fn first_of(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// A folder with tokens, and the configuration with which SoftHSM finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// The place in `folder`, made if missing.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn at(folder: &Path) -> Result<Self> {
        let place = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(place.tokens())?;
        // SoftHSM takes no relative path, and folders are copied: written anew each time.
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            place.tokens().canonicalize()?.display()
        );
        fs::write(place.configuration(), configuration)?;
        Ok(place)
    }

    /// What `SOFTHSM2_CONF` has to name.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    /// Where the token called `label` has the PIN of its user.
    pub fn pin_file(&self, label: &str) -> PathBuf {
        self.folder.join(format!("{label}.pin"))
    }

    fn so_pin_file(&self, label: &str) -> PathBuf {
        self.folder.join(format!("{label}.so-pin"))
    }

    /// Makes an empty token, with random PINs of its own.
    ///
    /// # Errors
    /// `kdh-ceremony` refuses.
    pub fn make_token(&self, label: &str, programs: &Programs, log: &Path) -> Result<()> {
        self.program(programs.path("kdh-ceremony"), log)
            .args(["token", "init", "--generate-pins", "--label", label])
            .arg("--module")
            .arg(module()?)
            .arg("--pin-file")
            .arg(self.pin_file(label))
            .arg("--so-pin-file")
            .arg(self.so_pin_file(label))
            .succeed()?;
        Ok(())
    }

    /// A program that finds this place's tokens.
    pub fn program(&self, path: impl AsRef<Path>, log: &Path) -> Program {
        Program::new(path, log).env("SOFTHSM2_CONF", self.configuration())
    }

    /// Carries the token called `label` with its PINs to another place.
    ///
    /// # Errors
    /// There is no such token, or it cannot be moved.
    pub fn carry_token(&self, label: &str, to: &Self) -> Result<()> {
        let folder = self.token_folder(label)?;
        let name = folder.file_name().context("a token without a name")?;
        fs::rename(&folder, to.tokens().join(name))?;
        fs::rename(self.pin_file(label), to.pin_file(label))?;
        fs::rename(self.so_pin_file(label), to.so_pin_file(label))?;
        Ok(())
    }

    /// SoftHSM keeps a token's label in the file `token.object`.
    fn token_folder(&self, label: &str) -> Result<PathBuf> {
        let padded = format!("{label:32}");
        let mut found = Vec::new();
        for entry in fs::read_dir(self.tokens())? {
            let folder = entry?.path();
            let object = fs::read(folder.join("token.object")).unwrap_or_default();
            let holds = |text: &str| {
                object
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            if holds(&padded) {
                found.push(folder);
            }
        }
        ensure!(
            found.len() == 1,
            "{} tokens called {label} in {}",
            found.len(),
            self.folder.display()
        );
        found.pop().context("no token")
    }

    fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }
}
