//! Faults of an HSM, at a test's command: the module of `tests/faulty` in front of the real one, and its
//! control.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::TestModule;
pub use crate::module::faulty_module;

/// The variable with its commands to start with, separated by `;`.
pub const START: &str = "FAULTY_START";

/// The variables that tell it what it stands in front of, and where its control is.
///
/// # Errors
/// The real one is not installed.
pub fn variables(module: &TestModule, control: &Path) -> Result<[(&'static str, PathBuf); 2]> {
    Ok([
        ("FAULTY_MODULE", module.library()?),
        ("FAULTY_CONTROL", control.to_owned()),
    ])
}

/// Another file with the same module, which a process loads beside the first: another HSM that happens
/// to hold the same tokens.
///
/// # Errors
/// The module is not installed; the folder cannot be written.
pub fn twin(module: &TestModule, folder: &Path) -> Result<PathBuf> {
    let twin = folder.join("twin.so");
    fs::copy(module.library()?, &twin)?;
    Ok(twin)
}

/// A conversation with the control. Its language is in `tests/faulty/src/command.rs`.
#[derive(Debug)]
pub struct Faults(BufReader<UnixStream>);

impl Faults {
    /// To the module of a process that listens at `control`.
    ///
    /// # Errors
    /// Nobody does.
    pub fn connect(control: &Path) -> Result<Self> {
        let stream = UnixStream::connect(control).context("nobody listens for faults")?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Gives a command and waits until it is done.
    ///
    /// # Errors
    /// It is not one.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        let answer = self.ask(command)?;
        ensure!(answer == "ok", "{command}: {answer}");
        Ok(())
    }

    /// How many calls of a function there have been.
    ///
    /// # Errors
    /// There is no such function.
    pub fn count(&mut self, function: &str) -> Result<u64> {
        let answer = self.ask(&format!("count {function}"))?;
        answer.parse().with_context(|| answer.clone())
    }

    /// How many calls there have been, by function, those of which there was none left out.
    ///
    /// # Errors
    /// The module does not answer in its language.
    pub fn counts(&mut self) -> Result<BTreeMap<String, u64>> {
        self.by_function("counts")
    }

    /// Microseconds that calls were in the real module, by function.
    ///
    /// # Errors
    /// As for [`Self::counts`].
    pub fn times(&mut self) -> Result<BTreeMap<String, u64>> {
        self.by_function("times")
    }

    fn by_function(&mut self, command: &str) -> Result<BTreeMap<String, u64>> {
        let answer = self.ask(command)?;
        let figures = answer.split_whitespace().map(|figure| {
            let (function, number) = figure.split_once('=').with_context(|| answer.clone())?;
            Ok((function.to_owned(), number.parse()?))
        });
        figures.collect()
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        self.0
            .get_mut()
            .write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(answer.trim_end_matches('\n').to_owned())
    }
}
