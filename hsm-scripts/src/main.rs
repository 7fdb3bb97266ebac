//! `kdh-ceremony`: the PKI and key ceremony.
#![expect(clippy::print_stdout, reason = "a command talks to its user")]
#![expect(clippy::print_stderr, reason = "a command talks to its user")]

use std::{
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode},
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use hsm::Pin;
use kdh_ceremony::{Ceremony, Console, Mode, Plan, hsm_check, rehearsal, token_init};
use time::OffsetDateTime;

/// Where Debian and others put SoftHSM.
const SOFTHSM: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
/// Tells a process that it was started to rehearse, and in which folder.
const REHEARSAL_FOLDER: &str = "KDH_CEREMONY_REHEARSAL_FOLDER";

/// Makes the keys and certificates of a key distribution host, and brings master keys into its HSM.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
A ceremony is a plan file: reviewed, confirmed by its digest, executed as it stands. Commented sample
plans are in hsm-scripts/plans; docs/ceremony.md is the runbook."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Execute a plan.
    Run {
        /// The plan (TOML).
        plan: PathBuf,
        /// Execute it on throw-away SoftHSM tokens, with made-up components. Nothing real is touched.
        #[arg(long)]
        rehearse: bool,
    },
    /// Check a plan as `run` would before it opens the HSM, and name every fault.
    CheckPlan {
        /// The plan (TOML).
        plan: PathBuf,
    },
    /// Follow a transcript's chain.
    Verify {
        /// The transcript.
        transcript: PathBuf,
    },
    /// Tokens.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The HSM.
    Hsm {
        #[command(subcommand)]
        command: HsmCommand,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Initialize a fresh token.
    Init {
        /// The PKCS#11 library.
        #[arg(long)]
        module: PathBuf,
        /// The token's label: 1 to 32 characters.
        #[arg(long)]
        label: String,
        /// File with the user PIN, readable for its owner only.
        #[arg(long)]
        pin_file: PathBuf,
        /// File with the security officer's PIN.
        #[arg(long)]
        so_pin_file: PathBuf,
        /// Make both PINs up and write them to these files, which must not exist.
        #[arg(long)]
        generate_pins: bool,
    },
}

#[derive(Subcommand)]
enum HsmCommand {
    /// Say what a token can do, and which way key tokens would be sealed.
    ///
    /// Seals and opens throw-away keys and leaves nothing behind. Exits with 1 if a host could not
    /// serve with this token.
    Check(HsmCheck),
}

#[derive(Args)]
struct HsmCheck {
    /// The PKCS#11 library.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    label: String,
    /// File with the user PIN; asked for if left out.
    #[arg(long)]
    pin_file: Option<PathBuf>,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kdh-ceremony: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    hsm::forbid_core_dumps().context("core dumps cannot be switched off")?;
    match command {
        Command::Run {
            plan,
            rehearse: false,
        } => {
            let plan = Plan::load(&plan)?;
            Ceremony::run(&plan, Mode::Real, &mut Console, OffsetDateTime::now_utc())?;
        }
        Command::Run {
            plan,
            rehearse: true,
        } => return rehearse(&plan),
        Command::CheckPlan { plan } => {
            let plan = Plan::load(&plan)?;
            println!(
                "The plan has no faults. Digest (SHA-256): {}",
                plan.digest()
            );
        }
        Command::Verify { transcript } => {
            let text = std::fs::read_to_string(&transcript)
                .with_context(|| transcript.display().to_string())?;
            let lines = kdh_ceremony::verify_transcript(&text)
                .with_context(|| transcript.display().to_string())?;
            println!("{lines} lines, each following on the one before, none altered");
        }
        Command::Token {
            command:
                TokenCommand::Init {
                    module,
                    label,
                    pin_file,
                    so_pin_file,
                    generate_pins,
                },
        } => {
            if generate_pins {
                token_init::generate_pin(&pin_file)?;
                token_init::generate_pin(&so_pin_file)?;
            }
            let token = token_init::init(&module, &label, &pin_file, &so_pin_file)?;
            println!(
                "token {} initialized, serial number {}",
                token.label, token.serial
            );
        }
        Command::Hsm {
            command: HsmCommand::Check(check),
        } => return hsm_check(&check),
    }
    Ok(ExitCode::SUCCESS)
}

fn hsm_check(arguments: &HsmCheck) -> anyhow::Result<ExitCode> {
    let pin = match &arguments.pin_file {
        Some(path) => Pin::from_file(path)?,
        None => Pin::prompt(&format!("PIN of token {:?}: ", arguments.label))?,
    };
    let report = hsm_check::check(&arguments.module, &arguments.label, &pin)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let word = |way: Option<&'static str>| way.unwrap_or("not possible");
        let mut table = comfy_table::Table::new();
        table.add_row(["module", &report.module]);
        table.add_row(["token", &report.token]);
        table.add_row(["key tokens are sealed by", word(report.sealing)]);
        table.add_row(["components are combined by", word(report.combining)]);
        table.add_row(["RSA-OAEP with", &report.oaep.join(", ")]);
        table.add_row(["mechanisms", &report.mechanisms.join("\n")]);
        println!("{table}");
        for problem in &report.problems {
            println!("! {problem}");
        }
    }
    Ok(if report.can_serve() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts this program again with SoftHSM's configuration for throw-away tokens, or, if that was
/// done, rehearses.
fn rehearse(path: &Path) -> anyhow::Result<ExitCode> {
    let softhsm = SOFTHSM.iter().map(Path::new).find(|path| path.is_file());
    let Some(softhsm) = softhsm else {
        bail!("a rehearsal uses SoftHSM, which is not installed (Debian package softhsm2)");
    };
    if let Some(folder) = std::env::var_os(REHEARSAL_FOLDER) {
        let mut plan = Plan::load(path)?;
        let folder = Path::new(&folder);
        let now = OffsetDateTime::now_utc();
        kdh_ceremony::rehearse(&mut plan, softhsm, folder, &mut Console, now)?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = path
        .canonicalize()?
        .with_extension(format!("rehearsal-{}", std::process::id()));
    let configuration = rehearsal::prepare(&folder)?;
    println!("Rehearsal in {}", folder.display());
    let status = Process::new(std::env::current_exe()?)
        .arg("run")
        .arg(path)
        .arg("--rehearse")
        .env(rehearsal::SOFTHSM_CONFIGURATION, configuration)
        .env(REHEARSAL_FOLDER, &folder)
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
