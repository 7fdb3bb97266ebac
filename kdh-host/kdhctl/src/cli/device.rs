//! `kdhctl device`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Page;

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
        /// Only terminals in this state: REGISTERED, ENROLLED, BOUND, UNBOUND, REBOUND, QUARANTINED,
        /// SUSPENDED, REVOKED
        #[arg(long)]
        state: Option<String>,
        /// Only terminals in this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show a terminal and the keys that it should hold
    Show {
        /// The terminal's serial number
        serial: String,
    },
    /// Put terminals into a group, or take them out of theirs
    ///
    /// A terminal is in one group at most. If the group carries a key profile, that one says what its terminals hold,
    /// whole, and not the one of their model: "kdhctl profile --help". A group is there as soon as a terminal is in it.
    #[command(
        after_help = "Examples:\n  kdhctl device group SN-1001 SN-1002 --group pilot --why \"first wave\"\n  \
        kdhctl device group --from serials.txt --group pilot --why \"first wave\"\n  \
        kdhctl device group SN-1001 --none --why \"pilot is over\"\n\n\
        A file has one serial number on each line; blank lines and lines that begin with # are passed over. Many \
        terminals go in steps of 500, each of which is done whole or not at all: after a failure, run it again, and \
        those that are there already stay."
    )]
    Group {
        /// The terminals' serial numbers
        #[arg(
            value_name = "SERIAL",
            required_unless_present = "from",
            conflicts_with = "from"
        )]
        serials: Vec<String>,
        /// File with serial numbers
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        to: GroupOrNone,
        /// The reason, for the audit trail
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// List the groups: how many terminals are in each, and which key profile it carries
    Groups,
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
    /// Have a terminal destroy its keys and let this host go
    ///
    /// The terminal is told so when it asks next what it should hold, and gets an unbind token. From then
    /// on no key is delivered to it until it binds again, and its keys count as destroyed: assumed at
    /// first, and known once the terminal has signed that it destroyed them. "kdhctl device show" tells which.
    /// It may bind again by itself: to keep it out, suspend or revoke it when it is unbound.
    #[command(
        after_help = "Example: kdhctl device unbind SN-1001 --why \"goes to the repair shop\""
    )]
    Unbind(Move),
    /// Have a terminal go over to another key distribution host, with its keys
    ///
    /// The other host needs a KDH certificate by the same CA, valid and not revoked. The terminal is told so
    /// when it asks next what it should hold, and gets a rebind token with that certificate.
    #[command(after_help = "Example: kdhctl device rebind SN-1001 --to kdh-two.pem --why \"sold\"")]
    Rebind {
        #[command(flatten)]
        device: Move,
        /// The other host's KDH certificate, PEM
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Write what another host has to know of a terminal that shall be its own
    ///
    /// Its certificates, which are not secret. Do so before you order it to go over with "kdhctl device
    /// rebind": the other host answers only terminals that it has admitted.
    #[command(after_help = "Example: kdhctl device export SN-1001 --out sn-1001.pem")]
    Export {
        /// The terminal's serial number
        serial: String,
        /// Where to write it, PEM behind lines that say what it is; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Take a terminal that another host has enrolled
    ///
    /// This host must trust the same CA for terminals. The terminal counts as enrolled here, and binds when it
    /// comes. One that this host knows already, because it gave it away, needs no admission to come back.
    #[command(after_help = "Example: kdhctl device admit --from sn-1001.pem")]
    Admit {
        /// What "kdhctl device export" of the other host wrote
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Take back an order to unbind or rebind
    ///
    /// If the terminal has been given a token for it, it may still obey. "kdhctl device show" tells by its
    /// state, UNBOUND or REBOUND, as long as it has not bound again.
    #[command(after_help = "Example: kdhctl device cancel-order SN-1001")]
    CancelOrder {
        /// The terminal's serial number
        serial: String,
    },
    /// Ask that the terminals' CA unbinds a terminal whose KDH is lost
    ///
    /// Nothing is signed before another operator with the role recovery approves. For a terminal's
    /// certificate and a KDH there is one such token at most, since the terminal alone can tell it from its copies.
    #[command(
        after_help = "Example: kdhctl device ca-unbind SN-1001 --kdh kdh-lost.pem \
        --why \"the HSM burnt down\"\nThen, as another operator: kdhctl authority approve ID"
    )]
    CaUnbind {
        #[command(flatten)]
        device: Move,
        /// The lost KDH's certificate, PEM; it may have expired or been revoked
        #[arg(long, value_name = "FILE")]
        kdh: PathBuf,
    },
    /// Ask that the terminals' CA binds a terminal whose KDH is lost to another one
    ///
    /// As ca-unbind; the terminal keeps its keys.
    #[command(
        after_help = "Example: kdhctl device ca-rebind SN-1001 --kdh kdh-lost.pem --to kdh-two.pem \
        --why \"the HSM burnt down\"\nThen, as another operator: kdhctl authority approve ID"
    )]
    CaRebind {
        #[command(flatten)]
        device: Move,
        /// The lost KDH's certificate, PEM; it may have expired or been revoked
        #[arg(long, value_name = "FILE")]
        kdh: PathBuf,
        /// The certificate of the KDH that takes over, PEM
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
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
#[group(required = true, multiple = false)]
pub(crate) struct GroupOrNone {
    /// The group: a-z, 0-9 and '-'
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// No group
    #[arg(long)]
    pub(crate) none: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The terminal's serial number
    pub(crate) serial: String,
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}
