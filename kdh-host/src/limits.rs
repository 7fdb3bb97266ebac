//! How much one caller, and all of them together, may ask for.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use kdh_proto::Reason;
use token_tls::{Share, Shares};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{HostError, error::refused};

/// Enrolments under way. Strangers can begin them, so they are far fewer than what the HSM's queue
/// and the database can bear.
const ENROLMENTS: u16 = 32;
/// Deliveries under way.
const DELIVERIES: u16 = 256;
/// Calls of operators under way.
const OPERATORS: u16 = 256;
/// Of these, of one operator: of whoever has one key.
const OF_ONE_OPERATOR: usize = 16;
/// Imports of keys under way: one after the other, so that a nonce is spent before the next token is looked at.
const IMPORTS: u16 = 1;

/// The limits of a host.
#[derive(Debug)]
pub(crate) struct Limits {
    /// For calls of strangers that go on when the caller has hung up.
    pub(crate) enrolments: Places,
    /// For such calls of terminals.
    pub(crate) deliveries: Places,
    /// For all calls of operators whose requests have come.
    pub(crate) operators: SharedPlaces,
    /// For approvals of operators that bring keys in.
    pub(crate) imports: Places,
    calls: DefaultKeyedRateLimiter<String>,
}

impl Limits {
    /// Each caller may make so many calls in a minute, and as many at once.
    pub(crate) fn new(device_calls_per_minute: NonZeroU32) -> Self {
        Self {
            enrolments: Places::new(ENROLMENTS),
            deliveries: Places::new(DELIVERIES),
            operators: SharedPlaces::new(OPERATORS, OF_ONE_OPERATOR),
            imports: Places::new(IMPORTS),
            calls: RateLimiter::keyed(Quota::per_minute(device_calls_per_minute)),
        }
    }

    /// Counts a call of somebody who has proved who they are: by the serial number of a certificate
    /// of this host's, or by that of a device and its activation code. Nobody invents such names.
    ///
    /// # Errors
    /// It was one too many; says when to try again.
    pub(crate) fn count_call(&self, caller: String) -> Result<(), HostError> {
        self.calls
            .check_key(&caller)
            .map_err(|too_early| HostError::RateLimited {
                caller,
                retry_after: too_early.wait_time_from(self.calls.clock().now()),
            })
    }

    /// Waits until no call is under way of those that go on when the caller has hung up, and lets no other
    /// begin.
    pub(crate) async fn close(&self) {
        self.enrolments.close().await;
        self.deliveries.close().await;
        self.operators.all.close().await;
        self.imports.close().await;
    }

    /// Forgets callers who have been quiet for so long that they may call as if for the first time.
    pub(crate) fn forget_the_quiet(&self) {
        self.calls.retain_recent();
        self.calls.shrink_to_fit();
    }
}

/// A number of calls that may be under way.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    all: u16,
}

impl Places {
    fn new(all: u16) -> Self {
        Self {
            free: Arc::new(Semaphore::new(usize::from(all))),
            all,
        }
    }

    /// Takes a place; it is free again when the permit is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, HostError> {
        Arc::clone(&self.free)
            .try_acquire_owned()
            .map_err(|_| refused(Reason::Overloaded, "too many calls are under way"))
    }

    /// Waits until no call is under way, and lets no other begin.
    pub(crate) async fn close(&self) {
        if let Ok(all) = self.free.acquire_many(self.all.into()).await {
            all.forget();
        }
    }
}

/// The fingerprint of a caller's public key.
pub(crate) type CallerKey = [u8; 32];

/// A number of calls that may be under way, of which each caller has a share.
#[derive(Clone, Debug)]
pub(crate) struct SharedPlaces {
    all: Places,
    shares: Shares<CallerKey>,
}

/// A caller's place. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct SharedPlace {
    _of_all: OwnedSemaphorePermit,
    _of_caller: Share<CallerKey>,
}

impl SharedPlaces {
    pub(crate) fn new(all: u16, of_one: usize) -> Self {
        Self {
            all: Places::new(all),
            shares: Shares::new(of_one),
        }
    }

    /// Takes a place for a caller.
    ///
    /// # Errors
    /// There is none, or the caller has its share already.
    pub(crate) fn take(&self, caller: CallerKey) -> Result<SharedPlace, HostError> {
        let of_caller = self.shares.take(caller).ok_or_else(|| {
            let cause = "too many calls of yours are under way: wait until one of them ends";
            refused(Reason::Overloaded, cause)
        })?;
        Ok(SharedPlace {
            _of_all: self.all.take()?,
            _of_caller: of_caller,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_caller_who_calls_too_often_is_told_when_to_come_back() {
        let limits = Limits::new(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            limits.count_call("A".to_owned()).unwrap();
        }
        let refused = limits.count_call("A".to_owned()).unwrap_err();
        assert_eq!(refused.reason(), Reason::RateLimited);
        let seconds = refused.retry_after().unwrap().as_secs_f64();
        assert!((10.0..=20.0).contains(&seconds), "{seconds} s");
        limits.count_call("B".to_owned()).unwrap();
        limits.forget_the_quiet();
        limits.count_call("A".to_owned()).unwrap_err();
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_again() {
        let places = Places::new(1);
        let taken = places.take().unwrap();
        assert_eq!(places.take().unwrap_err().reason(), Reason::Overloaded);
        drop(taken);
        assert!(places.take().is_ok());
    }

    #[test]
    fn no_caller_takes_the_places_of_others() {
        let places = SharedPlaces::new(3, 2);
        let [first, _second] = [(); 2].map(|()| places.take([1; 32]).unwrap());
        let refused = places.take([1; 32]).unwrap_err();
        assert_eq!(refused.reason(), Reason::Overloaded);
        let _other = places.take([2; 32]).unwrap();
        let refused = places.take([3; 32]).unwrap_err();
        assert_eq!(refused.reason(), Reason::Overloaded, "all are taken");
        drop(first);
        // What was refused has kept nothing.
        let again = places.take([3; 32]).unwrap();
        drop(again);
        places.take([1; 32]).unwrap();
    }
}
