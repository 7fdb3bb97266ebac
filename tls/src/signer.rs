//! A rustls signing key whose private half is in a token.

use std::sync::Arc;

use hsm::{HsmError, SigningKey};
use pki::Signer as _;
use rustls::{
    Error, OtherError, SignatureAlgorithm, SignatureScheme,
    sign::{self, Signer},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
};

/// The scheme of P-256, the only kind of TLS key in this system.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

#[derive(Clone, Debug)]
pub(crate) struct TokenKey {
    key: SigningKey,
    at_once: Arc<Semaphore>,
}

impl TokenKey {
    /// A key of which `at_once` signatures may be asked for at the same time; more fail. Handshakes of
    /// strangers must not fill the queue in front of a token that has other things to do.
    pub(crate) fn new(key: SigningKey, at_once: usize) -> Self {
        Self {
            key,
            at_once: Arc::new(Semaphore::new(at_once)),
        }
    }

    fn sign_in_turn(&self, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        let _place = self.at_once.try_acquire().map_err(|_| HsmError::Busy)?;
        self.key.sign(message)
    }
}

impl sign::SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SCHEME)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        off_the_async_threads(|| self.sign_in_turn(message))
            .map_err(|error| Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

/// The handshake calls this from an asynchronous task, and a token may take its time: the runtime is
/// told to go on with other tasks elsewhere. A runtime with a single thread has no elsewhere; there
/// the caller waits.
fn off_the_async_threads<T>(work: impl FnOnce() -> T) -> T {
    let several_threads = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several_threads {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
