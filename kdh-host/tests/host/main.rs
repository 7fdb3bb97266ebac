//! The host as its clients and its administrators meet it: on SoftHSM tokens, on a real database,
//! over TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod adoption;
mod approvals;
mod authority;
mod bindings;
mod credential;
mod database;
mod derived_keys;
mod device_keys;
mod exports;
mod filling;
mod forger;
mod hanging_up;
mod in_force;
mod keeper;
mod key_imports;
mod key_profiles;
mod key_senders;
mod key_tokens;
mod leftovers;
mod refused_rows;
mod rollout_faults;
mod rollouts;
mod rollover;
mod stage;
mod start;
mod storage;
mod strangers;
mod world;
