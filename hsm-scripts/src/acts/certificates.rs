//! CAs and credentials: a key pair in a token, a certificate in a file.

use hsm::{KeyPairKind, KeyRole, SigningKey};
use pki::{
    Certificate, Issuer, Role, SerialNumber, Subject, Validity, issue_certificate, issue_root,
    rfc3339,
};
use serde_json::json;
use time::OffsetDateTime;

use super::Done;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    outputs::load_certificate,
    plan::{CaPlan, CredentialPlan, Holder, IssuerCertificate, IssuerPlan, KeyPlace, PairPlan},
    tokens::signing_key,
};

/// Content bytes of a CA's serial number.
const SERIAL_LEN: usize = 16;

/// A CA that signs in this ceremony.
pub(super) struct OpenIssuer {
    pub(super) certificate: Certificate,
    key: SigningKey,
}

impl OpenIssuer {
    /// Finds an issuer's key and certificate.
    pub(super) fn open(ceremony: &Ceremony<'_>, plan: &IssuerPlan) -> Result<Self, CeremonyError> {
        let certificate = match &plan.certificate {
            IssuerCertificate::MadeHere(file) => load_certificate(&ceremony.plan.path(file))?,
            IssuerCertificate::Earlier(certificate) => Certificate::clone(certificate),
        };
        let key = signing_key(ceremony.token(&plan.place.token)?, plan)?;
        Ok(Self { certificate, key })
    }

    pub(super) const fn as_issuer(&self) -> Issuer<'_, SigningKey> {
        Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        }
    }
}

pub(super) fn ca(ceremony: &mut Ceremony<'_>, plan: &CaPlan) -> Result<Done, CeremonyError> {
    let issuer = plan
        .issuer
        .as_ref()
        .map(|issuer| OpenIssuer::open(ceremony, issuer))
        .transpose()?;
    let (role, key_role) = match issuer {
        Some(_) => (Role::SubCa, KeyRole::IssuingCa),
        None => (Role::RootCa, KeyRole::RootCa),
    };
    let bits = plan.rsa_bits;
    let public_key = ceremony.make_key_pair(&plan.place, key_role, KeyPairKind::Rsa { bits })?;
    let subject = Subject {
        role,
        name: plan.subject.clone(),
        public_key,
        serial: serial(ceremony, &plan.place, SERIAL_LEN)?,
        validity: validity(ceremony, plan.not_after),
        hosts: Vec::new(),
    };
    let certificate = if let Some(issuer) = issuer {
        let certificate = issue_certificate(&issuer.as_issuer(), &subject)?;
        pki::verify_sub_ca(&certificate, &issuer.certificate, ceremony.plan.now)
            .map_err(CeremonyError::pki)?;
        certificate
    } else {
        let token = ceremony.token(&plan.place.token)?;
        issue_root(&token.signing_key(key_role, &plan.place.key)?, &subject)?
    };
    finish(ceremony, &plan.place, &plan.certificate, &certificate)
}

pub(super) fn credential(
    ceremony: &mut Ceremony<'_>,
    plan: &CredentialPlan,
) -> Result<Done, CeremonyError> {
    let issuer = OpenIssuer::open(ceremony, &plan.issuer)?;
    let (key_role, kind, hosts) = match &plan.holder {
        Holder::Kdh { rsa_bits } => {
            let bits = *rsa_bits;
            (KeyRole::KdhSigning, KeyPairKind::Rsa { bits }, Vec::new())
        }
        Holder::TlsServer { hosts } => (KeyRole::TlsServer, KeyPairKind::P256, hosts.clone()),
        Holder::Operator => (KeyRole::Operator, KeyPairKind::P256, Vec::new()),
        Holder::Custodian => (KeyRole::Custodian, KeyPairKind::P256, Vec::new()),
        Holder::Audit => (KeyRole::Audit, KeyPairKind::P256, Vec::new()),
        Holder::Receiver { rsa_bits } => {
            let bits = *rsa_bits;
            (KeyRole::ImportPair, KeyPairKind::Rsa { bits }, Vec::new())
        }
    };
    let public_key = ceremony.make_key_pair(&plan.place, key_role, kind)?;
    let subject = Subject {
        role: plan.holder.role(),
        name: plan.subject.clone(),
        public_key,
        serial: serial(ceremony, &plan.place, plan.serial_len)?,
        validity: validity(ceremony, plan.not_after),
        hosts,
    };
    let certificate = issue_certificate(&issuer.as_issuer(), &subject)?;
    finish(ceremony, &plan.place, &plan.certificate, &certificate)
}

/// A pair whose public half goes to whoever sends keys under it.
pub(super) fn import_pair(
    ceremony: &mut Ceremony<'_>,
    plan: &PairPlan,
) -> Result<Done, CeremonyError> {
    let bits = plan.rsa_bits;
    let kind = KeyPairKind::Rsa { bits };
    let public_key = ceremony.make_key_pair(&plan.place, KeyRole::ImportPair, kind)?;
    let digest = ceremony.write(&plan.public_key, public_key.to_pem().as_bytes())?;
    let fingerprint = hex::encode(public_key.fingerprint());
    Ok(Done {
        summary: format!(
            "{}, public key {} with SHA-256 {fingerprint}",
            plan.place,
            plan.public_key.display()
        ),
        record: json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "file": plan.public_key,
            "file-sha256": digest,
            "public-key-sha256": fingerprint,
        }),
        continues_until: None,
    })
}

fn finish(
    ceremony: &mut Ceremony<'_>,
    place: &KeyPlace,
    file: &std::path::Path,
    certificate: &Certificate,
) -> Result<Done, CeremonyError> {
    let digest = ceremony.write(file, certificate.to_pem().as_bytes())?;
    Ok(Done {
        summary: format!(
            "{}: {place}, certificate {}",
            certificate.subject(),
            file.display()
        ),
        record: json!({
            "token": place.token,
            "key": place.key.label(),
            "file": file,
            "file-sha256": digest,
            "subject": certificate.subject().to_string(),
            "issuer": certificate.issuer().to_string(),
            "serial": certificate.serial().to_string(),
            "not-after": rfc3339(certificate.not_after()),
            "public-key-sha256": hex::encode(certificate.public_key().fingerprint()),
        }),
        continues_until: None,
    })
}

/// A serial number from the token's random numbers.
fn serial(
    ceremony: &Ceremony<'_>,
    place: &KeyPlace,
    len: usize,
) -> Result<SerialNumber, CeremonyError> {
    let random = ceremony.token(&place.token)?.random(len)?;
    SerialNumber::from_random(&random).map_err(CeremonyError::pki)
}

const fn validity(ceremony: &Ceremony<'_>, not_after: OffsetDateTime) -> Validity {
    Validity {
        not_before: ceremony.plan.now,
        not_after,
    }
}
