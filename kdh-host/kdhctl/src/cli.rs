//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hsm::KcvMethod;
use tr34::Kbh;

/// Administers a key distribution host: its fleet of terminals, the keys that it hands out, and its
/// audit trail.
///
/// You identify yourself by a certificate whose key is in your PKCS#11 token; the host's
/// configuration says what you may do.
#[derive(Debug, Parser)]
#[command(name = "kdhctl", version, after_help = EXAMPLE, after_long_help = manual())]
pub(crate) struct Cli {
    /// Configuration file [default: kdhctl.toml in `$XDG_CONFIG_HOME` or `~/.config`]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document instead of text, on failure too (on standard error)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Terminals: add, look at, suspend, revoke, issue activation codes
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Keys that the host hands out: register, list, assign to terminals
    #[command(subcommand)]
    Key(KeyCommand),
    /// Deliveries of keys to terminals
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a terminal, so that it can be given an activation code
    #[command(after_help = "Example: kdhctl device add SN-1001 --model \"Model X\"")]
    Add {
        /// As printed on the terminal: A-Z, 0-9 and '-'
        serial: String,
        /// The terminal's model
        #[arg(long)]
        model: String,
    },
    /// List the terminals in the order of their serial numbers
    #[command(after_help = "Example: kdhctl device list --state QUARANTINED")]
    List {
        /// Only terminals in this state: REGISTERED, ENROLLED, BOUND, QUARANTINED, SUSPENDED,
        /// REVOKED
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show a terminal and the keys that it should hold
    Show {
        /// The terminal's serial number
        serial: String,
    },
    /// Refuse every call of a terminal until it is resumed
    #[command(after_help = "Example: kdhctl device suspend SN-1001 --why \"reported missing\"")]
    Suspend(Move),
    /// Put a suspended or quarantined terminal back to its state before
    #[command(after_help = "Example: kdhctl device resume SN-1001 --why \"found in the van\"")]
    Resume(Move),
    /// Never accept a terminal again
    ///
    /// This is final: its certificates are refused from now on, and it cannot enrol again.
    #[command(after_help = "Example: kdhctl device revoke SN-1001 --why \"opened by force\"")]
    Revoke {
        #[command(flatten)]
        device: Move,
        /// Do not ask to type the serial number
        #[arg(long)]
        yes: bool,
    },
    /// Issue the activation code with which a terminal enrols
    ///
    /// The code is shown this once. It works once, expires, and replaces an earlier one.
    #[command(after_help = "Example: kdhctl device code SN-1001")]
    Code {
        /// The terminal's serial number
        serial: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The terminal's serial number
    pub(crate) serial: String,
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// At most this many; without it, all
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key known to the host that a ceremony has put into its HSM
    ///
    /// The host refuses unless its HSM computes the same check value.
    #[command(after_help = "Example: kdhctl key register acq-tmk-2026 \
        --hsm-label kn.acq-tmk-2026 --header D0000K0AB00E0000 --kcv 3F1A9C")]
    Register {
        /// How the host and its operators call the key: a-z, 0-9 and '-'
        name: String,
        /// The key's label in the HSM, as the ceremony made it
        #[arg(long, value_name = "LABEL")]
        hsm_label: String,
        /// Key block header with which terminals receive the key: 16 characters, TR-31 form
        #[arg(long)]
        header: Kbh,
        /// The key's check value as the ceremony reported it: 6 to 10 hexadecimal digits
        #[arg(long, value_name = "HEX")]
        kcv: String,
        /// How the check value was computed [default: aes-cmac for an AES header, tdea-ecb for a
        /// TDEA one]
        #[arg(long, value_name = "METHOD")]
        kcv_method: Option<Method>,
    },
    /// List the keys that the host knows
    List,
    /// Let a terminal have a key: it is offered the key in this slot from now on
    #[command(after_help = "Example: kdhctl key assign --device SN-1001 --slot tmk \
        --key acq-tmk-2026\n\nAssigning another key to a slot makes a new version, which the \
        terminal loads next.")]
    Assign {
        /// The terminal's serial number
        #[arg(long, value_name = "SERIAL")]
        device: String,
        /// Where the terminal keeps the key: a-z, 0-9 and '-'
        #[arg(long)]
        slot: String,
        /// The key's name
        #[arg(long, value_name = "NAME")]
        key: String,
        /// Only if the terminal has this encryption key: SHA-256 as "krd status" and "kdhctl device
        /// show" print it
        ///
        /// The key is meant for the encryption key that the terminal has now, or for the first one it
        /// enrols with. This makes sure that it is the one you looked at.
        #[arg(long, value_name = "HEX")]
        encryption_key: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// CMAC over 16 zero bytes
    AesCmac,
    /// Encryption of 8 zero bytes
    TdeaEcb,
}

impl From<Method> for KcvMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::AesCmac => Self::AesCmac,
            Method::TdeaEcb => Self::TdeaEcb,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// List deliveries, newest first
    #[command(after_help = "Example: kdhctl delivery list --device SN-1001 --limit 10")]
    List {
        /// Only deliveries to this terminal
        #[arg(long, value_name = "SERIAL")]
        device: Option<String>,
        #[command(flatten)]
        page: Page,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List audit records, oldest first
    #[command(after_help = "Example: kdhctl --json audit list --after 1200")]
    List {
        /// Only records after this sequence number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        #[command(flatten)]
        page: Page,
    },
    /// Fetch the whole trail and verify that no record was altered, moved or taken out
    ///
    /// The trail proves what is in it, not that nothing was cut off its end: note the number of
    /// records and the head, and see that the next trail still contains them.
    Verify,
}

const EXAMPLE: &str = "\
Example: a new terminal
  kdhctl device add SN-1001 --model \"Model X\"
  kdhctl key assign --device SN-1001 --slot tmk --key acq-tmk-2026
  kdhctl device code SN-1001

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.

\"kdhctl --help\" explains the configuration file.";

fn manual() -> String {
    let sample = include_str!("../kdhctl.sample.toml");
    format!("{EXAMPLE}\n\n{sample}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_parse() {
        for line in [
            "kdhctl device add SN-1 --model X",
            "kdhctl device list",
            "kdhctl --json device list --state BOUND --limit 3",
            "kdhctl device show SN-1 --json",
            "kdhctl device suspend SN-1 --why lost",
            "kdhctl device resume SN-1 --why found",
            "kdhctl device revoke SN-1 --why opened --yes",
            "kdhctl device code SN-1 --config other.toml",
            "kdhctl key register k --hsm-label kn.k --header D0000K0AB00E0000 --kcv 3F1A9C",
            "kdhctl key register k --hsm-label kn.k --header D0000K0TB00E0000 --kcv 3F1A9C \
             --kcv-method tdea-ecb",
            "kdhctl key list",
            "kdhctl key assign --device SN-1 --slot tmk --key k",
            "kdhctl delivery list --device SN-1",
            "kdhctl audit list --after 7 --limit 1",
            "kdhctl audit verify",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        use ErrorKind::{InvalidValue, MissingRequiredArgument, UnknownArgument, ValueValidation};
        for (line, kind) in [
            ("kdhctl device add SN-1", MissingRequiredArgument),
            ("kdhctl device suspend SN-1", MissingRequiredArgument),
            ("kdhctl device resume SN-1", MissingRequiredArgument),
            ("kdhctl device revoke SN-1 --yes", MissingRequiredArgument),
            ("kdhctl device list --limit -1", UnknownArgument),
            ("kdhctl device list --limit many", ValueValidation),
            ("kdhctl audit list --after x", ValueValidation),
            (
                "kdhctl key register k --hsm-label l --header D0000K0AB00E000 --kcv 3F1A9C",
                ValueValidation,
            ),
            (
                "kdhctl key register k --hsm-label l --header D0000K0AB00E0000 --kcv 3F1A9C \
                 --kcv-method cmac",
                InvalidValue,
            ),
            ("kdhctl device show SN-1 --pin 1234", UnknownArgument),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }
}
