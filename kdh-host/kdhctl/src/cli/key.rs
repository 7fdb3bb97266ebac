//! `kdhctl key`.

use clap::{ArgGroup, Subcommand, ValueEnum};
use hsm::KcvMethod;
use tr34::Kbh;

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
    #[command(group = ArgGroup::new("which").required(true))]
    #[command(after_help = "Example: kdhctl key assign --device SN-1001 --slot tmk \
        --key acq-tmk-2026\n         kdhctl key assign --device SN-1001 --slot tmk --by-profile\n\nAssigning another key to a slot makes a new version, which the \
        terminal loads next. The one\nbefore stays good until the terminal has confirmed it.")]
    Assign {
        /// The terminal's serial number
        #[arg(long, value_name = "SERIAL")]
        device: String,
        /// Where the terminal keeps the key: a-z, 0-9 and '-'
        #[arg(long)]
        slot: String,
        /// A registered key, by its name
        #[arg(long, value_name = "NAME", group = "which")]
        key: Option<String>,
        /// The next key that the terminal's key profile says for this slot: one that the HSM makes for this
        /// terminal alone, unless the profile says otherwise
        #[arg(long, group = "which")]
        by_profile: bool,
        /// Only if the terminal has this encryption key: SHA-256 as "krd status" and "kdhctl device
        /// show" print it
        ///
        /// The key is meant for the encryption key that the terminal has now, or for the first one it
        /// enrols with. This makes sure that it is the one you looked at.
        #[arg(long, value_name = "HEX")]
        encryption_key: Option<String>,
    },
    /// List rows of terminals' keys that are not as the HSM has sealed them
    ///
    /// Somebody has changed them in the database, behind the host's back. Nothing is delivered from them, and no storage
    /// key is destroyed that they are under.
    Refused {
        /// Only this terminal's; without it, every row is verified, which takes a while
        #[arg(long, value_name = "SERIAL")]
        device: Option<String>,
    },
    /// Ask that such a row is discarded, which another operator approves: kdhctl approval approve
    ///
    /// What the HSM vouches for is not discarded: to withdraw a key, assign another one. A backup of the database that
    /// has the row as it was is better.
    #[command(
        after_help = "Example: kdhctl key discard --device SN-1001 --slot tmk --version 3 \
        --why \"changed by an intruder\"\n\nA row that holds no key stands there then, so that its version number is never used again; the slot can be\n\
        assigned anew."
    )]
    Discard {
        /// The terminal's serial number
        #[arg(long, value_name = "SERIAL")]
        device: String,
        /// As kdhctl key refused shows it
        #[arg(long)]
        slot: String,
        /// As kdhctl key refused shows it
        #[arg(long, value_name = "N")]
        version: u32,
        /// For the audit trail
        #[arg(long)]
        why: String,
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
