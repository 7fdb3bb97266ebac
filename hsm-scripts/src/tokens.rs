//! The tokens of a ceremony: opened once, and looked through before anything is made in them.

use std::{collections::BTreeMap, path::Path};

use hsm::{
    HsmError, KeyRole, KeySummary, Module, Operations, Pin, StorageNumber, Token, TokenConfig,
    TokenInfo,
};
use pki::{Role, Signer as _};
use serde_json::{Value, json};

use crate::{
    CeremonyError, Mode, People, Plan,
    custody::Custody,
    plan::{Act, AuditPlan, IssuerCertificate, IssuerPlan, KeyPlace, TokenPlan},
    sittings,
};

/// How long one operation may take: making an RSA key can take a while.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(2);

/// A token that was opened.
pub(crate) struct Opened {
    pub(crate) token: Token,
    pub(crate) info: TokenInfo,
    /// The module's library and its version.
    library: String,
    /// Counts what is done to it.
    pub(crate) operations: Operations,
}

impl Opened {
    /// How the transcript describes a token of the plan.
    pub(crate) fn describe(&self, name: &str, settings: &TokenPlan) -> Value {
        let info = &self.info;
        json!({
            "name": name,
            "label": info.label,
            "serial": info.serial,
            "model": info.model,
            "manufacturer": info.manufacturer,
            "module": settings.module,
            "library": self.library,
            "operations": {name: self.operations.take()},
        })
    }
}

/// Opens the tokens that are there, and makes sure that nothing is there yet that shall be made, and
/// that the CAs of earlier ceremonies are there.
pub(crate) fn open_all(
    plan: &Plan,
    people: &mut dyn People,
) -> Result<BTreeMap<String, Opened>, CeremonyError> {
    let fresh = plan.tokens_to_initialize();
    for name in &fresh {
        require_no_token(settings(plan, name)?)?;
    }
    let mut opened = BTreeMap::new();
    for name in plan.tokens_in_use().difference(&fresh) {
        let open = open_named(plan, name, people, &Operations::default())?;
        opened.insert((*name).to_owned(), open);
    }
    for (index, act) in plan.acts.iter().enumerate() {
        let number = index + 1;
        let named = |error: CeremonyError| CeremonyError::AtTheOutset {
            number,
            name: act.name(),
            cause: Box::new(error),
        };
        if let Some(noted) = act.noted_key()
            && let Some(Opened { token, .. }) = opened.get(&noted.token)
        {
            require_no_key(plan, token, act, noted, number).map_err(named)?;
        }
        if let Some((place, custody)) = act.custody()
            && let Some(Opened { token, .. }) = opened.get(&place.token)
        {
            Custody::of(token, custody).map_err(named)?;
        }
        let made_before = plan.acts[..index].iter().flat_map(Act::makes_keys);
        let made_before: Vec<_> = made_before.collect();
        for place in act.needs_keys() {
            if plan.mode == Mode::Real
                && !made_before.contains(&place)
                && let Some(Opened { token, .. }) = opened.get(&place.token)
            {
                require_key(token, place).map_err(named)?;
            }
        }
        if let Act::StorageKeys(plan) = act
            && let Some(Opened { token, .. }) = opened.get(&plan.pair[0].token)
        {
            require_no_later_pair(token, plan.number).map_err(named)?;
        }
        if let Some(issuer) = act.issuer()
            && let Some(Opened { token, .. }) = opened.get(&issuer.place.token)
        {
            require_issuer(token, issuer).map_err(named)?;
        }
    }
    if let Some(audit) = &plan.audit
        && let Some(Opened { token, .. }) = opened.get(&audit.place.token)
    {
        require_audit(token, audit)?;
    }
    Ok(opened)
}

/// Opens a token for one command that is no ceremony; its PIN is tried once.
///
/// # Errors
/// There is no such token, or it cannot be opened.
pub fn open_token(module: &Path, label: &str, pin: &Pin) -> Result<Token, CeremonyError> {
    let mut config = TokenConfig::new(label);
    config.workers = 1;
    Ok(Module::load(module)?.open(&config, pin)?)
}

