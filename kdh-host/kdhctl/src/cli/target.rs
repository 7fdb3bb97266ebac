//! Commands for export targets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Page;

#[derive(Debug, Subcommand)]
pub(crate) enum TargetCommand {
    /// Ask that keys go to a switch, which another operator approves: kdhctl approval approve
    #[command(
        visible_alias = "open",
        after_help = "Examples:\n  kdhctl target ask switch --form tr31 --under kbpkx.switch --under-kcv 3F1A9C \
        --mac zmac.switch --mac-kcv 0B77D1 --receiver switch-1 --why \"acquirer A\"\n  \
        kdhctl target ask switch --form key-wrap --under zmkx.switch --under-kcv 3F1A9C \
        --mac zmac.switch --mac-kcv 0B77D1 --model \"Model X\" --slot tmk --files --why \"acquirer A\"\n\n\
        Keys that were confirmed before do not go there by themselves: kdhctl target fill"
    )]
    Ask(Box<Ask>),
    /// List the targets, newest first, and how far each has come
    #[command(
        after_help = "States: ASKED waits for another operator; APPROVED in force; CLOSED, which --json calls \
        WITHDRAWN as the interface does; REJECTED; EXPIRED nobody approved it in time; REFUSED the row is not as the \
        HSM has sealed it: restore it from a backup of the database."
    )]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Show a target: what it covers, its keys, and how far it has come
    Show {
        /// The target's name
        name: String,
    },
    /// Close a target: nothing goes there any more, and what has not been fetched is destroyed
    ///
    /// It never comes back. Another one of the same name takes two operators again, and begins anew.
    #[command(after_help = "Example: kdhctl target close switch --why \"another acquirer\"")]
    Close {
        /// The target's name
        name: String,
        /// The reason, for the audit trail
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Have keys go to a target that terminals confirmed before it was in force
    ///
    /// It may be stopped and started again at any time: what is in line stays there, once.
    #[command(after_help = "Example: kdhctl target fill switch")]
    Fill {
        /// The target's name
        name: String,
    },
    /// Write the records of a target into a file, for a switch that is not connected
    ///
    /// The same records make the same file, for as long as they are kept.
    #[command(
        after_help = "Example: kdhctl target file switch --out keys-0001.jsonl\nThen, when the switch has it: \
        kdhctl target ack switch --position N"
    )]
    File {
        /// The target's name
        name: String,
        /// Where to write it, JSON lines; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The first record [default: the one behind the last that was acknowledged]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        from: Option<u64>,
        /// The last record [default: as far as they are made]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 10_000,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Acknowledge that the switch has the records in a file
    #[command(after_help = "Example: kdhctl target ack switch --position 480")]
    Ack {
        /// The target's name
        name: String,
        /// The last record in the file
        #[arg(long, value_name = "N")]
        position: u64,
    },
    /// Receive records as they are made, as the switch: with its certificate and its token in the configuration
    ///
    /// Each record is on disk before it is acknowledged. A connection that ends is made again.
    #[command(
        after_help = "Example: kdhctl --config switch.toml target receive switch --out keys.jsonl\n\n\
        The file is written to at its end. With --count it ends after so many records, and without goes on until \
        it is stopped."
    )]
    Receive {
        /// The target's name
        name: String,
        /// Where to write the records, JSON lines
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The first record [default: the one behind the last that was acknowledged]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        from: Option<u64>,
        /// End after so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// How the host and its operators call the target: a-z, 0-9 and '-'
    pub(crate) name: String,
    /// In which form keys go there
    #[arg(long)]
    pub(crate) form: Form,
    /// The label in the HSM of the key over them: zmkx.NAME for key-wrap, kbpkx.NAME for tr31
    #[arg(long, value_name = "LABEL")]
    pub(crate) under: String,
    /// Its check value by AES-CMAC as the ceremony reported it: 6 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(crate) under_kcv: String,
    /// The kind of the key over them
    #[arg(long, value_name = "KIND", default_value = "AES-256")]
    pub(crate) under_kind: String,
    /// The label in the HSM of the key that makes MACs: zmac.NAME
    #[arg(long, value_name = "LABEL")]
    pub(crate) mac: String,
    /// The check value of the key that makes MACs, in the same way
    #[arg(long, value_name = "HEX")]
    pub(crate) mac_kcv: String,
    /// The kind of the key that makes MACs
    #[arg(long, value_name = "KIND", default_value = "AES-256")]
    pub(crate) mac_kind: String,
    /// Keys of terminals of this model only
    #[arg(long, value_name = "MODEL", conflicts_with = "group")]
    pub(crate) model: Option<String>,
    /// Keys of terminals in this group only
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Keys in this slot only; may be given several times
    #[arg(long = "slot", value_name = "SLOT")]
    pub(crate) slots: Vec<String>,
    #[command(flatten)]
    pub(crate) way: Way,
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Way {
    /// The switch fetches them itself: the common name in its certificate, which has the role switch in the host's
    /// configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) receiver: Option<String>,
    /// Operators write them into files
    #[arg(long)]
    pub(crate) files: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Form {
    /// AES key wrap (RFC 3394)
    KeyWrap,
    /// TR-31 key blocks of version D, if the HSM can make them: "kdh-ceremony hsm check" says so
    Tr31,
}

impl Form {
    /// The word on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeyWrap => "key-wrap",
            Self::Tr31 => "tr31",
        }
    }
}
