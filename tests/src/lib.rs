//! The harness of the whole-system tests and of the demonstration: makes a site of tokens, keys,
//! certificates and configurations, and runs the real programs on it.
//!
//! ```text
//! programs        where the programs are
//! process         running them: to their end, or in the background
//! softhsm         folders with tokens, and who has which
//! site            the ceremony, the host, operators and terminals in one folder
//! openssl         the independent reader
//! spy             what crossed between a program and its PKCS#11 module
//! boundary        that no key was in it
//! software        a terminal of software keys: it sees what real ones do not, and can lie
//! ```
//!
//! Nothing of the product depends on this crate.

pub mod boundary;
pub mod openssl;
pub mod process;
pub mod programs;
pub mod secret_file;
pub mod softhsm;
pub mod spy;
