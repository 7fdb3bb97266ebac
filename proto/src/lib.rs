//! The gRPC interface of the key distribution host, and what goes with its wire:
//! the stable reasons of refusals and the receipt that a terminal signs.
//!
//! No checks and no policy belong here; both sides read this crate.

mod audit_chain;
mod reason;
mod receipt;

pub use audit_chain::{BrokenChain, ChainVerifier, FIRST_PREVIOUS_HASH, audit_hash, to_hex};
pub use reason::{Reason, ReasonedStatus};
pub use receipt::{BINDING_CONTEXT, RECEIPT_CONTEXT};

/// Messages and services of the package `kdh.v1`.
pub mod v1 {
    tonic::include_proto!("kdh.v1");
}
