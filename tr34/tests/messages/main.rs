//! The messages, each in its good form and in every bad one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;
mod credential_token;
mod enveloped;
mod identity;
mod kbh;
mod key_block;
mod key_token;
mod openssl;
mod random_token;
