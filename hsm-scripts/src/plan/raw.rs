//! The plan as it is written: TOML, no key that is unknown, nothing checked beyond form.

use std::{collections::BTreeMap, path::PathBuf};

use hsm::ImportForm;
use serde::{Deserialize, Deserializer, de::Error as _};
use tr34::OaepHash;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Contents {
    pub(super) title: String,
    /// Where files are written; the folder exists.
    pub(super) output: PathBuf,
    pub(super) transcript: PathBuf,
    pub(super) confirmation: Confirmation,
    /// Who confirms the digest; two or more. Ids of participants, or plain names where there are none.
    #[serde(default)]
    pub(super) officers: Vec<String>,
    /// Certificate of the CA that certifies participants and the audit key.
    pub(super) ceremony_ca: Option<PathBuf>,
    /// Its revocation list; left out at a site whose CA issues none.
    pub(super) ceremony_crl: Option<PathBuf>,
    /// The key that seals the transcript: made in this ceremony or an earlier one.
    pub(super) audit: Option<Issuer>,
    /// Whether a rehearsal of this plan has to have finished.
    #[serde(default)]
    pub(super) require_rehearsal: bool,
    /// Its transcript.
    pub(super) rehearsal_transcript: Option<PathBuf>,
    /// People with tokens of their own, by their ids.
    #[serde(default)]
    pub(super) participants: BTreeMap<String, Participant>,
    pub(super) tokens: BTreeMap<String, Token>,
    pub(super) acts: Vec<Act>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Confirmation {
    /// Each officer types the beginning of the digest.
    Typed,
    /// Nobody confirms: for automation, on the record.
    Unattended,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Token {
    pub(super) module: PathBuf,
    pub(super) label: String,
    pub(super) serial: Option<String>,
    /// Asked for at the prompt where it is left out.
    pub(super) pin_file: Option<PathBuf>,
    /// For a token that the ceremony initializes.
    pub(super) so_pin_file: Option<PathBuf>,
}

/// Somebody who takes part: a token of their own with a key that the ceremony CA certified.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Participant {
    /// Its common name is the person's.
    pub(super) certificate: PathBuf,
    pub(super) module: PathBuf,
    /// Label of their token.
    pub(super) token: String,
    pub(super) serial: Option<String>,
    /// Label of the key.
    pub(super) key: String,
    /// Asked for where it is left out.
    pub(super) pin_file: Option<PathBuf>,
}

/// A CA or the audit key at work: the token, the key's label in it, and the certificate's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Issuer {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub(super) enum Act {
    InitializeToken(InitializeToken),
    RootCa(RootCa),
    SubCa(SubCa),
    KdhCredential(Credential),
    HostTlsCredential(Credential),
    OperatorCredential(Credential),
    CustodianCredential(Credential),
    AuditCredential(Credential),
    Crl(Crl),
    ImportComponents(ImportComponents),
    GiveOutComponents(GiveOutComponents),
    ImportPair(ImportPair),
    ImportCredential(Credential),
    ImportWrapped(ImportWrapped),
    StorageKeys(StorageKeys),
}

