//! What every parser must hold to, whatever bytes it is given. Both fuzzers run these targets: the one in
//! `fuzz/`, which libFuzzer leads, and the short one among this crate's tests, which runs anywhere.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

pub mod mutation;
mod seeds_of;
mod targets;

use std::{env, str::FromStr};

pub use targets::{Target, target, targets};

/// A number from the environment, for a longer run or another one.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    let set = env::var(name).ok();
    set.map_or(default, |value| value.parse().ok().unwrap())
}
