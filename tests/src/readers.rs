//! Programs in other languages that read TR-34 tokens, from `tests/readers`: one on Bouncy Castle, which
//! makes tokens too, and one on Python's asn1crypto.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    process::{Ended, Program},
    programs::workspace,
};

/// Where Debian has the libraries.
const JARS: [&str; 3] = [
    "/usr/share/java/bcprov.jar",
    "/usr/share/java/bcutil.jar",
    "/usr/share/java/bcpkix.jar",
];

/// The Python that sees Debian's packages, whichever comes first on the path.
const PYTHON: &str = "/usr/bin/python3";

/// Java lives here for less than a second: compiling its hot code well is not worth it.
const SHORT_LIVED: &str = "-XX:TieredStopAtLevel=1";

/// What a reader says of a token.
pub type Report = BTreeMap<String, String>;

/// Bouncy Castle: `Tr34Reader.java`, which says in its head what it is given and what it does.
#[derive(Debug)]
pub struct BouncyCastle {
    class_path: String,
    log: PathBuf,
}

impl BouncyCastle {
    /// Compiles it into `folder`, so that running it takes no time for that.
    ///
    /// # Errors
    /// Java or Bouncy Castle is not there.
    pub fn compile(folder: &Path, log: &Path) -> Result<Self> {
        for jar in JARS {
            ensure!(Path::new(jar).is_file(), "{jar} is missing: run ./dev test");
        }
        let jars = JARS.join(":");
        let source = readers().join("bouncy-castle/Tr34Reader.java");
        Program::new("javac", log)
            .args(["-cp", &jars, "-d"])
            .arg(folder)
            .arg(source)
            .succeed()?;
        Ok(Self {
            class_path: format!("{jars}:{}", folder.display()),
            log: log.to_owned(),
        })
    }

    /// Has it read a token.
    ///
    /// # Errors
    /// It refuses the token.
    pub fn read(&self, job: &str, options: &[&str]) -> Result<Report> {
        report(self.run(job, options)?)
    }

    /// Has it make tokens as Clover's host does.
    ///
    /// # Errors
    /// It does not make them.
    pub fn make_clover(&self, options: &[&str]) -> Result<()> {
        self.run("make-clover", options).map(|_| ())
    }

    fn run(&self, job: &str, options: &[&str]) -> Result<Ended> {
        Program::new("java", &self.log)
            .args([SHORT_LIVED, "-cp", &self.class_path, "Tr34Reader", job])
            .args(options)
            .succeed()
    }
}

/// Has asn1crypto read a token: `tr34_reader.py`, which verifies no signature.
///
/// # Errors
/// It cannot read the token, or is not there.
pub fn asn1crypto(token: &Path, log: &Path) -> Result<Report> {
    report(
        Program::new(PYTHON, log)
            .arg(readers().join("asn1crypto/tr34_reader.py"))
            .arg(token)
            .succeed()?,
    )
}

fn report(ended: Ended) -> Result<Report> {
    serde_json::from_str(&ended.stdout).with_context(|| ended.command)
}

fn readers() -> PathBuf {
    workspace().join("tests/readers")
}
