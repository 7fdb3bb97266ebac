//! The table of modules.

use std::{env, path::PathBuf, sync::OnceLock};

use anyhow::{Context as _, Result, ensure};

use crate::build::{build_folder, cargo_build};

/// A module that the tests run on.
#[derive(Debug, PartialEq, Eq)]
pub struct TestModule {
    /// What it is called in messages, options and variables.
    pub name: &'static str,
    /// As its makers write it.
    pub title: &'static str,
    /// What it can do. A test of anything else expects a refusal.
    pub can: Abilities,
    pub(crate) kind: Kind,
}

/// What a module can do, as `kdh-ceremony hsm check` has to find it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Abilities {
    /// The way of sealing.
    pub sealing: &'static str,
    /// The ways of opening a key block inside, the preferred one first.
    pub opening: &'static [&'static str],
    /// The way of combining components.
    pub combining: &'static str,
    /// RSA-OAEP with SHA-256; each can do SHA-1.
    pub oaep_sha256: bool,
    /// Keys for TDEA.
    pub tdea: bool,
    /// The ciphers under Ke.
    pub ke: &'static [&'static str],
    /// Sealing a key that does not start and end on a block boundary, 24-byte keys among them.
    pub unaligned: bool,
    /// What tests have to bear with.
    pub peculiar: &'static [Peculiarity],
}

/// Something in which a module differs from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peculiarity {
    /// It has a token keep no data, so that no terminal can have its memory there.
    NoData,
    /// It keeps no key that is limited to mechanisms.
    NoLimits,
    /// Of the keys of one class and id it keeps the last.
    OneKeyPerId,
    /// It gives TDEA keys odd parity when they are brought in.
    SetsParity,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SoftHsm,
    /// Behind the module with faults, which sets it up as PKCS#11 has it.
    Nss,
    /// With the mechanisms that it does as if it had not.
    Kryoptic {
        denied: &'static [&'static str],
    },
}

/// What distributions have, and the least that the product needs.
pub static SOFTHSM: TestModule = TestModule {
    name: "softhsm",
    title: "SoftHSM",
    can: Abilities {
        sealing: "splice",
        opening: &[],
        combining: "key-wrap",
        oaep_sha256: false,
        tdea: true,
        ke: &AES,
        unaligned: false,
        peculiar: &[],
    },
    kind: Kind::SoftHsm,
};

/// A token in software with all that a modern network HSM has, except TDEA.
pub static KRYOPTIC: TestModule = TestModule {
    name: "kryoptic",
    title: "Kryoptic",
    can: Abilities {
        sealing: "concatenate",
        opening: &["aligned", "extract"],
        combining: "xor",
        oaep_sha256: true,
        tdea: false,
        ke: &AES,
        unaligned: true,
        peculiar: &[],
    },
    kind: Kind::Kryoptic { denied: &[] },
};

/// Kryoptic without derivation: the lower rungs of each ladder, on a module that is sound otherwise.
pub static KRYOPTIC_BARE: TestModule = TestModule {
    name: "kryoptic-bare",
    title: "Kryoptic without derivation",
    can: Abilities {
        sealing: "splice",
        opening: &["aligned"],
        combining: "key-wrap",
        oaep_sha256: true,
        tdea: false,
        ke: &AES,
        unaligned: false,
        peculiar: &[],
    },
    kind: Kind::Kryoptic {
        denied: &[
            "CKM_CONCATENATE_BASE_AND_DATA",
            "CKM_CONCATENATE_DATA_AND_BASE",
            "CKM_EXTRACT_KEY_FROM_KEY",
            "CKM_XOR_BASE_AND_DATA",
        ],
    },
};

/// Kryoptic without any of what a way of sealing takes. In no list: nothing runs on it, and that is
/// tested.
pub static KRYOPTIC_UNFIT: TestModule = TestModule {
    name: "kryoptic-unfit",
    title: "Kryoptic without derivation and wrapping",
    can: Abilities {
        sealing: "",
        opening: &[],
        combining: "",
        oaep_sha256: false,
        tdea: false,
        ke: &AES,
        unaligned: false,
        peculiar: &[],
    },
    kind: Kind::Kryoptic {
        denied: &[
            "CKM_AES_CBC",
            "CKM_CONCATENATE_BASE_AND_DATA",
            "CKM_CONCATENATE_DATA_AND_BASE",
            "CKM_EXTRACT_KEY_FROM_KEY",
            "CKM_XOR_BASE_AND_DATA",
        ],
    },
};

/// What browsers keep their keys in: all of it, TDEA too.
pub static NSS: TestModule = TestModule {
    name: "nss",
    title: "NSS softoken",
    can: Abilities {
        sealing: "concatenate",
        opening: &["aligned", "extract"],
        combining: "xor",
        oaep_sha256: true,
        tdea: true,
        ke: &["AES-128-CBC", "AES-256-CBC", "DES-EDE3-CBC"],
        unaligned: true,
        peculiar: &[
            Peculiarity::NoData,
            Peculiarity::NoLimits,
            Peculiarity::OneKeyPerId,
            Peculiarity::SetsParity,
        ],
    },
    kind: Kind::Nss,
};

