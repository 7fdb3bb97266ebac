//! PKCS#11 modules and the tokens in their slots.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11},
    error::{Error as CryptokiError, RvError},
    session::UserType,
    slot::Slot,
};

use crate::{
    HsmError, NameError, Operations, Pin, Token, TokenConfig, error::CallResult,
    name::MAX_LABEL_LEN, session::Session,
};

/// A loaded PKCS#11 module. Clones share it.
#[derive(Clone)]
pub struct Module {
    pub(crate) pkcs11: Pkcs11,
    /// Between looking for a free slot and having initialized it nobody else may look.
    initializing: Arc<Mutex<()>>,
    /// Of those who use this clone of it.
    pub(crate) operations: Option<Operations>,
}

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

/// Modules are initialized once per process and stay for as long as it lives: `C_Finalize` would end
/// the sessions of everybody in it.
static LOADED: Mutex<Vec<(PathBuf, Module)>> = Mutex::new(Vec::new());

impl Module {
    /// Loads the library at `path` and initializes it; once per process, after that the same module
    /// is returned.
    ///
    /// # Errors
    /// The library cannot be loaded or refuses to be initialized.
    pub fn load(path: &Path) -> Result<Self, HsmError> {
        let not_loaded = |reason: String| HsmError::ModuleNotLoaded {
            path: path.to_owned(),
            reason,
        };
        let path = path
            .canonicalize()
            .map_err(|error| not_loaded(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, module)) = loaded.iter().find(|(known, _)| *known == path) {
            return Ok(module.clone());
        }
        let pkcs11 = Pkcs11::new(&path).map_err(|error| not_loaded(error.to_string()))?;
        pkcs11
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .during("initialize the module")?;
        let module = Self {
            pkcs11,
            initializing: Arc::default(),
            operations: None,
        };
        loaded.push((path, module.clone()));
        Ok(module)
    }

    /// The same module, with what is done through it, and through the tokens that it opens, counted.
    #[must_use]
    pub fn counted_by(&self, operations: &Operations) -> Self {
        Self {
            operations: Some(operations.clone()),
            ..self.clone()
        }
    }

    /// What the module says about itself.
    ///
    /// # Errors
    /// The module does not answer.
    pub fn describe(&self) -> Result<ModuleInfo, HsmError> {
        let info = self
            .pkcs11
            .get_library_info()
            .during("describe the module")?;
        Ok(ModuleInfo {
            library: info.library_description().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            version: info.library_version().to_string(),
        })
    }

    /// Every token that is present, initialized or not.
    ///
    /// # Errors
    /// The module does not answer.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, HsmError> {
        let slots = self.slots()?;
        Ok(slots.into_iter().map(|(_, info)| info).collect())
    }

    /// Initializes the token of a free slot, and its user's PIN.
    ///
    /// # Errors
    /// A token of this label exists, no slot is free, or the label or a PIN is refused.
    pub fn initialize_token(
        &self,
        label: &str,
        so_pin: &Pin,
        user_pin: &Pin,
    ) -> Result<TokenInfo, HsmError> {
        let operation = "initialize a token";
        validate_token_label(label)?;
        let _alone = self
            .initializing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);

        let slots = self.slots()?;
        let exists = |(_, info): &(Slot, TokenInfo)| info.initialized && info.label == label;
        if slots.iter().any(exists) {
            return Err(HsmError::TokenExists {
                label: label.to_owned(),
            });
        }
        let (free, _) = slots
            .iter()
            .find(|(_, info)| !info.initialized)
            .ok_or(HsmError::NoFreeSlot)?;
        if let Some(operations) = &self.operations {
            operations.add(Function::InitToken, None);
        }
        self.pkcs11
            .init_token(*free, so_pin.as_secret(), label)
            .during(operation)?;

        // SoftHSM gives the token a new slot number.
        let (slot, _) = self.find_token(label, None)?;
        let session = self.pkcs11.open_rw_session(slot).during(operation)?;
        let session = Session::new(session, self.operations.clone());
        session
            .login(UserType::So, Some(so_pin.as_secret()))
            .during(operation)?;
        session.init_pin(user_pin.as_secret()).during(operation)?;
        session.logout().during(operation)?;
        self.find_token(label, None).map(|(_, info)| info)
    }

    /// Logs in to a token. The PIN is tried once.
    ///
    /// # Errors
    /// The token is not there, or not the only one of its label; the PIN is wrong or locked; this
    /// process has the token open already.
    pub fn open(&self, config: &TokenConfig, pin: &Pin) -> Result<Token, HsmError> {
        Token::open(self, config, pin)
    }

    /// As [`Self::open`], but a token that is not there is taken for lost and not for an error: no token
    /// of its name, a module that does not answer within the deadline, a device that fails. It is tried
    /// again as one that was lost later is, and is back when it has passed what its [`crate::TokenGroup`]
    /// demands by then.
    ///
    /// # Errors
    /// As there, in all other cases.
    pub fn open_or_await(&self, config: &TokenConfig, pin: &Pin) -> Result<Token, HsmError> {
        Token::open_or_await(self, config, pin)
    }

    pub(crate) fn find_token(
        &self,
        label: &str,
        serial: Option<&str>,
    ) -> Result<(Slot, TokenInfo), HsmError> {
        let mut matching = self.slots()?.into_iter().filter(|(_, info)| {
            info.initialized
                && info.label == label
                && serial.is_none_or(|serial| info.serial == serial)
        });
        let found = matching.next().ok_or_else(|| HsmError::TokenNotFound {
            label: label.to_owned(),
        })?;
        if matching.next().is_some() {
            return Err(HsmError::TokenNotUnique {
                label: label.to_owned(),
            });
        }
        Ok(found)
    }

    fn slots(&self) -> Result<Vec<(Slot, TokenInfo)>, HsmError> {
        let operation = "list the tokens";
        let slots = self.pkcs11.get_slots_with_token().during(operation)?;
        let mut found = Vec::with_capacity(slots.len());
        for slot in slots {
            match self.pkcs11.get_token_info(slot) {
                Ok(info) => found.push((slot, (&info).into())),
                // Taken out in between, or in a state that its owner has to deal with.
                Err(CryptokiError::Pkcs11(
                    RvError::TokenNotPresent | RvError::TokenNotRecognized,
                    _,
                )) => {}
                Err(error) => return Err(error).during(operation),
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").finish_non_exhaustive()
    }
}

impl From<&cryptoki::slot::TokenInfo> for TokenInfo {
    fn from(info: &cryptoki::slot::TokenInfo) -> Self {
        Self {
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            model: info.model().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            initialized: info.token_initialized(),
            user_pin_set: info.user_pin_initialized(),
            pin_locked: info.user_pin_locked(),
        }
    }
}

/// Token labels are chosen by their owners, so any printable ASCII will do; blanks at the end are
/// lost in PKCS#11's padding.
fn validate_token_label(label: &str) -> Result<(), NameError> {
    let printable = label.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if (1..=MAX_LABEL_LEN).contains(&label.len()) && printable && label.trim() == label {
        Ok(())
    } else {
        Err(NameError::TokenLabel(label.to_owned()))
    }
}
