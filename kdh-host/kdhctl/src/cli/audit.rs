//! `kdhctl audit`.

use clap::Subcommand;

use super::Page;

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
