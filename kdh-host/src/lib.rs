//! The key distribution host.
//!
//! ```text
//! config/          the configuration: read, checked whole, every fault named
//! grpc/            thin handlers: decode, identify the peer, call the domain, map errors
//! enrolment        certifies a terminal's keys
//! binding          who is calling, and the exchange of credentials
//! delivery         from a nonce to a key token, and its confirmation
//! administration   what operators do
//! claims           what calls have claimed, and how it is given back
//! limits           how much one caller, and all of them, may ask for
//! state            which state follows on which
//! store/           the database, and the audit trail that is written with every change
//! keys             the host's keys in its tokens
//! credentials      terminals' certificates that were verified before
//! trust            CA certificates and their revocation lists
//! stages           where the time of deliveries goes
//! server           listeners, start and stop
//! ```
//!
//! Order of every sensitive act: claim the guard in the database together with the record of the
//! intent, use the key, write the outcome. If a record cannot be written, the act fails.

mod administration;
mod binding;
mod claims;
mod clock;
pub mod config;
mod credentials;
mod delivery;
mod enrolment;
mod error;
mod grpc;
mod host;
mod keys;
mod limits;
mod names;
mod server;
mod stages;
mod state;
mod store;
mod trust;

pub use clock::{Clock, SystemClock};
pub use error::{HostError, ServeError, StartError};
pub use host::{Host, check};
pub use server::{Addresses, serve};
