//! `kdhctl import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tr34::Kbh;

use super::{Page, key::Method};

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
