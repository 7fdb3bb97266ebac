//! From what is written to what can be executed. Collects every fault, each named by its place.

mod certificates;
mod components;
mod crl;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
};

use hsm::{KeyName, Pin};
use pki::{Name, Role};
use time::OffsetDateTime;

use super::{Act, KeyPlace, Mode, Plan, TokenPlan, raw};
use crate::plain::{escaped, is_plain};

/// Labels of PKCS#11 tokens are cut after this many bytes.
const MAX_TOKEN_LABEL_LEN: usize = 32;
const MIN_OFFICERS: usize = 2;
/// What labels of master keys begin with, and no others.
const MASTER_KEY_PREFIX: &str = "kn.";

/// Checks a plan whole.
pub(super) fn check(
    contents: raw::Contents,
    folder: &Path,
    mode: Mode,
    now: OffsetDateTime,
    digest: [u8; 32],
) -> Result<Plan, Vec<String>> {
    let mut check = Check {
        folder,
        // By its components, without the dots between them.
        output: folder.join(&contents.output).components().collect(),
        mode,
        unattended: contents.confirmation == raw::Confirmation::Unattended,
        now,
        tokens: &contents.tokens,
        faults: Vec::new(),
        cas: BTreeMap::new(),
        later_files: contents.acts.iter().filter_map(certificate).collect(),
        keys: BTreeSet::new(),
        files: BTreeSet::new(),
        used: BTreeSet::new(),
        lists: BTreeSet::new(),
    };
    check.frame(&contents);
    let tokens = check.tokens();
    let mut acts = Vec::new();
    for (index, act) in contents.acts.iter().enumerate() {
        let place = format!("act {} ({})", index + 1, act.name());
        acts.extend(check.act(&place, act));
    }
    let output = check.output;
    if check.faults.is_empty() {
        Ok(Plan {
            transcript: output.join(&contents.transcript),
            officers: if check.unattended {
                Vec::new()
            } else {
                contents.officers
            },
            title: contents.title,
            mode,
            output,
            tokens,
            acts,
            now,
            digest,
        })
    } else {
        Err(check.faults)
    }
}

/// A CA that an act of this plan makes.
struct MadeCa {
    place: KeyPlace,
    name: Name,
    role: Role,
    not_after: OffsetDateTime,
}

