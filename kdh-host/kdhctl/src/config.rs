//! The configuration file; `kdhctl.sample.toml` explains every key.

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use hsm::{KeyName, TokenConfig};
use pki::{Certificate, Role};
use serde::Deserialize;

use crate::failure::Failure;

const FILE_NAME: &str = "kdhctl.toml";

mod raw {
    use super::{Deserialize, PathBuf};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Config {
        pub(super) address: String,
        pub(super) server_name: String,
        pub(super) server_ca: PathBuf,
        pub(super) certificate: PathBuf,
        pub(super) token: Token,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Token {
        pub(super) module: PathBuf,
        pub(super) label: String,
        pub(super) serial: Option<String>,
        pub(super) pin_file: Option<PathBuf>,
        #[serde(default = "key_label")]
        pub(super) key_label: String,
    }

    fn key_label() -> String {
        "operator".to_owned()
    }
}

/// A configuration that was checked as far as that is possible without token and host.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) address: String,
    pub(crate) server_name: String,
    pub(crate) server_ca: Certificate,
    pub(crate) certificate: Certificate,
    pub(crate) module: PathBuf,
    pub(crate) token: TokenConfig,
    /// Asked for if there is none.
    pub(crate) pin_file: Option<PathBuf>,
    pub(crate) key: KeyName,
}

impl Config {
    /// Reads the file that was named, or else the user's.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find(default_path(
                env::var_os("XDG_CONFIG_HOME"),
                env::home_dir(),
            ))?,
        };
        let unusable = |error: String| Failure::usage(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).map_err(|faults| unusable(faults.join("\n  ")))
    }

    /// Every fault that can be found, each named by its key.
    fn parse(text: &str, folder: &Path) -> Result<Self, Vec<String>> {
        let raw: raw::Config = toml::from_str(text).map_err(|error| vec![error.to_string()])?;
        let mut faults = Faults(Vec::new());
        let server_ca = folder.join(raw.server_ca);
        let certificate = folder.join(raw.certificate);
        let module = folder.join(raw.token.module);
        let pin_file = raw.token.pin_file.map(|path| folder.join(path));

        let server_ca = faults.of("server-ca", read_certificate(&server_ca, Role::SubCa));
        let certificate = faults.of(
            "certificate",
            read_certificate(&certificate, Role::Operator),
        );
        let key = faults.of("token.key-label", KeyName::new(&raw.token.key_label));
        faults.of("token.module", require_file(&module));
        if let Some(path) = &pin_file {
            faults.of("token.pin-file", require_file(path));
        }
        match (server_ca, certificate, key) {
            (Some(server_ca), Some(certificate), Some(key)) if faults.0.is_empty() => Ok(Self {
                address: raw.address,
                server_name: raw.server_name,
                server_ca,
                certificate,
                module,
                token: TokenConfig {
                    serial: raw.token.serial,
                    workers: 1,
                    ..TokenConfig::new(&raw.token.label)
                },
                pin_file,
                key,
            }),
            _ => Err(faults.0),
        }
    }
}

struct Faults(Vec<String>);

impl Faults {
    fn of<T, E: Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|fault| self.0.push(format!("{key}: {fault}")))
            .ok()
    }
}

fn read_certificate(path: &Path, role: Role) -> Result<Certificate, String> {
    let at_path = |fault: &dyn Display| format!("{}: {fault}", path.display());
    let pem = fs::read_to_string(path).map_err(|error| at_path(&error))?;
    let certificate = Certificate::from_pem(&pem).map_err(|error| at_path(&error))?;
    role.verify(&certificate).map_err(|error| at_path(&error))?;
    Ok(certificate)
}

fn require_file(path: &Path) -> Result<(), String> {
    if path.is_file() {
        Ok(())
    } else {
        Err(format!("there is no file {}", path.display()))
    }
}

/// In the user's own folder only: the configuration names a library to load, and the current folder
/// may be anybody's.
fn default_path(config_home: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    config_home
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".config")))
        .map(|folder| folder.join(FILE_NAME))
}

