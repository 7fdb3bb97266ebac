//! Where the programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};

/// Says that the programs are up to date, so that no test has to build them.
const BUILT: &str = "KDH_PROGRAMS_ARE_BUILT";

/// The programs of the product.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those that stand beside the running one.
    ///
    /// # Errors
    /// One is missing.
    pub fn beside_this_one() -> Result<Self> {
        let programs = Self {
            folder: build_folder()?,
        };
        for name in ["kdh-ceremony", "kdh-host", "kdhctl", "krd"] {
            let path = programs.path(name);
            ensure!(path.is_file(), "{} is missing: run ./dev", path.display());
        }
        Ok(programs)
    }

    /// For tests: brings them up to date first, once in a process.
    ///
    /// # Panics
    /// They do not build.
    #[expect(clippy::expect_used, reason = "without the programs no test can go on")]
    pub fn built() -> &'static Self {
        static PROGRAMS: OnceLock<Programs> = OnceLock::new();
        PROGRAMS.get_or_init(|| {
            if env::var_os(BUILT).is_none() {
                build_leaky_host().expect("the leaky host builds");
                cargo_build(&[]).expect("the programs build");
            }
            Self::beside_this_one().expect("all programs were built")
        })
    }

    /// The program `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The program that puts a key made outside into a token; only tests have it.
    pub fn import_rsa_key(&self) -> PathBuf {
        self.folder.join("examples").join("import-rsa-key")
    }

    /// The same programs with a host that betrays Kn to its own process.
    #[must_use]
    pub fn leaky_host(&self) -> PathBuf {
        self.folder.join("leaky").join("kdh-host")
    }
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// `target/debug`, or what stands for it. Test programs are one deeper.
fn build_folder() -> Result<PathBuf> {
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

/// As `./dev test` does it: the leaky host has the name of the real one, so it is built first and
/// moved away.
fn build_leaky_host() -> Result<()> {
    cargo_build(&["--features", "kdh-host/leak-kn-for-boundary-test"])?;
    let folder = build_folder()?;
    fs::create_dir_all(folder.join("leaky"))?;
    fs::rename(
        folder.join("kdh-host"),
        folder.join("leaky").join("kdh-host"),
    )?;
    Ok(())
}

fn cargo_build(arguments: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace())
        .args(["build", "--quiet", "--workspace", "--bins", "--examples"])
        .args(arguments);
    if build_folder()?.ends_with("release") {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "{build:?} failed");
    Ok(())
}
