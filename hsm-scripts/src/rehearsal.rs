//! A rehearsal: the plan as it stands, on throw-away tokens of SoftHSM, with made-up components.
//!
//! SoftHSM reads its configuration once per process, so the rehearsal runs in a process of its own:
//! `kdh-ceremony` calls itself with the configuration set. CAs of earlier ceremonies have stand-ins
//! of the same name.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use hsm::{KeyName, KeyPairKind, KeyRole, Module, Pin, SigningKey, Token, TokenConfig};
use pki::{
    Certificate, Issuer, Role, SerialNumber, Subject, Validity, issue_certificate, issue_root,
};
use time::OffsetDateTime;

use crate::{
    Ceremony, CeremonyError, People, Plan,
    outputs::write_new,
    plan::{Act, IssuerCertificate, KeyPlace, TokenPlan},
    token_init,
};

/// The variable that names the configuration of SoftHSM's throw-away tokens.
pub const SOFTHSM_CONFIGURATION: &str = "SOFTHSM2_CONF";

/// The key that certifies stand-ins of sub-CAs.
const STAND_IN_ROOT: &str = "rehearsal-root";
const SERIAL_LEN: usize = 16;
/// The certificate of the stand-in that certified those who play the participants, in the rehearsal's folder.
pub const CEREMONY_CA: &str = "ceremony-ca.pem";

/// What the process that rehearses has to find in [`SOFTHSM_CONFIGURATION`].
pub fn configuration(folder: &Path) -> PathBuf {
    folder.join("softhsm2.conf")
}

/// Makes a folder for a rehearsal.
///
/// # Errors
/// The folder exists or cannot be written.
pub fn prepare(folder: &Path) -> Result<(), CeremonyError> {
    let tokens = folder.join("tokens");
    for folder in [folder, &tokens] {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|error| CeremonyError::file(folder, error))?;
    }
    let configuration = configuration(folder);
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).map_err(|error| CeremonyError::file(&configuration, error))
}

/// Rehearses a plan that was loaded for it, in a folder that [`prepare`] made.
///
/// # Errors
/// As [`Ceremony::run`].
pub fn rehearse(
    mut plan: Plan,
    softhsm: &Path,
    folder: &Path,
    people: &mut dyn People,
    clock: &dyn Fn() -> OffsetDateTime,
) -> Result<(), CeremonyError> {
    folder.clone_into(&mut plan.output);
    make_tokens(&mut plan, softhsm, folder)?;
    stand_in_for_earlier_cas(&mut plan)?;
    play_participants(&mut plan, softhsm, folder)?;
    Ceremony::run(&plan, people, clock)
}

/// Throw-away tokens, under the labels of the real ones.
fn make_tokens(plan: &mut Plan, softhsm: &Path, folder: &Path) -> Result<(), CeremonyError> {
    let by_the_plan: Vec<String> = plan
        .tokens_to_initialize()
        .into_iter()
        .map(str::to_owned)
        .collect();
    for (name, token) in &mut plan.tokens {
        let pin_file = folder.join(format!("{name}.pin"));
        let so_pin_file = folder.join(format!("{name}.so-pin"));
        if by_the_plan.contains(name) {
            token_init::generate_pin(&pin_file)?;
            token_init::generate_pin(&so_pin_file)?;
        } else {
            token_init::init_with_new_pins(softhsm, &token.label, &pin_file, &so_pin_file)?;
        }
        softhsm.clone_into(&mut token.module);
        token.serial = None;
        token.pin_file = Some(pin_file);
        token.so_pin_file = Some(so_pin_file);
    }
    Ok(())
}

/// Throw-away keys have none of the real CAs: each gets a stand-in of the same name.
fn stand_in_for_earlier_cas(plan: &mut Plan) -> Result<(), CeremonyError> {
    let mut made: Vec<(KeyPlace, Certificate)> = Vec::new();
    let issuers = plan.acts.iter_mut().filter_map(|act| act.issuer_mut());
    for issuer in issuers {
        let IssuerCertificate::Earlier(real) = &mut issuer.certificate else {
            continue;
        };
        let known = made.iter().find(|(place, _)| *place == issuer.place);
        let stand_in = if let Some((_, certificate)) = known {
            certificate.clone()
        } else {
            let token = plan.tokens.get(&issuer.place.token);
            let token = token.ok_or_else(|| CeremonyError::pki("an issuer without a token"))?;
            stand_in(&open(token)?, &issuer.place.key, issuer.role, real)?
        };
        made.push((issuer.place.clone(), stand_in.clone()));
        **real = stand_in;
    }
    Ok(())
}

