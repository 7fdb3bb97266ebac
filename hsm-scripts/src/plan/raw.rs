//! The plan as it is written: TOML, no key that is unknown, nothing checked beyond form.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Contents {
    pub(super) title: String,
    /// Where files are written; the folder exists.
    pub(super) output: PathBuf,
    pub(super) transcript: PathBuf,
    pub(super) confirmation: Confirmation,
    /// Who confirms the digest; two or more.
    #[serde(default)]
    pub(super) officers: Vec<String>,
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

/// A CA at work: the token, the key's label in it, and the certificate's file.
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
    Crl(Crl),
    ImportComponents(ImportComponents),
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
            Self::Crl(_) => "crl",
            Self::ImportComponents(_) => "import-components",
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

/// The KDH's, a TLS server's or an operator's credential.
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
    pub(super) components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Component {
    pub(super) custodian: String,
    /// For automation: a private file with the component in hex. Typed in by the custodian where it is
    /// left out.
    pub(super) file: Option<PathBuf>,
    /// Check value of the component, hex; needed with a file, where nobody can confirm it.
    pub(super) kcv: Option<String>,
}

const fn ca_rsa_bits() -> u16 {
    3072
}
