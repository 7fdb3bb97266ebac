use serde::Serialize;

use crate::{
    AuthenticToken, CurrentKdhCredential, Kdh, KrdError, Terminal, memory::RememberedBinding,
    terminal::ct_krd,
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
        let (_, credentials) = self.credentials()?;
        self.settled_binding()?;
        let mut host = self.connect(&credentials).await?;
        let ct_krd = ct_krd(&credentials, self.config.profile)?;
        let ct_kdh = host.bind(ct_krd).await?;
        self.evidence.keep("ct-kdh.der", &ct_kdh)?;

        let remembered_crl = self.memory().crl()?;
        let trust = self.kdh_trust(remembered_crl.as_ref());
        let credential = CurrentKdhCredential::verify(&ct_kdh, &trust)?;
        self.memory().keep_crl(credential.crl())?;
        let crl_number = credential.crl().number().0;
        let kdh = Kdh::from(&credential.verify_kdh(&trust)?);
        let remembered = self.memory().binding()?;
        let token = AuthenticToken::KdhCredential { kdh: &kdh };
        self.memory().keep_binding(RememberedBinding {
            binding: remembered.binding.after(&token)?,
            ..remembered
        })?;
        Ok(Bound {
            kdh_certificate: CertificateStatus::of(kdh.certificate()),
            crl_number,
        })
    }
}