/// The modules as their makers ship them.
pub static WHOLE: [&TestModule; 3] = [&SOFTHSM, &KRYOPTIC, &NSS];

/// Every module on which the host runs.
pub static ALL: [&TestModule; 4] = [&SOFTHSM, &KRYOPTIC, &KRYOPTIC_BARE, &NSS];

/// Every module that limits keys to mechanisms.
pub static LIMITING: [&TestModule; 3] = [&SOFTHSM, &KRYOPTIC, &KRYOPTIC_BARE];

/// Every module on which the terminal runs, which keeps its memory in its token.
pub static TERMINALS: [&TestModule; 3] = [&SOFTHSM, &KRYOPTIC, &KRYOPTIC_BARE];

/// Where distributions put SoftHSM.
const SOFTHSM_LIBRARIES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// Where distributions put NSS.
const NSS_LIBRARIES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
    "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/nss/libsoftokn3.so",
    "/usr/lib64/libsoftokn3.so",
    "/usr/lib/libsoftokn3.so",
];

/// Says that everything is built, so that no test has to.
const BUILT: &str = "KDH_PROGRAMS_ARE_BUILT";

/// The ciphers that any module has.
const AES: [&str; 2] = ["AES-128-CBC", "AES-256-CBC"];

impl Abilities {
    /// Whether tests have to bear with this.
    pub fn is(&self, peculiarity: Peculiarity) -> bool {
        self.peculiar.contains(&peculiarity)
    }

    /// A TDEA key as the module has it when it was brought in as `value`.
    pub fn tdea_key(&self, value: &[u8]) -> Vec<u8> {
        let odd = |byte: &u8| byte ^ u8::from(byte.count_ones().is_multiple_of(2));
        if self.is(Peculiarity::SetsParity) {
            value.iter().map(odd).collect()
        } else {
            value.to_vec()
        }
    }

    /// Sealing under a Ke for TDEA.
    pub fn tdea_ke(&self) -> bool {
        self.ke.contains(&"DES-EDE3-CBC")
    }
}

impl TestModule {
    /// The module of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn called(name: &str) -> Result<&'static Self> {
        let mut all = ALL.into_iter().chain([&KRYOPTIC_UNFIT]);
        let known = all.find(|module| module.name == name);
        known.with_context(|| {
            let names = ALL.map(|module| module.name).join(", ");
            format!("no HSM module is called {name}: {names} are")
        })
    }

    /// The module of terminals whose host has this one.
    pub fn of_terminals(&'static self) -> &'static Self {
        if self.can.is(Peculiarity::NoData) {
            &SOFTHSM
        } else {
            self
        }
    }

    /// Its library. Kryoptic's is built if need be.
    ///
    /// # Errors
    /// It is not installed, or does not build.
    pub fn library(&self) -> Result<PathBuf> {
        match self.kind {
            Kind::SoftHsm => {
                installed(&SOFTHSM_LIBRARIES).context("SoftHSM is not installed (package softhsm2)")
            }
            Kind::Kryoptic { .. } => kryoptic(),
            Kind::Nss => faulty_module(),
        }
    }
}

/// Of the places where distributions put a library, the one where it is.
fn installed(libraries: &[&str]) -> Option<PathBuf> {
    let mut libraries = libraries.iter().map(PathBuf::from);
    libraries.find(|path| path.is_file())
}

/// The library of NSS itself.
pub(crate) fn softoken() -> Result<PathBuf> {
    installed(&NSS_LIBRARIES).context("NSS is not installed (package libnss3)")
}

fn kryoptic() -> Result<PathBuf> {
    static BUILDING: Building = Building::new();
    let manifest = "tests/kryoptic/Cargo.toml";
    let folder = build_folder()?;
    let target = folder.parent().context("no folder of builds")?;
    let target = target.to_str().context("a path that is not UTF-8")?;
    built(
        "kryoptic-module",
        &["--manifest-path", manifest, "--target-dir", target],
        &BUILDING,
    )
}

/// The module with faults, which is in front of another one. Built if need be.
///
/// # Errors
/// It does not build.
pub fn faulty_module() -> Result<PathBuf> {
    static BUILDING: Building = Building::new();
    let package = "faulty-module";
    built(package, &["--package", package], &BUILDING)
}

/// What came of it, once in a process.
type Building = OnceLock<Result<(), String>>;

/// The library of this package, which these arguments build.
fn built(package: &str, arguments: &[&str], building: &Building) -> Result<PathBuf> {
    let built = building.get_or_init(|| match env::var_os(BUILT) {
        Some(_) => Ok(()),
        None => cargo_build(arguments).map_err(|error| error.to_string()),
    });
    built.clone().map_err(anyhow::Error::msg)?;
    let library = build_folder()?.join(format!("lib{}.so", package.replace('-', "_")));
    ensure!(
        library.is_file(),
        "{} is missing: cargo build {}",
        library.display(),
        arguments.join(" ")
    );
    Ok(library)
}
