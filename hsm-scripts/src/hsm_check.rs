//! What a token can do, for a person or a program to read.

use std::path::Path;

use hsm::{
    Capabilities, HsmError, ImportForm, KeyRole, KeyStrength, Missing, Module, OpeningWay, Pin,
    TokenConfig, TokenInfo,
};
use serde::Serialize;
use tr34::{ContentCipher, KeyKind, OaepHash};

use crate::{CeremonyError, plain::escaped};

/// Mechanisms that matter here, and what for.
const MECHANISMS: [(&str, &str); 21] = [
    ("CKM_RSA_PKCS_KEY_PAIR_GEN", "keys of CAs and of the KDH"),
    ("CKM_EC_KEY_PAIR_GEN", "keys for TLS"),
    ("CKM_SHA256_RSA_PKCS", "signing certificates and key tokens"),
    ("CKM_RSA_PKCS", "the same, where the one above is missing"),
    ("CKM_ECDSA", "signing in TLS"),
    ("CKM_AES_KEY_GEN", "making Ke"),
    ("CKM_AES_CBC", "sealing by splice, combining by key wrap"),
    ("CKM_AES_CBC_PAD", "sealing: the end of a key block"),
    ("CKM_DES3_KEY_GEN", "making a Ke for TDEA"),
    ("CKM_DES3_CBC", "sealing by splice under TDEA"),
    ("CKM_DES3_CBC_PAD", "the end of a key block under TDEA"),
    ("CKM_RSA_PKCS_OAEP", "wrapping Ke for a terminal"),
    (
        "CKM_EXTRACT_KEY_FROM_KEY",
        "opening, on a terminal; importing TR-31 blocks",
    ),
    ("CKM_CONCATENATE_DATA_AND_BASE", "sealing by concatenation"),
    ("CKM_CONCATENATE_BASE_AND_DATA", "sealing by concatenation"),
    ("CKM_XOR_BASE_AND_DATA", "combining by XOR"),
    (
        "CKM_AES_KEY_WRAP",
        "storing keys, combining by key wrap, importing by RFC 3394",
    ),
    ("CKM_AES_KEY_WRAP_PAD", "importing by RFC 5649"),
    ("CKM_SP800_108_COUNTER_KDF", "importing TR-31 blocks"),
    (
        "CKM_AES_CMAC",
        "check values of AES keys, MACs of stored keys",
    ),
    ("CKM_DES3_ECB", "check values of TDEA keys"),
];

/// The answer of `hsm check`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The library, with its version.
    pub module: String,
    /// The token: label, model, serial number.
    pub token: String,
    /// The way in which key tokens would be sealed.
    pub sealing: Option<String>,
    /// The kinds of key that could be sealed.
    pub key_kinds: Vec<&'static str>,
    /// The ciphers under Ke in which one kind of key or another could be sealed.
    pub ke: Vec<&'static str>,
    /// The way in which a terminal with such a token would open them inside.
    pub opening: Option<String>,
    /// The same, where Ke is for TDEA.
    pub opening_under_tdea: Option<String>,
    /// The way in which components would be combined.
    pub combining: Option<String>,
    /// The forms in which keys that arrive encrypted would be imported.
    pub imports: Vec<Import>,
    /// The kinds of key that could be made and stored outside of the token, under its storage keys.
    pub storing: Vec<&'static str>,
    /// The kinds of initial key that would be derived from a BDK.
    pub derivations: Vec<&'static str>,
    /// The forms in which keys would go to other systems.
    pub exports: Vec<&'static str>,
    /// Whether new keys are limited to the mechanisms that their role is used with.
    pub limits_keys: bool,
    /// Whether the token keeps data: custody of components, and partial sums between sittings.
    pub keeps_data: bool,
    /// The hashes with which a throw-away key was sealed and opened.
    pub oaep: Vec<&'static str>,
    /// What was sealed and opened to find that out, in words.
    pub self_test: Option<String>,
    /// Mechanisms that matter here.
    pub mechanisms: Vec<Mechanism>,
    /// The keys in the token.
    pub keys: Vec<Key>,
    /// How often in a second, on one session.
    pub speed: Vec<Speed>,
    /// What keeps a host from serving, or a terminal, or limits them.
    pub problems: Vec<String>,
    /// Whether a host could serve with this token.
    pub can_serve: bool,
}

