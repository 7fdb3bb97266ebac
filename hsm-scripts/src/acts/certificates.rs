//! CAs and credentials: a key pair in a token, a certificate in a file.

use hsm::{KeyName, KeyPairKind, KeyRole, SigningKey};
use pki::{
    Certificate, Issuer, Name, PublicKey, Role, SerialNumber, Subject, Validity, issue_certificate,
    issue_root,
};
use serde_json::json;
use time::OffsetDateTime;

use super::Done;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    outputs::write_new,
    plan::{CredentialPlan, IssuerPlan, RootCaPlan, SubCaPlan, kdh_serial_len, load_certificate},
};

/// Content bytes of a serial number whose length nobody else decides.
const SERIAL_LEN: usize = 16;
const DEFAULT_KDH_RSA_BITS: u16 = 2048;
const DAYS_PER_YEAR: i64 = 365;

/// A CA that signs in this ceremony.
pub(super) struct OpenIssuer {
    pub(super) certificate: Certificate,
    pub(super) key: SigningKey,
}

impl OpenIssuer {
    /// Finds an issuer's key and certificate.
    pub(super) fn open(
        ceremony: &Ceremony<'_>,
        plan: &IssuerPlan,
        role: KeyRole,
    ) -> Result<Self, CeremonyError> {
        let certificate = load_certificate(&ceremony.plan.input(&plan.certificate))?;
        let name = KeyName::new(&plan.key)?;
        let key = ceremony.token(&plan.token)?.signing_key(role, &name)?;
        Ok(Self { certificate, key })
    }

    pub(super) fn as_issuer(&self) -> Issuer<'_, SigningKey> {
        Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        }
    }
}