/// Throw-away tokens and certificates under the real names, by a stand-in of the ceremony CA, whose certificate
/// is written beside the transcript: [`CEREMONY_CA`] verifies it.
fn play_participants(plan: &mut Plan, softhsm: &Path, folder: &Path) -> Result<(), CeremonyError> {
    let Some(real) = plan.ceremony_ca.take() else {
        return Ok(());
    };
    // One stand-in plays it in acts too.
    let mut in_acts = plan.acts.iter().filter_map(Act::issuer);
    let in_acts = in_acts.find_map(|issuer| match &issuer.certificate {
        IssuerCertificate::Earlier(ca) if ca.subject() == real.subject() => {
            let token = plan.tokens.get(&issuer.place.token)?;
            Some((
                open(token),
                issuer.place.key.clone(),
                Certificate::clone(ca),
            ))
        }
        _ => None,
    });
    let (ca_token, key, certificate) = if let Some((token, key, certificate)) = in_acts {
        (token?, key, certificate)
    } else {
        let key = KeyName::new("rehearsal-ceremony-ca")?;
        let token = open(&throw_away(softhsm, folder, key.label())?)?;
        let certificate = stand_in(&token, &key, Role::SubCa, &real)?;
        (token, key, certificate)
    };
    write_new(&folder.join(CEREMONY_CA), certificate.to_pem().as_bytes())?;
    let signer = ca_token.signing_key(KeyRole::IssuingCa, &key)?;
    let ca = Issuer {
        certificate: &certificate,
        signer: &signer,
    };
    for (id, participant) in &mut plan.participants {
        participant.token = throw_away(softhsm, folder, &format!("rehearsal-{id}"))?;
        let token = open(&participant.token)?;
        let real = &mut participant.certificate;
        *real = certified(
            &ca,
            &token,
            &participant.key,
            (KeyRole::Custodian, Role::Custodian),
            real,
        )?;
    }
    if let Some(audit) = &mut plan.audit
        && let IssuerCertificate::Earlier(real) = &mut audit.certificate
    {
        let settings = plan.tokens.get(&audit.place.token);
        let settings =
            settings.ok_or_else(|| CeremonyError::pki("an audit key without a token"))?;
        let token = open(settings)?;
        **real = certified(
            &ca,
            &token,
            &audit.place.key,
            (KeyRole::Audit, Role::Audit),
            real,
        )?;
    }
    plan.ceremony_ca = Some(certificate);
    plan.ceremony_crl = None;
    Ok(())
}

/// A token that the plan does not know.
fn throw_away(softhsm: &Path, folder: &Path, name: &str) -> Result<TokenPlan, CeremonyError> {
    let label = name.to_owned();
    let pin_file = folder.join(format!("{name}.pin"));
    let so_pin_file = folder.join(format!("{name}.so-pin"));
    token_init::init_with_new_pins(softhsm, &label, &pin_file, &so_pin_file)?;
    Ok(TokenPlan {
        module: softhsm.to_owned(),
        label,
        serial: None,
        pin_file: Some(pin_file),
        so_pin_file: Some(so_pin_file),
    })
}

/// A new key, certified as the real one is.
fn certified(
    ca: &Issuer<'_, SigningKey>,
    token: &Token,
    key: &KeyName,
    (key_role, role): (KeyRole, Role),
    real: &Certificate,
) -> Result<Certificate, CeremonyError> {
    let subject = Subject {
        role,
        name: real.subject().clone(),
        public_key: token.generate_key_pair(key_role, key, KeyPairKind::P256)?,
        serial: serial(token)?,
        validity: real.validity(),
        hosts: Vec::new(),
    };
    Ok(issue_certificate(ca, &subject)?)
}

fn open(token: &TokenPlan) -> Result<Token, CeremonyError> {
    let missing = || CeremonyError::pki("a throw-away token without a PIN");
    let pin = Pin::from_file(token.pin_file.as_ref().ok_or_else(missing)?)?;
    let config = TokenConfig::new(&token.label);
    Ok(Module::load(&token.module)?.open(&config, &pin)?)
}

fn stand_in(
    token: &Token,
    key: &KeyName,
    role: Role,
    real: &Certificate,
) -> Result<Certificate, CeremonyError> {
    if role == Role::RootCa {
        return root(token, key, real.subject().clone(), real.validity());
    }
    let root_key = KeyName::new(STAND_IN_ROOT)?;
    let root = root(token, &root_key, real.issuer().clone(), real.validity())?;
    let subject = Subject {
        role,
        name: real.subject().clone(),
        public_key: token.generate_key_pair(KeyRole::IssuingCa, key, RSA)?,
        serial: serial(token)?,
        validity: real.validity(),
        hosts: Vec::new(),
    };
    let signer = token.signing_key(KeyRole::RootCa, &root_key)?;
    let issuer = Issuer {
        certificate: &root,
        signer: &signer,
    };
    let certificate = issue_certificate(&issuer, &subject)?;
    token.destroy_key(&root_key)?;
    Ok(certificate)
}

const RSA: KeyPairKind = KeyPairKind::Rsa { bits: 3072 };

fn root(
    token: &Token,
    key: &KeyName,
    name: pki::Name,
    validity: Validity,
) -> Result<Certificate, CeremonyError> {
    let subject = Subject {
        role: Role::RootCa,
        name,
        public_key: token.generate_key_pair(KeyRole::RootCa, key, RSA)?,
        serial: serial(token)?,
        validity,
        hosts: Vec::new(),
    };
    Ok(issue_root(
        &token.signing_key(KeyRole::RootCa, key)?,
        &subject,
    )?)
}

fn serial(token: &Token) -> Result<SerialNumber, CeremonyError> {
    SerialNumber::from_random(&token.random(SERIAL_LEN)?).map_err(CeremonyError::pki)
}
