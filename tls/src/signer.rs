//! A rustls signing key whose private half is in a token.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use hsm::{HsmError, SigningKey};
use pki::Signer as _;
use rustls::{
    Error, OtherError, SignatureAlgorithm, SignatureScheme,
    sign::{self, Signer},
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The scheme of P-256, the only kind of TLS key in this system.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

#[derive(Clone, Debug)]
pub(crate) struct TokenKey {
    key: SigningKey,
    turns: Arc<Turns>,
}

/// Lets so many sign at the same time, and some more wait for it.
#[derive(Debug)]
struct Turns {
    at_once: usize,
    /// How many sign or wait.
    there: Mutex<Crowd>,
    gone: Condvar,
}

#[derive(Debug, Default)]
struct Crowd {
    signing: usize,
    waiting: usize,
}

/// Each waits on a thread of its own, and the runtime has 512 of them.
const MAX_WAITING: usize = 128;

impl Turns {
    fn take<T>(&self, work: impl FnOnce() -> Result<T, HsmError>) -> Result<T, HsmError> {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        if there.waiting >= MAX_WAITING {
            return Err(HsmError::Busy);
        }
        there.waiting += 1;
        let mut there = self
            .gone
            .wait_while(there, |there| there.signing >= self.at_once)
            .unwrap_or_else(PoisonError::into_inner);
        there.waiting -= 1;
        there.signing += 1;
        drop(there);
        let outcome = work();
        self.there
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .signing -= 1;
        self.gone.notify_one();
        outcome
    }
}

impl TokenKey {
    /// A key of which `at_once` signatures, and one at least, may be asked for at the same time; others
    /// wait. Handshakes of strangers must not fill the queue in front of a token that has other things
    /// to do.
    pub(crate) fn new(key: SigningKey, at_once: usize) -> Self {
        Self {
            key,
            turns: Arc::new(Turns {
                at_once: at_once.max(1),
                there: Mutex::default(),
                gone: Condvar::new(),
            }),
        }
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
        off_the_async_threads(|| self.turns.take(|| self.key.sign(message)))
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn no_more_sign_at_once_than_may() {
        let turns = Turns {
            at_once: 2,
            there: Mutex::default(),
            gone: Condvar::new(),
        };
        let (now, most, done) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let work = || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| turns.take(work));
            }
        });
        assert_eq!(done.into_inner(), 16);
        assert!(most.into_inner() <= 2);
    }

    #[test]
    fn those_who_would_wait_without_end_are_told() {
        let crowd = Crowd {
            signing: 1,
            waiting: MAX_WAITING,
        };
        let turns = Turns {
            at_once: 1,
            there: Mutex::new(crowd),
            gone: Condvar::new(),
        };
        assert!(matches!(turns.take(|| Ok(())), Err(HsmError::Busy)));
    }
}
