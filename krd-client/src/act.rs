//! What a terminal does, one file for each command. Calls to the token block: a terminal does one
//! thing at a time.

mod bind;
mod enroll;
mod inspect;
mod keygen;
mod load;
mod load_file;
mod obey;
mod open;
mod rebind;
mod status;

pub use bind::Bound;
pub use enroll::Enrolled;
pub use inspect::OpenedToken;
pub use keygen::Keys;
pub use load::{LoadReport, SlotOutcome, SlotReport};
pub use obey::Moved;
pub use rebind::TokenSource;
pub use status::{
    BindingName, BoundKdhStatus, CertificateStatus, KnownCrlStatus, SlotStatus, Status,
};