/// What the acts so far add up to, and their faults.
struct Check<'a> {
    folder: &'a Path,
    output: PathBuf,
    mode: Mode,
    unattended: bool,
    now: OffsetDateTime,
    tokens: &'a BTreeMap<String, raw::Token>,
    faults: Vec<String>,
    /// By their certificates' files; `None` for one that has a fault.
    cas: BTreeMap<PathBuf, Option<MadeCa>>,
    /// Certificates that this plan makes, now or later.
    later_files: BTreeSet<&'a Path>,
    keys: BTreeSet<(&'a str, &'a str)>,
    files: BTreeSet<&'a Path>,
    /// Tokens that an act so far needs.
    used: BTreeSet<&'a str>,
    /// Keys, by label, that signed a revocation list.
    lists: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Check<'a> {
    fn fault(&mut self, place: &str, cause: impl Display) {
        // A fault may quote what is refused for what it does to the screen.
        self.faults.push(escaped(&format!("{place}: {cause}")));
    }

    /// The value, or its fault.
    fn sound<T, E: Display>(&mut self, place: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(place, error)).ok()
    }

    /// What goes for the ceremony as a whole.
    fn frame(&mut self, contents: &'a raw::Contents) {
        self.plain_text("title", &contents.title);
        self.plain_path("output", &contents.output);
        if !self.output.is_dir() {
            self.fault(
                "output",
                format!("there is no folder {}", self.output.display()),
            );
        }
        self.new_file("transcript", &contents.transcript);
        let officers: BTreeSet<_> = contents.officers.iter().map(|name| name.trim()).collect();
        if !self.unattended
            && (officers.len() < MIN_OFFICERS || officers.len() < contents.officers.len())
        {
            self.fault("officers", "two or more people, all different, confirm");
        }
        for officer in &contents.officers {
            self.plain_text("officers", officer);
        }
        if contents.acts.is_empty() {
            self.fault("acts", "there is nothing to do");
        }
    }

    fn tokens(&mut self) -> BTreeMap<String, TokenPlan> {
        let mut known = BTreeSet::new();
        let mut checked = BTreeMap::new();
        for (name, token) in self.tokens {
            let place = format!("tokens.{name}");
            // A rehearsal names files after it.
            let accepted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            let is_name = name.bytes().all(accepted) && name.len() <= MAX_TOKEN_LABEL_LEN;
            if self.plain_text(&format!("{place}: name"), name) && !is_name {
                let rule = "name: a token's name has 1 to 32 of a-z, A-Z, 0-9, '-' and '_'";
                self.fault(&place, rule);
            }
            if !known.insert((&token.module, &token.label, &token.serial)) {
                self.fault(&place, "is the same token as another of this plan");
            }
            let label = &token.label;
            self.plain_text(&format!("{place}: label"), label);
            if label.len() > MAX_TOKEN_LABEL_LEN {
                self.fault(&place, "label: has at most 32 characters");
            }
            if let Some(serial) = &token.serial {
                self.plain_text(&format!("{place}: serial"), serial);
            }
            for (key, file) in [
                ("module", Some(&token.module)),
                ("pin-file", token.pin_file.as_ref()),
                ("so-pin-file", token.so_pin_file.as_ref()),
            ] {
                if let Some(file) = file {
                    self.plain_path(&format!("{place}: {key}"), file);
                }
            }
            let token = TokenPlan {
                module: self.folder.join(&token.module),
                label: label.clone(),
                serial: token.serial.clone(),
                pin_file: token.pin_file.as_ref().map(|file| self.folder.join(file)),
                so_pin_file: token
                    .so_pin_file
                    .as_ref()
                    .map(|file| self.folder.join(file)),
            };
            if self.mode == Mode::Real {
                self.real_token(&place, &token);
            }
            checked.insert(name.clone(), token);
        }
        checked
    }

    /// What a rehearsal does without: the module and the PINs.
    fn real_token(&mut self, place: &str, token: &TokenPlan) {
        if !token.module.is_file() {
            let cause = format!("module: there is no library {}", token.module.display());
            self.fault(place, cause);
        }
        if self.unattended && token.pin_file.is_none() {
            self.fault(place, "pin-file: nobody is there to type the PIN");
        }
        for file in [&token.pin_file, &token.so_pin_file].into_iter().flatten() {
            self.sound(place, Pin::from_file(file));
        }
    }

    fn act(&mut self, place: &str, act: &'a raw::Act) -> Option<Act> {
        match act {
            raw::Act::InitializeToken(act) => self.initialize_token(place, &act.token),
            raw::Act::RootCa(act) => self.root_ca(place, act).map(Act::Ca),
            raw::Act::SubCa(act) => self.sub_ca(place, act).map(Act::Ca),
            raw::Act::KdhCredential(act) => self.kdh(place, act).map(Act::Credential),
            raw::Act::HostTlsCredential(act) => self.host_tls(place, act).map(Act::Credential),
            raw::Act::OperatorCredential(act) => self.operator(place, act).map(Act::Credential),
            raw::Act::Crl(act) => self.crl(place, act).map(Act::Crl),
            raw::Act::ImportComponents(act) => {
                self.components(place, act).map(Act::ImportComponents)
            }
        }
    }

    fn initialize_token(&mut self, place: &str, name: &'a str) -> Option<Act> {
        if self.used.contains(name) {
            self.fault(
                place,
                "comes before everything else that is done to a token",
            );
        }
        let token = self.token(place, name)?;
        if token.pin_file.is_none() || token.so_pin_file.is_none() {
            self.fault(place, "the token needs a pin-file and an so-pin-file");
        }
        if token.serial.is_some() {
            self.fault(
                place,
                "a token gets its serial number when it is initialized",
            );
        }
        Some(Act::InitializeToken {
            token: name.to_owned(),
        })
    }

    /// A token of the plan, which from now on counts as used.
    fn token(&mut self, place: &str, name: &'a str) -> Option<&'a raw::Token> {
        self.used.insert(name);
        let token = self.tokens.get(name);
        if token.is_none() {
            self.fault(place, format!("there is no token {name:?} in the plan"));
        }
        token
    }

    /// A key that is used.
    fn key(&mut self, place: &str, token: &'a str, label: &'a str) -> Option<KeyPlace> {
        let found = self.token(place, token);
        let key = self.sound(place, KeyName::new(label))?;
        found.map(|_| KeyPlace {
            token: token.to_owned(),
            key,
        })
    }

    /// A key pair that is made.
    fn new_key_pair(&mut self, place: &str, token: &'a str, label: &'a str) -> Option<KeyPlace> {
        if label.starts_with(MASTER_KEY_PREFIX) {
            self.fault(
                place,
                "key: labels that begin with \"kn.\" are for master keys",
            );
        }
        self.new_key(place, token, label)
    }

    /// A key that is made.
    fn new_key(&mut self, place: &str, token: &'a str, label: &'a str) -> Option<KeyPlace> {
        if !self.keys.insert((token, label)) {
            self.fault(place, format!("key: {label:?} is made twice"));
        }
        self.key(place, token, label)
    }

    fn new_file(&mut self, place: &str, file: &'a Path) {
        if file.file_name() != Some(file.as_os_str()) {
            self.fault(place, format!("\"{}\" is not a file name", file.display()));
            return;
        }
        self.plain_path(place, file);
        let path = self.output.join(file);
        // A link that leads nowhere is there too.
        if path.symlink_metadata().is_ok() {
            self.fault(place, format!("{} exists already", path.display()));
        }
        if !self.files.insert(file) {
            self.fault(place, format!("{} is written twice", file.display()));
        }
    }

    /// What people read on the screen: something, and nothing that shows them another plan.
    fn plain_text(&mut self, place: &str, text: &str) -> bool {
        if text.trim().is_empty() {
            self.fault(place, "is empty");
            return false;
        }
        let Some(other) = text.chars().find(|character| !is_plain(*character)) else {
            return true;
        };
        let code = u32::from(other);
        self.fault(
            place,
            format!("holds U+{code:04X}, a control or format character"),
        );
        false
    }

    /// As [`Self::plain_text`], for a path that another check refuses if it is empty.
    fn plain_path(&mut self, place: &str, path: &Path) {
        if !path.as_os_str().is_empty() {
            self.plain_text(place, &path.to_string_lossy());
        }
    }
}

/// The certificate of a CA that an act makes.
fn certificate(act: &raw::Act) -> Option<&Path> {
    match act {
        raw::Act::RootCa(act) => Some(&act.certificate),
        raw::Act::SubCa(act) => Some(&act.certificate),
        _ => None,
    }
}
