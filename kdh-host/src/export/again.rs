//! How often what has left leaves again.

use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use tokio::time::sleep;

/// How often as many records as leave at once do so again, for one target.
const AGAIN_PER_SECOND: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// How often records that have left may leave again, for each target: whoever begins anew without end does not keep
/// the HSM from what terminals ask of it.
#[derive(Debug)]
pub(super) struct Again(DefaultKeyedRateLimiter<String>);

impl Default for Again {
    fn default() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(AGAIN_PER_SECOND)))
    }
}

impl Again {
    /// Returns when some may leave.
    pub(super) async fn wait(&self, target: &str) {
        while let Err(wait) = self.take(target) {
            sleep(wait).await;
        }
    }

    /// Lets some leave; or says when to ask again. Targets are few, so that none is forgotten.
    fn take(&self, target: &str) -> Result<(), Duration> {
        let taken = self.0.check_key(&target.to_owned());
        taken.map_err(|early| early.wait_time_from(self.0.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_leaves_again_so_often_and_for_each_target_by_itself() {
        let again = Again::default();
        for _ in 0..AGAIN_PER_SECOND.get() {
            assert_eq!(again.take("a"), Ok(()));
        }
        let wait = again.take("a");
        assert!(
            wait.is_err_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{wait:?}"
        );
        assert_eq!(again.take("b"), Ok(()));
    }
}
