use kdh_proto::v1::EnrollRequest;
use pki::Signer as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::{
    Credentials, EnrollExpectation, KrdError, Terminal,
    host::Host,
    record::{CredentialsRecord, HexBytes, IdentityRecord, RECORD_PROFILE},
    terminal::ct_krd,
    verify_enrollment,
};

use super::status::CertificateStatus;

/// The certificates that the terminal has now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    /// Of the RSA key.
    pub encryption_certificate: CertificateStatus,
    /// Of the P-256 key.
    pub authentication_certificate: CertificateStatus,
}

impl Terminal {
    /// Has the host certify the terminal's keys.
    ///
    /// Sends the same requests each time, so that it may be repeated when an answer was lost.
    ///
    /// # Errors
    /// The host refuses, or what it sent is not acceptable. Nothing is kept then.
    pub async fn enroll(&self, activation_code: &SecretString) -> Result<Enrolled, KrdError> {
        let identity = self.identity()?;
        if identity.credentials.is_some() {
            return Err(KrdError::AlreadyEnrolled);
        }
        self.evidence
            .keep("krd-csr.der", &identity.encryption_csr.0)?;
        self.evidence
            .keep("krd-auth-csr.der", &identity.authentication_csr.0)?;
        let mut host = Host::connect(&self.config, None).await?;
        let answer = host
            .enroll(EnrollRequest {
                serial_number: self.config.serial.to_string(),
                activation_code: activation_code.expose_secret().to_owned(),
                encryption_csr: identity.encryption_csr.0.clone(),
                authentication_csr: identity.authentication_csr.0.clone(),
            })
            .await?;
        self.evidence.keep("ct-krd.der", &answer.ct_krd)?;

        let credentials = verify_enrollment(
            &answer.ct_krd,
            &answer.authentication_certificate,
            &answer.chain,
            &EnrollExpectation {
                profile: self.config.profile,
                ca: &self.config.trust.krd,
                serial: &self.config.serial,
                encryption_key: self.encryption_key()?.public_key(),
                authentication_key: self.authentication_key()?.public_key(),
                now: self.clock.now(),
            },
        )?;
        self.memory().keep_identity(&IdentityRecord {
            credentials: Some(CredentialsRecord {
                ct_krd: HexBytes(ct_krd(&credentials, RECORD_PROFILE)?),
                authentication_certificate: HexBytes(answer.authentication_certificate),
                chain: answer.chain.into_iter().map(HexBytes).collect(),
            }),
            ..identity
        })?;
        self.keep_certificates_as_evidence(&credentials)?;
        Ok(Enrolled {
            encryption_certificate: CertificateStatus::of(&credentials.encryption),
            authentication_certificate: CertificateStatus::of(&credentials.authentication),
        })
    }

    fn keep_certificates_as_evidence(&self, credentials: &Credentials) -> Result<(), KrdError> {
        self.evidence
            .keep("krd.pem", credentials.encryption.to_pem())?;
        self.evidence
            .keep("krd-auth.pem", credentials.authentication.to_pem())
    }
}
