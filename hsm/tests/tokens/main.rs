//! The crate on real tokens.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod raw;
mod software;
mod stored_sums;

mod boundary;
mod combining;
mod deriving;
mod exchanged;
mod exporting;
mod importing;
mod keys;
mod limits;
mod published;
mod records;
mod replicas;
mod sealing;
mod storage;
mod terminal;
mod tokens;
