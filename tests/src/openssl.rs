//! The independent reader: the `openssl` command line.

use std::path::Path;

use anyhow::Result;

use crate::process::{Ended, Program};

/// Runs `openssl` and demands that it succeeds.
///
/// # Errors
/// It did not.
pub fn openssl(arguments: &[&str], log: &Path) -> Result<Ended> {
    Program::new("openssl", log).args(arguments).succeed()
}
