//! Sites for tests: one ceremony for each topology and test program, and a copy of what it left for
//! each test.

use std::{
    fs,
    ops::Deref,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use anyhow::Result;
use tempfile::TempDir;
use tr34::KeyKind;

use crate::{
    master_key::MasterKey,
    programs::Programs,
    site::{Site, Topology},
};

/// The master keys that are in the HSM of every site.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    /// AES-128.
    pub aes_128: MasterKey,
    /// Another AES-128 key, to follow on the first.
    pub aes_128_next: MasterKey,
    /// AES-256.
    pub aes_256: MasterKey,
    /// Two-key TDEA.
    pub tdea_2: MasterKey,
    /// Three-key TDEA, which stock SoftHSM cannot seal.
    pub tdea_3: MasterKey,
}

impl MasterKeys {
    fn generate() -> Result<Self> {
        Ok(Self {
            aes_128: MasterKey::generate("aes-128", KeyKind::Aes128)?,
            aes_128_next: MasterKey::generate("aes-128-next", KeyKind::Aes128)?,
            aes_256: MasterKey::generate("aes-256", KeyKind::Aes256)?,
            tdea_2: MasterKey::generate("tdea-2", KeyKind::Tdea2)?,
            tdea_3: MasterKey::generate("tdea-3", KeyKind::Tdea3)?,
        })
    }

    fn all(&self) -> [MasterKey; 5] {
        [
            self.aes_128.clone(),
            self.aes_128_next.clone(),
            self.aes_256.clone(),
            self.tdea_2.clone(),
            self.tdea_3.clone(),
        ]
    }
}

/// A site of a test's own. Removed with it, unless the test fails: then its path is printed.
#[derive(Debug)]
pub struct Fixture {
    site: Site,
    /// The keys that are in its HSM.
    pub keys: MasterKeys,
    folder: Option<TempDir>,
}

impl Fixture {
    /// A site after its ceremonies, with nothing running.
    ///
    /// # Panics
    /// It cannot be made.
    #[expect(clippy::expect_used, reason = "without a site no test can go on")]
    pub fn new(topology: Topology) -> Self {
        Self::copy(foundation(topology)).expect("a copy of the ceremonies' results")
    }

    /// The same, but with ceremonies of its own, in which the spy writes down what crosses, as later
    /// for the host.
    ///
    /// # Panics
    /// It cannot be made.
    #[expect(clippy::expect_used, reason = "without a site no test can go on")]
    pub fn spied(topology: Topology) -> Self {
        Self::hold_ceremonies(topology, true).expect("the ceremonies")
    }

    fn hold_ceremonies(topology: Topology, spied: bool) -> Result<Self> {
        let folder = temporary_folder()?;
        let site = Site::create(&folder.path().join("site"), Programs::built(), topology)?;
        let mut fixture = Self {
            site,
            keys: MasterKeys::generate()?,
            folder: Some(folder),
        };
        if spied {
            fixture.site.spy();
        }
        fixture.site.make_tokens()?;
        fixture.site.hold_pki_ceremony()?;
        fixture.site.hold_key_ceremony(&fixture.keys.all())?;
        fixture.site.carry_tokens_away()?;
        Ok(fixture)
    }

    fn copy(foundation: &Foundation) -> Result<Self> {
        let folder = temporary_folder()?;
        let path = folder.path().join("site");
        let site = Site::create(&path, Programs::built(), foundation.topology)?;
        for file in &foundation.files {
            file.write(site.folder())?;
        }
        Ok(Self {
            site,
            keys: foundation.keys.clone(),
            folder: Some(folder),
        })
    }
}

impl Deref for Fixture {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Fixture {
    #[expect(
        clippy::print_stderr,
        reason = "whoever looks at a failed test needs it"
    )]
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!(
                "the site of the failed test is in {}",
                folder.keep().display()
            );
        }
    }
}

/// What the ceremonies left, in memory: the folder that it came from is gone.
struct Foundation {
    topology: Topology,
    keys: MasterKeys,
    files: Vec<File>,
}

struct File {
    path: PathBuf,
    mode: u32,
    content: Vec<u8>,
}

/// The ceremonies of a topology, held when they are first needed.
#[expect(clippy::expect_used, reason = "without a ceremony no test can go on")]
fn foundation(topology: Topology) -> &'static Foundation {
    static TWO: OnceLock<Foundation> = OnceLock::new();
    static SINGLE: OnceLock<Foundation> = OnceLock::new();
    let cell = match topology {
        Topology::TwoSubCas => &TWO,
        Topology::SingleSubCa => &SINGLE,
    };
    cell.get_or_init(|| {
        let fixture = Fixture::hold_ceremonies(topology, false).expect("the ceremonies");
        Foundation::take(&fixture).expect("the ceremonies' results")
    })
}

impl Foundation {
    fn take(fixture: &Fixture) -> Result<Self> {
        let mut files = Vec::new();
        for part in ["hsm", "operators", "offline-safe", "pki"] {
            collect(fixture.site.folder(), Path::new(part), &mut files)?;
        }
        Ok(Self {
            topology: fixture.site.topology(),
            keys: fixture.keys.clone(),
            files,
        })
    }
}

fn collect(root: &Path, part: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(root.join(part))? {
        let entry = entry?;
        let path = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push(File {
                mode: entry.metadata()?.permissions().mode(),
                content: fs::read(entry.path())?,
                path,
            });
        }
    }
    Ok(())
}

impl File {
    fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(&self.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &self.content)?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(self.mode),
        )?)
    }
}

fn temporary_folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("kdh-test-").tempdir()?)
}
