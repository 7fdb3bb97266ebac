//! The command line: here what all commands share, and a file for each group of them.

mod approval;
mod audit;
mod authority;
mod bdk;
mod delivery;
mod device;
mod import;
mod kdh;
mod key;
mod profile;
mod rollout;
mod storage;
mod target;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    approval::ApprovalCommand,
    audit::AuditCommand,
    authority::AuthorityCommand,
    bdk::BdkCommand,
    delivery::DeliveryCommand,
    device::{DeviceCommand, GroupOrNone, Move},
    import::{Announced, ImportCommand, OaepHash},
    kdh::KdhCommand,
    key::KeyCommand,
    profile::{ProfileCommand, ProfileTarget},
    rollout::{Order, RolloutCommand, Wave},
    storage::StorageCommand,
    target::{Ask, TargetCommand},
    token::{TokenCommand, TokenFileCommand},
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
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document instead of text, on failure too (on standard error)
    #[arg(long, global = true, display_order = 901)]
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
    /// Keys that the host hands out: register, list, assign to terminals; rows that somebody has changed
    ///
    /// A registered key is one that a ceremony has put into the HSM, and that the host knows by a name. A slot is a
    /// place for a key in a terminal. "kdhctl device show" lists what one terminal has in its slots.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Key profiles: what the slots of terminals of a model or a group hold
    ///
    /// A key profile says for each slot of a terminal what it holds: the header and kind of its key, where it comes from
    /// (made for this terminal, derived from a base derivation key, or a registered key that all share), the form of its
    /// check value, how long it is valid and when it is renewed. A model carries one, or a group; a group's stands in place
    /// of the model's, whole. The host refuses what its policy says (docs/keys.md); every version is kept.
    #[command(subcommand, visible_alias = "profiles")]
    Profile(ProfileCommand),
    /// BDKs, from which terminals' initial keys are derived (DUKPT): register, list
    ///
    /// A ceremony brings a BDK into the HSM, as bdk.NAME. The host derives initial keys of AES DUKPT from it, one for
    /// each terminal and version, and gives no derivation id out twice.
    #[command(subcommand, visible_alias = "bdks")]
    Bdk(BdkCommand),
    /// New versions of keys for many terminals: start, watch, pause, resume, stop, report
    ///
    /// A rollout gives many terminals the next version of their keys, from their key profiles. The host makes the keys in
    /// the background. A terminal finds the new version when it asks next what to load; the one before stays good until
    /// the terminal has confirmed the new one, and is destroyed then. Nobody touches a terminal.
    #[command(subcommand, visible_alias = "rollouts")]
    Rollout(RolloutCommand),
    /// Keys that arrived encrypted: ask that the HSM takes one in, approve, reject
    #[command(subcommand)]
    Import(ImportCommand),
    /// The storage keys, under which the host keeps terminals' keys: status, rotation
    ///
    /// Terminals' own keys lie in the database, each under a key that never leaves the HSM; another one there seals
    /// their rows. To rotate is to put a new pair in the place of the present one: every key is brought under it
    /// inside the HSM, beside deliveries, and the old pair is destroyed.
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Payment switches to which terminals' keys go: ask, close, fill, files, receive
    ///
    /// A payment switch needs the keys that terminals hold. It shares a key with the host, under which they go to it, and a
    /// second one, which makes MACs. Two operators agree once on a target: which keys, under which key, to whom. From then
    /// on every key that it covers goes there when its terminal has confirmed it, until the target is closed.
    #[command(subcommand, visible_alias = "targets")]
    Target(TargetCommand),
    /// What takes two operators: list, approve, reject, withdraw
    ///
    /// One operator asks, by "kdhctl storage rotate", "kdhctl target ask" or "kdhctl key discard", each of which prints
    /// the id of what was asked for. Another one with the role keys approves that id.
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

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// At most this many; without it, all
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
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
