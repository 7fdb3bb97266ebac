//! `kdhctl storage`.

use clap::Subcommand;

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
