//! The key distribution host.
//!
//! ```text
//! config/          the configuration: read, checked whole, every fault named
//! grpc/            thin handlers: decode, identify the peer, call the domain, map errors
//! enrolment        certifies a terminal's keys
//! binding          who is calling, and the exchange of credentials
//! transport        from a nonce to a token that leaves, whatever the token is
//! delivery         key tokens, and their confirmation
//! orders           unbind and rebind tokens, as operators order them
//! authority        unbind and rebind tokens by CA_KRD, for which it takes two operators
//! other_kdh        KDH certificates that operators name
//! mirror           what the host believes of the binding of a device
//! receipt          what terminals state and sign
//! profile          in which of TR-34's forms devices speak
//! administration   what operators do
//! device_keys      how the keys of devices are made, assigned, confirmed and replaced
//! refused_rows     rows of devices' keys for which the HSM does not vouch
//! alarms           what is equal where chance does not make it so
//! adoption         rows of keys from before the HSM sealed them
//! admission        devices that another host has enrolled
//! bdks             BDKs, and the initial keys that are derived from them for devices
//! export/          keys of devices for payment switches
//! key_import       keys that arrived encrypted, for which it takes two operators
//! key_profile      what the slots of devices hold, and what the policy says of it
//! key_sender       other hosts that send keys in TR-34 tokens
//! dual_control     what takes two operators
//! approvals        the same, as rows that the HSM seals
//! rollout          new versions of keys for many devices, in the background
//! storage          the storage keys, and how a new pair takes the place of the present one
//! claims           what calls have claimed, and how it is given back
//! limits           how much one caller, and all of them, may ask for
//! state            which state follows on which
//! store/           the database, and the audit trail that is written with every change
//! keys/            the host's keys in its tokens
//! credentials      terminals' certificates that were verified before
//! trust            CA certificates and their revocation lists
//! validity         how long a key may be delivered
//! stages           where the time of deliveries goes
//! server           listeners, start and stop
//! ```
//!
//! Order of every sensitive act: claim the guard in the database together with the record of the
//! intent, use the key, write the outcome. If a record cannot be written, the act fails.

mod administration;
mod admission;
mod adoption;
mod alarms;
mod approvals;
mod authority;
mod bdks;
mod binding;
mod claims;
mod clock;
pub mod config;
mod credentials;
mod delivery;
mod device_keys;
mod dual_control;
mod enrolment;
mod error;
mod export;
mod grpc;
mod host;
mod kdh;
mod key_import;
mod key_profile;
mod key_sender;
mod keys;
mod limits;
mod mirror;
mod names;
mod orders;
mod other_kdh;
mod profile;
mod receipt;
mod refused_rows;
mod rollout;
mod server;
mod stages;
mod state;
mod storage;
mod store;
mod transport;
mod trust;
mod validity;

pub use adoption::Adoption;
pub use clock::{Clock, SystemClock};
pub use error::{HostError, ServeError, StartError};
pub use host::{Host, check};
pub use server::{Addresses, serve};
