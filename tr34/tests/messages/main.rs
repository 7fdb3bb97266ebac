//! The messages: what they are built from, and what they are read as.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod credential_token;
mod enveloped;
mod identity;
mod kbh;
mod key_block;
mod key_token;
mod openssl;
mod profile;
mod random_token;