impl Act {
    /// The kind, as plans write it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::InitializeToken(_) => "initialize-token",
            Self::RootCa(_) => "root-ca",
            Self::SubCa(_) => "sub-ca",
            Self::KdhCredential(_) => "kdh-credential",
            Self::HostTlsCredential(_) => "host-tls-credential",
            Self::OperatorCredential(_) => "operator-credential",
            Self::CustodianCredential(_) => "custodian-credential",
            Self::AuditCredential(_) => "audit-credential",
            Self::Crl(_) => "crl",
            Self::ImportComponents(_) => "import-components",
            Self::GiveOutComponents(_) => "give-out-components",
            Self::ImportPair(_) => "import-pair",
            Self::ImportCredential(_) => "import-credential",
            Self::ImportWrapped(_) => "import-wrapped",
            Self::StorageKeys(_) => "storage-keys",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct InitializeToken {
    pub(super) token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RootCa {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) subject: String,
    pub(super) years: u16,
    #[serde(default = "ca_rsa_bits")]
    pub(super) rsa_bits: u16,
    pub(super) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SubCa {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) issuer: Issuer,
    pub(super) subject: String,
    pub(super) years: u16,
    #[serde(default = "ca_rsa_bits")]
    pub(super) rsa_bits: u16,
    pub(super) certificate: PathBuf,
}

/// The KDH's, a TLS server's, an operator's, a custodian's or the audit key's credential.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Credential {
    pub(super) token: String,
    pub(super) key: String,
    pub(super) issuer: Issuer,
    pub(super) common_name: String,
    pub(super) years: u16,
    /// For the KDH's key, which is RSA; the others are P-256.
    pub(super) rsa_bits: Option<u16>,
    /// Host names and IP addresses; for a TLS server.
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Crl {
    pub(super) issuer: Issuer,
    pub(super) number: u64,
    /// The issuer's list before this one; left out for the first.
    pub(super) previous: Option<PathBuf>,
    pub(super) days: u16,
    #[serde(default)]
    pub(super) revoked: Vec<Revoked>,
    pub(super) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Revoked {
    /// Hex.
    pub(super) serial: String,
    /// RFC 3339.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) at: time::OffsetDateTime,
    pub(super) reason: Option<Reason>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    KeyCompromise,
    Superseded,
    CessationOfOperation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImportComponents {
    pub(super) token: String,
    /// Label of the key in the token: `kn.NAME`.
    pub(super) key: String,
    /// AES-128, AES-192, AES-256, TDEA-2KEY or TDEA-3KEY.
    pub(super) kind: String,
    /// Check value of the whole key, hex, as it came with the components.
    pub(super) kcv: String,
    /// How long the partial sum is kept between sittings.
    pub(super) expires_hours: Option<u32>,
    #[serde(default)]
    pub(super) custody: Custody,
    pub(super) components: Vec<Component>,
}

/// Who held which component of which key.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Custody {
    /// Is kept in the key's token, and nobody ever holds two.
    #[default]
    Recorded,
    /// May go unrecorded, with a token that keeps no data.
    Unrecorded,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Component {
    pub(super) custodian: String,
    /// At which sitting it is entered, counted from 1.
    #[serde(default = "first_sitting")]
    pub(super) sitting: u32,
    /// For automation: a private file with the component in hex. Typed in by the custodian where it is
    /// left out.
    pub(super) file: Option<PathBuf>,
    /// Check value of the component, hex; needed with a file, where nobody can confirm it.
    pub(super) kcv: Option<String>,
}

/// A key that is made in the token and leaves in components.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GiveOutComponents {
    pub(super) token: String,
    /// Label of the key in the token: `kn.NAME`.
    pub(super) key: String,
    /// As for an import.
    pub(super) kind: String,
    #[serde(default)]
    pub(super) custody: Custody,
    pub(super) components: Vec<GivenComponent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct GivenComponent {
    pub(super) custodian: String,
}

const fn first_sitting() -> u32 {
    1
}

/// A pair under which others send keys, whose public half goes into a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImportPair {
    pub(super) token: String,
    pub(super) key: String,
    #[serde(default = "ca_rsa_bits")]
    pub(super) rsa_bits: u16,
    pub(super) public_key: PathBuf,
}

/// A key that arrived encrypted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImportWrapped {
    pub(super) token: String,
    /// Label of the key in the token: `kn.NAME`.
    pub(super) key: String,
    pub(super) kind: String,
    /// Check value of the key, hex, as its sender announced it.
    pub(super) kcv: String,
    /// Key block header, as its sender announced it.
    pub(super) header: Option<String>,
    #[serde(deserialize_with = "import_form")]
    pub(super) form: ImportForm,
    /// Label of the key that opens it: an import pair, `zmk.NAME`, `kbpk.NAME`.
    pub(super) under: String,
    /// What arrived.
    pub(super) file: PathBuf,
    /// The encrypted transport key, under an import pair.
    pub(super) transport_key: Option<PathBuf>,
    /// Of RSA-OAEP, under an import pair.
    #[serde(default, deserialize_with = "oaep_hash")]
    pub(super) oaep_hash: Option<OaepHash>,
    /// How the key is wrapped, where it is.
    pub(super) key_wrap: Option<KeyWrap>,
    /// Who sent a TR-34 token, and how it is known as fresh.
    pub(super) upstream: Option<Upstream>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyWrap {
    Rfc3394,
    Rfc5649,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Upstream {
    #[serde(default = "x9_2019")]
    pub(super) profile: String,
    /// The sender's certificate, and its CA's.
    pub(super) certificate: PathBuf,
    pub(super) ca: PathBuf,
    /// The CA's revocation list, where the token brings none.
    pub(super) crl: Option<PathBuf>,
    /// The certificate of our import pair.
    pub(super) receiver: PathBuf,
    /// Accepts a token that was signed so many hours ago; left out, it has to answer a nonce.
    pub(super) signed_within_hours: Option<u16>,
}

fn import_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ImportForm, D::Error> {
    one_of(deserializer, ImportForm::ALL, ImportForm::name)
}

fn oaep_hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OaepHash>, D::Error> {
    one_of(deserializer, OaepHash::ALL, OaepHash::name).map(Some)
}

/// Which of them has this name.
fn one_of<'de, D: Deserializer<'de>, T: Copy, const N: usize>(
    deserializer: D,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, D::Error> {
    let word = String::deserialize(deserializer)?;
    let found = all.into_iter().find(|one| name(*one) == word);
    found.ok_or_else(|| {
        let names = all.map(name).join(", ");
        D::Error::custom(format!("{word:?} is not one of {names}"))
    })
}

/// The pair of keys under which terminals' keys lie outside of the HSM.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct StorageKeys {
    pub(super) token: String,
    /// N of `ksk.N` and `ksm.N`.
    #[serde(default = "first_pair")]
    pub(super) number: u32,
}

const fn first_pair() -> u32 {
    1
}

fn x9_2019() -> String {
    "x9-2019".to_owned()
}

const fn ca_rsa_bits() -> u16 {
    3072
}
