//! The plan: a TOML file that is reviewed, confirmed by its digest, and executed as it stands.
//!
//! ```text
//! raw         as it is written
//! check       every fault that can be found without an HSM
//! component   a component in a file
//! ```
//!
//! What stands here was checked: names and check values are parsed, and certificates of earlier
//! ceremonies are read, so that what was checked is what is used.

mod check;
mod component;
mod raw;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use hsm::{Kcv, KeyName};
use pki::{Certificate, CrlNumber, Name, RevokedCertificate, Role};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tr34::KeyKind;

pub(crate) use self::component::load_component;
use crate::{CeremonyError, people::grouped, plain};

/// Whether it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The plan's tokens, the real components.
    Real,
    /// Throw-away tokens and components that were made up; marked so in the transcript.
    Rehearsal,
}

/// A plan without faults.
#[derive(Debug)]
pub struct Plan {
    pub(crate) title: String,
    pub(crate) mode: Mode,
    /// Where files are written.
    pub(crate) output: PathBuf,
    pub(crate) transcript: PathBuf,
    /// Who confirms the digest; nobody in an unattended ceremony.
    pub(crate) officers: Vec<String>,
    pub(crate) tokens: BTreeMap<String, TokenPlan>,
    pub(crate) acts: Vec<Act>,
    /// When it was read: the time in everything that is issued.
    pub(crate) now: OffsetDateTime,
    digest: [u8; 32],
}

#[derive(Clone, Debug)]
pub(crate) struct TokenPlan {
    pub(crate) module: PathBuf,
    pub(crate) label: String,
    pub(crate) serial: Option<String>,
    /// Asked for where there is none.
    pub(crate) pin_file: Option<PathBuf>,
    pub(crate) so_pin_file: Option<PathBuf>,
}

/// A key and the token, by its name in the plan, in which it is or will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPlace {
    pub(crate) token: String,
    pub(crate) key: KeyName,
}

/// A CA at work.
#[derive(Clone, Debug)]
pub(crate) struct IssuerPlan {
    pub(crate) place: KeyPlace,
    pub(crate) name: Name,
    /// [`Role::RootCa`] or [`Role::SubCa`].
    pub(crate) role: Role,
    pub(crate) certificate: IssuerCertificate,
}

#[derive(Clone, Debug)]
pub(crate) enum IssuerCertificate {
    /// An act before makes this file.
    MadeHere(PathBuf),
    /// Of an earlier ceremony.
    Earlier(Box<Certificate>),
}

#[derive(Debug)]
pub(crate) enum Act {
    InitializeToken { token: String },
    Ca(CaPlan),
    Credential(CredentialPlan),
    Crl(CrlPlan),
    ImportComponents(ComponentsPlan),
}

#[derive(Debug)]
pub(crate) struct CaPlan {
    pub(crate) place: KeyPlace,
    /// A root has none.
    pub(crate) issuer: Option<IssuerPlan>,
    pub(crate) subject: Name,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) rsa_bits: usize,
    pub(crate) certificate: PathBuf,
}

#[derive(Debug)]
pub(crate) struct CredentialPlan {
    pub(crate) place: KeyPlace,
    pub(crate) issuer: IssuerPlan,
    pub(crate) holder: Holder,
    pub(crate) subject: Name,
    /// Content bytes of the serial number.
    pub(crate) serial_len: usize,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) certificate: PathBuf,
}

/// Whose credential it is.
#[derive(Debug)]
pub(crate) enum Holder {
    /// The KDH, which signs key tokens.
    Kdh { rsa_bits: usize },
    /// A TLS server, under these names and addresses.
    TlsServer { hosts: Vec<String> },
    /// An operator.
    Operator,
}

#[derive(Debug)]
pub(crate) struct CrlPlan {
    pub(crate) issuer: IssuerPlan,
    pub(crate) number: CrlNumber,
    pub(crate) next_update: OffsetDateTime,
    pub(crate) revoked: Vec<RevokedCertificate>,
    pub(crate) file: PathBuf,
}

#[derive(Debug)]
pub(crate) struct ComponentsPlan {
    pub(crate) place: KeyPlace,
    pub(crate) kind: KeyKind,
    /// Check value of the whole key.
    pub(crate) kcv: Kcv,
    pub(crate) components: Vec<ComponentPlan>,
}

#[derive(Debug)]
pub(crate) struct ComponentPlan {
    pub(crate) custodian: String,
    /// Typed in where there is none.
    pub(crate) file: Option<PathBuf>,
    /// Check value of the component; always there with a file.
    pub(crate) kcv: Option<Kcv>,
}

