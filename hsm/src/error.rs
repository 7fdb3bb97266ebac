//! What can go wrong, kept apart by what it takes to put it right.

use std::path::PathBuf;

use cryptoki::error::{Error as CryptokiError, RvError};
use tr34::{ContentCipher, KeyKind};

use crate::{
    DerivationError, ExportError, ImportError, Kcv, KeyRole, NameError, StorageError, SumId,
    UpstreamError, pool::DEADLINE,
};

/// A failed call. Never holds a secret.
// Not `non_exhaustive`: who maps it has to decide on every case.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    /// The module's library could not be loaded.
    #[error("cannot load the PKCS#11 module {path}: {reason}")]
    ModuleNotLoaded {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },

    /// The PIN was tried once and is wrong. Trying again brings the token closer to locking.
    #[error("token {token}: the PIN is incorrect")]
    PinIncorrect {
        /// The token's label.
        token: String,
    },
    /// The token refuses every PIN until its security officer unlocks it.
    #[error("token {token}: the PIN is locked")]
    PinLocked {
        /// The token's label.
        token: String,
    },
    /// The PIN could not be had.
    #[error("PIN {from}: {reason}")]
    PinFile {
        /// The file, or "prompt".
        from: String,
        /// Why not.
        reason: String,
    },

    /// No token has this label (and serial number).
    #[error("no token is called {label}")]
    TokenNotFound {
        /// What was looked for.
        label: String,
    },
    /// Several tokens have this label: name the serial number as well.
    #[error("more than one token is called {label}")]
    TokenNotUnique {
        /// What was looked for.
        label: String,
    },
    /// A token of this label is there already.
    #[error("a token called {label} exists")]
    TokenExists {
        /// Its label.
        label: String,
    },
    /// This process has the token open; clone that one.
    #[error("token {label} is already open in this process")]
    TokenInUse {
        /// Its label.
        label: String,
    },
    /// Every slot of the module holds an initialized token.
    #[error("the module has no slot for a new token")]
    NoFreeSlot,

    /// A label that a module would cut or that is outside of the naming scheme.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such key.
    #[error("no key is called {label}")]
    KeyNotFound {
        /// What was looked for.
        label: String,
    },
    /// Several keys have this label and id.
    #[error("more than one key is called {label}")]
    KeyNotUnique {
        /// What was looked for.
        label: String,
    },
    /// The name is taken.
    #[error("a key called {label} exists")]
    KeyExists {
        /// The name.
        label: String,
    },
    /// The key can be used or taken out in ways that its role forbids.
    #[error("key {label} is weaker than its role: {attribute} {how}")]
    WeakKey {
        /// The key.
        label: String,
        /// The attribute, `CKA_...`.
        attribute: &'static str,
        /// What is wrong with it, and why it matters.
        how: String,
    },
    /// The key's role does not do this.
    #[error("{operation} is not for a key of the role {role}")]
    WrongRole {
        /// What was asked.
        operation: &'static str,
        /// The key's role.
        role: KeyRole,
    },
    /// The key may not be used this way (any more).
    #[error("key {label} has no {usage}")]
    UsageNotAllowed {
        /// The key.
        label: String,
        /// The attribute that would allow it.
        usage: &'static str,
    },

    /// The module lacks what this takes.
    #[error("{operation} is not possible with this module, which lacks {}", .missing.join(" and "))]
    Unsupported {
        /// What was asked.
        operation: String,
        /// The mechanisms that would make it possible.
        missing: Vec<&'static str>,
    },
    /// Ke would be weaker than Kn.
    #[error("a key of the kind {kind} is not sealed under {cipher}, which is weaker")]
    WeakCipher {
        /// Of Kn.
        kind: KeyKind,
        /// Of Ke.
        cipher: ContentCipher,
    },
    /// A throw-away key could not be sealed and opened.
    #[error("the self-test failed: {what}")]
    SelfTest {
        /// What failed.
        what: String,
    },

    /// The device or the session is lost, or the answer did not come in time.
    #[error("{operation}: the HSM is unavailable ({reason})")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The PKCS#11 code, or "deadline".
        reason: String,
    },
    /// Every session is busy and the queue is full.
    #[error("the HSM's queue is full")]
    Busy,

    /// The key block does not open with this key. Says nothing more on purpose.
    #[error("the key block does not open")]
    OpeningFailed,
    /// Two check values that should be the same are not; nothing was kept.
    #[error("the key check value is {found}, not {expected}")]
    KcvMismatch {
        /// What was announced.
        expected: Kcv,
        /// What the HSM computed.
        found: Kcv,
    },
    /// A component that cannot be what a custodian was given.
    #[error("the component {reason}")]
    BadComponent {
        /// Why.
        reason: &'static str,
    },
    /// The components are as they should be and their sum is not.
    #[error("the sum of the components {reason}; no key was made of it")]
    BadSum {
        /// Why.
        reason: &'static str,
    },
    /// A sum of this plan and act is in the token already: it is to be resumed.
    #[error("the token keeps a partial sum of {id} already")]
    SumExists {
        /// Which.
        id: SumId,
    },
    /// A key that is another one than elsewhere, or than before.
    #[error("key {label} is another one in token {token}")]
    KeyDiffers {
        /// The key.
        label: String,
        /// The token's label and serial number.
        token: String,
    },
    /// Key bytes of a length that the kind of key does not have.
    #[error("a key of {expected} bytes was expected, not {found}")]
    KeyLength {
        /// Bytes.
        expected: usize,
        /// Bytes.
        found: usize,
    },

    /// A key of another kind than it is known as.
    #[error("{label} is of the kind {found}, not {expected}")]
    KeyKind {
        /// The key.
        label: String,
        /// As it is known.
        expected: KeyKind,
        /// In the token.
        found: KeyKind,
    },
    /// What is not derived from a BDK, whatever the module can do.
    #[error(transparent)]
    Derivation(#[from] DerivationError),

    /// What does not go to another system, whatever the module can do.
    #[error(transparent)]
    Export(#[from] ExportError),

    /// A key that arrived encrypted is not what was announced; nothing was kept.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A TR-34 token from another host is not to be opened.
    #[error(transparent)]
    Upstream(#[from] Box<UpstreamError>),
    /// A stored key or its record is not what the HSM once gave out.
    #[error(transparent)]
    Storage(#[from] StorageError),

    /// The module gave something that PKCS#11 does not allow.
    #[error("{operation}: the module answered with {what}")]
    BadAnswer {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// Any other failed PKCS#11 call.
    #[error("{operation}{}: {function} failed with {code}", in_label(.label.as_deref()))]
    Call {
        /// What was asked.
        operation: &'static str,
        /// The PKCS#11 function.
        function: String,
        /// The name of the return code, `CKR_...`.
        code: String,
        /// The key, where there is one.
        label: Option<String>,
    },
}

// Large, and rare.
impl From<UpstreamError> for HsmError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(Box::new(error))
    }
}

/// What a module says when it cannot go on, and what many say of a question that they do not like.
const MODULE_FAILED: [RvError; 5] = [
    RvError::GeneralError,
    RvError::FunctionFailed,
    RvError::HostMemory,
    RvError::DeviceMemory,
    RvError::SessionCount,
];

fn in_label(label: Option<&str>) -> String {
    label.map_or_else(String::new, |label| format!(" ({label})"))
}

impl HsmError {
    /// Whether the same call can succeed later without anyone changing anything.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable { .. })
    }

    /// Whether another token that holds the same keys may do what this one did not.
    pub(crate) fn may_succeed_elsewhere(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Unavailable { reason, .. } => reason != DEADLINE,
            _ => false,
        }
    }

    /// Of a call in which nothing was wrong with the question: where the module says that it failed
    /// itself, it was not available.
    pub(crate) fn or_unavailable(self, operation: &'static str) -> Self {
        match self {
            Self::Call { code, .. } if MODULE_FAILED.map(code_name).contains(&code) => {
                Self::Unavailable {
                    operation,
                    reason: code,
                }
            }
            other => other,
        }
    }

    /// Whether an opening that failed so may succeed when the token is back. Whatever else stops it has a
    /// cause that somebody has to remove; and what a login says of the PIN may cost a try.
    pub(crate) fn is_absence(&self) -> bool {
        const GONE: [RvError; 2] = [RvError::GeneralError, RvError::FunctionFailed];
        match self {
            Self::TokenNotFound { .. } | Self::Unavailable { .. } => true,
            Self::Call { code, function, .. } => {
                GONE.map(code_name).contains(code) && function != "C_Login"
            }
            _ => false,
        }
    }

    /// Whether the module refused a template, as it does when an attribute is unknown to it or not to be
    /// set.
    pub(crate) fn is_refused_attribute(&self) -> bool {
        const REFUSALS: [RvError; 5] = [
            RvError::AttributeTypeInvalid,
            RvError::AttributeValueInvalid,
            RvError::AttributeReadOnly,
            RvError::TemplateInconsistent,
            // NSS, of an attribute for which its database has no column.
            RvError::GeneralError,
        ];
        matches!(self, Self::Call { code, .. } if REFUSALS.map(code_name).contains(code))
    }

    /// Whether the module does not do this at all.
    pub(crate) fn is_unknown_mechanism(&self) -> bool {
        const UNKNOWN: [RvError; 3] = [
            RvError::MechanismInvalid,
            RvError::MechanismParamInvalid,
            RvError::FunctionNotSupported,
        ];
        matches!(self, Self::Call { code, .. } if UNKNOWN.map(code_name).contains(code))
    }

    /// Whether a key that was known in a session is not there any more.
    pub(crate) fn is_stale_key(&self) -> bool {
        const STALE: [RvError; 3] = [
            RvError::KeyHandleInvalid,
            RvError::ObjectHandleInvalid,
            RvError::UnwrappingKeyHandleInvalid,
        ];
        matches!(self, Self::Call { code, .. } if STALE.map(code_name).contains(code))
    }

    /// Whether the token has no more sessions to give.
    pub(crate) fn is_session_limit(&self) -> bool {
        match self {
            Self::Call { code, .. } => *code == code_name(RvError::SessionCount),
            Self::Unavailable { reason, .. } => *reason == code_name(RvError::SessionCount),
            _ => false,
        }
    }

    /// Whether the module said that its device failed.
    pub(crate) fn is_device_error(&self) -> bool {
        matches!(self, Self::Unavailable { reason, .. } if *reason == code_name(RvError::DeviceError))
    }
}

