//! The terminal's side of key distribution.
//!
//! A [`Terminal`] has its keys certified, exchanges credentials with a host, and loads the keys that
//! the host has for it, with every check of TR-34 on the way. Whatever it has to remember stands in
//! its PKCS#11 token. The checks are pure functions ([`verify_enrollment`],
//! [`verify_kdh_credential`], [`verify_key_token`], [`verify_key_block`], [`verify_kdh_unbind`] and its
//! kind), and so is what an authentic token may do to the binding ([`Binding::after`]); clock and
//! randomness come in from outside.

mod act;
mod binding;
mod binding_token;
mod clock;
mod config;
mod enrollment;
mod error;
mod evidence;
mod host;
mod kdh;
mod key_token;
mod keyring;
mod memory;
mod names;
mod receipt;
mod record;
mod signing_time;
mod terminal;
mod token_file;

pub use act::{
    BindingName, Bound, BoundKdhStatus, CertificateStatus, Enrolled, Keys, KnownCrlStatus,
    LoadReport, Moved, OpenedToken, SlotOutcome, SlotReport, SlotStatus, Status, TokenSource,
};
pub use binding::{
    AuthenticToken, Binding, BindingRefusal, BindingState, Kdh, TokenDigest, Withdrawal,
};
pub use binding_token::{
    BindingTokenRefusal, CaTokenExpectation, CurrentKdhToken, KdhTokenExpectation,
    VerifiedBindingToken, verify_ca_rebind, verify_ca_unbind, verify_kdh_rebind, verify_kdh_unbind,
};
pub use clock::{Clock, SystemClock};
pub use config::{Config, ConfigError, ConfigFault, TokenAccess, TrustedCas};
pub use enrollment::{
    Credentials, EnrollExpectation, EnrollRefusal, OwnCertificate, verify_enrollment,
};
pub use error::KrdError;
pub use evidence::Evidence;
pub use host::CallError;
pub use kdh::{
    BindRefusal, CurrentKdhCredential, KdhRefusal, KdhTrust, RememberedCrl, verify_kdh_credential,
};
pub use key_token::{
    CurrentKeyToken, Expectation, ExpectedFreshness, LoadRefusal, VerifiedKey, VerifiedKeyToken,
    verify_key_block, verify_key_token,
};
pub use keyring::Keyring;
pub use names::{DeviceSerial, DeviceSerialError, SlotName, SlotNameError};
pub use receipt::{Delivery, sign_receipt};
pub use record::{
    DestroyedKey, HeldKey, HexBytes, KcvMethodName, KcvRecord, PendingReport, RecordError,
    RecordProblem, SlotRecord,
};
pub use signing_time::{SigningTimeBounds, SigningTimeRefusal};
pub use terminal::Terminal;
pub use token_file::{Line, OnePassFile, TokenFileError, token_from_file};
