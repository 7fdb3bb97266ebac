//! The host while its HSM, or its database, fails: calls fail for the right reason, nothing is consumed,
//! no token leaves, and the host comes back by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hsm;
mod imports;
mod lab;
mod replicas;
mod rotation;
mod store;
