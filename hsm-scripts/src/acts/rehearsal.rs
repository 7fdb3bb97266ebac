//! How a rehearsal makes a key of what it made up.

use hsm::{HsmError, Kcv, KeyName, SecretKey};

use crate::people::People;

/// Makes the key twice: the plan's check value has to refuse it, its own has to accept it. Returns its own.
///
/// # Errors
/// `make`'s, for another reason.
pub(super) fn refused_and_made(
    planned: &Kcv,
    make: impl Fn(&Kcv) -> Result<SecretKey, HsmError>,
) -> Result<Kcv, HsmError> {
    match make(planned) {
        Err(HsmError::KcvMismatch { found, .. }) => make(&found).map(|_key| found),
        // One in millions.
        Ok(_key) => Ok(planned.clone()),
        Err(other) => Err(other),
    }
}

/// Says that it did.
pub(super) fn tell(people: &mut dyn People, key: &KeyName, kcv: &Kcv) {
    people.tell(&format!(
        "Rehearsal: {key} was refused with the plan's check value, and made with {kcv}, its own."
    ));
}
