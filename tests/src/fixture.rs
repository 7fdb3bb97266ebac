//! Sites for tests: one ceremony for each topology and test program, and a copy of what it left for
//! each test.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    thread,
};

use anyhow::Result;
use hsm_modules::{Snapshot, TestModule};
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
    /// AES-192.
    pub aes_192: MasterKey,
    /// Two-key TDEA, where the module has it.
    pub tdea_2: Option<MasterKey>,
    /// Three-key TDEA, the same.
    pub tdea_3: Option<MasterKey>,
}

impl MasterKeys {
    fn generate(module: &TestModule) -> Result<Self> {
        let tdea = |name, kind| {
            let key = module.can.tdea.then(|| MasterKey::generate(name, kind));
            key.transpose()
        };
        Ok(Self {
            aes_128: MasterKey::generate("aes-128", KeyKind::Aes128)?,
            aes_128_next: MasterKey::generate("aes-128-next", KeyKind::Aes128)?,
            aes_256: MasterKey::generate("aes-256", KeyKind::Aes256)?,
            aes_192: MasterKey::generate("aes-192", KeyKind::Aes192)?,
            tdea_2: tdea("tdea-2", KeyKind::Tdea2)?,
            tdea_3: tdea("tdea-3", KeyKind::Tdea3)?,
        })
    }

    fn all(&self) -> Vec<MasterKey> {
        let aes = [
            &self.aes_128,
            &self.aes_128_next,
            &self.aes_192,
            &self.aes_256,
        ];
        let tdea = [&self.tdea_2, &self.tdea_3].into_iter().flatten();
        aes.into_iter().chain(tdea).cloned().collect()
    }

    /// One of each kind that the module can seal.
    pub fn deliverable(&self, module: &TestModule) -> Vec<&MasterKey> {
        let mut keys = vec![&self.aes_128, &self.aes_256];
        keys.extend(&self.tdea_2);
        if module.can.unaligned {
            keys.push(&self.aes_192);
            keys.extend(&self.tdea_3);
        }
        keys
    }

    /// One of each kind that the module can hold and not seal.
    pub fn undeliverable(&self, module: &TestModule) -> Vec<&MasterKey> {
        if module.can.unaligned {
            return Vec::new();
        }
        [&self.aes_192].into_iter().chain(&self.tdea_3).collect()
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
    pub fn new(module: &'static TestModule, topology: Topology) -> Self {
        Self::copy(foundation(module, topology)).expect("a copy of the ceremonies' results")
    }

    /// The same, but with ceremonies of its own, in which the spy writes down what crosses, as later
    /// for the host.
    ///
    /// # Panics
    /// It cannot be made.
    #[expect(clippy::expect_used, reason = "without a site no test can go on")]
    pub fn spied(module: &'static TestModule, topology: Topology) -> Self {
        Self::hold_ceremonies(module, topology, true).expect("the ceremonies")
    }

    /// As [`Self::new`], but what crosses between the host and its module is written down.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn with_spied_host(module: &'static TestModule, topology: Topology) -> Self {
        let mut fixture = Self::new(module, topology);
        fixture.site.spy();
        fixture
    }

    fn hold_ceremonies(
        module: &'static TestModule,
        topology: Topology,
        spied: bool,
    ) -> Result<Self> {
        let folder = temporary_folder()?;
        let path = folder.path().join("site");
        let site = Site::create(&path, Programs::built(), topology, module)?;
        let mut fixture = Self {
            site,
            keys: MasterKeys::generate(module)?,
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
        let (topology, module) = (foundation.topology, foundation.module);
        let site = Site::create(&path, Programs::built(), topology, module)?;
        foundation.files.write(site.folder())?;
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
    module: &'static TestModule,
    keys: MasterKeys,
    files: Snapshot,
}

/// The ceremonies of a module and a topology, held when they are first needed.
#[expect(clippy::expect_used, reason = "without a ceremony no test can go on")]
fn foundation(module: &'static TestModule, topology: Topology) -> &'static Foundation {
    type Cells = Mutex<HashMap<(&'static str, Topology), &'static OnceLock<Foundation>>>;
    static CELLS: LazyLock<Cells> = LazyLock::new(Cells::default);
    let cell = *CELLS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry((module.name, topology))
        .or_insert_with(|| Box::leak(Box::default()));
    cell.get_or_init(|| {
        let fixture = Fixture::hold_ceremonies(module, topology, false).expect("the ceremonies");
        Foundation::take(&fixture).expect("the ceremonies' results")
    })
}

impl Foundation {
    fn take(fixture: &Fixture) -> Result<Self> {
        let parts = ["hsm", "operators", "offline-safe", "pki"];
        Ok(Self {
            topology: fixture.site.topology(),
            module: fixture.site.hsm_module(),
            keys: fixture.keys.clone(),
            files: Snapshot::take(fixture.site.folder(), &parts)?,
        })
    }
}

fn temporary_folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("kdh-test-").tempdir()?)
}
