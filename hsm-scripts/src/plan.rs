//! The plan: a TOML file that is reviewed, confirmed by its digest, and executed as it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use hsm::{ClearKey, Kcv, KcvMethod, KeyName, Pin};
use pki::{Certificate, Name, Role, aligned_serial_length};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::CeremonyError;

/// Key blocks that a KDH certificate must fit (see the decision records, number 1): Kn of these
/// lengths, a header of 16 characters, AES blocks.
const KN_LENGTHS: [usize; 2] = [16, 32];
const HEADER_LEN: usize = 16;
const BLOCK_LEN: usize = 16;
/// A component is one line of hex.
const MAX_COMPONENT_FILE_LEN: u64 = 256;

/// A plan without faults.
#[derive(Debug)]
pub struct Plan {
    pub(crate) contents: Contents,
    pub(crate) folder: PathBuf,
    digest: [u8; 32],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Contents {
    pub(crate) title: String,
    /// Where files are written; the folder exists.
    pub(crate) output: PathBuf,
    pub(crate) transcript: PathBuf,
    pub(crate) confirmation: Confirmation,
    /// Who confirms the digest; two or more.
    #[serde(default)]
    pub(crate) officers: Vec<String>,
    pub(crate) tokens: BTreeMap<String, TokenPlan>,
    pub(crate) acts: Vec<Act>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confirmation {
    /// Each officer types the beginning of the digest.
    Typed,
    /// Nobody confirms: for automation, on the record.
    Unattended,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TokenPlan {
    pub(crate) module: PathBuf,
    pub(crate) label: String,
    pub(crate) serial: Option<String>,
    /// Asked for at the prompt where it is left out.
    pub(crate) pin_file: Option<PathBuf>,
}

/// A CA at work: the token, the key's label in it, and the certificate's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct IssuerPlan {
    pub(crate) token: String,
    pub(crate) key: String,
    pub(crate) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub(crate) enum Act {
    RootCa(RootCaPlan),
    SubCa(SubCaPlan),
    KdhCredential(CredentialPlan),
    HostTlsCredential(CredentialPlan),
    OperatorCredential(CredentialPlan),
    Crl(CrlPlan),
    ImportComponents(ComponentsPlan),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RootCaPlan {
    pub(crate) token: String,
    pub(crate) key: String,
    pub(crate) subject: String,
    pub(crate) years: u16,
    #[serde(default = "rsa_bits")]
    pub(crate) rsa_bits: u16,
    pub(crate) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SubCaPlan {
    pub(crate) token: String,
    pub(crate) key: String,
    pub(crate) issuer: IssuerPlan,
    pub(crate) subject: String,
    pub(crate) years: u16,
    #[serde(default = "rsa_bits")]
    pub(crate) rsa_bits: u16,
    pub(crate) certificate: PathBuf,
}

/// The KDH's, a TLS server's or an operator's credential.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CredentialPlan {
    pub(crate) token: String,
    pub(crate) key: String,
    pub(crate) issuer: IssuerPlan,
    pub(crate) common_name: String,
    pub(crate) years: u16,
    /// For the KDH's key, which is RSA; the others are P-256.
    pub(crate) rsa_bits: Option<u16>,
    /// Host names and IP addresses; for a TLS server.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    pub(crate) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CrlPlan {
    pub(crate) issuer: IssuerPlan,
    pub(crate) number: u64,
    /// The issuer's list before this one, whose number must be lower; left out for the first.
    pub(crate) previous: Option<PathBuf>,
    pub(crate) days: u16,
    #[serde(default)]
    pub(crate) revoked: Vec<RevokedPlan>,
    pub(crate) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RevokedPlan {
    /// Hex.
    pub(crate) serial: String,
    /// RFC 3339.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: time::OffsetDateTime,
    pub(crate) reason: Option<ReasonPlan>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReasonPlan {
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ComponentsPlan {
    pub(crate) token: String,
    /// Label of the key in the token: `kn.NAME`.
    pub(crate) key: String,
    /// AES-128, AES-192, AES-256, TDEA-2KEY or TDEA-3KEY.
    pub(crate) kind: String,
    /// Check value of the whole key, hex, as it came with the components.
    pub(crate) kcv: String,
    pub(crate) components: Vec<ComponentPlan>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ComponentPlan {
    pub(crate) custodian: String,
    /// For automation: a file that only its owner can read, with the component in hex. Typed in by
    /// the custodian where it is left out.
    pub(crate) file: Option<PathBuf>,
    /// Check value of the component, hex; needed with a file, where nobody can confirm it.
    pub(crate) kcv: Option<String>,
}

impl ComponentsPlan {
    pub(crate) fn kind(&self) -> Option<KeyKind> {
        [
            KeyKind::Tdea2,
            KeyKind::Tdea3,
            KeyKind::Aes128,
            KeyKind::Aes192,
            KeyKind::Aes256,
        ]
        .into_iter()
        .find(|kind| kind.name() == self.kind)
    }

    /// The whole key's check value, where kind and text are sound.
    pub(crate) fn kcv(&self) -> Option<Kcv> {
        Kcv::parse(KcvMethod::for_key(self.kind()?), &self.kcv).ok()
    }
}

const fn rsa_bits() -> u16 {
    3072
}

impl Act {
    /// The kind, as plans write it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::RootCa(_) => "root-ca",
            Self::SubCa(_) => "sub-ca",
            Self::KdhCredential(_) => "kdh-credential",
            Self::HostTlsCredential(_) => "host-tls-credential",
            Self::OperatorCredential(_) => "operator-credential",
            Self::Crl(_) => "crl",
            Self::ImportComponents(_) => "import-components",
        }
    }

    /// The key that it makes: token and label.
    pub(crate) fn makes_key(&self) -> Option<(&str, &str)> {
        match self {
            Self::RootCa(plan) => Some((&plan.token, &plan.key)),
            Self::SubCa(plan) => Some((&plan.token, &plan.key)),
            Self::KdhCredential(plan)
            | Self::HostTlsCredential(plan)
            | Self::OperatorCredential(plan) => Some((&plan.token, &plan.key)),
            Self::Crl(_) => None,
            Self::ImportComponents(plan) => Some((&plan.token, &plan.key)),
        }
    }

    /// The file that it writes.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::RootCa(plan) => Some(&plan.certificate),
            Self::SubCa(plan) => Some(&plan.certificate),
            Self::KdhCredential(plan)
            | Self::HostTlsCredential(plan)
            | Self::OperatorCredential(plan) => Some(&plan.certificate),
            Self::Crl(plan) => Some(&plan.file),
            Self::ImportComponents(_) => None,
        }
    }

    /// The CA that it uses.
    pub(crate) fn issuer(&self) -> Option<&IssuerPlan> {
        match self {
            Self::RootCa(_) | Self::ImportComponents(_) => None,
            Self::SubCa(plan) => Some(&plan.issuer),
            Self::KdhCredential(plan)
            | Self::HostTlsCredential(plan)
            | Self::OperatorCredential(plan) => Some(&plan.issuer),
            Self::Crl(plan) => Some(&plan.issuer),
        }
    }
}

impl Plan {
    /// Reads a plan and checks all of it. Relative paths start at the plan's folder, files to be
    /// written at its output folder.
    ///
    /// # Errors
    /// [`CeremonyError::Plan`] with every fault that can be found without an HSM.
    pub fn load(path: &Path) -> Result<Self, CeremonyError> {
        let text = std::fs::read_to_string(path).map_err(|e| CeremonyError::file(path, e))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder)
    }

    /// As [`Self::load`], from text.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, CeremonyError> {
        let contents: Contents =
            toml::from_str(text).map_err(|error| CeremonyError::Plan(vec![error.to_string()]))?;
        let plan = Self {
            contents,
            folder: folder.to_owned(),
            digest: Sha256::digest(text.as_bytes()).into(),
        };
        let faults = Check::default().plan(&plan);
        if faults.is_empty() {
            Ok(plan)
        } else {
            Err(CeremonyError::Plan(faults))
        }
    }

    /// SHA-256 of the file, hex.
    pub fn digest(&self) -> String {
        hex::encode(self.digest)
    }

    /// Whether the people in the room confirm the digest.
    pub fn is_attended(&self) -> bool {
        self.contents.confirmation == Confirmation::Typed
    }

    /// A file that is read.
    pub(crate) fn input(&self, path: &Path) -> PathBuf {
        let made_here = self
            .contents
            .acts
            .iter()
            .any(|act| act.output() == Some(path));
        if made_here {
            self.output(path)
        } else {
            self.folder.join(path)
        }
    }

    /// A file that is written.
    pub(crate) fn output(&self, path: &Path) -> PathBuf {
        self.folder.join(&self.contents.output).join(path)
    }

    /// The tokens that acts use.
    pub(crate) fn tokens_in_use(&self) -> BTreeSet<&str> {
        let acts = &self.contents.acts;
        let makers = acts
            .iter()
            .filter_map(|act| act.makes_key().map(|(token, _)| token));
        let issuers = acts
            .iter()
            .filter_map(|act| act.issuer().map(|issuer| &*issuer.token));
        makers.chain(issuers).collect()
    }
}

/// Collects faults.
#[derive(Default)]
struct Check {
    faults: Vec<String>,
    /// Subjects of the CAs that earlier acts make, by their certificate's file.
    subjects: BTreeMap<PathBuf, Name>,
    keys: BTreeSet<(String, String)>,
    files: BTreeSet<PathBuf>,
}

impl Check {
    fn fault(&mut self, place: &str, cause: impl std::fmt::Display) {
        self.faults.push(format!("{place}: {cause}"));
    }

    fn plan(mut self, plan: &Plan) -> Vec<String> {
        let contents = &plan.contents;
        let output = plan.folder.join(&contents.output);
        if !output.is_dir() {
            self.fault("output", format!("there is no folder {}", output.display()));
        }
        self.new_file(plan, "transcript", &contents.transcript);
        let officers: BTreeSet<_> = contents.officers.iter().collect();
        if contents.confirmation == Confirmation::Typed && officers.len() < 2 {
            self.fault(
                "officers",
                "two or more different people confirm a ceremony",
            );
        }
        if contents.acts.is_empty() {
            self.fault("acts", "there is nothing to do");
        }
        for (name, token) in &contents.tokens {
            let place = format!("tokens.{name}");
            if !plan.folder.join(&token.module).is_file() {
                self.fault(
                    &place,
                    format!("there is no library {}", token.module.display()),
                );
            }
            if token.label.is_empty() || token.label.len() > 32 {
                self.fault(&place, "a token label has 1 to 32 characters");
            }
            if let Some(pin_file) = &token.pin_file
                && let Err(error) = Pin::from_file(&plan.folder.join(pin_file))
            {
                self.fault(&place, error);
            }
        }
        for (index, act) in contents.acts.iter().enumerate() {
            let place = format!("act {} ({})", index + 1, act.name());
            self.act(plan, &place, act);
        }
        self.faults
    }

    fn act(&mut self, plan: &Plan, place: &str, act: &Act) {
        let tokens = &plan.contents.tokens;
        if let Some((token, key)) = act.makes_key() {
            if !tokens.contains_key(token) {
                self.fault(place, format!("there is no token {token:?} in the plan"));
            }
            if let Err(error) = KeyName::new(key) {
                self.fault(place, error);
            }
            if !self.keys.insert((token.to_owned(), key.to_owned())) {
                self.fault(place, format!("key {key:?} is made twice"));
            }
        }
        let issuer = act
            .issuer()
            .and_then(|issuer| self.issuer(plan, place, issuer));
        match act {
            Act::RootCa(ca) => {
                self.ca(place, &ca.subject, &ca.certificate);
                self.rsa(place, ca.rsa_bits, 3072);
                self.years(place, ca.years);
            }
            Act::SubCa(ca) => {
                self.ca(place, &ca.subject, &ca.certificate);
                self.rsa(place, ca.rsa_bits, 3072);
                self.years(place, ca.years);
            }
            Act::KdhCredential(credential) => {
                self.credential(place, credential, Role::Kdh, issuer.as_ref());
                if let Some(issuer) = &issuer
                    && kdh_serial_len(issuer).is_none()
                {
                    self.fault(
                        place,
                        format!(
                            "no serial number length puts Kn on a block boundary under the \
                             issuer {issuer}: give that CA a longer or shorter name"
                        ),
                    );
                }
            }
            Act::HostTlsCredential(credential) => {
                self.credential(place, credential, Role::HostTls, issuer.as_ref());
            }
            Act::OperatorCredential(credential) => {
                self.credential(place, credential, Role::Operator, issuer.as_ref());
            }
            Act::Crl(crl) => self.crl(plan, place, crl),
            Act::ImportComponents(components) => self.components(plan, place, components),
        }
        if let Some(output) = act.output() {
            self.new_file(plan, place, output);
        }
    }

    /// The issuer's name, if its certificate is known.
    fn issuer(&mut self, plan: &Plan, place: &str, issuer: &IssuerPlan) -> Option<Name> {
        if !plan.contents.tokens.contains_key(&issuer.token) {
            self.fault(
                place,
                format!("there is no token {:?} in the plan", issuer.token),
            );
        }
        if let Err(error) = KeyName::new(&issuer.key) {
            self.fault(place, error);
        }
        if let Some(name) = self.subjects.get(&issuer.certificate) {
            return Some(name.clone());
        }
        load_certificate(&plan.folder.join(&issuer.certificate))
            .map(|certificate| certificate.subject().clone())
            .map_err(|error| self.fault(place, format!("issuer: {error}")))
            .ok()
    }

    fn ca(&mut self, place: &str, subject: &str, certificate: &Path) {
        match subject.parse::<Name>() {
            Ok(name) => {
                self.subjects.insert(certificate.to_owned(), name);
            }
            Err(error) => self.fault(place, format!("subject: {error}")),
        }
    }

    fn credential(
        &mut self,
        place: &str,
        credential: &CredentialPlan,
        role: Role,
        issuer: Option<&Name>,
    ) {
        if let Some(issuer) = issuer
            && let Err(error) = role.subject(issuer, &credential.common_name)
        {
            self.fault(place, format!("common-name: {error}"));
        }
        if credential.common_name.is_empty() {
            self.fault(place, "common-name: is empty");
        }
        if credential.hosts.is_empty() == (role == Role::HostTls) {
            self.fault(
                place,
                "hosts: are for a TLS server, which needs at least one",
            );
        }
        match (role, credential.rsa_bits) {
            (Role::Kdh, bits) => self.rsa(place, bits.unwrap_or(2048), 2048),
            (_, Some(_)) => self.fault(place, "rsa-bits: this key is a P-256 key"),
            (_, None) => {}
        }
        self.years(place, credential.years);
    }

    fn crl(&mut self, plan: &Plan, place: &str, crl: &CrlPlan) {
        if !(1..=400).contains(&crl.days) {
            self.fault(place, "days: a revocation list is good for 1 to 400 days");
        }
        if let Some(previous) = &crl.previous {
            match load_crl(&plan.folder.join(previous)) {
                Ok(found) if found.number().is_some_and(|number| number.0 < crl.number) => {}
                Ok(_) => self.fault(
                    place,
                    "number: is not higher than that of the previous list",
                ),
                Err(error) => self.fault(place, format!("previous: {error}")),
            }
        }
        for revoked in &crl.revoked {
            if let Err(error) = pki::SerialNumber::from_hex(&revoked.serial) {
                self.fault(place, format!("revoked: {:?}: {error}", revoked.serial));
            }
        }
    }

    fn components(&mut self, plan: &Plan, place: &str, components: &ComponentsPlan) {
        let custodians: BTreeSet<_> = components.components.iter().map(|c| &c.custodian).collect();
        if components.components.len() < 2 {
            self.fault(place, "components: a key comes in two components or more");
        }
        if custodians.len() < components.components.len() {
            self.fault(place, "components: nobody holds two components of a key");
        }
        if components.kind().is_none() {
            self.fault(
                place,
                format!("kind: {:?} is no kind of key", components.kind),
            );
        } else if components.kcv().is_none() {
            self.fault(place, "kcv: is 3 to 5 bytes in hex");
        }
        for component in &components.components {
            let Some(file) = &component.file else {
                if plan.contents.confirmation == Confirmation::Unattended {
                    self.fault(
                        place,
                        "components: nobody is there to type one in; name its file",
                    );
                }
                continue;
            };
            if component.kcv.is_none() {
                self.fault(place, "components: a component from a file needs its kcv");
            }
            if let Err(error) = load_component(&plan.folder.join(file)) {
                self.fault(place, error);
            }
        }
    }

    fn new_file(&mut self, plan: &Plan, place: &str, path: &Path) {
        if path.components().count() != 1 {
            self.fault(
                place,
                format!("{} is not a plain file name", path.display()),
            );
        }
        if plan.output(path).exists() {
            self.fault(
                place,
                format!("{} exists already", plan.output(path).display()),
            );
        }
        if !self.files.insert(path.to_owned()) {
            self.fault(place, format!("{} is written twice", path.display()));
        }
    }

    fn years(&mut self, place: &str, years: u16) {
        if !(1..=30).contains(&years) {
            self.fault(place, "years: a certificate is good for 1 to 30 years");
        }
    }

    fn rsa(&mut self, place: &str, bits: u16, min: u16) {
        if !(min..=4096).contains(&bits) || !bits.is_multiple_of(1024) {
            self.fault(
                place,
                format!("rsa-bits: {bits} is not one of {min} to 4096"),
            );
        }
    }
}

/// How long a KDH certificate's serial number must be under this issuer.
pub(crate) fn kdh_serial_len(issuer: &Name) -> Option<usize> {
    aligned_serial_length(issuer, &KN_LENGTHS, HEADER_LEN, BLOCK_LEN)
}

pub(crate) fn load_certificate(path: &Path) -> Result<Certificate, CeremonyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| CeremonyError::file(path, error))?;
    Certificate::from_pem(&pem).map_err(|error| CeremonyError::file(path, error))
}

pub(crate) fn load_crl(path: &Path) -> Result<pki::Crl, CeremonyError> {
    let bytes = std::fs::read(path).map_err(|error| CeremonyError::file(path, error))?;
    pki::Crl::from_pem_or_der(&bytes).map_err(|error| CeremonyError::file(path, error))
}

/// Reads a component from a file that only its owner can read.
pub(crate) fn load_component(path: &Path) -> Result<ClearKey, CeremonyError> {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};
    let file = std::fs::File::open(path).map_err(|error| CeremonyError::file(path, error))?;
    let metadata = file
        .metadata()
        .map_err(|error| CeremonyError::file(path, error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(CeremonyError::file(
            path,
            "is open to others; use chmod 600",
        ));
    }
    // Large enough that reading does not move the text and leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    file.take(MAX_COMPONENT_FILE_LEN)
        .read_to_string(&mut text)
        .map_err(|error| CeremonyError::file(path, error))?;
    ClearKey::from_hex(text.trim()).map_err(|error| CeremonyError::file(path, error))
}
