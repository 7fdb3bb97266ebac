//! A folder with plans and PIN files, and fresh tokens.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use hsm::{Pin, Token, TokenConfig};
use hsm_modules::{
    Peculiarity, Place,
    faults::{self, faulty_module},
};

use crate::common::module;

pub(crate) const TWO_SUB_CAS: &str = include_str!("../../plans/two-sub-cas.toml");
pub(crate) const SINGLE_SUB_CA: &str = include_str!("../../plans/single-sub-ca.toml");
pub(crate) const CRL_REISSUE: &str = include_str!("../../plans/crl-reissue.toml");
pub(crate) const IMPORT: &str = include_str!("../../plans/import-master-key.toml");
pub(crate) const NEW_CUSTODIAN: &str = include_str!("../../plans/new-custodian.toml");
pub(crate) const GIVE_OUT: &str = include_str!("../../plans/give-out-components.toml");
pub(crate) const IMPORT_PAIR: &str = include_str!("../../plans/import-pair.toml");
pub(crate) const IMPORT_WRAPPED: &str = include_str!("../../plans/import-wrapped.toml");
pub(crate) const AT_TWO_SITTINGS: &str = include_str!("../../plans/import-at-two-sittings.toml");
pub(crate) const NEXT_STORAGE_KEYS: &str = include_str!("../../plans/next-storage-keys.toml");
pub(crate) const NEW_KDH: &str = include_str!("../../plans/new-kdh-credential.toml");

/// The library of the module that this process is for, as plans and arguments name it.
pub(crate) fn library() -> String {
    let library = hsm_modules::library();
    library.into_os_string().into_string().unwrap()
}

/// The module of the sample plans.
pub(crate) const SAMPLE_MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The key of the import's plan: components and sum, made up, check values computed with OpenSSL.
pub(crate) const KEY: &str = "kn.acquirer-tmk";
pub(crate) const FIRST: &str = "7A4F19C3D05B62E88E13F6A927C4B05D";
pub(crate) const FIRST_KCV: &str = "A19083";
pub(crate) const SECOND: &str = "315C8EF40D97A26B94E05D7218FBC63A";
pub(crate) const SECOND_KCV: &str = "EC8692";
pub(crate) const SUM: &str = "4B139737DDCCC0831AF3ABDB3F3F7667";
pub(crate) const SUM_KCV: &str = "CBDF95";

/// The acts in which people come to know components.
const COMPONENT_ACTS: [&str; 2] = [
    "act = \"import-components\"",
    "act = \"give-out-components\"",
];

/// Whether the module has a token keep data.
pub(crate) fn keeps_records() -> bool {
    let place = Place::of_this_process().unwrap();
    !place.module().can.is(Peculiarity::NoData)
}

/// To be used in `on_every_module`, whose configuration the program inherits.
pub(crate) struct Site {
    folder: PathBuf,
}

impl Site {
    /// With tokens that the program initializes, PINs made up.
    pub(crate) fn new(tokens: &[&str]) -> Self {
        let place = Place::of_this_process().unwrap();
        let folder = tempfile::tempdir_in(place.folder()).unwrap();
        let site = Self::at(&folder.keep());
        for label in tokens {
            site.add_token(label);
        }
        site
    }

