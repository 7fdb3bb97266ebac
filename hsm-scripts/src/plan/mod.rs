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
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    slice,
};

use hsm::{ImportForm, Kcv, KeyName, StorageNumber, UpstreamFreshness, WrappedKey};
use pki::{Certificate, CrlNumber, Name, RevokedCertificate, Role, VerifiedCrl};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use tr34::{Kbh, KeyKind, Profile};

pub(crate) use self::component::load_component;
use crate::{CeremonyError, custody::PersonId, people::grouped, plain};

/// Whether it is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The plan's tokens, the real components.
    #[default]
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
    /// Who confirms the digest: ids of participants, or names of people without a token. Nobody in an
    /// unattended ceremony.
    pub(crate) officers: Vec<String>,
    /// People with tokens of their own, by their ids.
    pub(crate) participants: BTreeMap<String, ParticipantPlan>,
    /// Certifies participants and the audit key.
    pub(crate) ceremony_ca: Option<Certificate>,
    /// Its revocation list; a site may have none.
    pub(crate) ceremony_crl: Option<VerifiedCrl>,
    /// The key that seals the transcript.
    pub(crate) audit: Option<AuditPlan>,
    /// The hash at the end of the transcript of the rehearsal that the plan demands.
    pub(crate) rehearsal: Option<String>,
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

/// Somebody who takes part with a token of their own. The certificate was verified.
#[derive(Debug)]
pub(crate) struct ParticipantPlan {
    pub(crate) certificate: Certificate,
    pub(crate) token: TokenPlan,
    pub(crate) key: KeyName,
}

/// The key that seals the transcript.
#[derive(Debug)]
pub(crate) struct AuditPlan {
    pub(crate) place: KeyPlace,
    pub(crate) certificate: IssuerCertificate,
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
    GiveOutComponents(GiveOutPlan),
    ImportPair(PairPlan),
    ImportWrapped(Box<WrappedPlan>),
    StorageKeys(StoragePlan),
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
    /// Somebody who takes part in ceremonies.
    Custodian,
    /// The audit key of an HSM.
    Audit,
    /// The host as a receiver of keys: its import pair, certified as a KRD.
    Receiver { rsa_bits: usize },
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
    /// In the order of their sittings.
    pub(crate) components: Vec<ComponentPlan>,
    /// How long the partial sum is kept between sittings.
    pub(crate) kept_for: Duration,
    pub(crate) custody: Custody,
}

/// Who held which component of which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Custody {
    /// Is kept in the key's token, and nobody ever holds two.
    Recorded,
    /// May go unrecorded, with a token that keeps no data.
    Unrecorded,
}

#[derive(Debug)]
pub(crate) struct GiveOutPlan {
    pub(crate) place: KeyPlace,
    pub(crate) kind: KeyKind,
    /// One for each component.
    pub(crate) custodians: Vec<String>,
    pub(crate) custody: Custody,
}

#[derive(Debug)]
pub(crate) struct ComponentPlan {
    pub(crate) custodian: String,
    /// Counted from 1.
    pub(crate) sitting: u32,
    /// Typed in where there is none.
    pub(crate) file: Option<PathBuf>,
    /// Check value of the component; always there with a file.
    pub(crate) kcv: Option<Kcv>,
}

/// A pair under which others send keys.
#[derive(Debug)]
pub(crate) struct PairPlan {
    pub(crate) place: KeyPlace,
    pub(crate) rsa_bits: usize,
    pub(crate) public_key: PathBuf,
}

/// A key that arrived encrypted.
#[derive(Debug)]
pub(crate) struct WrappedPlan {
    pub(crate) place: KeyPlace,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
    pub(crate) header: Option<Kbh>,
    pub(crate) form: ImportForm,
    /// The key that opens it, in the same token.
    pub(crate) under: KeyPlace,
    /// Nothing in a rehearsal, which makes up its own.
    pub(crate) arrived: Option<Arrived>,
}

/// What arrived, as it was read when the plan was checked.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) what: ArrivedKey,
    /// Of each file, by its name: SHA-256, hex.
    pub(crate) digests: BTreeMap<String, String>,
}

/// A key in one of the forms.
#[derive(Debug)]
pub(crate) enum ArrivedKey {
    Wrapped(WrappedKey),
    /// To be verified with the HSM, which has the nonce.
    KeyToken(Box<UpstreamPlan>),
}

/// A TR-34 token, and who is said to have sent it.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub(crate) token: Vec<u8>,
    pub(crate) profile: Profile,
    pub(crate) sender: Certificate,
    pub(crate) ca: Certificate,
    pub(crate) crl: Option<Vec<u8>>,
    pub(crate) receiver: Certificate,
    pub(crate) freshness: UpstreamFreshness,
}