impl Plan {
    /// Reads a plan and checks all of it. Relative paths start at the plan's folder, files to be
    /// written at its output folder. A rehearsal needs neither PINs nor components, so they are not
    /// looked at.
    ///
    /// # Errors
    /// [`CeremonyError::Plan`] with every fault that can be found without an HSM.
    pub fn load(path: &Path, mode: Mode, now: OffsetDateTime) -> Result<Self, CeremonyError> {
        let text = std::fs::read_to_string(path).map_err(|e| CeremonyError::file(path, e))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder, mode, now)
    }

    /// As [`Self::load`], from text that stands in `folder`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(
        text: &str,
        folder: &Path,
        mode: Mode,
        now: OffsetDateTime,
    ) -> Result<Self, CeremonyError> {
        let contents: raw::Contents = toml::from_str(text).map_err(|error| {
            // It quotes the plan, in several lines.
            let error = error.to_string();
            let lines: Vec<_> = error.lines().map(plain::escaped).collect();
            CeremonyError::Plan(vec![lines.join("\n")])
        })?;
        // Dates in certificates are whole seconds.
        let now = now - time::Duration::nanoseconds(now.nanosecond().into());
        let digest = Sha256::digest(text.as_bytes()).into();
        check::check(contents, folder, mode, now, digest).map_err(CeremonyError::Plan)
    }

    /// SHA-256 of the file, hex.
    pub fn digest(&self) -> String {
        hex::encode(self.digest)
    }

    /// [`Self::digest`] as it is printed, compared and typed: groups of 4, in two indented lines.
    pub fn grouped_digest(&self) -> String {
        grouped(&self.digest())
    }

    /// A file that is written.
    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        self.output.join(file)
    }

    /// The tokens that acts use, by their names in the plan.
    pub(crate) fn tokens_in_use(&self) -> BTreeSet<&str> {
        self.acts
            .iter()
            .flat_map(Act::tokens)
            .collect::<BTreeSet<_>>()
    }

    /// The tokens that the ceremony initializes.
    pub(crate) fn tokens_to_initialize(&self) -> BTreeSet<&str> {
        let acts = self.acts.iter();
        acts.filter_map(|act| match act {
            Act::InitializeToken { token } => Some(&**token),
            _ => None,
        })
        .collect()
    }
}

impl Act {
    /// The kind, as plans write it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::InitializeToken { .. } => "initialize-token",
            Self::Ca(CaPlan { issuer: None, .. }) => "root-ca",
            Self::Ca(_) => "sub-ca",
            Self::Credential(plan) => match plan.holder {
                Holder::Kdh { .. } => "kdh-credential",
                Holder::TlsServer { .. } => "host-tls-credential",
                Holder::Operator => "operator-credential",
            },
            Self::Crl(_) => "crl",
            Self::ImportComponents(_) => "import-components",
        }
    }

    /// The key that it makes.
    pub(crate) const fn makes_key(&self) -> Option<&KeyPlace> {
        match self {
            Self::Ca(plan) => Some(&plan.place),
            Self::Credential(plan) => Some(&plan.place),
            Self::ImportComponents(plan) => Some(&plan.place),
            Self::InitializeToken { .. } | Self::Crl(_) => None,
        }
    }

    /// The CA that it uses.
    pub(crate) const fn issuer(&self) -> Option<&IssuerPlan> {
        match self {
            Self::Ca(plan) => plan.issuer.as_ref(),
            Self::Credential(plan) => Some(&plan.issuer),
            Self::Crl(plan) => Some(&plan.issuer),
            Self::InitializeToken { .. } | Self::ImportComponents(_) => None,
        }
    }

    /// As [`Self::issuer`].
    pub(crate) const fn issuer_mut(&mut self) -> Option<&mut IssuerPlan> {
        match self {
            Self::Ca(plan) => plan.issuer.as_mut(),
            Self::Credential(plan) => Some(&mut plan.issuer),
            Self::Crl(plan) => Some(&mut plan.issuer),
            Self::InitializeToken { .. } | Self::ImportComponents(_) => None,
        }
    }

    /// The file that it writes.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::Ca(plan) => Some(&plan.certificate),
            Self::Credential(plan) => Some(&plan.certificate),
            Self::Crl(plan) => Some(&plan.file),
            Self::InitializeToken { .. } | Self::ImportComponents(_) => None,
        }
    }

    fn tokens(&self) -> impl Iterator<Item = &str> {
        let initialized = match self {
            Self::InitializeToken { token } => Some(&**token),
            _ => None,
        };
        let makes = self.makes_key().map(|place| &*place.token);
        let issues = self.issuer().map(|issuer| &*issuer.place.token);
        initialized.into_iter().chain(makes).chain(issues)
    }
}

/// One line for the people in the room: what it makes, of what, and where.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::InitializeToken { token } => write!(f, "token {token}")?,
            Self::Ca(plan) => write!(
                f,
                "{} until {}, {}",
                plan.subject,
                plan.not_after.date(),
                plan.place
            )?,
            Self::Credential(plan) => {
                let until = plan.not_after.date();
                write!(f, "{} until {until}, {}", plan.subject, plan.place)?;
                if let Holder::TlsServer { hosts } = &plan.holder {
                    write!(f, ", for {}", hosts.join(" "))?;
                }
            }
            Self::Crl(plan) => write!(
                f,
                "number {} of {} until {}, {} revoked",
                plan.number,
                plan.issuer.name,
                plan.next_update.date(),
                plan.revoked.len()
            )?,
            Self::ImportComponents(plan) => write!(
                f,
                "{} from {} components, check value {}, {}",
                plan.kind,
                plan.components.len(),
                plan.kcv,
                plan.place
            )?,
        }
        self.output()
            .map_or(Ok(()), |file| write!(f, " -> {}", file.display()))
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} in token {}", self.key, self.token)
    }
}

impl Holder {
    pub(crate) const fn role(&self) -> Role {
        match self {
            Self::Kdh { .. } => Role::Kdh,
            Self::TlsServer { .. } => Role::HostTls,
            Self::Operator => Role::Operator,
        }
    }
}