/// The default configuration, if it is there.
fn find(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let shown = path
        .as_ref()
        .map_or_else(|| FILE_NAME.to_owned(), |path| path.display().to_string());
    path.filter(|path| path.is_file()).ok_or_else(|| {
        Failure::usage(format!(
            "there is no configuration at {shown}: name one with --config; \"kdhctl --help\" \
             shows what stands in it",
        ))
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../kdhctl.sample.toml");

    /// A folder with everything that the sample names.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name, content| fs::write(folder.path().join(name), content).unwrap();
        write("ca-ops.pem", include_str!("testdata/ca-ops.pem"));
        write("operator.pem", include_str!("testdata/operator.pem"));
        write("operator.pin", "1234");
        write("module.so", "");
        write("broken.pem", "-----BEGIN CERTIFICATE-----\n");
        folder
    }

    /// The sample with a module that is there and one change.
    fn parse(folder: &Path, old: &str, new: &str) -> Result<Config, Vec<String>> {
        assert!(SAMPLE.contains(old), "{old}");
        let text = SAMPLE
            .replace(old, new)
            .replace("/usr/lib/softhsm/libsofthsm2.so", "module.so");
        Config::parse(&text, folder)
    }

    /// A help text is broken where it does not fit the screen, and what is behind a comment's break is none.
    #[test]
    fn the_sample_fits_a_screen() {
        for line in SAMPLE.lines() {
            assert!(line.len() < 80, "{line}");
        }
    }

    #[test]
    fn the_sample_is_good_and_its_comments_are_the_defaults() {
        let folder = folder();
        let config = parse(folder.path(), "", "").unwrap();
        assert_eq!(config.address, "kdh.example.org:7444");
        assert_eq!(config.server_name, "kdh.example.org");
        assert_eq!(config.certificate.common_name().as_deref(), Some("ada"));
        assert_eq!(config.module, folder.path().join("module.so"));
        assert_eq!(
            (config.token.label.as_str(), &config.token.serial),
            ("operator", &None)
        );
        assert_eq!((config.key.label(), &config.pin_file), ("operator", &None));

        let written = parse(folder.path(), "# pin-file", "pin-file").unwrap();
        assert_eq!(written.pin_file, Some(folder.path().join("operator.pin")));
        let written = parse(folder.path(), "# key-label", "key-label").unwrap();
        assert_eq!(written.key, config.key);
        let written = parse(folder.path(), "# serial", "serial").unwrap();
        assert_eq!(written.token.serial.as_deref(), Some("0123456789abcdef"));
    }

    #[test]
    fn every_fault_is_named_by_its_key() {
        let folder = folder();
        for (old, new, key, what) in [
            ("address = ", "adress = ", "adress", "unknown field"),
            ("address = ", "# ", "address", "missing field"),
            ("[token]", "pin = 1234\n[token]", "pin", "unknown field"),
            (
                "label = \"operator\"",
                "pin = \"1\"",
                "pin",
                "unknown field",
            ),
            ("\"ca-ops.pem", "\"nothing.pem", "server-ca", "No such file"),
            ("\"ca-ops.pem", "\"broken.pem", "server-ca", "PEM"),
            ("\"ca-ops.pem", "\"operator.pem", "server-ca", "role"),
            (
                "\"operator.pem",
                "\"nothing.pem",
                "certificate",
                "No such file",
            ),
            ("\"operator.pem", "\"ca-ops.pem", "certificate", "role"),
            ("softhsm2.so", "softhsm3.so", "token.module", "no file"),
            (
                "# pin-file = \"",
                "pin-file = \"no",
                "token.pin-file",
                "no file",
            ),
            (
                "# key-label = \"op",
                "key-label = \"Op",
                "token.key-label",
                "not a label",
            ),
        ] {
            let faults = parse(folder.path(), old, new).unwrap_err();
            assert_eq!(faults.len(), 1, "{new}: {faults:?}");
            assert!(
                faults[0].contains(key) && faults[0].contains(what),
                "{new}: {faults:?}"
            );
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let nowhere = tempfile::tempdir().unwrap();
        let faults = parse(nowhere.path(), "# pin-file", "pin-file").unwrap_err();
        let keys: Vec<_> = faults
            .iter()
            .filter_map(|fault| fault.split(':').next())
            .collect();
        assert_eq!(
            keys,
            ["server-ca", "certificate", "token.module", "token.pin-file"]
        );
    }

    #[test]
    fn the_configuration_is_in_the_users_folder_and_never_in_the_current_one() {
        let path = |config_home: Option<&str>, home: Option<&str>| {
            default_path(config_home.map(OsString::from), home.map(PathBuf::from))
                .map(|path| path.display().to_string())
        };
        assert_eq!(
            path(Some("/x"), Some("/home/ada")).as_deref(),
            Some("/x/kdhctl.toml")
        );
        let in_home = Some("/home/ada/.config/kdhctl.toml");
        assert_eq!(path(None, Some("/home/ada")).as_deref(), in_home);
        assert_eq!(
            path(Some("relative"), Some("/home/ada")).as_deref(),
            in_home
        );
        assert_eq!(path(None, None), None);

        let folder = folder();
        let (missing, there) = (folder.path().join("x"), folder.path().join("module.so"));
        assert_eq!(find(Some(there.clone())).unwrap(), there);
        let failure = find(Some(missing.clone())).unwrap_err();
        assert!(failure.to_string().contains("--config"), "{failure}");
        assert_eq!(failure.exit_code, 2);
        assert_eq!(Config::load(Some(&missing)).unwrap_err().exit_code, 2);
    }
}