/// A key that an act made, destroyed unless the act succeeds.
fn with_key(
    ceremony: &mut Ceremony<'_>,
    token: &str,
    label: &str,
    role: KeyRole,
    kind: KeyPairKind,
    certify: impl FnOnce(&mut Ceremony<'_>, &KeyName, PublicKey) -> Result<Done, CeremonyError>,
) -> Result<Done, CeremonyError> {
    let name = KeyName::new(label)?;
    let public_key = ceremony
        .token(token)?
        .generate_key_pair(role, &name, kind)?;
    certify(ceremony, &name, public_key).inspect_err(|_| ceremony.undo(token, &name))
}

pub(super) fn root_ca(
    ceremony: &mut Ceremony<'_>,
    plan: &RootCaPlan,
) -> Result<Done, CeremonyError> {
    let kind = KeyPairKind::Rsa {
        bits: plan.rsa_bits.into(),
    };
    let role = KeyRole::RootCa;
    with_key(
        ceremony,
        &plan.token,
        &plan.key,
        role,
        kind,
        |ceremony, name, public_key| {
            let token = ceremony.token(&plan.token)?;
            let key = token.signing_key(role, name)?;
            let subject = Subject {
                role: Role::RootCa,
                name: parse_name(&plan.subject)?,
                public_key,
                serial: serial(&token.random(SERIAL_LEN)?)?,
                validity: years(ceremony.now, plan.years),
                hosts: Vec::new(),
            };
            let certificate = issue_root(&key, &subject)?;
            finish(ceremony, &plan.certificate, &certificate)
        },
    )
}

pub(super) fn sub_ca(ceremony: &mut Ceremony<'_>, plan: &SubCaPlan) -> Result<Done, CeremonyError> {
    let issuer = OpenIssuer::open(ceremony, &plan.issuer, KeyRole::RootCa)?;
    let kind = KeyPairKind::Rsa {
        bits: plan.rsa_bits.into(),
    };
    let role = KeyRole::IssuingCa;
    with_key(
        ceremony,
        &plan.token,
        &plan.key,
        role,
        kind,
        |ceremony, _, public_key| {
            let subject = Subject {
                role: Role::SubCa,
                name: parse_name(&plan.subject)?,
                public_key,
                serial: serial(&ceremony.token(&plan.token)?.random(SERIAL_LEN)?)?,
                validity: years(ceremony.now, plan.years),
                hosts: Vec::new(),
            };
            let certificate = issue_certificate(&issuer.as_issuer(), &subject)?;
            pki::verify_sub_ca(&certificate, &issuer.certificate, ceremony.now)
                .map_err(|error| CeremonyError::Pki(error.to_string()))?;
            finish(ceremony, &plan.certificate, &certificate)
        },
    )
}

/// The KDH's, a TLS server's or an operator's credential.
pub(super) fn credential(
    ceremony: &mut Ceremony<'_>,
    plan: &CredentialPlan,
    role: Role,
) -> Result<Done, CeremonyError> {
    let issuer = OpenIssuer::open(ceremony, &plan.issuer, KeyRole::IssuingCa)?;
    let issuer_name = issuer.certificate.subject();
    let bits = plan.rsa_bits.unwrap_or(DEFAULT_KDH_RSA_BITS);
    let (key_role, kind, serial_len) = match role {
        Role::Kdh => {
            let serial_len = kdh_serial_len(issuer_name).ok_or_else(|| {
                CeremonyError::Pki(format!("no serial number length fits the CA {issuer_name}"))
            })?;
            (
                KeyRole::KdhSigning,
                KeyPairKind::Rsa { bits: bits.into() },
                serial_len,
            )
        }
        Role::HostTls => (KeyRole::TlsServer, KeyPairKind::P256, SERIAL_LEN),
        _ => (KeyRole::Operator, KeyPairKind::P256, SERIAL_LEN),
    };
    let name = role
        .subject(issuer_name, &plan.common_name)
        .map_err(|error| CeremonyError::Pki(error.to_string()))?;
    with_key(
        ceremony,
        &plan.token,
        &plan.key,
        key_role,
        kind,
        |ceremony, _, public_key| {
            let subject = Subject {
                role,
                name,
                public_key,
                serial: serial(&ceremony.token(&plan.token)?.random(serial_len)?)?,
                validity: years(ceremony.now, plan.years),
                hosts: plan.hosts.clone(),
            };
            let certificate = issue_certificate(&issuer.as_issuer(), &subject)?;
            finish(ceremony, &plan.certificate, &certificate)
        },
    )
}

/// Writes a certificate and reads it back.
fn finish(
    ceremony: &Ceremony<'_>,
    path: &std::path::Path,
    certificate: &Certificate,
) -> Result<Done, CeremonyError> {
    let path = ceremony.plan.output(path);
    write_new(&path, certificate.to_pem().as_bytes())?;
    if load_certificate(&path)? != *certificate {
        return Err(CeremonyError::file(
            &path,
            "does not read back as it was written",
        ));
    }
    Ok(Done {
        summary: format!("{} -> {}", certificate.subject(), path.display()),
        record: json!({
            "file": path.file_name().map(|name| name.to_string_lossy()),
            "subject": certificate.subject().to_string(),
            "issuer": certificate.issuer().to_string(),
            "serial": certificate.serial().to_string(),
            "not-after": certificate.not_after().to_string(),
            "public-key-sha256": hex::encode(certificate.public_key().fingerprint()),
        }),
    })
}

fn parse_name(subject: &str) -> Result<Name, CeremonyError> {
    subject
        .parse()
        .map_err(|error: pki::NameError| CeremonyError::Pki(error.to_string()))
}

fn serial(random: &[u8]) -> Result<SerialNumber, CeremonyError> {
    SerialNumber::from_random(random).map_err(|error| CeremonyError::Pki(error.to_string()))
}

fn years(now: OffsetDateTime, years: u16) -> Validity {
    Validity {
        not_before: now,
        not_after: now + time::Duration::days(i64::from(years) * DAYS_PER_YEAR),
    }
}
