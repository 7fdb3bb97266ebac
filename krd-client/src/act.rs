//! What a terminal does, one file for each command. Calls to the token block: a terminal does one
//! thing at a time.

mod bind;
mod enroll;
mod keygen;
mod load;
mod status;

pub use bind::Bound;
pub use enroll::Enrolled;
pub use keygen::Keys;
pub use load::{LoadReport, SlotOutcome, SlotReport};
pub use status::{BoundKdhStatus, CertificateStatus, KnownCrlStatus, SlotStatus, Status};
