//! The terminal's side of key distribution.
//!
//! A [`Terminal`] has its keys certified, exchanges credentials with a host, and loads the keys that
//! the host has for it, with every check of TR-34 on the way. Whatever it has to remember stands in
//! its PKCS#11 token. The checks are pure functions ([`verify_enrollment`],
//! [`verify_kdh_credential`], [`verify_key_token`], [`verify_key_block`]); clock and randomness come
//! in from outside.

mod act;
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
mod terminal;

pub use act::{
    Bound, BoundKdhStatus, CertificateStatus, Enrolled, Keys, KnownCrlStatus, LoadReport,
    SlotOutcome, SlotReport, SlotStatus, Status,
};
pub use clock::{Clock, SystemClock};
pub use config::{Config, ConfigError, ConfigFault, TokenAccess, TrustedCas};
pub use enrollment::{
    Credentials, EnrollExpectation, EnrollRefusal, OwnCertificate, verify_enrollment,
};
pub use error::KrdError;
pub use evidence::Evidence;
pub use host::CallError;
pub use kdh::{BindRefusal, CurrentKdhCredential, KdhRefusal, KdhTrust, verify_kdh_credential};
pub use key_token::{
    CurrentKeyToken, Expectation, LoadRefusal, VerifiedKey, VerifiedKeyToken, expected_key_blocks,
    verify_key_block, verify_key_kind, verify_key_token,
};
pub use keyring::Keyring;
pub use names::{DeviceSerial, DeviceSerialError, SlotName, SlotNameError};
pub use receipt::{Delivery, sign_receipt};
pub use record::{
    HeldKey, HexBytes, KcvMethodName, KcvRecord, PendingReport, RecordError, RecordProblem,
    SlotRecord,
};
pub use terminal::Terminal;
