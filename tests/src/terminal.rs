//! A site's terminals: the real `krd`, each with a folder and a token of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use hsm_modules::{spy, spy_variables};
use serde_json::Value;

use crate::{
    openssl::openssl,
    operator::{answer, toml_text},
    place::Place,
    process::{Ended, Program},
    programs::Programs,
    secret_file,
    site::Site,
};

/// The label of every terminal's token.
const LABEL: &str = "terminal";

/// What the spy writes, in the terminal's folder.
const SPY_LOG: &str = "spy.log";

/// What can be set otherwise than in the defaults of this harness.
#[derive(Clone, Copy, Debug)]
pub struct TerminalOptions {
    /// Bits of its own RSA key.
    pub rsa_bits: usize,
    /// Whether its RSA key may come from outside of its token.
    pub imported_keys: bool,
    /// Whether what crosses between `krd` and its module is written down.
    pub spied: bool,
}

impl Default for TerminalOptions {
    fn default() -> Self {
        Self {
            rsa_bits: 2048,
            imported_keys: false,
            spied: false,
        }
    }
}

/// A terminal.
#[derive(Clone, Debug)]
pub struct Terminal {
    serial: String,
    folder: PathBuf,
    place: Place,
    programs: Programs,
    log: PathBuf,
    /// The spy's variables, if it is in front of the module.
    spied: Option<[(&'static str, PathBuf); 2]>,
}

impl Site {
    /// A new terminal with an empty token, set up for this site's host and CAs.
    ///
    /// # Errors
    /// It cannot be made, or no host ever ran.
    pub fn make_terminal(&self, serial: &str, options: TerminalOptions) -> Result<Terminal> {
        let folder = self.folder().join("terminals").join(serial);
        let terminal = Terminal {
            serial: serial.to_owned(),
            place: Place::at(self.terminal_module(), &folder)?,
            programs: self.programs().clone(),
            log: self.log(&format!("krd-{serial}")),
            spied: if options.spied {
                Some(spy_variables(
                    self.terminal_module(),
                    &folder.join(SPY_LOG),
                )?)
            } else {
                None
            },
            folder,
        };
        terminal
            .place
            .make_token(LABEL, self.programs(), &terminal.log)?;
        self.configure_terminal(&terminal, options)?;
        Ok(terminal)
    }

    /// Writes a terminal's configuration, for example after the host has moved to another port.
    ///
    /// # Errors
    /// It cannot be written, or no host ever ran.
    pub fn configure_terminal(&self, terminal: &Terminal, options: TerminalOptions) -> Result<()> {
        let imported_keys = if options.imported_keys {
            "accepted"
        } else {
            "refused"
        };
        let in_process_memory = if self.terminal_module().can.opening.is_empty() {
            "accepted"
        } else {
            "refused"
        };
        let library = if options.spied {
            spy()?
        } else {
            self.terminal_module().library()?
        };
        let text = format!(
            "serial-number = \"{}\"\nhost = \"{}\"\nserver-name = \"localhost\"\nrsa-bits = {}\n\
             oaep-hashes = [\"{}\"]\nopen-in-process-memory = \"{in_process_memory}\"\n\
             connect-timeout-seconds = 60\ncall-timeout-seconds = 60\n\n\
             [trust]\nca-krd = \"../../pki/ca-krd.pem\"\nca-kdh = \"../../pki/{}\"\n\
             ca-ops = \"../../pki/ca-ops.pem\"\n\n\
             [token]\nmodule = {}\nlabel = \"{LABEL}\"\npin-file = \"{LABEL}.pin\"\n\
             imported-keys = \"{imported_keys}\"\n",
            terminal.serial,
            self.addresses()?.terminals,
            options.rsa_bits,
            self.oaep_hash(),
            self.topology().ca_kdh(),
            toml_text(&library),
        );
        Ok(fs::write(terminal.configuration(), text)?)
    }
}

impl Terminal {
    /// Its serial number.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Where its token is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The label of its token.
    pub const fn token_label(&self) -> &'static str {
        LABEL
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("krd.toml")
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What crossed between `krd` and its module, in all its runs.
    pub fn spy_log(&self) -> PathBuf {
        self.folder.join(SPY_LOG)
    }

    /// Where it leaves the messages that it sent and received.
    pub fn evidence(&self) -> PathBuf {
        self.folder.join("evidence")
    }

    /// `krd` with these arguments.
    pub fn krd(&self, arguments: &[&str]) -> Program {
        self.place
            .program(self.programs.path("krd"), &self.log)
            .envs(self.spied.iter().flatten().cloned())
            .arg("--config")
            .arg(self.configuration())
            .arg("--json")
            .arg("--evidence")
            .arg(self.evidence())
            .args(arguments)
    }

    /// Runs `krd`, which has to succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn act(&self, arguments: &[&str]) -> Result<Value> {
        answer(&self.krd(arguments).succeed()?)
    }

    /// Gives it an RSA key that OpenSSL makes, whose private half is in `pem` as well.
    ///
    /// # Errors
    /// A program fails, or the terminal has such a key.
    pub fn import_encryption_key(&self, pem: &Path) -> Result<()> {
        let der = pem.with_extension("der");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (pem, der) = (text(pem), text(&der));
        openssl(&["genrsa", "-out", &pem, "2048"], &self.log)?;
        let convert = [
            "rsa",
            "-traditional",
            "-in",
            &pem,
            "-outform",
            "DER",
            "-out",
            &der,
        ];
        openssl(&convert, &self.log)?;
        self.place
            .program(self.programs.import_rsa_key(), &self.log)
            .arg(self.place.module().library()?)
            .arg(LABEL)
            .arg(self.place.pin_file(LABEL))
            .arg("krd-encryption")
            .arg(der)
            .succeed()?;
        Ok(())
    }

    /// Writes an activation code where `krd enroll` reads it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn take_code(&self, code: &str) -> Result<()> {
        secret_file::write(&self.code_file(), &format!("{code}\n"))
    }

    /// `krd enroll` with the code that was taken.
    pub fn enroll(&self) -> Program {
        let file = self.code_file();
        self.krd(&["enroll", "--code-file"]).arg(file)
    }

    /// All of it: keygen, enroll, bind, load.
    ///
    /// # Errors
    /// A step fails.
    pub fn run_all(&self, code: &str) -> Result<Value> {
        self.act(&["keygen"])?;
        self.take_code(code)?;
        self.enroll().succeed()?;
        self.act(&["bind"])?;
        self.act(&["load"])
    }

    /// What the terminal says that it holds in a slot.
    ///
    /// # Errors
    /// `krd status` fails.
    pub fn slot(&self, slot: &str) -> Result<Option<Value>> {
        let status = self.act(&["status"])?;
        let slots = status["slots"].as_array().cloned().unwrap_or_default();
        Ok(slots.into_iter().find(|held| held["slot"] == slot))
    }

    fn code_file(&self) -> PathBuf {
        self.folder.join("activation-code")
    }
}

/// The reason of a refusal that `krd` printed.
///
/// # Errors
/// It was not refused.
pub fn refusal(ended: &Ended) -> Result<String> {
    let answer = answer(ended)?;
    crate::operator::text(&answer, "/refused/reason").map(ToOwned::to_owned)
}
