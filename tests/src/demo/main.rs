//! The demonstration: the whole job on SoftHSM tokens made for the occasion, with the real programs.

mod background;
mod narrator;
mod show;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use system_tests::programs::{Programs, workspace};

use crate::{
    background::Running,
    narrator::{Narrator, print},
};

/// Shows the whole job of a key distribution host.
#[derive(Parser)]
#[command(name = "demo")]
enum Command {
    /// From empty tokens to a confirmed key.
    Run,
    /// Leaves a host running on loopback, with a terminal to try.
    Up,
    /// Stops it.
    Down,
}

fn main() -> ExitCode {
    let mut narrator = Narrator::default();
    let outcome = match Command::parse() {
        Command::Run => run(&mut narrator),
        Command::Up => up(&mut narrator),
        Command::Down => down(),
    };
    match outcome {
        Ok(last_line) => {
            print(&last_line);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let logs = folder().map_or_else(|_| PathBuf::new(), |folder| show::logs(&folder));
            print(&narrator.failure(&error, &logs));
            ExitCode::FAILURE
        }
    }
}

fn run(narrator: &mut Narrator) -> Result<String> {
    let folder = start_afresh()?;
    let (site, key) = show::prepare(narrator, &folder, &Programs::beside_this_one()?)?;
    let host = show::start_host(narrator, &site, &key)?;
    let delivered = show::deliver(narrator, &site, &key)?;
    narrator.step("The host stops");
    host.stop()?;
    narrator.say("It finished what was under way, and wrote the end to its audit trail.");
    show::collect_evidence(narrator, &site, &folder)?;
    Ok(format!(
        "demo: OK device={} key={} kcv={}",
        delivered.device, delivered.key, delivered.kcv
    ))
}

fn up(narrator: &mut Narrator) -> Result<String> {
    let folder = folder()?;
    if let Some(running) = Running::find(&folder)? {
        let id = running.id();
        print(&format!(
            "The demonstration's host is running already, as process {id}.\n"
        ));
        return Ok(show::commands(&folder));
    }
    start_afresh()?;
    let (site, key) = show::prepare(narrator, &folder, &Programs::beside_this_one()?)?;
    let host = show::start_host(narrator, &site, &key)?;
    show::prepare_trial(narrator, &site, &key, &folder)?;
    Running::record(&folder, &site, &host)?;
    host.let_go();
    print("");
    Ok(show::commands(&folder))
}

fn down() -> Result<String> {
    Ok(match Running::find(&folder()?)? {
        Some(running) => {
            let id = running.id();
            running.stop()?;
            format!("The demonstration's host, process {id}, has stopped.")
        }
        None => "The demonstration's host does not run.".to_owned(),
    })
}

/// Everything of the demonstration is here.
fn folder() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent);
    let target = target.context("this program is in no build folder")?;
    // Shorter to read where it is the usual one.
    let folder = target.join("demo");
    Ok(folder
        .strip_prefix(workspace())
        .map_or(folder.clone(), Path::to_owned))
}

/// Stops an earlier demonstration's host and removes what it left.
fn start_afresh() -> Result<PathBuf> {
    let folder = folder()?;
    if let Some(running) = Running::find(&folder)? {
        let id = running.id();
        print(&format!(
            "The host of an earlier ./dev up runs as process {id}: stopping it."
        ));
        running.stop()?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
