//! Folders with tokens. A folder stands for a place: what lies in it is what a program there can
//! reach, and a token that is moved to another folder is gone from the first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    TestModule,
    module::{Kind, softoken},
};

/// Room for tokens that are initialized by a program that knows nothing of files. Kryoptic's slots and
/// NSS's are configured.
const SPARE_SLOTS: usize = 6;

/// A folder with tokens, and the configuration with which their module finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    module: &'static TestModule,
    folder: PathBuf,
}

impl Place {
    /// The place in `folder`, made if missing.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn at(module: &'static TestModule, folder: &Path) -> Result<Self> {
        let place = Self {
            module,
            folder: folder.to_owned(),
        };
        fs::create_dir_all(place.tokens())?;
        place.configure()?;
        Ok(place)
    }

    /// What its tokens are tokens of.
    pub const fn module(&self) -> &'static TestModule {
        self.module
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The variable that tells the module where its configuration is.
    pub fn variable(&self) -> (&'static str, PathBuf) {
        let name = match self.module.kind {
            Kind::SoftHsm => "SOFTHSM2_CONF",
            Kind::Kryoptic { .. } => "KRYOPTIC_CONF",
            Kind::Nss => "FAULTY_NSS",
        };
        (name, self.configuration())
    }

    /// Carries the token called `label` to another place.
    ///
    /// # Errors
    /// There is not exactly one, or it cannot be moved.
    pub fn carry_token(&self, label: &str, to: &Self) -> Result<()> {
        let token = self.token(label)?;
        let name = token.file_name().context("a token without a name")?;
        // Slots have the same names everywhere.
        let name = match self.module.kind {
            Kind::SoftHsm => name.to_owned(),
            Kind::Kryoptic { .. } => format!("{label}.sql").into(),
            Kind::Nss => label.into(),
        };
        fs::rename(&token, to.tokens().join(name))?;
        self.configure()?;
        to.configure()
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("module.conf")
    }

    fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    /// Modules take no relative path, and folders are copied: written anew each time.
    fn configure(&self) -> Result<()> {
        let tokens = self.tokens().canonicalize()?;
        let text = match self.module.kind {
            Kind::SoftHsm => format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                tokens.display()
            ),
            Kind::Kryoptic { denied } => kryoptic_slots(&tokens, denied)?,
            Kind::Nss => nss_slots(&tokens)?,
        };
        fs::write(self.configuration(), text)?;
        Ok(())
    }

    /// The folder or file of the one token of this label, in which it stands in clear.
    fn token(&self, label: &str) -> Result<PathBuf> {
        let (inner, label) = match self.module.kind {
            Kind::SoftHsm => ("token.object", format!("{label:32}")),
            Kind::Kryoptic { .. } => ("", label.to_owned()),
            Kind::Nss => ("label", format!("{label:32}")),
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(self.tokens())? {
            let token = entry?.path();
            let content = fs::read(if inner.is_empty() {
                token.clone()
            } else {
                token.join(inner)
            })
            .unwrap_or_default();
            if content
                .windows(label.len())
                .any(|part| part == label.as_bytes())
            {
                found.push(token);
            }
        }
        ensure!(
            found.len() == 1,
            "{} tokens called {label} in {}",
            found.len(),
            self.folder.display()
        );
        found.pop().context("no token")
    }
}

/// A slot for each token that is there, and spare ones, whose files are empty or missing.
fn kryoptic_slots(tokens: &Path, denied: &[&str]) -> Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(tokens)? {
        let entry = entry?;
        let path = entry.path();
        let is_database = path.extension().is_some_and(|extension| extension == "sql");
        if is_database && entry.metadata()?.len() > 0 {
            files.push(path);
        }
    }
    let spare: Vec<_> = (0..)
        .map(|number| tokens.join(format!("slot-{number}.sql")))
        .filter(|path| !files.contains(path))
        .take(SPARE_SLOTS)
        .collect();
    files.extend(spare);
    files.sort();

    let mechanisms = match denied {
        [] => String::new(),
        denied => format!("mechanisms = [\"DENY\", \"{}\"]\n", denied.join("\", \"")),
    };
    let slots = files.iter().enumerate().map(|(number, file)| {
        format!(
            "[[slots]]\nslot = {number}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n{mechanisms}\n",
            file.display()
        )
    });
    Ok(slots.collect())
}

/// A folder for each token that is there, and spare ones.
fn nss_slots(tokens: &Path) -> Result<String> {
    let spare = (0..SPARE_SLOTS).map(|number| tokens.join(format!("slot-{number}")));
    for folder in spare {
        fs::create_dir_all(folder)?;
    }
    let mut lines = vec![softoken()?];
    for entry in fs::read_dir(tokens)? {
        lines.push(entry?.path());
    }
    lines[1..].sort();
    let lines = lines.iter().map(|path| format!("{}\n", path.display()));
    Ok(lines.collect())
}
