//! The demonstration: the whole job on tokens made for the occasion, with the real programs.

mod background;
mod narrator;
mod show;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use hsm_modules::TestModule;
use system_tests::programs::{Programs, workspace};

use crate::{
    background::Running,
    narrator::{Narrator, print},
};

/// What a demonstration leaves in its folder, and the next one removes. The evidence of a whole one stays
/// until there is new evidence.
const LEFT: [&str; 6] = [
    "site",
    "host.json",
    "kdhctl",
    show::KEY_OFFICERS_KDHCTL,
    "krd",
    show::ONE_PASS,
];

/// Shows the whole job of a key distribution host.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Where everything is made [default: target/demo]
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// What stands in for the HSMs: softhsm, or kryoptic, on which no key leaves the terminal's token
    /// either
    #[arg(long, global = true, value_name = "MODULE", default_value = "softhsm", value_parser = module)]
    hsm: &'static TestModule,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// From empty tokens to a confirmed key.
    Run,
    /// Leaves a host running on loopback, with a terminal and two operators to try.
    Up,
    /// Stops it.
    Down,
}

fn module(name: &str) -> Result<&'static TestModule> {
    TestModule::called(name)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut narrator = Narrator::default();
    let folder = arguments.folder.map_or_else(usual_folder, Ok);
    let outcome = folder.and_then(|folder| {
        narrator.logs_are_in(show::logs(&folder));
        match arguments.command {
            Command::Run => run(&mut narrator, &folder, arguments.hsm),
            Command::Up => up(&mut narrator, &folder, arguments.hsm),
            Command::Down => down(&folder),
        }
    });
    match outcome {
        Ok(last_words) => {
            print(&last_words);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&narrator.failure(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(narrator: &mut Narrator, folder: &Path, module: &'static TestModule) -> Result<String> {
    start_afresh(folder)?;
    let (site, key) = show::prepare(narrator, folder, &Programs::beside_this_one()?, module)?;
    let host = show::start_host(narrator, &site, &key)?;
    let delivered = show::deliver(narrator, &site, &key)?;
    show::replace_own_key(narrator, &site, &delivered.terminal)?;
    narrator.step("The host stops");
    host.stop()?;
    narrator.say("It finished what was under way, and wrote the end to its audit trail.");
    show::collect_evidence(narrator, &site, folder)?;
    Ok(format!(
        "demo: OK device={} key={} kcv={}",
        delivered.device, delivered.key, delivered.kcv
    ))
}

fn up(narrator: &mut Narrator, folder: &Path, module: &'static TestModule) -> Result<String> {
    if let Some(running) = Running::find(folder)? {
        let id = running.id();
        print(&format!(
            "The demonstration's host is running already, as process {id}.\n"
        ));
        return Ok(show::commands(folder));
    }
    start_afresh(folder)?;
    let (site, key) = show::prepare(narrator, folder, &Programs::beside_this_one()?, module)?;
    show::prepare_sender(narrator, &site, folder)?;
    let host = show::start_host(narrator, &site, &key)?;
    show::prepare_trial(narrator, &site, &key, folder)?;
    Running::record(folder, &site, &host)?;
    host.let_go();
    print("");
    Ok(show::commands(folder))
}

fn down(folder: &Path) -> Result<String> {
    Ok(match Running::find(folder)? {
        Some(running) => {
            let id = running.id();
            running.stop()?;
            format!("The demonstration's host, process {id}, has stopped.")
        }
        None => "The demonstration's host does not run.".to_owned(),
    })
}

/// `target/demo`, as it is written from the folder that we are in.
fn usual_folder() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this.parent().and_then(Path::parent);
    let folder = target
        .context("this program is in no build folder")?
        .join("demo");
    let here = env::current_dir()?;
    Ok(match folder.strip_prefix(workspace()) {
        Ok(short) if here == workspace() => short.to_owned(),
        _ => folder,
    })
}

/// Stops an earlier demonstration's host and removes what it left.
fn start_afresh(folder: &Path) -> Result<()> {
    if let Some(running) = Running::find(folder)? {
        let id = running.id();
        print(&format!(
            "The host of an earlier ./dev up runs as process {id}: stopping it."
        ));
        running.stop()?;
    }
    for path in LEFT.map(|name| folder.join(name)) {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else if path.exists() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
