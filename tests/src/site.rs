//! A site: the places where a bank keeps its tokens, the ceremonies that filled them, and what they
//! left.
//!
//! ```text
//! ceremony/         the ceremony room: plans, and the tokens as long as a ceremony goes on
//! custodians/NAME/  what each custodian brings
//! offline-safe/     the root's token, after the ceremony
//! hsm/              the host's HSM: the tokens "issuing" and "kdh"
//! operators/        the operators' token
//! pki/              certificates, revocation lists, transcripts
//! host/             the host's configuration and database
//! terminals/SERIAL/ a terminal with its token
//! logs/             what every program said
//! ```

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use hsm_modules::{Peculiarity, TestModule, spy, spy_variables};

use crate::{
    master_key::{MasterKey, kcv},
    operator::toml_text,
    place::Place,
    process::Program,
    programs::{Programs, workspace},
    secret_file,
};

/// Which CAs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topology {
    /// One for terminals, one for hosts, under one root.
    TwoSubCas,
    /// One for both, under a root.
    SingleSubCa,
}

impl Topology {
    /// Both.
    pub const ALL: [Self; 2] = [Self::TwoSubCas, Self::SingleSubCa];

    /// The file of the certificate of `CA_KDH`.
    pub const fn ca_kdh(self) -> &'static str {
        match self {
            Self::TwoSubCas => "ca-kdh.pem",
            Self::SingleSubCa => "ca-krd.pem",
        }
    }

    /// The file of the revocation list of `CA_KDH`.
    pub const fn crl_ca_kdh(self) -> &'static str {
        match self {
            Self::TwoSubCas => "crl-ca-kdh.der",
            Self::SingleSubCa => "crl-ca-krd.der",
        }
    }
}

/// An operator, and what they may do.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// The common name in the certificate, which is also the key's label.
    pub name: &'static str,
    /// `fleet`, `keys`, `audit`, `recovery`, `switch`.
    pub roles: &'static [&'static str],
}

/// May do everything.
pub const OPERATOR: Operator = Operator {
    name: "operator",
    roles: &["fleet", "keys", "audit"],
};
/// May do one thing each.
pub const FLEET_OPERATOR: Operator = Operator {
    name: "fleet-operator",
    roles: &["fleet"],
};
/// See [`FLEET_OPERATOR`].
pub const KEY_OFFICER: Operator = Operator {
    name: "key-officer",
    roles: &["keys"],
};
/// See [`FLEET_OPERATOR`].
pub const AUDITOR: Operator = Operator {
    name: "auditor",
    roles: &["audit"],
};
/// Has a certificate, and an empty list of roles.
pub const NOBODY: Operator = Operator {
    name: "nobody",
    roles: &[],
};
/// A payment switch.
pub const SWITCH: Operator = Operator {
    name: "switch",
    roles: &["switch"],
};
/// Together they may have tokens signed by the terminals' CA.
pub const RECOVERERS: [Operator; 2] = [
    Operator {
        name: "recoverer-1",
        roles: &["recovery"],
    },
    Operator {
        name: "recoverer-2",
        roles: &["recovery"],
    },
];
/// Everyone who has a certificate.
pub const OPERATORS: [Operator; 8] = [
    OPERATOR,
    FLEET_OPERATOR,
    KEY_OFFICER,
    AUDITOR,
    NOBODY,
    SWITCH,
    RECOVERERS[0],
    RECOVERERS[1],
];

/// Of every terminal, if nothing else is said.
pub const MODEL: &str = "Model X";

/// Who brings a component.
const CUSTODIANS: [&str; 2] = ["alice", "bob"];

/// A folder with all of it.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    programs: Programs,
    topology: Topology,
    module: &'static TestModule,
    spied: bool,
    /// Numbers the spy's logs.
    runs: AtomicU32,
}

