//! `kdhctl delivery`.

use clap::Subcommand;

use super::Page;

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
