//! Fresh tokens.

use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use hsm::{Module, Pin, TokenInfo};
use zeroize::Zeroizing;

use crate::CeremonyError;

/// Bytes of randomness in a PIN that is made up; twice as many characters.
const PIN_LEN: usize = 8;

/// Initializes a fresh token with the PINs in these files.
///
/// # Errors
/// The label is taken, a PIN file is not acceptable, or the module refuses.
pub fn init(
    module: &Path,
    label: &str,
    pin_file: &Path,
    so_pin_file: &Path,
) -> Result<TokenInfo, CeremonyError> {
    let pin = Pin::from_file(pin_file)?;
    let so_pin = Pin::from_file(so_pin_file)?;
    Ok(Module::load(module)?.initialize_token(label, &so_pin, &pin)?)
}

/// Makes a PIN up and writes it to a new file that only its owner can read.
///
/// # Errors
/// The file exists or cannot be written.
pub fn generate_pin(path: &Path) -> Result<(), CeremonyError> {
    let failed = |error: std::io::Error| CeremonyError::file(path, error);
    let mut random = Zeroizing::new([0; PIN_LEN]);
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut *random))
        .map_err(failed)?;
    let text = Zeroizing::new(hex::encode(*random));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
