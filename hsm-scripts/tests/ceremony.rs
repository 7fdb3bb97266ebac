//! Ceremonies on real `SoftHSM` tokens, most of them with the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../hsm/tests/common/mod.rs"]
#[expect(dead_code, reason = "these tests make their tokens with the program")]
mod common;

#[path = "ceremony/failure.rs"]
mod failure;
#[path = "ceremony/import.rs"]
mod import;
#[path = "ceremony/pki.rs"]
mod pki;
#[path = "ceremony/rehearsal.rs"]
mod rehearsal;
#[path = "ceremony/room.rs"]
mod room;
#[path = "ceremony/site.rs"]
mod site;
#[path = "ceremony/transcript.rs"]
mod transcript;
