//! `kdh-ceremony`: the PKI and key ceremony.
#![expect(clippy::print_stdout, reason = "a command talks to its user")]
#![expect(clippy::print_stderr, reason = "a command talks to its user")]

mod verification;

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode},
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use hsm::{Pin, Token};
use kdh_ceremony::{
    Ceremony, Mode, Plan, escaped_lines, hsm_check, import_nonce, open_token, people_here,
    rehearsal, sums, token_init,
};
use time::OffsetDateTime;
use tr34::Profile;

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

const SCREENS: &str = "\
On a terminal of at least 80 columns and 24 rows, the ceremony has a screen for each step: what happens \
now, who acts, what was done and what comes next; the keys stand in its last row. Nothing of it stays on \
the terminal.

With --plain, where TERM is \"dumb\", where the input or the output is no terminal, and in an unattended \
ceremony, it speaks in plain lines instead: no cursor is moved, nothing is drawn, and every change is said \
in words. Components and PINs are not shown in either.

Ctrl-C asks before it stops a ceremony. Then, as when somebody declines, what the act of now has made is \
taken back, and the transcript says so.";

/// Makes the keys and certificates of a key distribution host, and brings master keys into its HSM.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
A ceremony is a plan file: reviewed, confirmed by its digest, executed as it stands. Commented sample \
plans are in hsm-scripts/plans; docs/ceremony.md is the runbook."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Execute a plan.
    #[command(after_long_help = SCREENS)]
    Run {
        /// The plan (TOML).
        plan: PathBuf,
        /// Execute it on throw-away SoftHSM tokens, with made-up components. Nothing real is touched.
        #[arg(long)]
        rehearse: bool,
        /// Speak in plain lines, for screen readers and recordings.
        #[arg(long = "plain")]
        in_lines: bool,
    },
    /// Check a plan as `run` would before it opens the HSM, and name every fault.
    CheckPlan {
        /// The plan (TOML).
        plan: PathBuf,
    },
    /// Verify a transcript: its chain, every signature and the seal. Says what happened, line by line.
    ///
    /// Works offline. Exits with 1 unless everything holds that has to.
    Verify(Verify),
    /// Tokens.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Partial sums of keys that come at several sittings.
    ///
    /// Between sittings the components so far are kept in the token, as their sum, for the plan that was confirmed
    /// and no other. They go when the key is made, when they expire, or by `destroy`.
    Sums {
        #[command(subcommand)]
        command: SumsCommand,
    },
    /// Keys that arrive encrypted. They are imported by a plan's act `import-wrapped`.
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// The HSM.
    Hsm {
        #[command(subcommand)]
        command: HsmCommand,
    },
}

#[derive(Args)]
struct Verify {
    /// The transcript; of a ceremony in several sittings the transcripts of all, in order.
    #[arg(required = true)]
    transcripts: Vec<PathBuf>,
    /// The certificate of the CA that certified the participants and the audit key (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Its revocation list (DER or PEM), best the one of the day of the ceremony.
    #[arg(long, requires = "ca")]
    crl: Option<PathBuf>,
    /// Accept that nobody confirmed, or nobody with a certificate, or that there is no seal: of a founding
    /// or an unattended ceremony.
    #[arg(long)]
    accept_unsigned: bool,
    /// Verify a rehearsal's transcript. Its CA is ceremony-ca.pem in the rehearsal's folder.
    #[arg(long)]
    rehearsal: bool,
    /// One JSON document.
    #[arg(long)]
    json: bool,
    /// Write a report, one page of HTML to be printed on A4, to this file, which must not exist.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Initialize a fresh token.
    ///
    /// Without --pin-file its holder, a custodian for instance, makes their own PIN: it is asked for twice and not
    /// shown. Everybody else looks away.
    Init {
        /// The PKCS#11 library.
        #[arg(long)]
        module: PathBuf,
        /// The token's label: 1 to 32 characters.
        #[arg(long)]
        label: String,
        /// File with the user PIN: yours, and readable for you only. Asked for twice where it is left out.
        #[arg(long)]
        pin_file: Option<PathBuf>,
        /// File with the security officer's PIN.
        #[arg(long)]
        so_pin_file: PathBuf,
        /// Make both PINs up and write them to these files, which must not exist.
        #[arg(long, requires = "pin_file")]
        generate_pins: bool,
    },
}