/// Opens a token of the plan; its PIN is tried once.
pub(crate) fn open_named(
    plan: &Plan,
    name: &str,
    people: &mut dyn People,
    operations: &Operations,
) -> Result<Opened, CeremonyError> {
    let settings = settings(plan, name)?;
    let pin = match &settings.pin_file {
        Some(path) => Pin::from_file(path)?,
        None => people.ask_pin(&settings.label, None)?,
    };
    Ok(open(settings, &pin, operations)?)
}

/// Opens a token; the PIN is tried once.
pub(crate) fn open(
    settings: &TokenPlan,
    pin: &Pin,
    operations: &Operations,
) -> Result<Opened, HsmError> {
    let mut config = TokenConfig::new(&settings.label);
    config.serial.clone_from(&settings.serial);
    config.workers = 1;
    config.deadline = DEADLINE;
    let module = Module::load(&settings.module)?.counted_by(operations);
    let library = module.describe()?;
    let token = module.open(&config, pin)?;
    let info = token.info().ok_or_else(|| HsmError::TokenNotFound {
        label: settings.label.clone(),
    })?;
    Ok(Opened {
        info: info.clone(),
        library: format!("{} {}", library.library, library.version),
        operations: operations.clone(),
        token,
    })
}

/// An issuer's key, in the role of its certificate.
pub(crate) fn signing_key(token: &Token, issuer: &IssuerPlan) -> Result<hsm::SigningKey, HsmError> {
    let role = match issuer.role {
        Role::RootCa => KeyRole::RootCa,
        _ => KeyRole::IssuingCa,
    };
    token.signing_key(role, &issuer.place.key)
}

pub(crate) fn settings<'a>(plan: &'a Plan, name: &str) -> Result<&'a TokenPlan, CeremonyError> {
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

fn require_no_key(
    plan: &Plan,
    token: &Token,
    act: &Act,
    noted: &KeyPlace,
    number: usize,
) -> Result<(), CeremonyError> {
    let number = number.try_into().map_err(CeremonyError::pki)?;
    let id = sittings::sum_id(plan, number);
    // The act looks whether it is its own, or it goes before the acts begin.
    let may_be_its_own = matches!(act, Act::ImportComponents(_))
        && sittings::may_be_made(&token.stored_sums()?, &id)
        || token.is_unfinished(&noted.key, &id)?;
    if may_be_its_own {
        return Ok(());
    }
    let made: Vec<_> = act.makes_keys().iter().map(|key| key.key.label()).collect();
    let mut found = token.list_keys()?.into_iter();
    match found.find(|found| made.contains(&&*found.label)) {
        Some(KeySummary { label, .. }) => Err(HsmError::KeyExists { label }.into()),
        None => Ok(()),
    }
}

fn require_key(token: &Token, place: &KeyPlace) -> Result<(), CeremonyError> {
    let label = place.key.label();
    if !token.list_keys()?.iter().any(|found| found.label == label) {
        let label = label.to_owned();
        return Err(HsmError::KeyNotFound { label }.into());
    }
    Ok(())
}

/// The host takes the highest number for the newest pair.
fn require_no_later_pair(token: &Token, number: StorageNumber) -> Result<(), CeremonyError> {
    let prefixes = [KeyRole::Storage, KeyRole::StorageMac].map(KeyRole::label_prefix);
    let number_of = |label: &str| {
        let mut rests = prefixes
            .iter()
            .filter_map(|prefix| label.strip_prefix(prefix));
        rests.next()?.parse::<u32>().ok()
    };
    let keys = token.list_keys()?.into_iter();
    let mut labels = keys.map(|key| key.label);
    let later = labels.find(|label| number_of(label).is_some_and(|found| found > number.get()));
    match later {
        Some(label) => Err(CeremonyError::LaterStorageKey { label }),
        None => Ok(()),
    }
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

/// The audit key of an earlier ceremony is there, and it is the one in the certificate.
fn require_audit(token: &Token, audit: &AuditPlan) -> Result<(), CeremonyError> {
    let IssuerCertificate::Earlier(certificate) = &audit.certificate else {
        return Ok(());
    };
    let key = token.signing_key(KeyRole::Audit, &audit.place.key)?;
    if key.public_key() != certificate.public_key() {
        let cause = format!(
            "audit: {} is not the certificate of the {}; name the one that was made with it",
            certificate.subject(),
            audit.place
        );
        return Err(CeremonyError::Pki(cause));
    }
    Ok(())
}
