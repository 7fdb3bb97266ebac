//! What the tests build for themselves, and where it is.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest)
}

/// `target/debug`, or what stands for it. Test programs are one deeper.
///
/// # Errors
/// This program does not know where it is.
pub fn build_folder() -> Result<PathBuf> {
    let this = env::current_exe().context("where is this program?")?;
    let folder = this.parent().context("a program without a folder")?;
    let folder = match folder.file_name() {
        Some(name) if name == "deps" => {
            folder.parent().context("a root folder of test programs")?
        }
        _ => folder,
    };
    Ok(folder.to_owned())
}

/// `cargo build`, with the profile that this program was built with.
///
/// # Errors
/// It fails.
pub fn cargo_build(arguments: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace())
        .args(["build", "--quiet"])
        .args(arguments);
    if build_folder()?.ends_with("release") {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "{build:?} failed");
    Ok(())
}
