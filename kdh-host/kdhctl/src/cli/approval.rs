//! `kdhctl approval`.

use clap::Subcommand;

use super::Page;

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List what was asked for, newest first
    #[command(
        after_help = "States: ASKED waits for another operator; APPROVED in force; ENDED done; WITHDRAWN ended by \
        an operator (CLOSED, if it is an export target); REJECTED; EXPIRED nobody approved it in time. FORGED: the row is not what the audit trail says \
        of it, and counts for nothing. REFUSED: it is not as the HSM has sealed it: restore it from a backup of the \
        database."
    )]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// Show what was asked for, whole
    #[command(after_help = "Example: kdhctl approval show 5f0c1a9e")]
    Show {
        /// As kdhctl approval list shows it
        id: String,
    },
    /// Approve what another operator has asked for: kdhctl approval show has all of it
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
