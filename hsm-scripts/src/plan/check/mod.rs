//! From what is written to what can be executed. Collects every fault, each named by its place.

mod certificates;
mod components;
mod crl;
mod participants;
mod storage;
mod wrapped;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
};

use hsm::{KeyName, KeyRole, Pin};
use pki::{Name, Role};
use time::OffsetDateTime;

use super::{Act, Holder, KeyPlace, Mode, Plan, TokenPlan, raw, transcript_of};
use crate::{
    custody::PersonId,
    plain::{escaped, is_plain},
};

/// Labels of PKCS#11 tokens are cut after this many bytes.
const MAX_TOKEN_LABEL_LEN: usize = 32;
const MIN_OFFICERS: usize = 2;
/// One for each component at most.
const MAX_SITTINGS: u32 = 5;

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
        digest,
        participants: &contents.participants,
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
    let (ceremony_ca, ceremony_crl) = check.ceremony_ca(&contents).unzip();
    let participants = check.participants(ceremony_ca.as_ref(), ceremony_crl.as_ref());
    let audit = check.audit(&contents, ceremony_ca.as_ref(), ceremony_crl.as_ref());
    let rehearsal = check.rehearsal(&contents);
    let mut acts = Vec::new();
    for (index, act) in contents.acts.iter().enumerate() {
        let place = format!("act {} ({})", index + 1, act.name());
        acts.extend(check.act(&place, act));
    }
    let output = check.output;
    if check.faults.is_empty() {
        Ok(Plan {
            transcript: contents.transcript.clone(),
            officers: if check.unattended {
                Vec::new()
            } else {
                contents.officers
            },
            participants,
            ceremony_ca,
            ceremony_crl: ceremony_crl.flatten(),
            audit,
            rehearsal,
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
    digest: [u8; 32],
    now: OffsetDateTime,
    participants: &'a BTreeMap<String, raw::Participant>,
    tokens: &'a BTreeMap<String, raw::Token>,
    faults: Vec<String>,
    /// By their certificates' files; `None` for one that has a fault.
    cas: BTreeMap<PathBuf, Option<MadeCa>>,
    /// Certificates that this plan makes, now or later.
    later_files: BTreeSet<&'a Path>,
    keys: BTreeSet<(&'a str, Cow<'a, str>)>,
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
        self.transcripts(contents);
        let officers = &contents.officers;
        if !self.unattended && (officers.len() < MIN_OFFICERS || !are_different_people(officers)) {
            self.fault("officers", "two or more people, all different, confirm");
        }
        for officer in &contents.officers {
            if self.plain_text("officers", officer) {
                self.person("officers", officer);
            }
        }
        if contents.acts.is_empty() {
            self.fault("acts", "there is nothing to do");
        }
    }

    /// One for each sitting. Those of sittings that were held may be there, the last one may not.
    fn transcripts(&mut self, contents: &'a raw::Contents) {
        let components = contents.acts.iter().flat_map(|act| match act {
            raw::Act::ImportComponents(act) => &act.components[..],
            _ => &[],
        });
        // More is a fault of its own.
        let sittings = components.map(|component| component.sitting).max();
        let sittings = sittings.unwrap_or(1).clamp(1, MAX_SITTINGS);
        if sittings == 1 {
            self.new_file("transcript", &contents.transcript);
            return;
        }
        if contents.acts.len() > 1 {
            let rule = "a key that comes at several sittings has a plan of its own";
            self.fault("acts", rule);
        }
        if self.file_name("transcript", &contents.transcript) {
            let last = self
                .output
                .join(transcript_of(&contents.transcript, sittings));
            self.absent("transcript", &last);
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
            self.real_token(&place, &token);
            checked.insert(name.clone(), token);
        }
        checked
    }

    /// What a rehearsal does without: the module and the PINs.
    fn real_token(&mut self, place: &str, token: &TokenPlan) {
        if self.mode == Mode::Rehearsal {
            return;
        }
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
            raw::Act::OperatorCredential(act) => self
                .named(place, act, Holder::Operator)
                .map(Act::Credential),
            raw::Act::CustodianCredential(act) => self
                .named(place, act, Holder::Custodian)
                .map(Act::Credential),
            raw::Act::AuditCredential(act) => {
                self.named(place, act, Holder::Audit).map(Act::Credential)
            }
            raw::Act::Crl(act) => self.crl(place, act).map(Act::Crl),
            raw::Act::ImportComponents(act) => {
                self.components(place, act).map(Act::ImportComponents)
            }
            raw::Act::GiveOutComponents(act) => {
                self.give_out(place, act).map(Act::GiveOutComponents)
            }
            raw::Act::ImportPair(act) => self.import_pair(place, act).map(Act::ImportPair),
            raw::Act::ImportCredential(act) => self.receiver(place, act).map(Act::Credential),
            raw::Act::ImportWrapped(act) => {
                let plan = self.wrapped(place, act);
                plan.map(|plan| Act::ImportWrapped(Box::new(plan)))
            }
            raw::Act::StorageKeys(act) => self.storage_keys(place, act).map(Act::StorageKeys),
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
    fn key(&mut self, place: &str, token: &'a str, label: &str) -> Option<KeyPlace> {
        let found = self.token(place, token);
        let key = self.sound(place, KeyName::new(label))?;
        found.map(|_| KeyPlace {
            token: token.to_owned(),
            key,
        })
    }

    /// A key pair that is made.
    fn new_key_pair(&mut self, place: &str, token: &'a str, label: &'a str) -> Option<KeyPlace> {
        for role in KeyRole::SECRET.into_iter().chain(KeyRole::MADE_INSIDE) {
            let prefix = role.label_prefix();
            if label.starts_with(prefix) {
                let keys = match role {
                    KeyRole::Zmk => "ZMKs",
                    KeyRole::KeyBlockProtection => "key block protection keys",
                    KeyRole::Storage | KeyRole::StorageMac => "storage keys",
                    KeyRole::Bdk => "BDKs",
                    KeyRole::ExportZmk => "ZMKs for export",
                    KeyRole::ExportKeyBlockProtection => "key block protection keys for export",
                    KeyRole::ExportMac => "MAC keys for export",
                    _ => "master keys",
                };
                let cause = format!("key: labels that begin with {prefix:?} are for {keys}");
                self.fault(place, cause);
            }
        }
        self.new_key(place, token, label)
    }

    /// A key that is made.
    fn new_key(
        &mut self,
        place: &str,
        token: &'a str,
        label: impl Into<Cow<'a, str>>,
    ) -> Option<KeyPlace> {
        let label = label.into();
        if !self.keys.insert((token, label.clone())) {
            self.fault(place, format!("key: {label:?} is made twice"));
        }
        self.key(place, token, &label)
    }

    fn new_file(&mut self, place: &str, file: &'a Path) {
        if !self.file_name(place, file) {
            return;
        }
        let path = self.output.join(file);
        self.absent(place, &path);
        if !self.files.insert(file) {
            self.fault(place, format!("{} is written twice", file.display()));
        }
    }

    /// The name of a file in the output folder.
    fn file_name(&mut self, place: &str, file: &Path) -> bool {
        if file.file_name() != Some(file.as_os_str()) {
            self.fault(place, format!("\"{}\" is not a file name", file.display()));
            return false;
        }
        self.plain_path(place, file);
        true
    }

    fn absent(&mut self, place: &str, path: &Path) {
        // A link that leads nowhere is there too.
        if path.symlink_metadata().is_ok() {
            self.fault(place, format!("{} exists already", path.display()));
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

/// Whether no name is there twice, in whatever writing.
fn are_different_people(names: &[impl AsRef<str>]) -> bool {
    let people: Vec<_> = names
        .iter()
        .map(|name| PersonId::of_name(name.as_ref()))
        .collect();
    let mut pairs = people.iter().enumerate().flat_map(|(index, one)| {
        let others = people[index + 1..].iter();
        others.map(move |other| (one, other))
    });
    !pairs.any(|(one, other)| one.is_same(other))
}
