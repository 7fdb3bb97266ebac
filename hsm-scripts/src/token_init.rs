//! Fresh tokens.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use hsm::{Module, Pin, TokenInfo};
use zeroize::Zeroizing;

use crate::{CeremonyError, LineMode};

/// Bytes of randomness in a PIN that is made up; twice as many characters.
const PIN_LEN: usize = 8;

/// Initializes a fresh token with the PINs in these files. Without a file for the user PIN its holder types one,
/// twice and hidden, so that nobody else knows it.
///
/// # Errors
/// The label is taken, a PIN is not acceptable, nobody types one, or the module refuses.
pub fn init(
    module: &Path,
    label: &str,
    pin_file: Option<&Path>,
    so_pin_file: &Path,
) -> Result<TokenInfo, CeremonyError> {
    init_in(&Module::load(module)?, label, pin_file, so_pin_file)
}

/// As [`init`], in a module that is loaded.
pub(crate) fn init_in(
    module: &Module,
    label: &str,
    pin_file: Option<&Path>,
    so_pin_file: &Path,
) -> Result<TokenInfo, CeremonyError> {
    // First, so that nobody makes up a PIN in vain.
    let so_pin = Pin::from_file(so_pin_file)?;
    let pin = match pin_file {
        Some(path) => Pin::from_file(path)?,
        None => LineMode::new()?.make_pin(label)?,
    };
    Ok(module.initialize_token(label, &so_pin, &pin)?)
}

/// As [`init`], with PINs that are made up and written to these files, which must not exist. They are
/// removed again if there is no token for them.
///
/// # Errors
/// As [`init`]; or a file exists or cannot be written.
pub fn init_with_new_pins(
    module: &Path,
    label: &str,
    pin_file: &Path,
    so_pin_file: &Path,
) -> Result<TokenInfo, CeremonyError> {
    generate_pin(pin_file)?;
    generate_pin(so_pin_file)
        .inspect_err(|_| drop(fs::remove_file(pin_file)))
        .and_then(|()| {
            init(module, label, Some(pin_file), so_pin_file).inspect_err(|_| {
                drop(fs::remove_file(pin_file));
                drop(fs::remove_file(so_pin_file));
            })
        })
}

/// Makes a PIN up and writes it to a new file that only its owner can read.
///
/// # Errors
/// The file exists or cannot be written.
pub(crate) fn generate_pin(path: &Path) -> Result<(), CeremonyError> {
    let mut random = Zeroizing::new([0; PIN_LEN]);
    getrandom::fill(&mut *random).map_err(|error| CeremonyError::file(path, error))?;
    let text = Zeroizing::new(hex::encode(*random));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| CeremonyError::file(path, error))
}