/// Gives a failed call its operation and key.
pub(crate) trait CallResult<T> {
    /// For a call that concerns no key, or one without a name.
    fn during(self, operation: &'static str) -> Result<T, HsmError>;

    /// For a call with the key `label`.
    fn with_key(self, operation: &'static str, label: &str) -> Result<T, HsmError>;
}

impl<T> CallResult<T> for Result<T, CryptokiError> {
    fn during(self, operation: &'static str) -> Result<T, HsmError> {
        self.map_err(|error| classify(&error, operation, None))
    }

    fn with_key(self, operation: &'static str, label: &str) -> Result<T, HsmError> {
        self.map_err(|error| classify(&error, operation, Some(label)))
    }
}

fn classify(error: &CryptokiError, operation: &'static str, label: Option<&str>) -> HsmError {
    let CryptokiError::Pkcs11(code, function) = error else {
        // Conversions inside the binding. Their texts quote no data.
        return HsmError::BadAnswer {
            operation,
            what: error.to_string(),
        };
    };
    match code {
        RvError::CryptokiNotInitialized
        | RvError::DeviceError
        | RvError::DeviceRemoved
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::UserNotLoggedIn => HsmError::Unavailable {
            operation,
            reason: code_name(*code),
        },
        _ => HsmError::Call {
            operation,
            function: format!("C_{function:?}"),
            code: code_name(*code),
            label: label.map(str::to_owned),
        },
    }
}

/// `CKR_PIN_INCORRECT` for `PinIncorrect`.
fn code_name(code: RvError) -> String {
    match code {
        RvError::VendorDefined(number) | RvError::UnknownErrorCode(number) => {
            format!("{number:#010x}")
        }
        _ => format!("{code:?}")
            .chars()
            .fold("CKR".to_owned(), |mut name, letter| {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
                name
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_pkcs11_names() {
        for (code, name) in [
            (RvError::PinIncorrect, "CKR_PIN_INCORRECT"),
            (RvError::KeyHandleInvalid, "CKR_KEY_HANDLE_INVALID"),
            (RvError::RandomNoRng, "CKR_RANDOM_NO_RNG"),
            (RvError::VendorDefined(0x8000_0001), "0x80000001"),
        ] {
            assert_eq!(code_name(code), name);
        }
    }

    #[test]
    fn lost_sessions_are_retryable_and_bad_arguments_are_not() {
        use cryptoki::context::Function;
        let lost = CryptokiError::Pkcs11(RvError::SessionHandleInvalid, Function::Sign);
        let bad = CryptokiError::Pkcs11(RvError::ArgumentsBad, Function::Sign);
        assert!(classify(&lost, "sign", None).is_retryable());
        let bad = classify(&bad, "sign", Some("kdh-signing"));
        assert!(!bad.is_retryable());
        assert_eq!(
            bad.to_string(),
            "sign (kdh-signing): C_Sign failed with CKR_ARGUMENTS_BAD"
        );
    }
}
