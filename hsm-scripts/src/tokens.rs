//! The tokens of a ceremony: opened once, and looked through before anything is made in them.

use std::collections::BTreeMap;

use hsm::{HsmError, KeyRole, Module, Pin, Token, TokenConfig};
use pki::{Role, Signer as _};
use serde_json::{Value, json};

use crate::{
    CeremonyError, Plan,
    plan::{IssuerCertificate, IssuerPlan, KeyPlace, TokenPlan},
};

/// How long one operation may take: making an RSA key can take a while.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(2);

/// A token that was opened, and how the transcript describes it.
pub(crate) type Opened = (Token, Value);

/// Opens the tokens that are there, and makes sure that nothing is there yet that shall be made, and
/// that the CAs of earlier ceremonies are there.
pub(crate) fn open_all(plan: &Plan) -> Result<BTreeMap<String, Opened>, CeremonyError> {
    let fresh = plan.tokens_to_initialize();
    for name in &fresh {
        require_no_token(settings(plan, name)?)?;
    }
    let mut opened = BTreeMap::new();
    for name in plan.tokens_in_use().difference(&fresh) {
        opened.insert((*name).to_owned(), open(plan, name)?);
    }
    for (index, act) in plan.acts.iter().enumerate() {
        let named = |error: CeremonyError| CeremonyError::AtTheOutset {
            number: index + 1,
            name: act.name(),
            cause: Box::new(error),
        };
        if let Some(place) = act.makes_key()
            && let Some((token, _)) = opened.get(&place.token)
        {
            require_no_key(token, place).map_err(named)?;
        }
        if let Some(issuer) = act.issuer()
            && let Some((token, _)) = opened.get(&issuer.place.token)
        {
            require_issuer(token, issuer).map_err(named)?;
        }
    }
    Ok(opened)
}

/// Opens a token; its PIN is tried once.
pub(crate) fn open(plan: &Plan, name: &str) -> Result<Opened, CeremonyError> {
    let settings = settings(plan, name)?;
    let pin = match &settings.pin_file {
        Some(path) => Pin::from_file(path)?,
        None => Pin::prompt(&format!("PIN of token {:?}: ", settings.label))?,
    };
    let mut config = TokenConfig::new(&settings.label);
    config.serial.clone_from(&settings.serial);
    config.workers = 1;
    config.deadline = DEADLINE;
    let module = Module::load(&settings.module)?;
    let library = module.describe()?;
    let token = module.open(&config, &pin)?;
    let info = token.info().ok_or_else(|| HsmError::TokenNotFound {
        label: settings.label.clone(),
    })?;
    let detail = json!({
        "name": name,
        "label": info.label,
        "serial": info.serial,
        "model": info.model,
        "manufacturer": info.manufacturer,
        "module": settings.module,
        "library": format!("{} {}", library.library, library.version),
    });
    Ok((token, detail))
}

/// An issuer's key, in the role of its certificate.
pub(crate) fn signing_key(token: &Token, issuer: &IssuerPlan) -> Result<hsm::SigningKey, HsmError> {
    let role = match issuer.role {
        Role::RootCa => KeyRole::RootCa,
        _ => KeyRole::IssuingCa,
    };
    token.signing_key(role, &issuer.place.key)
}

fn settings<'a>(plan: &'a Plan, name: &str) -> Result<&'a TokenPlan, CeremonyError> {
    plan.tokens
        .get(name)
        .ok_or_else(|| CeremonyError::Plan(vec![format!("there is no token {name:?}")]))
}

fn require_no_token(settings: &TokenPlan) -> Result<(), CeremonyError> {
    let label = &settings.label;
    let tokens = Module::load(&settings.module)?.tokens()?;
    let mut initialized = tokens.iter().filter(|token| token.initialized);
    if initialized.any(|token| token.label == *label) {
        let label = label.clone();
        return Err(HsmError::TokenExists { label }.into());
    }
    Ok(())
}

fn require_no_key(token: &Token, place: &KeyPlace) -> Result<(), CeremonyError> {
    let label = place.key.label();
    if token.list_keys()?.iter().any(|found| found.label == label) {
        let label = label.to_owned();
        return Err(HsmError::KeyExists { label }.into());
    }
    Ok(())
}

/// The key of an earlier ceremony's CA is there, and it is the one in the certificate.
fn require_issuer(token: &Token, issuer: &IssuerPlan) -> Result<(), CeremonyError> {
    let IssuerCertificate::Earlier(certificate) = &issuer.certificate else {
        return Ok(());
    };
    if signing_key(token, issuer)?.public_key() != certificate.public_key() {
        let cause = format!(
            "the certificate of {} does not belong to the {}",
            issuer.name, issuer.place
        );
        return Err(CeremonyError::Pki(cause));
    }
    Ok(())
}
