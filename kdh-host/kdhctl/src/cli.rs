//! The command line.

mod rollout;
mod target;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hsm::KcvMethod;
use tr34::{Kbh, KeyKind};

pub(crate) use self::{
    rollout::{Order, RolloutCommand, Wave},
    target::{Ask, TargetCommand},
};

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
    /// Terminals: add, look at, group, suspend, revoke, unbind, rebind, issue activation codes
    #[command(subcommand, visible_alias = "devices")]
    Device(DeviceCommand),
    /// Tokens by the terminals' CA for those whose KDH is lost: list, approve, reject, fetch
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Keys that the host hands out: register, list, assign to terminals
    #[command(subcommand)]
    Key(KeyCommand),
    /// Key profiles: what the slots of terminals of a model or a group hold
    #[command(subcommand, visible_alias = "profiles")]
    Profile(ProfileCommand),
    /// BDKs, from which terminals' initial keys are derived (DUKPT): register, list
    #[command(subcommand, visible_alias = "bdks")]
    Bdk(BdkCommand),
    /// New versions of keys for many terminals: start, watch, pause, resume, stop, report
    #[command(subcommand, visible_alias = "rollouts")]
    Rollout(RolloutCommand),
    /// Keys that arrived encrypted: ask that the HSM takes one in, approve, reject
    #[command(subcommand)]
    Import(ImportCommand),
    /// The storage keys, under which the host keeps terminals' keys: status, rotation
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Payment switches to which terminals' keys go: ask, close, fill, files, receive
    #[command(subcommand, visible_alias = "targets")]
    Target(TargetCommand),
    /// What takes two operators: list, approve, reject, withdraw
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// The host's KDH credentials, and how many terminals are bound to each
    #[command(subcommand)]
    Kdh(KdhCommand),
    /// Deliveries of keys to terminals
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// TR-34 tokens in files: look at them and check them, without a host; make one for a terminal
    #[command(subcommand)]
    Token(TokenCommand),
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

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// List what was asked for, newest first: by whom, why, and what became of it
    #[command(after_help = "Example: kdhctl authority list --limit 10")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Approve a request of another operator's: the terminals' CA signs the token
    ///
    /// Look at it with "kdhctl authority list" first: the token cannot be taken back. The terminal fetches
    /// it itself, or you bring it with "kdhctl authority fetch".
    #[command(after_help = "Example: kdhctl authority approve 5f0c1a9e")]
    Approve {
        /// The request's id
        id: String,
    },
    /// Reject a request, or withdraw your own
    #[command(after_help = "Example: kdhctl authority reject 5f0c1a9e")]
    Reject {
        /// The request's id
        id: String,
    },
    /// Write the token of a request into a file, for a terminal that cannot fetch it itself
    ///
    /// If it takes the terminal from this host, the terminal counts as unbound or rebound from then on.
    #[command(after_help = "Example: kdhctl authority fetch 5f0c1a9e --out sn-1001.pem")]
    Fetch {
        /// The request's id
        id: String,
        /// Where to write it, PEM; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
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
        #[arg(long, value_name = "NAME", required_unless_present = "by_profile")]
        key: Option<String>,
        /// The next key that the terminal's key profile says for this slot: one that the HSM makes for this
        /// terminal alone, unless the profile says otherwise
        #[arg(long, conflicts_with = "key")]
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

/// A key profile says for each slot of a terminal what it holds: the header and kind of its key, where it comes from
/// (made for this terminal, derived from a base derivation key, or a registered key that all share), the form of its
/// check value, how long it is valid and when it is renewed. A model carries one, or a group; a group's stands in place
/// of the model's, whole. The host refuses what its policy says (docs/keys.md); every version is kept.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// List the profiles, and the models and groups that carry them
    List,
    /// Show a profile: its slots, what carries it, what the policy says of it, and its versions
    #[command(after_help = "Examples:\n  kdhctl profile show acquirer-standard\n  \
        kdhctl profile show acquirer-standard --out standard.toml   then change it, and put it")]
    Show {
        /// The profile's name
        name: String,
        /// An older version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// Write it into this file, to be changed and put; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Put a profile: a new one, or a new version of one
    ///
    /// Shows first what it would do: how many terminals of which models and groups would get a new key in which slots,
    /// how many keep theirs, and what the policy says. A version that says nothing new is none. The file says on which
    /// version it is based: if somebody has put another one since, it is refused.
    #[command(
        after_help = "Examples:\n  kdhctl profile put standard.toml --dry-run\n  \
        kdhctl profile put standard.toml --why \"longer check values\"\n\n\
        deploy/key-profile.toml is a file with every field explained."
    )]
    Put {
        /// The file: TOML
        file: PathBuf,
        #[command(flatten)]
        change: Change,
    },
    /// Have a model or a group carry a profile
    ///
    /// Shows first what it would do, as put does. It takes the place of the one that is carried now.
    #[command(
        after_help = "Examples:\n  kdhctl profile assign acquirer-standard --model \"Model X\" --dry-run\n  \
        kdhctl profile assign acquirer-pilot --group pilot --why \"first wave\""
    )]
    Assign {
        /// The profile's name
        name: String,
        #[command(flatten)]
        target: ProfileTarget,
        #[command(flatten)]
        change: Change,
    },
    /// Have a model or a group carry no profile any more
    ///
    /// Terminals of a group then hold what the profile of their model says, if it carries one.
    #[command(
        after_help = "Example: kdhctl profile unassign --group pilot --why \"pilot is over\""
    )]
    Unassign {
        #[command(flatten)]
        target: ProfileTarget,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a profile that nothing carries
    ///
    /// Its versions stay readable with "kdhctl profile show". To have it back, put it again, based on its last version.
    #[command(after_help = "Example: kdhctl profile remove acquirer-pilot --why \"pilot is over\"")]
    Remove {
        /// The profile's name
        name: String,
        /// The reason, for the audit trail
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ProfileTarget {
    /// Every terminal of this model whose group carries no profile
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Every terminal in this group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub(crate) why: Option<String>,
    /// Only show what it would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
}

/// The key is unwrapped in the HSM when another operator with the role keys has approved it, and is
/// registered then. Files hold bytes, or hexadecimal digits.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Ask for a key that came under a ZMK in the HSM, by AES key wrap
    #[command(
        after_help = "Example: kdhctl import zmk acq-tmk-2026 --kind AES-128 \\\n    \
        --header D0000K0AB00E0000 --kcv 3F1A9C --zmk zmk.acquirer --wrapped tmk.bin \\\n    \
        --why \"terminal master key of 2026\"\nThen, as another operator: kdhctl import approve ID"
    )]
    Zmk {
        #[command(flatten)]
        key: Announced,
        /// The ZMK's label in the HSM
        #[arg(long, value_name = "LABEL")]
        zmk: String,
        #[command(flatten)]
        wrapped: Wrapped,
    },
    /// Ask for a key that came under a transport key, which came along under an import pair by RSA-OAEP
    #[command(
        after_help = "Example: kdhctl import transport-key acq-tmk-2026 --kind AES-128 \\\n    \
        --header D0000K0AB00E0000 --kcv 3F1A9C --pair import-2026 --transport-key kek.bin \\\n    \
        --wrapped tmk.bin --why \"terminal master key of 2026\"\n\
        Then, as another operator: kdhctl import approve ID"
    )]
    TransportKey {
        #[command(flatten)]
        key: Announced,
        /// The import pair's label in the HSM
        #[arg(long, value_name = "LABEL")]
        pair: String,
        /// File with the encrypted transport key
        #[arg(long, value_name = "FILE")]
        transport_key: PathBuf,
        /// The hash in RSA-OAEP
        #[arg(long, value_name = "HASH", default_value = "sha256")]
        oaep_hash: OaepHash,
        #[command(flatten)]
        wrapped: Wrapped,
    },
    /// Ask for a key that came in a TR-31 (X9.143) key block
    #[command(
        after_help = "Example: kdhctl import key-block acq-tmk-2026 --kind AES-128 \\\n    \
        --header D0000K0AB00E0000 --kcv 3F1A9C --protection-key kbpk.acquirer \\\n    \
        --block tmk.tr31 --why \"terminal master key of 2026\"\n\
        Then, as another operator: kdhctl import approve ID"
    )]
    KeyBlock {
        #[command(flatten)]
        key: Announced,
        /// The label of the key block protection key in the HSM
        #[arg(long, value_name = "LABEL")]
        protection_key: String,
        /// File with the block, as text
        #[arg(long, value_name = "FILE")]
        block: PathBuf,
    },
    /// Ask for a key that came in a TR-34 key token of another host
    ///
    /// The host's configuration says whom it trusts, under [[key-senders]]. Where it waits for an answer to a
    /// nonce, make that first: "kdhctl import nonce".
    #[command(
        after_help = "Example: kdhctl import key-token acq-tmk-2026 --kind AES-128 \\\n    \
        --header D0000K0AB00E0000 --kcv 3F1A9C --sender acquirer --token tmk.der \\\n    \
        --why \"terminal master key of 2026\"\n\
        Then, as another operator: kdhctl import approve ID"
    )]
    KeyToken {
        #[command(flatten)]
        key: Announced,
        /// Who sent it, as the host's configuration calls them
        #[arg(long, value_name = "NAME")]
        sender: String,
        /// File with the token: DER, PEM, base64 or hexadecimal digits
        #[arg(long, value_name = "FILE")]
        token: PathBuf,
    },
    /// Make a nonce that a sender's next TR-34 token has to answer
    ///
    /// Send the file to the sender, and compare the nonce with them by another way. It is good for one token; one
    /// that was made before for this sender is good no more.
    #[command(after_help = "Example: kdhctl import nonce --sender acquirer --out rt-acquirer.der")]
    Nonce {
        /// Who shall answer it, as the host's configuration calls them
        #[arg(long, value_name = "NAME")]
        sender: String,
        /// Where to write the random-number token, DER; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List imports, newest first: what, under which key, by whom, and what became of it
    #[command(after_help = "Example: kdhctl import list --limit 10")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Approve an import of another operator's: the HSM unwraps the key
    ///
    /// Look at it with "kdhctl import list" first, and compare the check value with the sender's.
    #[command(after_help = "Example: kdhctl import approve 5f0c1a9e")]
    Approve {
        /// The import's id
        id: String,
    },
    /// Reject an import, or withdraw your own
    #[command(after_help = "Example: kdhctl import reject 5f0c1a9e")]
    Reject {
        /// The import's id
        id: String,
    },
}

