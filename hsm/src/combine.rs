//! Combining components.

use crate::{ClearKey, HsmError, Kcv, KeyName, SecretKey};

/// A key that grows from components.
pub struct Combination;

impl Combination {
    /// Adds a component and returns its check value.
    ///
    /// # Errors
    /// The component is of another length, all zero, or one that was added before.
    #[expect(clippy::needless_pass_by_value, reason = "a component is spent")]
    pub fn add(&mut self, _component: ClearKey) -> Result<Kcv, HsmError> {
        unimplemented!()
    }

    /// Makes the sum a token key, if its check value is `expected`.
    ///
    /// # Errors
    /// Fewer than two components; another check value; the name is taken. Nothing is kept then.
    pub fn finish(self, _name: &KeyName, _expected: &Kcv) -> Result<SecretKey, HsmError> {
        unimplemented!()
    }
}
