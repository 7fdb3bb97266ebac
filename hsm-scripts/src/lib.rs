//! The ceremony: one reviewed file that a program executes.
//!
//! ```text
//! plan         the file: read, checked whole, every fault named before an HSM is opened
//! ceremony     the order of a run: show, confirm, open, act, write, record
//! tokens       the tokens of a run: opened, and looked through before anything is made
//! acts/        one file per kind of act
//! people       what is asked of the people in the room
//! plain        what a screen shows as it is
//! outputs      new files, whole or not at all, nothing overwritten
//! transcript   what happened, hash-chained
//! rehearsal    the same plan on throw-away tokens
//! token_init   fresh tokens
//! hsm_check    what a module can do
//! ```

mod acts;
mod ceremony;
mod error;
pub mod hsm_check;
mod outputs;
mod people;
mod plain;
mod plan;
pub mod rehearsal;
pub mod token_init;
mod tokens;
mod transcript;

pub use ceremony::Ceremony;
pub use error::CeremonyError;
pub use people::{Console, People};
pub use plan::{Mode, Plan};
pub use rehearsal::rehearse;
pub use transcript::{TranscriptError, VerifiedTranscript, verify_transcript};
