//! PKCS#11 modules and the tokens in their slots.

use std::path::Path;

use crate::{HsmError, Pin, Token, TokenConfig};

/// A loaded PKCS#11 module.
#[derive(Clone)]
pub struct Module;

/// What a module says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Description.
    pub library: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Version of the library.
    pub version: String,
}

/// What a token says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Label.
    pub label: String,
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Whether it was ever initialized.
    pub initialized: bool,
    /// Whether its user has a PIN.
    pub user_pin_set: bool,
    /// Whether its user's PIN is locked.
    pub pin_locked: bool,
}

impl Module {
    /// Loads the library at `path` and initializes it, once per process.
    ///
    /// # Errors
    /// The library cannot be loaded or refuses to be initialized.
    pub fn load(path: &Path) -> Result<Self, HsmError> {
        unimplemented!("{path:?}")
    }

    /// What the module says about itself.
    ///
    /// # Errors
    /// The module does not answer.
    pub fn describe(&self) -> Result<ModuleInfo, HsmError> {
        unimplemented!()
    }

    /// Every token that is present, initialized or not.
    ///
    /// # Errors
    /// The module does not answer.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, HsmError> {
        unimplemented!()
    }

    /// Initializes the token of a free slot.
    ///
    /// # Errors
    /// A token of this label exists, no slot is free, or the label or a PIN is refused.
    pub fn initialize_token(
        &self,
        _label: &str,
        _so_pin: &Pin,
        _user_pin: &Pin,
    ) -> Result<TokenInfo, HsmError> {
        unimplemented!()
    }

    /// Logs in to a token, with one try.
    ///
    /// # Errors
    /// The token is not there, or not the only one of its label; the PIN is wrong or locked.
    pub fn open(&self, _config: &TokenConfig, _pin: &Pin) -> Result<Token, HsmError> {
        unimplemented!()
    }
}
