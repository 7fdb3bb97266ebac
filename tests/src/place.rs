//! Folders with tokens and their PINs: what a program there can reach.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use hsm_modules::TestModule;

use crate::{
    process::{Ended, Program},
    programs::Programs,
};

/// A folder with tokens and the files with their PINs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(hsm_modules::Place);

impl Place {
    /// The place in `folder`, made if missing.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn at(module: &'static TestModule, folder: &Path) -> Result<Self> {
        Ok(Self(hsm_modules::Place::at(module, folder)?))
    }

    /// What its tokens are tokens of.
    pub const fn module(&self) -> &'static TestModule {
        self.0.module()
    }

    /// The variable that tells the module where its configuration is.
    pub fn variable(&self) -> (&'static str, PathBuf) {
        self.0.variable()
    }

    /// Where the token called `label` has the PIN of its user.
    pub fn pin_file(&self, label: &str) -> PathBuf {
        self.0.folder().join(format!("{label}.pin"))
    }

    fn so_pin_file(&self, label: &str) -> PathBuf {
        self.0.folder().join(format!("{label}.so-pin"))
    }

    /// Makes an empty token, with random PINs of its own.
    ///
    /// # Errors
    /// `kdh-ceremony` refuses.
    pub fn make_token(&self, label: &str, programs: &Programs, log: &Path) -> Result<()> {
        self.program(programs.path("kdh-ceremony"), log)
            .args(["token", "init", "--generate-pins", "--label", label])
            .arg("--module")
            .arg(self.0.module().library()?)
            .arg("--pin-file")
            .arg(self.pin_file(label))
            .arg("--so-pin-file")
            .arg(self.so_pin_file(label))
            .succeed()?;
        Ok(())
    }

    /// A program that finds this place's tokens.
    pub fn program(&self, path: impl AsRef<Path>, log: &Path) -> Program {
        let (name, configuration) = self.0.variable();
        Program::new(path, log).env(name, configuration)
    }

    /// `pkcs11-tool` of `OpenSC`, logged in to the token called `label`, run to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn pkcs11_tool(&self, label: &str, arguments: &[&str], log: &Path) -> Result<Ended> {
        let pin = fs::read_to_string(self.pin_file(label))?;
        self.program("pkcs11-tool", log)
            .arg("--module")
            .arg(self.module().library()?)
            .args(["--token-label", label, "--login", "--pin", pin.trim()])
            .args(arguments)
            .run()
    }

    /// The labels of the secret keys in the token called `label`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn secret_keys(&self, label: &str, log: &Path) -> Result<Vec<String>> {
        let listed = self.pkcs11_tool(label, &["--list-objects", "--type", "secrkey"], log)?;
        ensure!(listed.status.success(), "{}", listed.last_words());
        let labels = listed.stdout.lines().filter_map(|line| {
            let label = line.trim().strip_prefix("label:")?;
            Some(label.trim().to_owned())
        });
        Ok(labels.collect())
    }

    /// Carries the token called `label` with its PINs to another place.
    ///
    /// # Errors
    /// There is no such token, or it cannot be moved.
    pub fn carry_token(&self, label: &str, to: &Self) -> Result<()> {
        self.0.carry_token(label, &to.0)?;
        fs::rename(self.pin_file(label), to.pin_file(label))?;
        fs::rename(self.so_pin_file(label), to.so_pin_file(label))?;
        Ok(())
    }
}
