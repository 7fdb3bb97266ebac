//! How much one caller, and all of them together, may ask for.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use kdh_proto::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{HostError, error::refused, names::DeviceSerial};

/// Enrolments under way. Strangers can begin them, so they are far fewer than what the HSM's queue
/// and the database can bear.
const ENROLMENTS: usize = 32;
/// Deliveries under way.
const DELIVERIES: usize = 256;

/// The limits of a host.
#[derive(Debug)]
pub(crate) struct Limits {
    /// For calls of strangers that go on when the caller has hung up.
    pub(crate) enrolments: Places,
    /// For such calls of terminals.
    pub(crate) deliveries: Places,
    calls_of_devices: DefaultKeyedRateLimiter<DeviceSerial>,
}

impl Limits {
    /// Each device may make so many calls in a minute, and as many at once.
    pub(crate) fn new(device_calls_per_minute: NonZeroU32) -> Self {
        Self {
            enrolments: Places::new(ENROLMENTS),
            deliveries: Places::new(DELIVERIES),
            calls_of_devices: RateLimiter::keyed(Quota::per_minute(device_calls_per_minute)),
        }
    }

    /// Counts a call of a device.
    ///
    /// # Errors
    /// It was one too many; says when to try again.
    pub(crate) fn count_call(&self, device: &DeviceSerial) -> Result<(), HostError> {
        self.calls_of_devices
            .check_key(device)
            .map_err(|too_early| HostError::RateLimited {
                device: device.to_string(),
                retry_after: too_early.wait_time_from(self.calls_of_devices.clock().now()),
            })
    }

    /// Forgets devices that have not called for so long that they may call as if for the first time.
    pub(crate) fn forget_the_quiet(&self) {
        self.calls_of_devices.retain_recent();
        self.calls_of_devices.shrink_to_fit();
    }
}

/// A number of calls that may be under way.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    fn new(number: usize) -> Self {
        Self(Arc::new(Semaphore::new(number)))
    }

    /// Takes a place; it is free again when the permit is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, HostError> {
        Arc::clone(&self.0)
            .try_acquire_owned()
            .map_err(|_| refused(Reason::Overloaded, "too many calls are under way"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn device(serial: &str) -> DeviceSerial {
        DeviceSerial::parse(serial).unwrap()
    }

    #[test]
    fn a_device_that_calls_too_often_is_told_when_to_come_back() {
        let limits = Limits::new(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            limits.count_call(&device("A")).unwrap();
        }
        let refused = limits.count_call(&device("A")).unwrap_err();
        assert_eq!(refused.reason(), Reason::RateLimited);
        let seconds = refused.retry_after().unwrap().as_secs_f64();
        assert!((10.0..=20.0).contains(&seconds), "{seconds} s");
        limits.count_call(&device("B")).unwrap();
        limits.forget_the_quiet();
        limits.count_call(&device("A")).unwrap_err();
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_again() {
        let places = Places::new(1);
        let taken = places.take().unwrap();
        assert_eq!(places.take().unwrap_err().reason(), Reason::Overloaded);
        drop(taken);
        assert!(places.take().is_ok());
    }
}