/// The pair of keys under which terminals' keys lie outside of the HSM: the one that wraps, and the one that makes
/// MACs. They are made inside, and are nobody's components.
#[derive(Debug)]
pub(crate) struct StoragePlan {
    pub(crate) number: StorageNumber,
    pub(crate) pair: [KeyPlace; 2],
    /// The pair before it, which the first one has not.
    pub(crate) before: Option<[KeyPlace; 2]>,
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
            CeremonyError::Plan(vec![plain::escaped_lines(error.trim_end())])
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

    /// What somebody is called: the name in a participant's certificate, or the name itself.
    pub(crate) fn name_of<'a>(&self, who: &'a str) -> Cow<'a, str> {
        let participant = self.participants.get(who);
        let name = participant.and_then(|participant| participant.certificate.common_name());
        name.map_or(Cow::Borrowed(who), Cow::Owned)
    }

    /// Who somebody is, wherever they take part.
    pub(crate) fn person(&self, who: &str) -> PersonId {
        let person = PersonId::of_name(&self.name_of(who));
        match self.participants.get(who) {
            Some(participant) => person.with_certificate(&participant.certificate),
            None => person,
        }
    }

    pub(crate) const fn digest_bytes(&self) -> [u8; 32] {
        self.digest
    }

    /// How many sittings it takes.
    pub fn sittings(&self) -> u32 {
        let acts = self.acts.iter();
        let imports = acts.filter_map(|act| match act {
            Act::ImportComponents(plan) => Some(plan.sittings()),
            _ => None,
        });
        imports.max().unwrap_or(1)
    }

    /// The transcript of a sitting: each has its own, and those behind the first have its number in their names.
    pub fn transcript_of(&self, sitting: u32) -> PathBuf {
        transcript_of(&self.transcript, sitting)
    }

    /// A file that is written.
    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        self.output.join(file)
    }

    /// The tokens that acts and the seal use, by their names in the plan.
    pub(crate) fn tokens_in_use(&self) -> BTreeSet<&str> {
        self.acts
            .iter()
            .flat_map(Act::tokens)
            .chain(self.audit.iter().map(|audit| &*audit.place.token))
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
                Holder::Custodian => "custodian-credential",
                Holder::Audit => "audit-credential",
                Holder::Receiver { .. } => "import-credential",
            },
            Self::Crl(_) => "crl",
            Self::ImportComponents(_) => "import-components",
            Self::GiveOutComponents(_) => "give-out-components",
            Self::ImportPair(_) => "import-pair",
            Self::ImportWrapped(_) => "import-wrapped",
            Self::StorageKeys(_) => "storage-keys",
        }
    }

    /// The keys that it makes, all in one token, a pair of public and private key counted once.
    pub(crate) fn makes_keys(&self) -> &[KeyPlace] {
        let place = match self {
            Self::Ca(plan) => &plan.place,
            Self::Credential(plan) => &plan.place,
            Self::ImportComponents(plan) => &plan.place,
            Self::GiveOutComponents(plan) => &plan.place,
            Self::ImportPair(plan) => &plan.place,
            Self::ImportWrapped(plan) => &plan.place,
            Self::StorageKeys(plan) => return &plan.pair,
            Self::InitializeToken { .. } | Self::Crl(_) => return &[],
        };
        slice::from_ref(place)
    }

    /// The key whose note, in its token, stands for all that the act is making there.
    pub(crate) fn noted_key(&self) -> Option<&KeyPlace> {
        self.makes_keys().first()
    }

    /// The keys that have to be there, and are no CA's.
    pub(crate) fn needs_keys(&self) -> &[KeyPlace] {
        match self {
            Self::ImportWrapped(plan) => slice::from_ref(&plan.under),
            Self::StorageKeys(plan) => plan.before.as_slice().as_flattened(),
            _ => &[],
        }
    }

    /// The key whose components people come to know, and whether that may go unrecorded.
    pub(crate) const fn custody(&self) -> Option<(&KeyPlace, Custody)> {
        match self {
            Self::ImportComponents(plan) => Some((&plan.place, plan.custody)),
            Self::GiveOutComponents(plan) => Some((&plan.place, plan.custody)),
            _ => None,
        }
    }

    /// The CA that it uses.
    pub(crate) const fn issuer(&self) -> Option<&IssuerPlan> {
        match self {
            Self::Ca(plan) => plan.issuer.as_ref(),
            Self::Credential(plan) => Some(&plan.issuer),
            Self::Crl(plan) => Some(&plan.issuer),
            Self::InitializeToken { .. }
            | Self::ImportComponents(_)
            | Self::GiveOutComponents(_)
            | Self::ImportPair(_)
            | Self::ImportWrapped(_)
            | Self::StorageKeys(_) => None,
        }
    }

    /// As [`Self::issuer`].
    pub(crate) const fn issuer_mut(&mut self) -> Option<&mut IssuerPlan> {
        match self {
            Self::Ca(plan) => plan.issuer.as_mut(),
            Self::Credential(plan) => Some(&mut plan.issuer),
            Self::Crl(plan) => Some(&mut plan.issuer),
            Self::InitializeToken { .. }
            | Self::ImportComponents(_)
            | Self::GiveOutComponents(_)
            | Self::ImportPair(_)
            | Self::ImportWrapped(_)
            | Self::StorageKeys(_) => None,
        }
    }

    /// The file that it writes.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::Ca(plan) => Some(&plan.certificate),
            Self::Credential(plan) => Some(&plan.certificate),
            Self::Crl(plan) => Some(&plan.file),
            Self::ImportPair(plan) => Some(&plan.public_key),
            Self::InitializeToken { .. }
            | Self::ImportComponents(_)
            | Self::GiveOutComponents(_)
            | Self::ImportWrapped(_)
            | Self::StorageKeys(_) => None,
        }
    }

    fn tokens(&self) -> impl Iterator<Item = &str> {
        let initialized = match self {
            Self::InitializeToken { token } => Some(&**token),
            _ => None,
        };
        let makes = self.makes_keys().iter().map(|place| &*place.token);
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
            Self::ImportComponents(plan) => {
                let (kind, count) = (plan.kind, plan.components.len());
                write!(f, "{kind} from {count} components")?;
                if plan.sittings() > 1 {
                    let hours = plan.kept_for.whole_hours();
                    write!(f, " at {} sittings ({hours} hours)", plan.sittings())?;
                }
                write!(f, ", check value {}, {}", plan.kcv, plan.place)?;
                plan.custody.say_if_unrecorded(f)?;
            }
            Self::GiveOutComponents(plan) => {
                let (kind, count) = (plan.kind, plan.custodians.len());
                write!(f, "{kind} in {count} components, {}", plan.place)?;
                plan.custody.say_if_unrecorded(f)?;
            }
            Self::ImportPair(plan) => write!(f, "RSA-{}, {}", plan.rsa_bits, plan.place)?,
            Self::ImportWrapped(plan) => {
                let (kind, form, under) = (plan.kind, plan.form, &plan.under.key);
                let (kcv, place) = (&plan.kcv, &plan.place);
                write!(
                    f,
                    "{kind} as {form} under {under}, check value {kcv}, {place}"
                )?;
                // Of them, the plan's digest says the names only.
                for (file, digest) in plan.arrived.iter().flat_map(|arrived| &arrived.digests) {
                    write!(f, ", {file} with SHA-256 {digest}")?;
                }
            }
            Self::StorageKeys(plan) => {
                write!(f, "{plan}")?;
                if let Some([key, mac]) = &plan.before {
                    write!(f, ", to follow {} and {}", key.key, mac.key)?;
                }
            }
        }
        self.output()
            .map_or(Ok(()), |file| write!(f, " -> {}", file.display()))
    }
}

