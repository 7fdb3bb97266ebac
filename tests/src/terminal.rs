//! A site's terminals: the real `krd`, each with a folder and a token of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use hsm_modules::{TestModule, spy, spy_variables};
use serde_json::Value;

use crate::{
    host::oaep_hash,
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
    /// How its tokens are written.
    pub profile: &'static str,
    /// What its token is a token of; what the site's terminals have if nothing is said.
    pub module: Option<&'static TestModule>,
}

impl TerminalOptions {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        rsa_bits: 2048,
        imported_keys: false,
        spied: false,
        profile: "x9-2019",
        module: None,
    };
}

impl Default for TerminalOptions {
    fn default() -> Self {
        Self::DEFAULT
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
        let module = options.module.unwrap_or_else(|| self.terminal_module());
        let terminal = Terminal {
            serial: serial.to_owned(),
            place: Place::at(module, &folder)?,
            programs: self.programs().clone(),
            log: self.log(&format!("krd-{serial}")),
            spied: if options.spied {
                Some(spy_variables(module, &folder.join(SPY_LOG))?)
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
        let module = terminal.place.module();
        let in_process_memory = if module.can.opening.is_empty() {
            "accepted"
        } else {
            "refused"
        };
        let library = if options.spied {
            spy()?
        } else {
            module.library()?
        };
        let text = format!(
            "serial-number = \"{}\"\nhost = \"{}\"\nserver-name = \"localhost\"\nrsa-bits = {}\n\
             profile = \"{}\"\noaep-hashes = [\"{}\"]\nopen-in-process-memory = \"{in_process_memory}\"\n\
             connect-timeout-seconds = 60\ncall-timeout-seconds = 60\n\n\
             [trust]\nca-krd = \"../../pki/ca-krd.pem\"\nca-kdh = \"../../pki/{}\"\n\
             ca-ops = \"../../pki/ca-ops.pem\"\n\n\
             [token]\nmodule = {}\nlabel = \"{LABEL}\"\npin-file = \"{LABEL}.pin\"\n\
             imported-keys = \"{imported_keys}\"\n",
            terminal.serial,
            self.addresses()?.terminals,
            options.rsa_bits,
            options.profile,
            oaep_hash(&[self.hsm_module(), module]),
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
        let made = ["genrsa", "-out", &pem.to_string_lossy(), "2048"];
        openssl(&made, &self.log)?;
        self.import_key("krd-encryption", pem)
    }

    /// Gives it the RSA key in a file, PEM, under this label.
    ///
    /// # Errors
    /// A program fails, or the terminal has a key with this label.
    pub fn import_key(&self, label: &str, pem: &Path) -> Result<()> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (pem, der) = (text(pem), text(&self.folder.join(format!("{label}.der"))));
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
            .arg(label)
            .arg(der)
            .succeed()?;
        Ok(())
    }

    /// `pkcs11-tool` of `OpenSC`, logged in to its token, run to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Result<Ended> {
        self.place.pkcs11_tool(LABEL, arguments, &self.log)
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
