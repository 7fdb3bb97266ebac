//! Certificates, requests and revocation lists: tables of good and bad cases, each bad one differing
//! from a good one in one thing, and the `openssl` command as an independent reader and writer.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![expect(clippy::too_many_lines, reason = "a table is as long as it has cases")]

mod alignment;
mod certificate;
mod common;
mod credential;
mod crl;
mod issue;
mod key;
mod openssl;
mod request;
