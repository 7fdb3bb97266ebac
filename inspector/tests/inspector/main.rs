//! What the inspector says of tokens: how they may be written, which they are, what is unusual, and where
//! a broken one breaks. Whether its checks hold is tested with a whole site, in the system's tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod broken;
mod input;
mod kinds;
mod samples;
mod tokens;
