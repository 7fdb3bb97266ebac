//! The command `krd`: a terminal, one act at a time.

mod activation_code;
mod cli;
mod output;

use std::{
    fs::{File, TryLockError},
    io::{self, IsTerminal as _, Read},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use krd_client::{
    Config, Evidence, KrdError, LoadReport, OnePassFile, SystemClock, Terminal, TokenSource,
};
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Command, LogFormat, Source, TokenCommand},
    output::Output,
};

/// Refused, by the terminal or by the host.
const REFUSED: u8 = 1;
/// Anything else that went wrong.
const FAILED: u8 = 2;

/// The longest token in PEM, with room for the lines before it.
const MAX_FILE_LEN: u64 = 2 * tr34::MAX_TOKEN_LEN as u64;

// More than one thread: TLS signs in the token, which blocks the thread that it runs on.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log_format);
    let output = Output { json: cli.json };
    match run(cli, output).await {
        Ok(code) => code,
        Err(error) => {
            let reason = error.downcast_ref().and_then(KrdError::reason);
            output.failure(reason, &format!("{error:#}"));
            ExitCode::from(if reason.is_some() { REFUSED } else { FAILED })
        }
    }
}

async fn run(cli: Cli, output: Output) -> anyhow::Result<ExitCode> {
    hsm::forbid_core_dumps().context("cannot turn core dumps off")?;
    let config = Config::load(&cli.config)?;
    let evidence = match &cli.evidence {
        Some(folder) => Evidence::in_folder(folder)?,
        None => Evidence::none(),
    };
    let _lock = match cli.command {
        Command::Status => None,
        _ => Some(lock(&cli.config)?),
    };
    let terminal = Terminal::open(config, Arc::new(SystemClock), evidence)?;
    match cli.command {
        Command::Keygen => output.keygen(&terminal.keygen()?),
        Command::Enroll { code_file } => {
            let code = activation_code::load(code_file.as_deref())?;
            output.enrolled(&terminal.enroll(&code).await?);
        }
        Command::Bind => output.bound(&terminal.bind().await?),
        Command::Load { slot, from } => {
            let report = match from {
                None => terminal.load(slot.as_ref()).await?,
                Some(path) => {
                    let file = OnePassFile::parse(&read_token(&path)?).map_err(KrdError::from)?;
                    LoadReport {
                        slots: vec![terminal.load_file(&file, slot.as_ref())?],
                        ..LoadReport::default()
                    }
                }
            };
            output.loaded(&report);
            if report.slots.iter().any(|slot| slot.outcome.is_err()) {
                return Ok(ExitCode::from(REFUSED));
            }
        }
        Command::Unbind { source } => {
            output.moved(&terminal.unbind(token_source(source)?).await?);
        }
        Command::Rebind { source } => {
            output.moved(&terminal.rebind(token_source(source)?).await?);
        }
        Command::Status => output.status(&terminal.status()?),
        Command::Token(TokenCommand::Open {
            file,
            key_label,
            profile,
        }) => {
            let file = if file == Path::new("-") {
                read_all(io::stdin())?
            } else {
                read_token(&file)?
            };
            output.opened(&terminal.open_token(&file, key_label.as_deref(), profile)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn token_source(source: Source) -> anyhow::Result<TokenSource> {
    Ok(match source {
        Source {
            from: Some(path), ..
        } => TokenSource::AuthorityFile(read_token(&path)?),
        Source {
            authority: true, ..
        } => TokenSource::Authority,
        Source { .. } => TokenSource::Kdh,
    })
}

/// A token's file, as far as a token can reach; what is cut off does not parse.
fn read_token(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = File::open(path).and_then(read_all);
    bytes.with_context(|| path.display().to_string())
}

fn read_all(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One command at a time for each terminal: the sweep of one would take the half-loaded key of
/// another for a remainder. The configuration's file serves as the lock.
fn lock(config: &Path) -> anyhow::Result<File> {
    let file = File::open(config).with_context(|| config.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another krd is at work on this terminal"),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", config.display()))
        }
    }
}

/// To standard error; what is asked for in the environment as `RUST_LOG`, warnings otherwise.
fn start_log(format: LogFormat) {
    // The PKCS#11 binding takes every mechanism that it has no name for as an error.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,cryptoki=off"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
