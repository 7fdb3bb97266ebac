//! The revocation lists, read again whenever their files change.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use pki::{Certificate, CrlNumber, VerifiedCrl, verify_crl};
use time::OffsetDateTime;

use crate::{error::HostError, store::Store};

/// The revocation list of one CA.
pub(crate) struct CrlFile {
    issuer: Certificate,
    path: PathBuf,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    modified: SystemTime,
    len: u64,
    crl: Arc<VerifiedCrl>,
}

impl CrlFile {
    pub(crate) const fn new(issuer: Certificate, path: PathBuf) -> Self {
        Self {
            issuer,
            path,
            cached: Mutex::new(None),
        }
    }

    /// The list, good now: signed by its CA, fresh, and no older than any that was accepted before,
    /// also before a restart.
    ///
    /// # Errors
    /// There is no good list. That is this host's fault and never the caller's.
    pub(crate) async fn current(
        &self,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<Arc<VerifiedCrl>, HostError> {
        let ours = |cause: String| {
            HostError::Internal(format!("revocation list {}: {cause}", self.path.display()))
        };
        let metadata = std::fs::metadata(&self.path).map_err(|error| ours(error.to_string()))?;
        let modified = metadata
            .modified()
            .map_err(|error| ours(error.to_string()))?;
        if let Some(crl) = self.cached(modified, metadata.len()) {
            crl.require_good(now, None)
                .map_err(|error| ours(error.to_string()))?;
            return Ok(crl);
        }
        let bytes = std::fs::read(&self.path).map_err(|error| ours(error.to_string()))?;
        let der = pki::Crl::from_pem_or_der(&bytes).map_err(|error| ours(error.to_string()))?;
        let last_seen = store.read(now).await?.crl_number(&self.issuer).await?;
        let crl = verify_crl(der.der(), &self.issuer, now, last_seen)
            .map_err(|error| ours(error.to_string()))?;
        let crl = Arc::new(crl);
        self.remember(store, crl.number(), last_seen, now).await?;
        tracing::info!(
            path = %self.path.display(),
            number = %crl.number(),
            next_update = %crl.crl().next_update(),
            "revocation list accepted"
        );
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Cached {
            modified,
            len: metadata.len(),
            crl: Arc::clone(&crl),
        });
        Ok(crl)
    }

    fn cached(&self, modified: SystemTime, len: u64) -> Option<Arc<VerifiedCrl>> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cached.as_ref()?;
        (cached.modified == modified && cached.len == len).then(|| cached.crl.clone())
    }

    async fn remember(
        &self,
        store: &Store,
        number: CrlNumber,
        last_seen: Option<CrlNumber>,
        now: OffsetDateTime,
    ) -> Result<(), HostError> {
        if last_seen == Some(number) {
            return Ok(());
        }
        let mut tx = store.write(now).await?;
        if !tx.raise_crl_number(&self.issuer, number).await? {
            return Err(HostError::Internal(format!(
                "revocation list {}: a newer one was accepted meanwhile",
                self.path.display()
            )));
        }
        Ok(tx.commit().await?)
    }
}