/// What whoever sent the key says of it.
#[derive(Debug, Args)]
pub(crate) struct Announced {
    /// How the host and its operators will call the key: a-z, 0-9 and '-'
    pub(crate) name: String,
    /// AES-128, AES-192, AES-256, TDEA-2KEY or TDEA-3KEY
    #[arg(long)]
    pub(crate) kind: String,
    /// Key block header with which terminals receive the key: 16 characters, TR-31 form
    #[arg(long)]
    pub(crate) header: Kbh,
    /// The key's check value as its sender announced it: 6 to 10 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(crate) kcv: String,
    /// How the check value was computed [default: aes-cmac for an AES header, tdea-ecb for a
    /// TDEA one]
    #[arg(long, value_name = "METHOD")]
    pub(crate) kcv_method: Option<Method>,
    /// The reason, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

#[derive(Debug, Args)]
pub(crate) struct Wrapped {
    /// File with the wrapped key: 8 bytes longer than the key
    #[arg(long, value_name = "FILE")]
    pub(crate) wrapped: PathBuf,
    /// It was wrapped with padding (RFC 5649), not without (RFC 3394)
    #[arg(long)]
    pub(crate) padded: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OaepHash {
    /// SHA-256
    Sha256,
    /// SHA-1, for HSMs that know no other
    Sha1,
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
pub(crate) enum KdhCommand {
    /// List the KDH credentials: the present one, and those from which terminals are handed over
    #[command(
        after_help = "States: PRESENT terminals are bound to it; RETIRING each terminal is \
        handed over as it calls in; RETIRED none is left: take it out of the host's configuration, \
        and revoke its certificate with the next revocation list; ABSENT terminals are bound to a KDH \
        that the host's configuration lacks."
    )]
    List,
    /// Watch terminals being handed over until none is left at a retiring KDH credential
    #[command(after_help = "Example: kdhctl kdh watch --seconds 60\n\n\
        It may be stopped and started at any time: terminals are handed over as they call in.")]
    Watch {
        /// Ask the host again after this time
        #[arg(long, value_name = "N", default_value_t = 10,
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

fn key_kind(name: &str) -> Result<KeyKind, String> {
    let kinds = || KeyKind::ALL.map(KeyKind::name).join(", ");
    KeyKind::from_name(name).ok_or_else(|| format!("name one of {}", kinds()))
}

/// A ceremony brings a BDK into the HSM, as bdk.NAME. The host derives initial keys of AES DUKPT from it, one for
/// each terminal and version, and gives no derivation id out twice.
#[derive(Debug, Subcommand)]
pub(crate) enum BdkCommand {
    /// Make a BDK known that is in the HSM
    #[command(
        after_help = "Example: kdhctl bdk register acquirer-2026 --kind AES-128 --kcv 3F1A9C"
    )]
    Register {
        /// Its label in the HSM is bdk.NAME
        name: String,
        /// AES-128, AES-192, AES-256, or TDEA-2KEY, as the ceremony's plan has it
        #[arg(long, value_parser = key_kind)]
        kind: KeyKind,
        /// Key check value, 6 hexadecimal digits, as the ceremony's transcript has it
        #[arg(long)]
        kcv: String,
    },
    /// List BDKs, and how many initial keys of each key set were given out
    List,
}

/// Terminals' own keys lie in the database, each under a key that never leaves the HSM; another one there seals
/// their rows. To rotate is to put a new pair in the place of the present one: every key is brought under it
/// inside the HSM, beside deliveries, and the old pair is destroyed.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Show the pairs of storage keys, how many rows are under each, and a rotation under way
    #[command(
        after_help = "States: PRESENT what is new comes under it; RETIRING its rows are being moved; MOVED they \
        have moved, and it is kept for a time that the host's configuration says; PREPARED nothing is under it yet; \
        ABSENT rows are under a pair that the HSM lacks."
    )]
    Status,
    /// Ask for a rotation, which another operator approves: kdhctl approval approve
    #[command(after_help = "Example: kdhctl storage rotate --why \"yearly\"")]
    Rotate {
        /// For the audit trail
        #[arg(long)]
        why: String,
    },
    /// Watch keys being moved until the rotation has ended
    #[command(after_help = "Example: kdhctl storage watch --seconds 5\n\n\
        It may be stopped and started at any time; so may the host, which goes on where it was.")]
    Watch {
        /// Ask the host again after this time
        #[arg(long, value_name = "N", default_value_t = 2,
              value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List what was asked for, newest first
    #[command(
        after_help = "States: ASKED waits for another operator; APPROVED in force; ENDED done; WITHDRAWN ended by \
        an operator; REJECTED; EXPIRED nobody approved it in time. FORGED: the row is not what the audit trail says \
        of it, and counts for nothing. REFUSED: it is not as the HSM has sealed it: restore it from a backup of the \
        database."
    )]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Approve what another operator has asked for
    #[command(after_help = "Example: kdhctl approval approve 5f0c1a9e")]
    Approve {
        /// As kdhctl approval list shows it
        id: String,
    },
    /// Reject what was asked for, by you or by another operator
    Reject {
        /// As kdhctl approval list shows it
        id: String,
    },
    /// End what was approved and is in force, if what it does can be left so
    ///
    /// A rotation of the storage keys that has begun goes on to its end.
    #[command(after_help = "Example: kdhctl approval withdraw 5f0c1a9e --why \"not this month\"")]
    Withdraw {
        /// As kdhctl approval list shows it
        id: String,
        /// For the audit trail
        #[arg(long)]
        why: String,
    },
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

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    #[command(flatten)]
    File(TokenFileCommand),
    /// Make a key token for a terminal that is not on line, to be brought to it in a file
    ///
    /// The token says when it was signed instead of answering a nonce; the terminal takes only later
    /// ones than it has taken. It replaces what was under way to the slot. The terminal's receipt
    /// comes when it is on line again.
    #[command(
        after_help = "Example: kdhctl token one-pass --device SN-1001 --slot tmk \
        --out sn-1001-tmk.pem\n\nThe terminal loads it with \"krd load --from sn-1001-tmk.pem\"."
    )]
    OnePass {
        /// The terminal's serial number
        #[arg(long, value_name = "SERIAL")]
        device: String,
        /// The slot whose key it shall get
        #[arg(long)]
        slot: String,
        /// The file, which must not exist: PEM behind lines that say what it is
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenFileCommand {
    /// Say which token a file holds, what stands in it, and what is unusual about it
    ///
    /// Reads DER, PEM, hexadecimal digits or base64, of every token and every dialect that the host
    /// knows. Nothing is verified, and the key of a clear key block is not shown.
    #[command(after_help = "Example: kdhctl token inspect kt-kdh.der\n\n\
        Exit codes: 0 a token, 1 none (the error says where it stops being one), 2 wrong usage.")]
    Inspect {
        /// The file; - for standard input
        file: PathBuf,
    },
    /// Check a token as a careful terminal would, except for opening it
    ///
    /// Each check is printed with its result. Exit code 0 only if all hold; what could not be checked,
    /// because something was not given, does not hold.
    #[command(
        after_help = "Example: kdhctl token verify kt-kdh.der --anchor ca-kdh.pem \\\n    \
        --kdh kdh.pem --krd krd.pem --nonce 0123456789ABCDEF0123456789ABCDEF"
    )]
    Verify {
        /// The file; - for standard input
        file: PathBuf,
        /// PEM file with the CA that certified the signer, or the terminal, and the root above it if
        /// the path shall be checked up to there
        ///
        /// It may hold several: a rebind token by the terminals' CA takes that one and the KDHs' CA.
        #[arg(long, value_name = "PEM")]
        anchor: PathBuf,
        /// Revocation list of that CA, PEM or DER; needed where the token brings none
        #[arg(long, value_name = "FILE")]
        crl: Option<PathBuf>,
        /// The nonce that the terminal sent
        #[arg(long, value_name = "HEX")]
        nonce: Option<String>,
        /// The certificate of the KDH that the terminal is bound to
        #[arg(long, value_name = "PEM")]
        kdh: Option<PathBuf>,
        /// The encryption certificate of the terminal that the token is for
        #[arg(long, value_name = "PEM")]
        krd: Option<PathBuf>,
        /// Check as of this time [default: now]
        #[arg(long, value_name = "RFC3339")]
        at: Option<String>,
    },
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
            "kdhctl rollout start --model X --dry-run",
            "kdhctl rollout start --device SN-1 --device SN-2 --slot tmk --slot data --why x --yes",
            "kdhctl rollout start --group g --wave 1% --proceed-at 50 --stop-after 0 --why x",
            "kdhctl rollouts list --limit 3",
            "kdhctl rollout watch 7 --confirmed --seconds 1",
            "kdhctl rollout stop 7 --why x",
            "kdhctl --json rollout report 7 --troubled",
            "kdhctl device list",
            "kdhctl --json device list --state BOUND --group pilot --limit 3",
            "kdhctl device show SN-1 --json",
            "kdhctl device suspend SN-1 --why lost",
            "kdhctl device resume SN-1 --why found",
            "kdhctl device revoke SN-1 --why opened --yes",
            "kdhctl device code SN-1 --config other.toml",
            "kdhctl device unbind SN-1 --why repair",
            "kdhctl device rebind SN-1 --to two.pem --why sold",
            "kdhctl device cancel-order SN-1",
            "kdhctl device export SN-1 --out sn-1.pem",
            "kdhctl device admit --from sn-1.pem",
            "kdhctl device ca-unbind SN-1 --kdh lost.pem --why burnt",
            "kdhctl device ca-rebind SN-1 --kdh lost.pem --to two.pem --why burnt",
            "kdhctl device group SN-1 SN-2 --group pilot --why first",
            "kdhctl devices group --from f --none --why over",
            "kdhctl device groups",
            "kdhctl profile list",
            "kdhctl profiles show p --version 3 --out p.toml",
            "kdhctl profile put p.toml --dry-run",
            "kdhctl profile put p.toml --why new --yes",
            "kdhctl profile assign p --model M --why new",
            "kdhctl profile assign p --group g --dry-run",
            "kdhctl profile unassign --group g --why over --yes",
            "kdhctl profile remove p --why over",
            "kdhctl authority list --limit 3",
            "kdhctl authority approve 5f0c1a9e",
            "kdhctl authority reject 5f0c1a9e",
            "kdhctl authority fetch 5f0c1a9e --out token.pem",
            "kdhctl key register k --hsm-label kn.k --header D0000K0AB00E0000 --kcv 3F1A9C",
            "kdhctl key register k --hsm-label kn.k --header D0000K0TB00E0000 --kcv 3F1A9C \
             --kcv-method tdea-ecb",
            "kdhctl import zmk k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C --zmk zmk.a \
             --wrapped k.bin --padded --why new",
            "kdhctl import transport-key k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
             --pair import --transport-key t.bin --oaep-hash sha1 --wrapped k.bin --why new",
            "kdhctl import key-block k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
             --protection-key kbpk.a --block k.tr31 --why new",
            "kdhctl import list --limit 3",
            "kdhctl import approve 5f0c1a9e",
            "kdhctl import reject 5f0c1a9e",
            "kdhctl key list",
            "kdhctl key assign --device SN-1 --slot tmk --key k",
            "kdhctl key assign --device SN-1 --slot tmk --by-profile",
            "kdhctl bdk register acquirer-2026 --kind AES-256 --kcv 3F1A9C",
            "kdhctl bdk list --json",
            "kdhctl key refused",
            "kdhctl key refused --device SN-1",
            "kdhctl key discard --device SN-1 --slot tmk --version 3 --why edited",
            "kdhctl storage status --json",
            "kdhctl storage rotate --why yearly",
            "kdhctl storage watch --seconds 5",
            "kdhctl approval list --limit 3",
            "kdhctl approval approve 5f0c1a9e",
            "kdhctl approval reject 5f0c1a9e",
            "kdhctl approval withdraw 5f0c1a9e --why later",
            "kdhctl delivery list --device SN-1",
            "kdhctl audit list --after 7 --limit 1",
            "kdhctl audit verify",
            "kdhctl kdh list --json",
            "kdhctl kdh watch --seconds 5",
            "kdhctl token inspect token.der --json",
            "kdhctl token inspect -",
            "kdhctl token one-pass --device SN-1 --slot tmk --out token.pem",
            "kdhctl token verify token.pem --anchor ca.pem --crl ca.crl --nonce 00 --kdh k.pem \
             --krd t.pem --at 2026-01-01T00:00:00Z",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        use ErrorKind::{
            InvalidValue, MissingRequiredArgument as Missing, UnknownArgument as Unknown,
            ValueValidation,
        };
        for (line, kind) in [
            ("kdhctl device add SN-1", Missing),
            ("kdhctl device suspend SN-1", Missing),
            ("kdhctl device resume SN-1", Missing),
            ("kdhctl device revoke SN-1 --yes", Missing),
            ("kdhctl device unbind SN-1", Missing),
            ("kdhctl device rebind SN-1 --why sold", Missing),
            ("kdhctl device rebind SN-1 --to two.pem", Missing),
            ("kdhctl device cancel-order", Missing),
            ("kdhctl device export SN-1", Missing),
            ("kdhctl device export --out f", Missing),
            ("kdhctl device admit", Missing),
            ("kdhctl device admit SN-1 --from f", Unknown),
            ("kdhctl device cancel-order SN-1 --yes", Unknown),
            ("kdhctl device ca-unbind SN-1 --why burnt", Missing),
            ("kdhctl device ca-unbind SN-1 --kdh lost.pem", Missing),
            (
                "kdhctl device ca-unbind SN-1 --kdh lost.pem --to two.pem --why burnt",
                Unknown,
            ),
            (
                "kdhctl device ca-rebind SN-1 --kdh lost.pem --why burnt",
                Missing,
            ),
            (
                "kdhctl device ca-rebind SN-1 --to two.pem --why burnt",
                Missing,
            ),
            (
                "kdhctl key discard --device SN-1 --slot tmk --version 3",
                Missing,
            ),
            (
                "kdhctl key discard --device SN-1 --slot tmk --version -1 --why edited",
                Unknown,
            ),
            ("kdhctl authority approve", Missing),
            ("kdhctl authority approve 5f0c1a9e 6a", Unknown),
            ("kdhctl authority reject", Missing),
            ("kdhctl authority fetch 5f0c1a9e", Missing),
            ("kdhctl authority fetch --out t.pem", Missing),
            ("kdhctl bdk register a --kcv 3F1A9C", Missing),
            ("kdhctl bdk register a --kind AES-128", Missing),
            ("kdhctl bdk register --kind AES-128 --kcv 3F1A9C", Missing),
            (
                "kdhctl bdk register a --kind AES --kcv 3F1A9C",
                ValueValidation,
            ),
            ("kdhctl device list --limit -1", Unknown),
            ("kdhctl device list --limit many", ValueValidation),
            ("kdhctl audit list --after x", ValueValidation),
            (
                "kdhctl import zmk k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C --zmk zmk.a \
                 --wrapped k.bin",
                Missing,
            ),
            (
                "kdhctl import key-block k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
                 --block k.tr31 --why new",
                Missing,
            ),
            ("kdhctl import approve", Missing),
            (
                "kdhctl key register k --hsm-label l --header D0000K0AB00E000 --kcv 3F1A9C",
                ValueValidation,
            ),
            (
                "kdhctl key register k --hsm-label l --header D0000K0AB00E0000 --kcv 3F1A9C \
                 --kcv-method cmac",
                InvalidValue,
            ),
            ("kdhctl device show SN-1 --pin 1234", Unknown),
            ("kdhctl kdh watch --seconds 0", ValueValidation),
            ("kdhctl token inspect", Missing),
            ("kdhctl token one-pass --device SN-1 --slot tmk", Missing),
            ("kdhctl token verify token.der", Missing),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }

    #[test]
    fn a_profile_a_target_and_a_reason_are_needed() {
        use ErrorKind::{
            ArgumentConflict, MissingRequiredArgument, UnknownArgument, ValueValidation,
        };
        for (line, kind) in [
            ("kdhctl device group SN-1 --why x", MissingRequiredArgument),
            (
                "kdhctl device group SN-1 --group g",
                MissingRequiredArgument,
            ),
            (
                "kdhctl device group --group g --why x",
                MissingRequiredArgument,
            ),
            (
                "kdhctl device group SN-1 --group g --none --why x",
                ArgumentConflict,
            ),
            (
                "kdhctl device group SN-1 --from f --group g --why x",
                ArgumentConflict,
            ),
            ("kdhctl profile show", MissingRequiredArgument),
            ("kdhctl profile show p --version 0", ValueValidation),
            ("kdhctl profile put p.toml", MissingRequiredArgument),
            ("kdhctl profile put --dry-run", MissingRequiredArgument),
            (
                "kdhctl profile put p.toml --dry-run --yes",
                ArgumentConflict,
            ),
            ("kdhctl profile assign p --why x", MissingRequiredArgument),
            (
                "kdhctl profile assign p --model M --group g --why x",
                ArgumentConflict,
            ),
            (
                "kdhctl profile assign --model M --why x",
                MissingRequiredArgument,
            ),
            ("kdhctl profile unassign --why x", MissingRequiredArgument),
            (
                "kdhctl profile unassign p --group g --why x",
                UnknownArgument,
            ),
            ("kdhctl profile remove p", MissingRequiredArgument),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }

    /// Every command that the documents show.
    #[test]
    fn the_commands_of_the_documents_parse() {
        for (document, at_least) in [
            (include_str!("../../../docs/export.md"), 10),
            (include_str!("../../../docs/key-import.md"), 6),
            (include_str!("../../../docs/keys.md"), 9),
        ] {
            let document = document.replace("\\\n", "");
            let commands = document.lines().filter(|line| line.starts_with("kdhctl "));
            let mut found = 0;
            for command in commands {
                found += 1;
                // What stands in quotes is one word.
                let words = command.split('"').enumerate().map(|(index, part)| {
                    if index % 2 == 0 {
                        part.to_owned()
                    } else {
                        part.replace(' ', "-")
                    }
                });
                assert!(parse(&words.collect::<String>()).is_ok(), "{command}");
            }
            assert!(found >= at_least, "{found}");
        }
    }
}
