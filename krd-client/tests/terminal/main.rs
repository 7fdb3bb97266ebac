//! The terminal's checks in tables, and its token's side on a real module.

mod config;
mod credential;
mod flow;
mod host;
mod key_block;
mod key_token;
mod keyring;
mod softhsm;
mod world;
