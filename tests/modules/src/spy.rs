//! The spy of `OpenSC`, which stands between a program and a module and writes down what crosses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::TestModule;

/// Where distributions put it.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/pkcs11-spy.so",
    "/usr/lib64/pkcs11/pkcs11-spy.so",
    "/usr/lib/pkcs11/pkcs11-spy.so",
    "/usr/local/lib/pkcs11/pkcs11-spy.so",
];

/// The library, to be loaded instead of the module's.
///
/// # Errors
/// It is not installed.
pub fn spy() -> Result<PathBuf> {
    let mut libraries = LIBRARIES.into_iter().map(PathBuf::from);
    let installed = libraries.find(|path| path.is_file());
    installed.context("pkcs11-spy is not installed (package opensc-pkcs11)")
}

/// The variables that tell the spy what it stands in front of, and where to write.
///
/// # Errors
/// The module is not installed.
pub fn spy_variables(module: &TestModule, log: &Path) -> Result<[(&'static str, PathBuf); 2]> {
    Ok([
        ("PKCS11SPY", module.library()?),
        ("PKCS11SPY_OUTPUT", log.to_owned()),
    ])
}