impl ComponentsPlan {
    /// How many sittings it takes.
    pub(crate) fn sittings(&self) -> u32 {
        self.components.last().map_or(1, |last| last.sitting)
    }
}

impl Custody {
    fn say_if_unrecorded(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded => Ok(()),
            Self::Unrecorded => f.write_str(", CUSTODY MAY GO UNRECORDED"),
        }
    }
}

/// `transcript.jsonl`, `transcript-2.jsonl` and so on.
fn transcript_of(first: &Path, sitting: u32) -> PathBuf {
    if sitting == 1 {
        return first.to_owned();
    }
    let mut name = first.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{sitting}"));
    if let Some(extension) = first.extension() {
        name.push(".");
        name.push(extension);
    }
    first.with_file_name(name)
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} in token {}", self.key, self.token)
    }
}

/// Both keys, and where.
impl fmt::Display for StoragePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [key, mac] = &self.pair;
        write!(
            f,
            "{}, keys {} and {} in token {}",
            StorageNumber::KIND,
            key.key,
            mac.key,
            key.token
        )
    }
}

impl Holder {
    pub(crate) const fn role(&self) -> Role {
        match self {
            Self::Kdh { .. } => Role::Kdh,
            Self::TlsServer { .. } => Role::HostTls,
            Self::Operator => Role::Operator,
            Self::Custodian => Role::Custodian,
            Self::Audit => Role::Audit,
            Self::Receiver { .. } => Role::Krd,
        }
    }
}