impl Site {
    /// An empty site in `folder`, which must not exist, with tokens of this module.
    ///
    /// # Errors
    /// The folder exists, or cannot be made.
    pub fn create(
        folder: &Path,
        programs: &Programs,
        topology: Topology,
        module: &'static TestModule,
    ) -> Result<Self> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        for part in ["pki", "host", "logs", "ceremony"] {
            fs::create_dir(folder.join(part))?;
        }
        Self::open(&folder, programs, topology, module)
    }

    /// One that was made before, with the same CAs and the same module.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn open(
        folder: &Path,
        programs: &Programs,
        topology: Topology,
        module: &'static TestModule,
    ) -> Result<Self> {
        Ok(Self {
            folder: folder.canonicalize()?,
            programs: programs.clone(),
            topology,
            module,
            spied: false,
            runs: AtomicU32::new(0),
        })
    }

    /// From now on, what crosses between the host or a ceremony and the module is written down.
    pub const fn spy(&mut self) {
        self.spied = true;
    }

    /// Whether there is a spy.
    pub const fn is_spied(&self) -> bool {
        self.spied
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The programs that it runs.
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Its CAs.
    pub const fn topology(&self) -> Topology {
        self.topology
    }

    /// A file that a ceremony made.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.folder.join("pki").join(name)
    }

    /// A program's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// The host's HSM.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn hsm(&self) -> Result<Place> {
        Place::at(self.module, &self.folder.join("hsm"))
    }

    /// The operators' token.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn operators(&self) -> Result<Place> {
        Place::at(self.module, &self.folder.join("operators"))
    }

    fn safe(&self) -> Result<Place> {
        Place::at(self.module, &self.folder.join("offline-safe"))
    }

    fn room(&self) -> Result<Place> {
        Place::at(self.module, &self.folder.join("ceremony"))
    }

    /// What its tokens are tokens of.
    pub const fn hsm_module(&self) -> &'static TestModule {
        self.module
    }

    /// What terminals' tokens are tokens of.
    pub fn terminal_module(&self) -> &'static TestModule {
        self.module.of_terminals()
    }

    /// The module's library, or the spy in front of it, for the host and for ceremonies.
    ///
    /// # Errors
    /// It is not installed.
    pub fn module(&self) -> Result<PathBuf> {
        if self.spied {
            spy()
        } else {
            self.module.library()
        }
    }

    /// Has the spy, where there is one, write what `program` says to its module into a log of its
    /// own, `spy-NAME-NUMBER`.
    ///
    /// # Errors
    /// The module is not installed.
    pub fn watch(&self, program: Program, name: &str) -> Result<Program> {
        if !self.spied {
            return Ok(program);
        }
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.log(&format!("spy-{name}-{number}"));
        Ok(program.envs(spy_variables(self.module, &log)?))
    }

    /// Makes the empty tokens, in the ceremony room.
    ///
    /// # Errors
    /// `kdh-ceremony` refuses.
    pub fn make_tokens(&self) -> Result<()> {
        let room = self.room()?;
        for label in ["root", "issuing", "kdh", "operator"] {
            room.make_token(label, &self.programs, &self.log("kdh-ceremony"))?;
        }
        Ok(())
    }

    /// Holds the ceremony that makes the CAs, the host's and the operators' credentials, the first
    /// revocation lists and the storage keys.
    ///
    /// # Errors
    /// `kdh-ceremony` fails.
    pub fn hold_pki_ceremony(&self) -> Result<()> {
        self.hold("pki", &self.pki_acts())
    }

    /// Holds the ceremony that brings in master keys.
    ///
    /// # Errors
    /// `kdh-ceremony` fails.
    pub fn hold_key_ceremony(&self, keys: &[MasterKey]) -> Result<()> {
        let labels: Vec<_> = keys.iter().map(|key| (key.label(), key)).collect();
        let keys: Vec<_> = labels.iter().map(|(label, key)| (&**label, *key)).collect();
        self.hold("keys", &self.component_acts(&keys)?)
    }

    /// Holds a later ceremony, on the host's HSM, that brings in keys under these labels.
    ///
    /// # Errors
    /// `kdh-ceremony` fails.
    pub fn bring_in(&self, keys: &[(&str, &MasterKey)]) -> Result<()> {
        let plan = format!(
            "title = \"more keys\"\noutput = \".\"\ntranscript = \"transcript-more.jsonl\"\n\
             confirmation = \"unattended\"\n\n[tokens.kdh]\nmodule = {}\nlabel = \"kdh\"\n\
             pin-file = \"../hsm/kdh.pin\"\n{}",
            toml_text(&self.module()?),
            self.component_acts(keys)?
        );
        let file = self.pki("more.toml");
        fs::write(&file, plan)?;
        self.execute(&self.hsm()?, &file, "more")
    }

    fn component_acts(&self, keys: &[(&str, &MasterKey)]) -> Result<String> {
        let mut acts = String::new();
        for (label, key) in keys {
            write!(
                acts,
                "\n[[acts]]\nact = \"import-components\"\ntoken = \"kdh\"\nkey = \"{label}\"\n\
                 kind = \"{}\"\nkcv = \"{}\"\n",
                key.kind,
                key.kcv()?
            )?;
            if self.module.can.is(Peculiarity::NoData) {
                acts.push_str("custody = \"unrecorded\"\n");
            }
            for (custodian, component) in CUSTODIANS.iter().zip(&key.components) {
                let folder = self.folder.join("custodians").join(custodian);
                fs::create_dir_all(&folder)?;
                let path = folder.join(format!("{}.component", key.name));
                let file = toml_text(&path);
                secret_file::write(&path, &format!("{}\n", hex::encode_upper(component)))?;
                write!(
                    acts,
                    "[[acts.components]]\ncustodian = \"{custodian}\"\nfile = {file}\n\
                     kcv = \"{}\"\n",
                    kcv(key.kind, component)?
                )?;
            }
        }
        Ok(acts)
    }

    /// Ends the ceremonies: the root's token goes to the safe, the others to where they are used.
    ///
    /// # Errors
    /// A token cannot be moved.
    pub fn carry_tokens_away(&self) -> Result<()> {
        let room = self.room()?;
        room.carry_token("root", &self.safe()?)?;
        room.carry_token("issuing", &self.hsm()?)?;
        room.carry_token("kdh", &self.hsm()?)?;
        room.carry_token("operator", &self.operators()?)
    }

    fn hold(&self, name: &str, acts: &str) -> Result<()> {
        let room = self.room()?;
        let module = toml_text(&self.module()?);
        let mut plan = format!(
            "title = \"{name}\"\noutput = \"../pki\"\ntranscript = \"transcript-{name}.jsonl\"\n\
             confirmation = \"unattended\"\n"
        );
        for label in ["root", "issuing", "kdh", "operator"] {
            write!(
                plan,
                "\n[tokens.{label}]\nmodule = {module}\nlabel = \"{label}\"\n\
                 pin-file = \"{label}.pin\"\n"
            )?;
        }
        plan.push_str(acts);
        let file = self.folder.join("ceremony").join(format!("{name}.toml"));
        fs::write(&file, plan)?;
        self.execute(&room, &file, name)
    }

    fn execute(&self, place: &Place, plan: &Path, name: &str) -> Result<()> {
        let log = self.log("kdh-ceremony");
        let ceremony = place
            .program(self.programs.path("kdh-ceremony"), &log)
            .arg("run")
            .arg(plan);
        self.watch(ceremony, &format!("ceremony-{name}"))?
            .succeed()?;
        Ok(())
    }

    /// Holds a later ceremony, on the host's HSM, by one of the product's sample plans. What is changed in that
    /// has to stand there; the rest is as in the sample, but for the module, and nobody has to type anything.
    ///
    /// # Errors
    /// `kdh-ceremony` fails, or the sample has none of what is to be changed.
    pub fn hold_sample_ceremony(&self, sample: &str, changes: &[(&str, &str)]) -> Result<()> {
        let path = workspace().join("hsm-scripts/plans").join(sample);
        let mut plan = fs::read_to_string(&path)?;
        let unattended = [("\"typed\"", "\"unattended\"")];
        for (from, to) in unattended.iter().chain(changes) {
            ensure!(plan.contains(from), "{sample} has no {from}");
            plan = plan.replace(from, to);
        }
        plan = plan.replace(
            "\"/usr/lib/softhsm/libsofthsm2.so\"",
            &toml_text(&self.module()?),
        );
        for label in ["issuing", "kdh"] {
            let line = format!("label = \"{label}\"");
            let pin = format!("{line}\npin-file = \"../hsm/{label}.pin\"");
            plan = plan.replace(&line, &pin);
        }
        let file = self.pki(sample);
        fs::write(&file, plan)?;
        self.execute(&self.hsm()?, &file, sample)
    }

    fn pki_acts(&self) -> String {
        let mut acts = String::from(
            "\n[[acts]]\nact = \"root-ca\"\ntoken = \"root\"\nkey = \"ca-root\"\n\
             subject = \"CN=Example Bank Root CA,O=Example Bank,C=DE\"\nyears = 20\n\
             certificate = \"root.pem\"\n",
        );
        let mut act = |act: &str, token: &str, key: &str, issuer: &str, rest: &str| {
            let issuer_token = if issuer == "root" { "root" } else { "issuing" };
            let ca_key = if issuer == "root" { "ca-root" } else { issuer };
            // Writing to a String cannot fail.
            let _ = write!(
                acts,
                "\n[[acts]]\nact = \"{act}\"\ntoken = \"{token}\"\nkey = \"{key}\"\n\
                 issuer = {{ token = \"{issuer_token}\", key = \"{ca_key}\", \
                 certificate = \"{issuer}.pem\" }}\n{rest}\n"
            );
        };
        let ca = |name: &str, file: &str| {
            format!(
                "subject = \"CN={name},O=Example Bank,C=DE\"\nyears = 10\n\
                 certificate = \"{file}.pem\""
            )
        };
        let credential = |common_name: &str, file: &str| {
            format!("common-name = \"{common_name}\"\nyears = 2\ncertificate = \"{file}.pem\"")
        };
        let (ca_krd_name, ca_kdh) = match self.topology {
            Topology::TwoSubCas => ("Example Bank KRD CA", "ca-kdh"),
            Topology::SingleSubCa => ("Example Bank KRD and KDH CA", "ca-krd"),
        };
        act(
            "sub-ca",
            "issuing",
            "ca-krd",
            "root",
            &ca(ca_krd_name, "ca-krd"),
        );
        if self.topology == Topology::TwoSubCas {
            act(
                "sub-ca",
                "issuing",
                "ca-kdh",
                "root",
                &ca("Example Bank KDH CA", "ca-kdh"),
            );
        }
        act(
            "sub-ca",
            "issuing",
            "ca-ops",
            "root",
            &ca("Example Bank Operations CA", "ca-ops"),
        );
        act(
            "kdh-credential",
            "kdh",
            "kdh-signing",
            ca_kdh,
            &credential("KDH 1", "kdh"),
        );
        let tls = format!(
            "{}\nhosts = [\"localhost\", \"127.0.0.1\"]",
            credential("kdh.example.org", "host-tls")
        );
        act("host-tls-credential", "kdh", "host-tls", "ca-ops", &tls);
        for operator in OPERATORS {
            let own = credential(operator.name, operator.name);
            act(
                "operator-credential",
                "operator",
                operator.name,
                "ca-ops",
                &own,
            );
        }
        let mut lists = vec!["ca-krd"];
        if self.topology == Topology::TwoSubCas {
            lists.push("ca-kdh");
        }
        for ca in lists {
            let _ = write!(
                acts,
                "\n[[acts]]\nact = \"crl\"\n\
                 issuer = {{ token = \"issuing\", key = \"{ca}\", certificate = \"{ca}.pem\" }}\n\
                 number = 1\ndays = 30\nfile = \"crl-{ca}.der\"\n"
            );
        }
        acts.push_str("\n[[acts]]\nact = \"storage-keys\"\ntoken = \"kdh\"\n");
        acts
    }
}
