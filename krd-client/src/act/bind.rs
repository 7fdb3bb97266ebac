use serde::Serialize;

use crate::{
    CurrentKdhCredential, KrdError, Terminal,
    host::Host,
    record::{HexBytes, KdhRecord},
};

use super::status::CertificateStatus;

/// The KDH that the terminal is bound to now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bound {
    /// Its certificate.
    pub kdh_certificate: CertificateStatus,
    /// The number of the revocation list that came with it.
    pub crl_number: u64,
}

impl Terminal {
    /// Shows the terminal's credential to the host, and remembers the host's. Again later, it fetches
    /// the current revocation list from the same host.
    ///
    /// # Errors
    /// The host refuses, or its credential is not acceptable; the terminal is bound as before then.
    pub async fn bind(&self) -> Result<Bound, KrdError> {
        let (record, credentials) = self.credentials()?;
        let bound = self.bound_kdh()?;
        let mut host = Host::connect(&self.config, Some(&self.tls_identity(&credentials)?)).await?;
        let ct_kdh = host.bind(record.ct_krd.0).await?;
        self.evidence.keep("ct-kdh.der", &ct_kdh)?;

        let trust = self.kdh_trust()?;
        let credential = CurrentKdhCredential::verify(&ct_kdh, &trust)?;
        self.memory().keep_crl(credential.crl())?;
        let crl_number = credential.crl().number().0;
        let kdh = credential.verify_kdh(&trust, bound.as_ref())?;
        self.memory().keep_kdh(&KdhRecord {
            ct_kdh: HexBytes(ct_kdh),
        })?;
        Ok(Bound {
            kdh_certificate: CertificateStatus::of(kdh.certificate()),
            crl_number,
        })
    }
}
