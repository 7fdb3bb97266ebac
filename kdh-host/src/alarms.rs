//! Alarms: what is equal where chance does not make it so. Each goes to the log and to the audit trail, and is counted.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hsm::KcvMethod;
use serde_json::json;

use crate::{
    Host, HostError,
    names::DeviceSerial,
    store::{Actor, AuditEntry, DeviceKey, KeySource, Tx},
};

/// More keys than chance gives one check value.
pub(crate) const EQUAL_CHECK_VALUES: &str = "alarm.equal-check-values";
/// A second device that comes with a public key of another one's.
pub(crate) const PUBLIC_KEY_IN_USE: &str = "alarm.public-key-in-use";

/// Once in so many fleets an alarm is chance after all.
const FALSE_ALARM: f64 = 1e-9;
/// How long a count of all keys is good, beside those that are added.
const COUNT_IS_GOOD: Duration = Duration::from_mins(1);

/// What was raised, and what is needed to know when to raise more.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: AtomicU64,
    /// Of these, that the HSM's random numbers may repeat themselves.
    of_hsm: AtomicU64,
    live: Mutex<HashMap<(KcvMethod, usize), Live>>,
}

/// How many live keys of devices' own have check values of one form.
#[derive(Clone, Copy, Debug)]
struct Live {
    keys: u64,
    counted: Instant,
}

impl Alarms {
    /// Since the host was started.
    pub(crate) fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// Raises one. Putting it on record is the caller's, in the transaction that it is about.
    pub(crate) fn raise(&self, alarm: &str) {
        self.raised.fetch_add(1, Ordering::Relaxed);
        tracing::error!("ALARM: {alarm}");
    }

    /// The same, of the HSM.
    pub(crate) fn raise_of_hsm(&self, alarm: &str) {
        self.of_hsm.fetch_add(1, Ordering::Relaxed);
        self.raise(alarm);
    }

    /// Of the HSM, since the host was started.
    pub(crate) fn raised_of_hsm(&self) -> u64 {
        self.of_hsm.load(Ordering::Relaxed)
    }

    fn counted(&self, form: (KcvMethod, usize), added: u64) -> Option<u64> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live.get_mut(&form)?;
        live.keys += added;
        (live.counted.elapsed() < COUNT_IS_GOOD).then_some(live.keys)
    }

    fn count(&self, form: (KcvMethod, usize), keys: u64) {
        let live = Live {
            keys,
            counted: Instant::now(),
        };
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(form, live);
    }
}

/// Keys were added in this transaction: raises the alarm if one of their check values is that of more keys than chance
/// gives it.
pub(crate) async fn watch_check_values(
    host: &Host,
    tx: &mut Tx,
    added: impl Iterator<Item = &DeviceKey>,
) -> Result<(), HostError> {
    let mut forms = HashMap::<_, Vec<&DeviceKey>>::new();
    for key in added.filter(|key| matches!(key.source, KeySource::Unique { .. })) {
        let form = (key.kcv.method(), key.kcv.value().len());
        forms.entry(form).or_default().push(key);
    }
    for (form, added) in forms {
        let live = host.alarms().counted(form, added.len() as u64);
        let live = if let Some(live) = live {
            live
        } else {
            let live = tx.live_check_values(form.0, form.1).await?;
            host.alarms().count(form, live);
            live
        };
        let limit = too_many(live, form.1);
        let kcvs = added.iter().map(|key| &key.kcv);
        for (kcv, keys) in tx.equal_check_values(kcvs.collect()).await? {
            if keys >= limit {
                let alarm = format!(
                    "{keys} keys of devices have the check value {kcv}, of {live} altogether: chance does not give \
                     so many. The HSM's random numbers may repeat themselves: have it make no keys before that is \
                     explained"
                );
                host.alarms().raise_of_hsm(&alarm);
                record(tx, &Actor::Host, EQUAL_CHECK_VALUES, None, &alarm).await?;
            }
        }
    }
    Ok(())
}

/// Puts an alarm on record.
pub(crate) async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    device: Option<&DeviceSerial>,
    alarm: &str,
) -> Result<(), HostError> {
    Ok(tx
        .record(AuditEntry {
            actor,
            action,
            device,
            outcome: "ok",
            detail: json!({"alarm": alarm}),
        })
        .await?)
}

/// How many keys with one check value of `len` bytes are too many, among so many keys.
///
/// Check values of independent keys fall on `v = 256^len` values evenly, so that `n` keys give each of them a number
/// that is Poisson distributed with the mean `n / v`. It is `c` or more with the probability
/// `t = e^-m (m^c / c! + m^(c+1) / (c+1)! + …)`, which is less than `e^-m m^c / c! / (1 - m / (c + 1))`: each term is
/// less than `m / (c + 1)` times the one before. One of all values gets so many with a probability of less than `v t`.
/// The result is the first `c` for which that is less than [`FALSE_ALARM`].
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of keys are far below 2^52, and a probability need not be exact"
)]
fn too_many(keys: u64, len: usize) -> u64 {
    let values = 256_f64.powi(i32::try_from(len).unwrap_or(i32::MAX));
    let mean = keys as f64 / values;
    let first = (mean.floor() as u64 + 1).max(2);
    // ln(m^c / c!), term by term.
    let mut log = (1..first).fold(0.0, |log, k| log + (mean / k as f64).ln());
    let mut count = first;
    loop {
        log += (mean / count as f64).ln();
        let tail = (log - mean).exp() / (1.0 - mean / (count as f64 + 1.0));
        if values * tail < FALSE_ALARM {
            return count;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chance_gives_raises_no_alarm() {
        for (keys, len, expected) in [
            (1, 3, 3),
            (2, 5, 2),
            (100, 5, 3),
            (1000, 3, 4),
            (1_000_000, 3, 9),
            (1_000_000, 4, 5),
            (1_000_000, 5, 4),
            (16_777_216, 3, 19),
        ] {
            assert_eq!(too_many(keys, len), expected, "{keys} {len}");
        }
    }
}
