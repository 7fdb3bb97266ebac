//! Ceremonies on real `SoftHSM` tokens, most of them with the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::too_many_lines, reason = "a table is as long as it has cases")]

#[path = "../../hsm/tests/common/mod.rs"]
#[expect(dead_code, reason = "these tests make their tokens with the program")]
mod common;

#[path = "ceremony/bank.rs"]
mod bank;
#[path = "ceremony/behind.rs"]
mod behind;
#[path = "ceremony/custody.rs"]
mod custody;
#[path = "ceremony/failure.rs"]
mod failure;
#[path = "participants/folder.rs"]
mod folder;
#[path = "ceremony/forged.rs"]
mod forged;
#[path = "ceremony/give_out.rs"]
mod give_out;
#[path = "ceremony/import.rs"]
mod import;
#[path = "ceremony/killed.rs"]
mod killed;
#[path = "ceremony/lines.rs"]
mod lines;
#[path = "ceremony/people.rs"]
mod people;
#[path = "ceremony/pki.rs"]
mod pki;
#[path = "ceremony/record.rs"]
mod record;
#[path = "ceremony/refusals/mod.rs"]
mod refusals;
#[path = "ceremony/rehearsal.rs"]
mod rehearsal;
#[path = "ceremony/room.rs"]
mod room;
#[path = "ceremony/screen.rs"]
mod screen;
#[path = "ceremony/site.rs"]
mod site;
#[path = "ceremony/sittings.rs"]
mod sittings;
#[path = "ceremony/steps.rs"]
mod steps;
#[path = "ceremony/storage.rs"]
mod storage;
#[path = "ceremony/terminal.rs"]
mod terminal;
#[path = "ceremony/told.rs"]
mod told;
#[path = "ceremony/transcript.rs"]
mod transcript;
#[path = "ceremony/wrapped.rs"]
mod wrapped;
