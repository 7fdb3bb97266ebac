//! The benchmark: what the host makes of its HSM, on this machine, with the real programs.
//!
//! ```text
//! run          the measures, one after another
//! pace         how long each takes
//! setup        a site, its ceremonies, and terminals that are bound
//! fleet        these terminals, as the parts read them
//! part         what is measured in a process of its own, and how that is started
//!   raw          the token by its module alone
//!   raw_keys     keys made and wrapped by it
//!   raw_sign     signatures by the module with nothing before it
//!   tokens       key tokens by the crates `hsm` and `tr34`
//!   load         terminals at work: deliveries as fast as possible, on a schedule, whole runs, mere
//!                connections
//!   count        what one delivery takes: calls of PKCS#11, bytes on the wire
//! keys         `bench keys`: a million devices with keys of their own
//!   measured     what is known already, on file
//!   database     devices written straight into it, and its size
//!   lab          its site and its terminal
//!   bar          how far something long has come
//!   report       the figures
//! race         callers on threads, as fast as they can
//! relay        between a terminal and the host: counts bytes
//! process      what the system says of a process and of the machine
//! percentiles  of latencies
//! stages       where the host says that its time went
//! report       the figures, as JSON and as a table
//! chart        the same as a picture
//! interrupt    nothing is left running
//! ```

mod chart;
mod fleet;
mod interrupt;
mod keys;
mod pace;
mod part;
mod percentiles;
mod process;
mod race;
mod relay;
mod report;
mod run;
mod setup;
mod stages;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures how much of its HSM's speed a key distribution host hands on to terminals.
///
/// Sets up a site with SoftHSM in a folder of its own, enrols terminals, and puts the real host under
/// load over gRPC with mutual TLS, on loopback. The measure of all things is what the HSM can sign at
/// most: each delivery takes one signature with the host's RSA-2048 key, so no host can make more
/// deliveries in a second than its HSM makes signatures.
///
/// The host and the terminals share this machine's processors. What each of them used is in the
/// report, so that the host's own share can be told.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "\
Prints a table, and writes report.json and throughput.svg into target/bench. Takes less than 8 \
minutes, with --quick less than 2. Built without --release its figures mean nothing: use ./dev bench.

Makes 2,000 connections at once, for which the shell has to allow so many open files (ulimit -n); \
./dev bench sees to it."
)]
struct Arguments {
    /// Measure each thing shorter and at fewer points: good for a look, not for a comparison
    #[arg(long)]
    quick: bool,
    /// Where the site is made, with the host's database [default: target/bench]
    ///
    /// Each delivery waits for this disk twice. On a disk in memory, such as /dev/shm, you see what the
    /// host does without it; no commit survives a loss of power there.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Keys(keys::Arguments),
    /// One measure, told on standard input as JSON: how this program starts itself.
    #[command(hide = true)]
    Part,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => run::run(&pace::Pace::new(arguments.quick), arguments.disk),
        Some(Command::Keys(arguments)) => keys::run(&arguments),
        Some(Command::Part) => part::run_this(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress, and what went wrong. Where nobody listens any more, the work goes on.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What was asked for.
fn print(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
