//! A rehearsal: the plan as it stands, on throw-away tokens of SoftHSM, with made-up components.
//!
//! SoftHSM reads its configuration once per process, so the rehearsal runs in a process of its own:
//! `kdh-ceremony` calls itself with the configuration set.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use time::OffsetDateTime;

use crate::{Ceremony, CeremonyError, Mode, People, Plan, token_init};

/// Where the configuration of SoftHSM's throw-away tokens is named.
pub const SOFTHSM_CONFIGURATION: &str = "SOFTHSM2_CONF";

/// Prepares a folder for a rehearsal: the configuration that the process has to be started with.
///
/// # Errors
/// The folder cannot be written.
pub fn prepare(folder: &Path) -> Result<PathBuf, CeremonyError> {
    let tokens = folder.join("tokens");
    std::fs::create_dir_all(&tokens).map_err(|error| CeremonyError::file(&tokens, error))?;
    let configuration = folder.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text)
        .map_err(|error| CeremonyError::file(&configuration, error))?;
    Ok(configuration)
}

/// Rehearses a plan in a folder that [`prepare`] made. Needs a plan whose CAs are made in it: keys
/// of earlier ceremonies are not on throw-away tokens.
///
/// # Errors
/// As [`Ceremony::run`]; or the plan uses a CA of an earlier ceremony.
pub fn rehearse(
    plan: &mut Plan,
    softhsm: &Path,
    folder: &Path,
    people: &mut dyn People,
    now: OffsetDateTime,
) -> Result<(), CeremonyError> {
    let made: BTreeSet<_> = plan
        .contents
        .acts
        .iter()
        .filter_map(|act| act.makes_key())
        .collect();
    let foreign: Vec<String> = plan
        .contents
        .acts
        .iter()
        .filter_map(|act| act.issuer())
        .filter(|issuer| !made.contains(&(&*issuer.token, &*issuer.key)))
        .map(|issuer| {
            format!(
                "a rehearsal has throw-away tokens only, and the key {} is of an earlier ceremony",
                issuer.key
            )
        })
        .collect();
    if !foreign.is_empty() {
        return Err(CeremonyError::Plan(foreign));
    }
    for (name, token) in &mut plan.contents.tokens {
        let pin = folder.join(format!("{name}.pin"));
        let so_pin = folder.join(format!("{name}.so-pin"));
        token_init::generate_pin(&pin)?;
        token_init::generate_pin(&so_pin)?;
        token_init::init(softhsm, &token.label, &pin, &so_pin)?;
        softhsm.clone_into(&mut token.module);
        token.serial = None;
        token.pin_file = Some(pin);
    }
    // Absolute, so that it no longer starts at the plan's folder.
    folder.clone_into(&mut plan.contents.output);
    Ceremony::run(plan, Mode::Rehearsal, people, now)
}
