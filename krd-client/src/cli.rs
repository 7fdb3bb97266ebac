//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use krd_client::SlotName;
use tr34::Profile;

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
    /// it fetches the host's current revocation list. A bound terminal is bound to another host by a
    /// rebind token, or after an unbind token, and never by this.
    Bind,
    /// Load the keys that the host has assigned
    ///
    /// Of each slot whose current key is not held and confirmed, or of the named slot. The old key of
    /// a slot stays until the new one has passed every check and has the announced check value. If the
    /// host wants the terminal unbound or rebound, that is done first.
    ///
    /// With --from, off line: the key in a one-pass key token from a file. The receipt goes to the host
    /// with the next load on line.
    Load {
        /// Only this slot, for example tmk; with --from, only if the file is for it
        slot: Option<SlotName>,
        /// Load the one-pass key token in this file: PEM, behind the lines that the host wrote
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Give up the host, and destroy every key that the terminal holds
    ///
    /// Needs an unbind token: of the host that the terminal is bound to, if an operator has ordered it, or
    /// of the CA above the terminals. What is cut off goes on with the next command.
    Unbind {
        #[command(flatten)]
        source: Source,
    },
    /// Go over to another host, with the keys that the terminal holds
    ///
    /// Needs a rebind token with the other host's certificate: of the host that the terminal is bound to,
    /// if an operator has ordered it, or of the CA above the terminals.
    Rebind {
        #[command(flatten)]
        source: Source,
    },
    /// Show what the terminal holds, from its token alone
    ///
    /// Check values are computed anew by the token.
    Status,
    /// Look into tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Where an unbind or rebind token comes from; the host that the terminal is bound to, if nothing is
/// said.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Source {
    /// Fetch what the CA above the terminals has signed because this terminal's host is lost
    #[arg(long)]
    pub(crate) authority: bool,
    /// The same from a file, off line
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Open a key token, show what is in it, and keep nothing
    ///
    /// The key itself is never shown: its check value is, computed in the token. Nothing that would make
    /// the key token trustworthy is checked: neither signature nor revocation, freshness or recipient.
    Open {
        /// The key token: DER, PEM, hexadecimal digits or base64; - for standard input
        file: PathBuf,
        /// Label of the decryption key in the PKCS#11 token [default: the terminal's own]
        #[arg(long, value_name = "LABEL")]
        key_label: Option<String>,
        /// How the key token is written [default: as the configuration has it, or else as the token is written]
        #[arg(long, value_name = "NAME")]
        profile: Option<Profile>,
    },
}
