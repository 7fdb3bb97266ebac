//! `kdhctl bdk`.

use clap::Subcommand;
use tr34::KeyKind;

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
        ///
        /// Another kind is refused where the HSM states how long the key is. SoftHSM does not, of a key that a ceremony
        /// has brought in: there it is of the kind that you say.
        #[arg(long, value_parser = key_kind)]
        kind: KeyKind,
        /// Key check value, 6 hexadecimal digits, as the ceremony's transcript has it
        #[arg(long)]
        kcv: String,
    },
    /// List BDKs, and how many initial keys of each key set were given out
    List,
}

fn key_kind(name: &str) -> Result<KeyKind, String> {
    let kinds = || KeyKind::ALL.map(KeyKind::name).join(", ");
    KeyKind::from_name(name).ok_or_else(|| format!("name one of {}", kinds()))
}
