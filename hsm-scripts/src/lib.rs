//! The ceremony: one reviewed file that a program executes.
//!
//! ```text
//! plan         the file: read, checked whole, every fault named before an HSM is opened
//! ceremony     the order of a run: show, confirm, open, act, write, record
//! tokens       the tokens of a run: opened, and looked through before anything is made
//! acts/        one file per kind of act
//! sittings     which sitting is due, where a key comes at several
//! custody      who held which component of which key
//! sums         the partial sums that a token keeps, listed and destroyed
//! people/      what is asked of the people in the room, and how
//! plain        what a screen shows as it is
//! outputs      new files, whole or not at all, nothing overwritten
//! turn         a participant's own token, open for as long as it is their turn
//! transcript/  what happened: hash-chained, signed, sealed, verified, told
//! rehearsal    the same plan on throw-away tokens
//! token_init   fresh tokens
//! hsm_check    what a module can do
//! import_nonce what another host answers with a key
//! ```

mod acts;
mod ceremony;
mod custody;
mod error;
pub mod hsm_check;
pub mod import_nonce;
mod outputs;
mod people;
mod plain;
mod plan;
pub mod rehearsal;
mod sittings;
pub mod sums;
pub mod token_init;
mod tokens;
mod transcript;
mod turn;

pub use ceremony::Ceremony;
pub use error::CeremonyError;
pub use outputs::write_new;
pub use people::{
    Agenda, Component, Ending, Entered, FullScreen, KcvAnswer, LineMode, Parity, People, Typed,
    Typing, people_here,
};
pub use plain::escaped_lines;
pub use plan::{Mode, Plan};
pub use rehearsal::rehearse;
pub use tokens::open_token;
pub use transcript::{
    Entry, Expected, Missing, Person, Record, Seal, TranscriptError, Trust, TrustError,
    VerifiedTranscript, conclusion, report, verify_records, verify_transcript,
};
