//! Credentials that were verified in full before. What does not change between two calls of a
//! terminal is not done twice: parsing, the CA's signature, the role. What may change is checked each time.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use pki::{
    Certificate, CertificateError, CredentialError, Role, VerifiedCredential, VerifiedCrl,
    verify_credential,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Of which a terminal has two. Each takes some 4 KiB.
const KNOWN: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// What is known of a CA's certificates.
pub(crate) struct Credentials {
    issuer: Certificate,
    known: Mutex<LruCache<Key, Arc<VerifiedCredential>>>,
}

/// Of the DER, and what for.
type Key = ([u8; 32], Role);

/// A certificate that may become a credential for this role.
pub(crate) struct Candidate {
    key: Key,
    certificate: Known,
}

enum Known {
    Before(Arc<VerifiedCredential>),
    New(Box<Certificate>),
}

impl Candidate {
    pub(crate) fn certificate(&self) -> &Certificate {
        match &self.certificate {
            Known::Before(credential) => credential.certificate(),
            Known::New(certificate) => certificate,
        }
    }
}

impl Credentials {
    /// Of certificates that this CA issues.
    pub(crate) fn new(issuer: Certificate) -> Self {
        Self {
            issuer,
            known: Mutex::new(LruCache::new(KNOWN)),
        }
    }

    /// A certificate, for a role. Whether it is good now is for [`Self::verify`] to say.
    ///
    /// # Errors
    /// The bytes are no certificate.
    pub(crate) fn candidate(&self, der: &[u8], role: Role) -> Result<Candidate, CertificateError> {
        let key = (Sha256::digest(der).into(), role);
        let before = self.known().get(&key).cloned();
        let certificate = match before {
            Some(credential) => Known::Before(credential),
            None => Known::New(Box::new(Certificate::from_der(der)?)),
        };
        Ok(Candidate { key, certificate })
    }

    /// Verifies a candidate as it stands now: path, role, validity, revocation.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn verify(
        &self,
        candidate: Candidate,
        crl: &VerifiedCrl,
        now: OffsetDateTime,
    ) -> Result<Arc<VerifiedCredential>, CredentialError> {
        match candidate.certificate {
            Known::Before(credential) => {
                credential.require_good(crl, now)?;
                Ok(credential)
            }
            Known::New(certificate) => {
                let (_, role) = candidate.key;
                let credential = verify_credential(&certificate, &self.issuer, role, crl, now)?;
                let credential = Arc::new(credential);
                self.known().put(candidate.key, Arc::clone(&credential));
                Ok(credential)
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Key, Arc<VerifiedCredential>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
