//! The terminal's checks in tables, and its token's side on a real module.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![expect(clippy::too_many_lines, reason = "a table is as long as it has cases")]

mod binding;
mod binding_token;
mod command;
mod config;
mod credential;
mod flow;
mod host;
mod key_block;
mod key_token;
mod keyring;
mod moves;
mod one_pass;
mod stage;
mod tokens;
mod verdict;
mod world;
