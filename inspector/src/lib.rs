//! Looks at TR-34 tokens without an HSM and without a host: which token it is, which profiles write it so,
//! what stands in it, what is unusual about it, and whether its checks hold.
//!
//! Nothing here opens a key block, and the key of a clear one is never shown.

mod checks;
mod input;
mod inspection;
mod token;

pub use checks::{Check, Evidence, Outcome, verify};
pub use input::{Form, Input, InputError, MAX_INPUT_LEN};
pub use inspection::{
    CertificateSummary, CrlSummary, HeaderWords, Inspection, Party, Warning, inspect,
};
pub use token::{Token, Unrecognised, recognise};
