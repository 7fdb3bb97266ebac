//! Where the programs are.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use anyhow::{Result, ensure};
pub use hsm_modules::workspace;
use hsm_modules::{build_folder, cargo_build};

/// Says that the programs are up to date, so that no test has to build them.
const BUILT: &str = "KDH_PROGRAMS_ARE_BUILT";

/// What is run. All of the workspace is chosen, as by `./dev test`: what packages have in common depends on which are
/// chosen, and would be built again.
const ALL: [&str; 3] = ["--workspace", "--bins", "--examples"];

/// The host that leaks, and an example for its needs: they are among those of [`ALL`], and what does not leak is built
/// once.
const LEAKY: [&str; 7] = [
    "--workspace",
    "--bin",
    "kdh-host",
    "--example",
    "import-rsa-key",
    "--features",
    "kdh-host/leak-kn-for-boundary-test",
];

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
                cargo_build(&ALL).expect("the programs build");
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

/// As `./dev test` does it: the leaky host has the name of the real one, so it is built first and
/// moved away.
fn build_leaky_host() -> Result<()> {
    cargo_build(&LEAKY)?;
    let folder = build_folder()?;
    fs::create_dir_all(folder.join("leaky"))?;
    fs::rename(
        folder.join("kdh-host"),
        folder.join("leaky").join("kdh-host"),
    )?;
    Ok(())
}
