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
use kdh_ceremony::{
    Ceremony, Console, Mode, Plan, hsm_check, rehearsal, token_init, verify_transcript,
};
use time::OffsetDateTime;

/// Where Debian and others put SoftHSM.
const SOFTHSM: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
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
        /// File with the user PIN: yours, and readable for you only.
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
    /// The token's label; without it, the module's tokens are listed and none is checked.
    #[arg(long)]
    label: Option<String>,
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
            let plan = Plan::load(&plan, Mode::Real, OffsetDateTime::now_utc())?;
            Ceremony::run(&plan, &mut Console, &OffsetDateTime::now_utc)?;
        }
        Command::Run {
            plan,
            rehearse: true,
        } => return rehearse(&plan),
        Command::CheckPlan { plan } => {
            let plan = Plan::load(&plan, Mode::Real, OffsetDateTime::now_utc())?;
            println!(
                "The plan has no faults. Digest (SHA-256):\n{}",
                plan.grouped_digest()
            );
        }
        Command::Verify { transcript } => {
            let text = std::fs::read_to_string(&transcript)
                .with_context(|| transcript.display().to_string())?;
            let verified =
                verify_transcript(&text).with_context(|| transcript.display().to_string())?;
            println!(
                "{} lines, each following on the one before, none altered. The last says: {}\n\
                 Its hash, to compare with the minutes: {}",
                verified.lines, verified.last_event, verified.head
            );
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
            let init = if generate_pins {
                token_init::init_with_new_pins
            } else {
                token_init::init
            };
            let token = init(&module, &label, &pin_file, &so_pin_file)?;
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
    let Some(label) = &arguments.label else {
        for token in hsm_check::tokens(&arguments.module)? {
            let label = if token.initialized {
                &*token.label
            } else {
                "(not initialized)"
            };
            println!("{label}: {}, serial {}", token.model, token.serial);
        }
        bail!("no token was checked: name one with --label");
    };
    let pin = match &arguments.pin_file {
        Some(path) => Pin::from_file(path)?,
        None => Pin::prompt(&format!("PIN of token {label:?}: "))?,
    };
    let report = hsm_check::check(&arguments.module, label, &pin)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    Ok(if report.can_serve {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_report(report: &hsm_check::Report) {
    let word = |way: &Option<String>| way.clone().unwrap_or_else(|| "not possible".to_owned());
    let mut table = comfy_table::Table::new();
    table.add_row(["module", &report.module]);
    table.add_row(["token", &report.token]);
    table.add_row(["key tokens are sealed by", &word(&report.sealing)]);
    table.add_row(["for keys of", &report.key_kinds.join(", ")]);
    table.add_row(["under a Ke for", &report.ke.join(", ")]);
    table.add_row(["RSA-OAEP with", &report.oaep.join(", ")]);
    table.add_row(["components are combined by", &word(&report.combining)]);
    table.add_row(["a terminal opens inside by", &word(&report.opening)]);
    table.add_row([
        "the same, under TDEA, by",
        &word(&report.opening_under_tdea),
    ]);
    let limits = if report.limits_keys { "yes" } else { "no" };
    table.add_row(["keys are limited to mechanisms", limits]);
    let self_test = report.self_test.as_deref().unwrap_or("failed");
    table.add_row(["self-test", self_test]);
    for speed in &report.speed {
        table.add_row([speed.operation, &format!("{} per second", speed.per_second)]);
    }
    println!("{table}");
    let mut table = comfy_table::Table::new();
    table.set_header(["mechanism", "listed", "for"]);
    for mechanism in &report.mechanisms {
        let listed = if mechanism.listed { "yes" } else { "no" };
        table.add_row([mechanism.name, listed, mechanism.purpose]);
    }
    println!("{table}");
    if !report.keys.is_empty() {
        let mut table = comfy_table::Table::new();
        table.set_header(["key", "kind", "could be", "as strong as that", "limited to"]);
        for key in &report.keys {
            let strong = if key.strong { "yes" } else { "no" };
            let allowed = key.allowed_mechanisms.as_ref();
            let allowed = allowed.map_or_else(|| "-".to_owned(), |names| names.join(", "));
            table.add_row([&key.label, &key.kind, &key.role, strong, &allowed]);
        }
        println!("{table}");
    }
    for problem in &report.problems {
        println!("! {problem}");
    }
    let verdict = if report.can_serve { "" } else { "not " };
    println!("A host could {verdict}serve with this token.");
}

/// Starts this program again with SoftHSM's configuration for throw-away tokens, or, if that was
/// done, rehearses.
fn rehearse(path: &Path) -> anyhow::Result<ExitCode> {
    let Some(softhsm) = SOFTHSM.iter().map(Path::new).find(|path| path.is_file()) else {
        bail!("a rehearsal uses SoftHSM, which is not installed (Debian package softhsm2)");
    };
    let plan = Plan::load(path, Mode::Rehearsal, OffsetDateTime::now_utc())?;
    if let Some(folder) = std::env::var_os(REHEARSAL_FOLDER) {
        let folder = Path::new(&folder);
        let configured = std::env::var_os(rehearsal::SOFTHSM_CONFIGURATION);
        if configured.as_deref() != Some(rehearsal::configuration(folder).as_os_str()) {
            bail!("{REHEARSAL_FOLDER} is set by kdh-ceremony alone; unset it");
        }
        let clock = &OffsetDateTime::now_utc;
        kdh_ceremony::rehearse(plan, softhsm, folder, &mut Console, clock)?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = path
        .canonicalize()?
        .with_extension(format!("rehearsal-{}", std::process::id()));
    rehearsal::prepare(&folder)?;
    println!("Rehearsal in {}", folder.display());
    let status = Process::new(std::env::current_exe()?)
        .arg("run")
        .arg(path)
        .arg("--rehearse")
        .env(
            rehearsal::SOFTHSM_CONFIGURATION,
            rehearsal::configuration(&folder),
        )
        .env(REHEARSAL_FOLDER, &folder)
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
