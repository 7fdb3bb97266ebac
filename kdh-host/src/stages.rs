//! Where the time of deliveries goes, on average, told in the log when the host stops.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Sums over the deliveries that ended well.
#[derive(Default)]
pub(crate) struct Stages(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    deliveries: u32,
    times: BTreeMap<&'static str, Duration>,
}

/// The stages of one delivery.
pub(crate) struct Laps {
    last: Instant,
    times: Vec<(&'static str, Duration)>,
}

impl Laps {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self {
            last: Instant::now(),
            times: Vec::with_capacity(16),
        }
    }

    /// Ends a stage, and begins the next.
    pub(crate) fn end(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.times.push((stage, now - self.last));
        self.last = now;
    }

    /// Ends a stage of which parts were measured elsewhere; the rest of it is `stage`.
    pub(crate) fn end_with(&mut self, stage: &'static str, parts: &[(&'static str, Duration)]) {
        self.end(stage);
        if let Some((_, whole)) = self.times.last_mut() {
            for (_, part) in parts {
                *whole = whole.saturating_sub(*part);
            }
        }
        self.times.extend_from_slice(parts);
    }
}

impl Stages {
    /// Adds a delivery.
    pub(crate) fn add(&self, laps: &Laps) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.deliveries = sums.deliveries.saturating_add(1);
        for (stage, time) in &laps.times {
            let sum = sums.times.entry(stage).or_default();
            *sum = sum.saturating_add(*time);
        }
    }

    /// Milliseconds by stage as a JSON object, if there was any delivery.
    pub(crate) fn means(&self) -> Option<serde_json::Value> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = |sum: Duration| {
            let mean = sum.checked_div(sums.deliveries)?;
            Some((mean.as_secs_f64() * 1e6).round() / 1e3)
        };
        let means = sums.times.iter();
        let means: Option<BTreeMap<&str, f64>> = means
            .map(|(stage, sum)| Some((*stage, mean(*sum)?)))
            .collect();
        let means = means.filter(|means| !means.is_empty())?;
        serde_json::to_value(means).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_deliveries_and_parts_are_not_counted_twice() {
        let stages = Stages::default();
        assert_eq!(stages.means(), None);
        let times = |signed: u64| Laps {
            last: Instant::now(),
            times: vec![
                ("sign", Duration::from_millis(signed)),
                ("encode", Duration::from_micros(1500)),
            ],
        };
        stages.add(&times(2));
        stages.add(&times(4));
        let expected = serde_json::json!({"encode": 1.5, "sign": 3.0});
        assert_eq!(stages.means(), Some(expected));

        let mut laps = Laps::begin();
        // More than the whole can have been.
        laps.end_with("hand over", &[("seal", Duration::from_mins(1))]);
        assert_eq!(laps.times[0], ("hand over", Duration::ZERO));
        assert_eq!(laps.times[1], ("seal", Duration::from_mins(1)));
    }
}
