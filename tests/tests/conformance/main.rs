//! The published samples of TR-34:2019 Annex B and a token of the layout of 2012, where copies lie beside
//! the workspace (otherwise these tests say that they are skipped): their signatures verify, and their
//! contents open. How they are read, refused and built again is tested in `tr34`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod annex_b;
mod aws_2012;
mod openssl;
mod samples;
