//! What can go wrong on a terminal, kept apart by whose move it is.

use hsm::HsmError;
use token_tls::{ConnectError, TlsError};

use crate::{
    BindRefusal, BindingRefusal, BindingTokenRefusal, CallError, DeviceSerial, EnrollRefusal,
    LoadRefusal, SlotName, TokenFileError, record::RecordError,
};

/// A command that did not do what it should. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KrdError {
    /// The terminal refuses what Enroll brought; nothing was kept.
    #[error(transparent)]
    Enroll(#[from] EnrollRefusal),
    /// The terminal refuses what Bind brought; it is bound as before.
    #[error(transparent)]
    Bind(#[from] BindRefusal),
    /// The terminal refuses an unbind or rebind token; it is bound as before.
    #[error(transparent)]
    BindingToken(#[from] BindingTokenRefusal),
    /// The terminal refuses a token in its present state; it is bound as before.
    #[error(transparent)]
    Binding(#[from] BindingRefusal),
    /// A file holds no token.
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    /// The terminal refuses a key; the slot holds what it held before.
    #[error(transparent)]
    Load(#[from] LoadRefusal),
    /// The host refuses, or does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The host's answer makes no sense.
    #[error("{call}: the host's answer has {what}")]
    BadAnswer {
        /// The call.
        call: &'static str,
        /// What is wrong with it.
        what: String,
    },

    /// There are no keys yet.
    #[error("the terminal has no keys yet: run \"krd keygen\" first")]
    NoKeys,
    /// There are no certificates yet.
    #[error("the terminal is not enrolled yet: run \"krd enroll\" first")]
    NotEnrolled,
    /// There are certificates already.
    #[error("the terminal is enrolled already; go on with \"krd bind\"")]
    AlreadyEnrolled,
    /// The token is another terminal's.
    #[error("the token belongs to terminal {in_token}, the configuration is for {configured}")]
    OtherTerminal {
        /// By the token's record.
        in_token: DeviceSerial,
        /// By the configuration.
        configured: DeviceSerial,
    },
    /// The host has nothing for the slot that was named.
    #[error("the host has assigned no key to slot {0}")]
    SlotNotAssigned(SlotName),
    /// The file has a key for another slot than the one that was named.
    #[error("the file has a key for slot {in_file}, not for {named}")]
    OtherSlot {
        /// In the command.
        named: SlotName,
        /// In the file.
        in_file: SlotName,
    },
    /// `CA_KRD` wants something else than was asked for.
    #[error("CA_KRD has signed {signed} for this terminal: run \"{command}\"")]
    OtherAuthorityToken {
        /// What it has signed.
        signed: tr34::TokenKind,
        /// What takes that.
        command: &'static str,
    },
    /// Key blocks, or this one, cannot be opened at all.
    #[error(
        "this terminal's token cannot open the key block inside ({missing}), and to open it in \
         process memory is refused by the configuration (open-in-process-memory)"
    )]
    CannotOpen {
        /// What the token lacks.
        missing: String,
    },

    /// A record in the token.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record holds something that was sound when it was written.
    #[error("the terminal's memory is damaged: {0}")]
    DamagedMemory(String),
    /// The token.
    #[error(transparent)]
    Token(#[from] HsmError),
    /// A certificate request could not be made.
    #[error("the certificate request cannot be made: {0}")]
    Request(String),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS cannot be set up with what the terminal has.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file of evidence could not be written.
    #[error("cannot write {path}: {reason}")]
    Evidence {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
}

impl KrdError {
    /// The stable word for a refusal: in small letters the terminal's own, in capitals the host's.
    /// `None` for everything that is no refusal.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Enroll(refusal) => Some(refusal.reason()),
            Self::Bind(refusal) => Some(refusal.reason()),
            Self::BindingToken(refusal) => Some(refusal.reason()),
            Self::Binding(refusal) => Some(refusal.reason()),
            Self::TokenFile(_) => Some("file-malformed"),
            Self::Load(refusal) => Some(refusal.reason()),
            Self::Call(error) => error.reason().map(kdh_proto::Reason::as_str),
            Self::BadAnswer { .. } => Some("answer-malformed"),
            Self::NoKeys => Some("no-keys"),
            Self::NotEnrolled => Some("not-enrolled"),
            Self::AlreadyEnrolled => Some("already-enrolled"),
            Self::OtherTerminal { .. } => Some("other-terminal"),
            Self::SlotNotAssigned(_) => Some("no-key-assigned"),
            Self::OtherSlot { .. } => Some("other-slot"),
            Self::OtherAuthorityToken { .. } => Some("other-authority-token"),
            Self::CannotOpen { .. } => Some("cannot-open"),
            Self::Record(_)
            | Self::DamagedMemory(_)
            | Self::Token(_)
            | Self::Request(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Evidence { .. } => None,
        }
    }
}

impl From<hsm::NameError> for KrdError {
    fn from(error: hsm::NameError) -> Self {
        Self::Token(error.into())
    }
}
