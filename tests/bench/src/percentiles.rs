//! Percentiles of latencies.

use std::time::Duration;

/// Latencies, in order.
pub(crate) struct Sorted(Vec<Duration>);

impl Sorted {
    pub(crate) fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// The smallest latency that so many percent of all do not exceed (nearest rank), which is one that
    /// was measured. Zero if nothing was.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(numbers: impl IntoIterator<Item = u64>) -> Sorted {
        Sorted::new(numbers.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let cases = [
            (milliseconds((1..=100).rev()), [50, 95, 99, 100]),
            (milliseconds([15, 20, 35, 40, 50]), [35, 50, 50, 50]),
            (milliseconds([7]), [7, 7, 7, 7]),
            (milliseconds([]), [0, 0, 0, 0]),
        ];
        for (sorted, expected) in cases {
            let found = [50, 95, 99, 100].map(|percent| sorted.percentile(percent));
            assert_eq!(found, expected.map(Duration::from_millis));
        }
    }
}
