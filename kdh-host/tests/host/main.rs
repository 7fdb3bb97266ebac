//! The host as its clients and its administrators meet it: on SoftHSM tokens, on a real database,
//! over TLS on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod credential;
mod hanging_up;
mod leftovers;
mod start;
mod strangers;
mod world;
