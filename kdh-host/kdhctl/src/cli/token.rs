//! `kdhctl token`.

use std::path::PathBuf;

use clap::Subcommand;

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
