//! The crate on real SoftHSM tokens.

#[path = "../common/mod.rs"]
mod common;
mod raw;
mod software;

mod combining;
mod keys;
mod records;
mod sealing;
mod terminal;
mod tokens;
