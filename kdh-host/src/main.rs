//! `kdh-host`: the key distribution host.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command talks to its user"
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use hsm::Failure;
use kdh_host::{
    Adoption, Clock as _, Host, ServeError, StartError, SystemClock, config::Config, serve,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// A start that takes longer hangs: self-tests, and reading the audit trail, take seconds.
const START: Duration = Duration::from_mins(10);

/// Delivers secret keys to payment terminals, out of an HSM, by TR-34.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
The sample configuration deploy/kdh-host.toml explains every key. Before the first start, hold a
ceremony (kdh-ceremony) that makes the host's keys and certificates."
)]
struct Arguments {
    /// How the log is written, to standard error. The variable `RUST_LOG` chooses what (default: info).
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Serve terminals and operators until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration as `run` would, and name every fault.
    ///
    /// Opens neither the HSM nor the database, unless --hsm is given.
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Also log in to the tokens, find the keys, and seal and open a throw-away key.
        #[arg(long)]
        hsm: bool,
    },
    /// Have the HSM seal the rows of keys that are from before it did so.
    ///
    /// Needed once, if `run` says so after an update. Stop the host before. The keys are shown, and nothing is
    /// done before you have said yes: what you agree to is sealed as the database has it. It is refused if the
    /// audit trail says that it was done before, or says something else of a key.
    AdoptKeys {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Show the keys for programs, as JSON on standard output.
        #[arg(long)]
        json: bool,
        /// You have looked at them before.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_log(arguments.log_format);
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in faults.0 {
                tracing::error!("{fault}");
            }
            ExitCode::FAILURE
        }
    }
}

fn init_log(format: LogFormat) {
    // The PKCS#11 binding takes every mechanism that it has no name for as an error.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,cryptoki=off"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Which would be told to standard error, and the end of the call if that is what is full.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn run(command: Command) -> Result<(), StartError> {
    hsm::forbid_core_dumps().map_err(StartError::one)?;
    match command {
        Command::CheckConfig { config, hsm } => {
            let config = Config::load(&config)?;
            kdh_host::check(&config, SystemClock.now(), hsm)?;
            tracing::info!("the configuration is sound");
            Ok(())
        }
        Command::AdoptKeys { config, json, yes } => {
            let config = Config::load(&config)?;
            runtime()?.block_on(adopt_keys(config, json, yes))
        }
        Command::Run { config } => {
            let config = Config::load(&config)?;
            runtime()?.block_on(async {
                let stop = stop_signal()?;
                let host = Host::start(config, Box::new(SystemClock));
                let Ok(host) = tokio::time::timeout(START, host).await else {
                    tracing::error!(
                        "not started after {START:?}: the HSM or the disk does not answer"
                    );
                    // As below.
                    std::process::abort()
                };
                let host = host?;
                match Box::pin(serve(host, stop)).await {
                    Ok(()) => Ok(()),
                    Err(ServeError::Faults(faults)) => Err(faults),
                    Err(ServeError::Hsm(failure @ Failure::Stuck { .. })) => {
                        tracing::error!("{failure}");
                        // An orderly end waits for the module, which does not answer, or takes
                        // it apart under the calls that are inside. The supervisor starts again.
                        std::process::abort()
                    }
                    Err(ServeError::Hsm(failure)) => Err(StartError::one(failure)),
                }
            })
        }
    }
}

fn runtime() -> Result<Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::one)
}

async fn adopt_keys(config: Config, json: bool, yes: bool) -> Result<(), StartError> {
    let adoption = Adoption::find(config, Box::new(SystemClock)).await?;
    if json {
        println!("{:#}", adoption.to_json());
    }
    if adoption.is_empty() {
        eprintln!("The HSM has sealed the rows of all keys: there is nothing to do.");
        return Ok(());
    }
    for line in adoption.describe() {
        eprintln!("{line}");
    }
    if !yes {
        eprint!("Have the HSM seal these rows as they are? Type yes: ");
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(StartError::one)?;
        if answer.trim() != "yes" {
            return Err(StartError::one("nothing was done"));
        }
    }
    let devices = adoption.seal().await.map_err(StartError::one)?;
    eprintln!("Sealed, with {devices} keys of devices: start the host.");
    Ok(())
}

/// Completes at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::one)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::one)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
