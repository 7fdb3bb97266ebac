//! `kdhctl profile`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Change;

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