/// A mechanism that matters here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mechanism {
    /// `CKM_...`.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
    /// Whether the token lists it. That it works is another matter.
    pub listed: bool,
}

/// A form in which keys arrive encrypted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Import {
    /// As plans spell it.
    pub form: &'static str,
    /// With what of it; nothing if it is not possible.
    pub with: Option<String>,
}

/// A private or secret key in the token.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// `CKA_LABEL`.
    pub label: String,
    /// Algorithm and length.
    pub kind: String,
    /// What it could be for, by its usages.
    pub role: String,
    /// Whether it is as strong as that role demands.
    pub strong: bool,
    /// Why not.
    pub weaknesses: Vec<String>,
    /// The mechanisms that it is limited to, if it is.
    pub allowed_mechanisms: Option<Vec<String>>,
}

/// How fast one thing is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Speed {
    /// What.
    pub operation: &'static str,
    /// How often in a second.
    pub per_second: f64,
}

/// The tokens of a module.
///
/// # Errors
/// The module cannot be loaded or does not answer.
pub fn tokens(module: &Path) -> Result<Vec<TokenInfo>, CeremonyError> {
    Ok(Module::load(module)?.tokens()?)
}

/// Opens a token, seals and opens throw-away keys in it, and reports. Leaves nothing behind.
///
/// # Errors
/// The module or the token cannot be opened.
pub fn check(module: &Path, label: &str, pin: &Pin) -> Result<Report, CeremonyError> {
    let module = Module::load(module)?;
    let description = module.describe()?;
    let mut config = TokenConfig::new(label);
    config.workers = 1;
    let token = module.open(&config, pin)?;
    let info = token.info().ok_or_else(|| HsmError::TokenNotFound {
        label: label.to_owned(),
    })?;
    let found = token.capabilities()?;
    let mut problems = impossible(&found);
    // The strongest hash comes first.
    let strongest = found.oaep.first();
    let passed = strongest.map(|hash| token.self_test(*hash)).transpose()?;
    if let Some(Err(missing)) = passed.map(|passed| passed.verify_cipher(ContentCipher::DesEde3Cbc))
    {
        problems.push(format!(
            "no Ke for TDEA (ke-for-tdea = \"tdea\" in the host's configuration): {missing}"
        ));
    }
    let keys: Vec<Key> = token.key_strengths()?.into_iter().map(key).collect();
    for key in keys.iter().filter(|key| !key.strong) {
        let why = key.weaknesses.join("; ");
        problems.push(format!(
            "{} is weaker than a {}: {why}",
            key.label, key.role
        ));
    }
    let speed = match passed {
        Some(_) => token.measure()?,
        None => Vec::new(),
    };
    Ok(Report {
        module: format!(
            "{} ({}, version {})",
            description.library, description.manufacturer, description.version
        ),
        token: format!("{} ({}, serial {})", info.label, info.model, info.serial),
        sealing: found.sealing.as_ref().ok().map(ToString::to_string),
        key_kinds: passed.map_or_else(Vec::new, |passed| {
            passed.kinds().into_iter().map(KeyKind::name).collect()
        }),
        ke: passed.map_or_else(Vec::new, |passed| {
            let ciphers = passed.ciphers().into_iter();
            ciphers.map(ContentCipher::name).collect()
        }),
        opening: preferred(&found.opening),
        opening_under_tdea: preferred(&found.opening_under_tdea),
        combining: found.combining.as_ref().ok().map(ToString::to_string),
        imports: found.imports.iter().map(import).collect(),
        storing: found.storing.as_ref().map_or_else(
            |_| Vec::new(),
            |kinds| kinds.iter().map(|kind| kind.name()).collect(),
        ),
        derivations: possible(&found.derivations, |kind| kind.name()),
        exports: possible(&found.exports, |form| form.name()),
        limits_keys: found.limiting.is_ok(),
        keeps_data: token.keeps_records()?.is_ok(),
        oaep: found.oaep.iter().map(|hash| hash.name()).collect(),
        self_test: passed.map(ToString::to_string),
        mechanisms: mechanisms(&found.mechanisms),
        can_serve: passed.is_some() && keys.iter().all(|key| key.strong),
        keys,
        speed: speed
            .into_iter()
            .map(|speed| Speed {
                operation: speed.operation,
                per_second: (speed.per_second * 10.0).round() / 10.0,
            })
            .collect(),
        problems,
    })
}

