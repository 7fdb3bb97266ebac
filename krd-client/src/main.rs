//! The command `krd`.

mod cli;

use clap::Parser as _;

fn main() {
    let _ = cli::Cli::parse();
}