#[derive(Subcommand)]
enum SumsCommand {
    /// Show the partial sums that a token keeps: of which plan, from whom, until when.
    List {
        #[command(flatten)]
        token: TokenArguments,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Destroy a partial sum, for a plan that nobody goes on with. Its components have to be entered again.
    Destroy {
        #[command(flatten)]
        token: TokenArguments,
        /// The first characters of the plan's digest, 8 or more, as `list` shows it.
        digest: String,
        /// The act, where the plan has several.
        #[arg(long)]
        act: Option<u32>,
    },
}

#[derive(Subcommand)]
enum ImportCommand {
    /// Make the random-number token that another host answers with a TR-34 key token.
    ///
    /// The HSM keeps the nonce until the answer was imported; a new one takes the place of one that waits.
    Nonce {
        #[command(flatten)]
        token: TokenArguments,
        /// Label of the import pair.
        #[arg(long)]
        pair: String,
        /// The sender's dialect of TR-34, which has the length of the nonce: as in the plan that imports the answer.
        #[arg(long, default_value = "x9-2019")]
        profile: Profile,
        /// The new file.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Args)]
struct TokenArguments {
    /// The PKCS#11 library.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    label: String,
    /// File with the user PIN. Asked for where it is left out.
    #[arg(long)]
    pin_file: Option<PathBuf>,
}

impl TokenArguments {
    fn open(&self) -> anyhow::Result<Token> {
        let pin = load_pin(self.pin_file.as_deref(), &self.label)?;
        Ok(open_token(&self.module, &self.label, &pin)?)
    }
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
            eprintln!("kdh-ceremony: {}", escaped_lines(&format!("{error:#}")));
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
            in_lines,
        } => {
            let plan = Plan::load(&plan, Mode::Real, OffsetDateTime::now_utc())?;
            let mut people = people_here(&plan, in_lines)?;
            Ceremony::run(&plan, people.as_mut(), &OffsetDateTime::now_utc)?;
        }
        Command::Run {
            plan,
            rehearse: true,
            in_lines,
        } => rehearse(&plan, in_lines)?,
        Command::CheckPlan { plan } => {
            let plan = Plan::load(&plan, Mode::Real, OffsetDateTime::now_utc())?;
            println!(
                "The plan has no faults. Digest (SHA-256):\n{}",
                plan.grouped_digest()
            );
            for sitting in 1..=plan.sittings() {
                if plan.sittings() > 1 {
                    let transcript = plan.transcript_of(sitting);
                    println!("Sitting {sitting}: transcript {}", transcript.display());
                }
            }
        }
        Command::Verify(verify) => return verification::run(&verify),
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
            let token = match pin_file.as_deref() {
                Some(pin_file) if generate_pins => {
                    token_init::init_with_new_pins(&module, &label, pin_file, &so_pin_file)
                }
                pin_file => token_init::init(&module, &label, pin_file, &so_pin_file),
            }?;
            println!(
                "token {} initialized, serial number {}",
                token.label, token.serial
            );
        }
        Command::Sums { command } => run_sums(&command)?,
        Command::Import {
            command:
                ImportCommand::Nonce {
                    token,
                    pair,
                    profile,
                    out,
                },
        } => {
            let nonce = import_nonce::make(&token.open()?, &pair, profile, &out)?;
            println!(
                "{} holds the nonce {nonce}.\nHave the sender answer it. The HSM keeps it until then.",
                out.display()
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
            say(&format!(
                "{label}: {}, serial {}",
                token.model, token.serial
            ));
        }
        bail!("no token was checked: name one with --label");
    };
    let pin = load_pin(arguments.pin_file.as_deref(), label)?;
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

fn load_pin(file: Option<&Path>, label: &str) -> anyhow::Result<Pin> {
    Ok(match file {
        Some(path) => Pin::from_file(path)?,
        None => Pin::prompt(&format!("PIN of token {label:?}: "))?,
    })
}

fn run_sums(command: &SumsCommand) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    match command {
        SumsCommand::List { token, json } => {
            let kept = sums::list(&token.open()?)?;
            if *json {
                let kept: Vec<_> = kept.iter().map(|sum| sums::to_json(sum, now)).collect();
                println!("{}", serde_json::to_string_pretty(&kept)?);
            } else if kept.is_empty() {
                println!("The token keeps no partial sum.");
            } else {
                for sum in &kept {
                    say(&sums::describe(sum, now));
                }
            }
        }
        SumsCommand::Destroy { token, digest, act } => {
            let destroyed = sums::destroy(&token.open()?, digest, *act)?;
            say(&format!("Destroyed:\n{}", sums::describe(&destroyed, now)));
        }
    }
    Ok(())
}

/// Says what came from a token.
fn say(text: &str) {
    println!("{}", escaped_lines(text));
}

fn print_report(report: &hsm_check::Report) {
    let word = |way: &Option<String>| way.clone().unwrap_or_else(|| "not possible".to_owned());
    let mut table = comfy_table::Table::new();
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
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
    for import in &report.imports {
        let what = format!("keys are imported by {}", import.form);
        table.add_row([what.as_str(), &word(&import.with)]);
    }
    for (what, possible) in [
        ("keys are made and stored outside for", &report.storing),
        ("initial keys of DUKPT are derived for", &report.derivations),
        ("keys go to other systems by", &report.exports),
    ] {
        let possible = match possible.as_slice() {
            [] => "not possible".to_owned(),
            possible => possible.join(", "),
        };
        table.add_row([what, &possible]);
    }
    let limits = if report.limits_keys { "yes" } else { "no" };
    table.add_row(["keys are limited to mechanisms", limits]);
    let data = if report.keeps_data { "yes" } else { "no" };
    table.add_row(["custody and partial sums are kept", data]);
    let self_test = report.self_test.as_deref().unwrap_or("failed");
    table.add_row(["self-test", self_test]);
    for speed in &report.speed {
        table.add_row([speed.operation, &format!("{} per second", speed.per_second)]);
    }
    say(&table.to_string());
    let mut table = comfy_table::Table::new();
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["mechanism", "listed", "for"]);
    for mechanism in &report.mechanisms {
        let listed = if mechanism.listed { "yes" } else { "no" };
        table.add_row([mechanism.name, listed, mechanism.purpose]);
    }
    say(&table.to_string());
    if !report.keys.is_empty() {
        let mut table = comfy_table::Table::new();
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_header(["key", "kind", "could be", "as strong as that", "limited to"]);
        for key in &report.keys {
            let strong = if key.strong { "yes" } else { "no" };
            let allowed = key.allowed_mechanisms.as_ref();
            let allowed = allowed.map_or_else(|| "-".to_owned(), |names| names.join(", "));
            table.add_row([&key.label, &key.kind, &key.role, strong, &allowed]);
        }
        say(&table.to_string());
    }
    for problem in &report.problems {
        say(&format!("! {problem}"));
    }
    let verdict = if report.can_serve { "" } else { "not " };
    println!("A host could {verdict}serve with this token.");
}

/// Becomes this program again, with SoftHSM's configuration for throw-away tokens, or, if that was
/// done, rehearses.
fn rehearse(path: &Path, in_lines: bool) -> anyhow::Result<()> {
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
        let mut people = people_here(&plan, in_lines)?;
        kdh_ceremony::rehearse(plan, softhsm, folder, people.as_mut(), clock)?;
        return Ok(());
    }
    let folder = path
        .canonicalize()?
        .with_extension(format!("rehearsal-{}", std::process::id()));
    rehearsal::prepare(&folder)?;
    println!("Rehearsal in {}", folder.display());
    let error = Process::new(std::env::current_exe()?)
        .arg("run")
        .arg(path)
        .arg("--rehearse")
        .args(in_lines.then_some("--plain"))
        .env(
            rehearsal::SOFTHSM_CONFIGURATION,
            rehearsal::configuration(&folder),
        )
        .env(REHEARSAL_FOLDER, &folder)
        .exec();
    Err(error).context("the rehearsal cannot begin")
}