/// What the token cannot do, in words.
fn impossible(found: &Capabilities) -> Vec<String> {
    let mut problems = Vec::new();
    for (what, missing) in [
        ("cannot seal key tokens", found.sealing.as_ref().err()),
        (
            "as a terminal's, opens key blocks in process memory only",
            found.opening.as_ref().err(),
        ),
        ("cannot combine components", found.combining.as_ref().err()),
        (
            "cannot make keys of their own for terminals and store them",
            found.storing.as_ref().err(),
        ),
        (
            "does not limit keys to mechanisms",
            found.limiting.as_ref().err(),
        ),
    ] {
        problems.extend(missing.map(|missing| format!("{what}: {missing}")));
    }
    for (form, outcome) in &found.imports {
        if let Err(missing) = outcome {
            problems.push(format!("cannot import keys by {form}: {missing}"));
        }
    }
    for (kind, outcome) in &found.derivations {
        if let Err(missing) = outcome {
            problems.push(format!(
                "cannot derive initial keys of the kind {kind}: {missing}"
            ));
        }
    }
    for (form, outcome) in &found.exports {
        if let Err(missing) = outcome {
            problems.push(format!("cannot export keys by {form}: {missing}"));
        }
    }
    if found.oaep == [OaepHash::Sha1] {
        problems.push(
            "RSA-OAEP with SHA-1 only: the host's and the terminals' configurations have to say \
             \"sha1\""
                .to_owned(),
        );
    }
    problems
}

/// Those that the token can do.
fn possible<T>(
    tried: &[(T, Result<(), Missing>)],
    name: impl Fn(&T) -> &'static str,
) -> Vec<&'static str> {
    let passed = tried.iter().filter(|(_, outcome)| outcome.is_ok());
    passed.map(|(what, _)| name(what)).collect()
}

fn preferred(opening: &Result<Vec<OpeningWay>, Missing>) -> Option<String> {
    let ways = opening.as_ref().ok()?;
    Some(ways.first()?.to_string())
}

/// What a key is for does not stand in the token: keys that sign look alike.
fn in_short(role: KeyRole) -> String {
    match role {
        KeyRole::RootCa
        | KeyRole::IssuingCa
        | KeyRole::KdhSigning
        | KeyRole::TlsServer
        | KeyRole::Operator
        | KeyRole::Custodian
        | KeyRole::Audit
        | KeyRole::KrdAuthentication => "signing key".to_owned(),
        KeyRole::KrdEncryption
        | KeyRole::TransportKey
        | KeyRole::LoadedKey
        | KeyRole::ImportPair
        | KeyRole::Zmk
        | KeyRole::KeyBlockProtection
        | KeyRole::Storage
        | KeyRole::StorageMac
        | KeyRole::Bdk
        | KeyRole::ExportZmk
        | KeyRole::ExportKeyBlockProtection
        | KeyRole::ExportMac => role.to_string(),
    }
}

fn mechanisms(listed: &[String]) -> Vec<Mechanism> {
    MECHANISMS
        .map(|(name, purpose)| Mechanism {
            name,
            purpose,
            listed: listed.iter().any(|listed| listed == name),
        })
        .into()
}

fn import((form, outcome): &(ImportForm, Result<String, Missing>)) -> Import {
    Import {
        form: form.name(),
        with: outcome.as_ref().ok().cloned(),
    }
}

fn key(found: KeyStrength) -> Key {
    Key {
        // From the token, to a screen.
        label: escaped(&found.key.label),
        kind: found.key.kind,
        role: in_short(found.role),
        strong: found.weaknesses.is_empty(),
        weaknesses: found.weaknesses,
        allowed_mechanisms: found.allowed_mechanisms,
    }
}
