//! `kdhctl authority`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Page;

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
