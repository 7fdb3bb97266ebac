//! From a sum to a master key.

use super::{Home, Sum, rules};
use crate::{
    ClearKey, HsmError, Kcv, KeyName, SecretKey, master_key,
    session::Session,
    template::Lives,
    worker::{Ephemeral, Worker},
};

/// What came of a sum with its last component.
#[derive(Debug)]
#[must_use = "the key may be another one than was announced"]
pub enum Completion {
    /// It is the key, which is in the token now.
    Key(SecretKey),
    /// It is another key, of which nothing was kept. Some component is not what it should be.
    Wrong {
        /// The check value of the sum.
        found: Kcv,
        /// How often the last component may be entered again. With none left the sum was destroyed.
        tries_left: u32,
    },
}

/// Makes a sum a key of its name's role in the token, if its check value is `expected`. `derives` says whether
/// a master key may be derived from, for a module that seals that way.
///
/// # Errors
/// [`HsmError::KcvMismatch`]; [`HsmError::BadSum`]; the name is taken. Nothing is kept then.
pub(super) fn enter(
    worker: &Worker,
    sum: &Sum,
    name: &KeyName,
    expected: &Kcv,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let session = &worker.session;
    master_key::enter(
        worker,
        name,
        sum.kind,
        expected,
        derives,
        |template, lives, more| {
            // A wrong sum is told by its check value.
            if lives == Lives::InToken {
                require_distinct_pieces(session, sum)?;
            }
            sum.make(session, template, lives, more)
        },
    )
}

/// The same of a sum with its last component, which stays without it.
///
/// # Errors
/// As for [`enter`].
pub(super) fn enter_with(
    worker: &Worker,
    sum: &Sum,
    last: &ClearKey,
    name: &KeyName,
    expected: &Kcv,
    derives: bool,
) -> Result<SecretKey, HsmError> {
    let parts = sum.with(&worker.session, last, &Home::Session)?;
    let whole = Sum {
        parts: parts.iter().map(Ephemeral::handle).collect(),
        ..*sum
    };
    enter(worker, &whole, name, expected, derives)
}

/// Where the module can neither wrap pieces nor extract them, it is not known whether two are equal.
fn require_distinct_pieces(session: &Session, sum: &Sum) -> Result<(), HsmError> {
    match sum.veiled_pieces(session) {
        Ok(veiled) => rules::require_distinct(&veiled),
        Err(error) if error.is_unknown_mechanism() => {
            tracing::warn!(%error, "the parts of the sum were not compared with each other");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