    /// In a folder that goes with the tokens.
    pub(crate) fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        Self {
            folder: folder.to_owned(),
        }
    }

    /// A token that the program initializes, PINs made up.
    pub(crate) fn add_token(&self, label: &str) {
        let pins = [format!("{label}.pin"), format!("{label}.so-pin")];
        let library = library();
        let arguments = [
            "token",
            "init",
            "--module",
            &library,
            "--generate-pins",
            "--label",
            label,
            "--pin-file",
            &pins[0],
            "--so-pin-file",
            &pins[1],
        ];
        assert_success(&self.program(&arguments, ""));
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn write_private(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a plan with the tokens' PIN files, and says that custody goes unrecorded where it has to.
    pub(crate) fn write_plan(&self, name: &str, text: &str) {
        let mut plan = Vec::new();
        let library = library();
        let mut label_key = "label";
        for line in text.lines() {
            plan.push(line.replace(SAMPLE_MODULE, &library));
            match line {
                _ if line.starts_with("[participants.") => label_key = "token",
                _ if line.starts_with("[tokens.") => label_key = "label",
                _ if line.starts_with("[[acts") => label_key = "",
                _ => {}
            }
            if let Some((key, label)) = line.split_once(" = \"")
                && key == label_key
            {
                let label = label.split('"').next().unwrap();
                plan.push(format!("pin-file = \"{label}.pin\""));
            }
            if COMPONENT_ACTS.contains(&line) && !keeps_records() {
                plan.push("custody = \"unrecorded\"".to_owned());
            }
        }
        fs::write(self.path(name), plan.join("\n")).unwrap();
    }

    /// Runs the program in the folder.
    pub(crate) fn program(&self, arguments: &[&str], typed: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kdh-ceremony"))
            .args(arguments)
            .current_dir(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may have stopped before it read all.
        drop(child.stdin.take().unwrap().write_all(typed.as_bytes()));
        child.wait_with_output().unwrap()
    }

    /// Runs a plan with a module with faults before the real one, which does these things from the start.
    pub(crate) fn execute_with_faults(&self, plan: &str, start: &str) -> Output {
        let faulty = faulty_module().unwrap();
        let text = self.read(plan);
        let text = text.replace(&library(), faulty.to_str().unwrap());
        fs::write(self.path(plan), text).unwrap();
        let module = Place::of_this_process().unwrap().module();
        Command::new(env!("CARGO_BIN_EXE_kdh-ceremony"))
            .args(["run", plan])
            .current_dir(self.folder())
            .env("FAULTY_MODULE", module.library().unwrap())
            .env(faults::START, start)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub(crate) fn execute(&self, plan: &str) -> Output {
        self.program(&["run", plan], "")
    }

    /// The labels of a token's keys; a pair counts twice.
    pub(crate) fn keys(&self, token: &str) -> Vec<String> {
        let mut labels: Vec<_> = self
            .token(token)
            .list_keys()
            .unwrap()
            .into_iter()
            .map(|key| key.label)
            .collect();
        labels.sort();
        labels
    }

    pub(crate) fn token(&self, token: &str) -> Token {
        let pin = Pin::from_file(&self.path(&format!("{token}.pin"))).unwrap();
        module().open(&TokenConfig::new(token), &pin).unwrap()
    }

    /// Every file under the folder.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_under(self.folder())
    }

    /// The made-up PINs, which are nobody else's business.
    pub(crate) fn pins(&self) -> Vec<String> {
        let is_pin = |path: &PathBuf| path.to_string_lossy().ends_with("pin");
        let files = self.files().into_iter();
        files
            .filter(|(path, _)| is_pin(path))
            .map(|(_, pin)| String::from_utf8(pin).unwrap())
            .collect()
    }
}

/// What is in the tokens' folder, byte for byte.
pub(crate) fn token_files() -> BTreeMap<PathBuf, Vec<u8>> {
    files_under(&Place::of_this_process().unwrap().folder().join("tokens"))
}

fn files_under(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            let contents = fs::read(&path).unwrap();
            found.insert(path, contents);
        }
    }
    found
}

/// Replaces the first occurrence, which has to be there.
pub(crate) fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the plan");
    text.replacen(from, to, 1)
}

pub(crate) fn unattended(plan: &str) -> String {
    change(
        plan,
        "confirmation = \"typed\"",
        "confirmation = \"unattended\"",
    )
}

/// The import's sample plan with the made-up key's check value.
pub(crate) fn import_plan() -> String {
    change(IMPORT, "\"A1B2C3\"", &format!("\"{SUM_KCV}\""))
}

/// The sample plan for the next pair of storage keys, without a number: for the first.
pub(crate) fn first_storage_keys() -> String {
    let number = NEXT_STORAGE_KEYS.lines().last().unwrap();
    change(NEXT_STORAGE_KEYS, number, "")
}

/// As [`import_plan`], the components in `first.hex` and `second.hex`.
pub(crate) fn import_plan_with_files(site: &Site) -> String {
    site.write_private("first.hex", FIRST);
    site.write_private("second.hex", SECOND);
    let first = format!("\"First Custodian\"\nfile = \"first.hex\"\nkcv = \"{FIRST_KCV}\"");
    let second = format!("\"Second Custodian\"\nfile = \"second.hex\"\nkcv = \"{SECOND_KCV}\"");
    let plan = change(&import_plan(), "\"First Custodian\"", &first);
    change(&plan, "\"Second Custodian\"", &second)
}

pub(crate) fn printed(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(both).unwrap()
}

pub(crate) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", printed(output));
}

/// The program itself says no: no panic, no signal.
pub(crate) fn assert_refused(output: &Output, because: &str) {
    let printed = printed(output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains(because), "{because:?} is not in {printed}");
}

/// No component, nor their sum, in any writing, nor any of `others`.
pub(crate) fn assert_no_secret(text: &str, others: &[String]) {
    let plain = text.to_ascii_lowercase().replace(' ', "");
    for secret in [FIRST, SECOND, SUM] {
        // Half of one is too much.
        for half in [&secret[..16], &secret[16..]] {
            assert!(!plain.contains(&half.to_ascii_lowercase()), "{text}");
        }
    }
    for secret in others {
        assert!(!text.contains(secret.as_str()), "{text}");
    }
}
