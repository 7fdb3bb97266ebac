//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use krd_client::SlotName;

/// The terminal's side of key distribution: makes the terminal's keys, has them certified, and loads
/// the keys that the host has for it.
///
/// The order is: keygen, enroll, bind, load. Each command says what comes next. Everything that the
/// terminal has to remember stands in its PKCS#11 token, so each command can be given again after a
/// failure.
///
/// Exit codes: 0 done; 1 refused, by the terminal or by the host, with a line
/// "refused: REASON: sentence" (a reason in small letters is the terminal's, one in capitals the
/// host's); 2 anything else.
#[derive(Debug, Parser)]
#[command(name = "krd", version)]
pub(crate) struct Cli {
    /// The terminal's configuration; krd.sample.toml explains every key
    #[arg(long, global = true, value_name = "FILE", default_value = "krd.toml")]
    pub(crate) config: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write the messages that were sent and received into this folder, for demonstration and for
    /// tests with other tools. They hold no secrets. Files of an earlier run are replaced.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) evidence: Option<PathBuf>,
    /// How the log on standard error is written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the terminal's two key pairs in its token
    ///
    /// An RSA key that decrypts, and a P-256 key for TLS and receipts. The RSA key signs its own
    /// certificate request and then loses the right to sign. Existing keys are never replaced; a
    /// keygen that was interrupted goes on where it stopped.
    Keygen,
    /// Have the keys certified by the host
    ///
    /// Needs the activation code that an operator issued for this terminal (kdhctl). If the answer
    /// was lost, give the same command with the same code again. The certificates are kept only if
    /// they are for this terminal's own keys and serial number, by the preset CA.
    Enroll {
        /// Read the activation code from a file that only its owner can read; without this, it is
        /// asked for. It is never taken from the command line, where others could see it.
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
    },
    /// Exchange credentials with the host and remember it
    ///
    /// From then on the terminal takes key tokens from this host's certificate only. Again later,
    /// it fetches the host's current revocation list.
    Bind,
    /// Load the keys that the host has assigned
    ///
    /// Of each slot whose current key is not held and confirmed, or of the named slot. The old key of
    /// a slot stays until the new one has passed every check and has the announced check value.
    Load {
        /// Only this slot, for example tmk
        slot: Option<SlotName>,
    },
    /// Show what the terminal holds, from its token alone
    ///
    /// Check values are computed anew by the token.
    Status,
}
