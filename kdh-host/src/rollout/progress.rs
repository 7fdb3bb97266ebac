//! How far waves have come. Counting reads a row for each key, so a large wave is counted less often than a small one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Host, HostError,
    store::{Wave, Waves},
};

/// A wave is counted anew after this many times what it took to count it.
const REST: u32 = 10;

/// Keys of a wave, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// A token was made for them.
    pub(crate) offered: u64,
    pub(crate) confirmed: u64,
    /// The device reported a wrong check value, and has not confirmed them since.
    pub(crate) failed: u64,
    /// They will never be confirmed: another version came first, or the device was revoked.
    pub(crate) void: u64,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<(u32, u32), Counted>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    counts: Counts,
    /// Keys that there were.
    made: u64,
    at: Instant,
    took: Duration,
}

impl Cache {
    fn counted(&self) -> MutexGuard<'_, HashMap<(u32, u32), Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, rollout: u32, wave: &Wave) -> Option<Counts> {
        let counted = self.counted().get(&(rollout, wave.number)).copied()?;
        let fresh = counted.at.elapsed() < counted.took * REST;
        // One that was counted when it was empty says nothing.
        (fresh && (counted.made > 0 || wave.made == 0)).then_some(counted.counts)
    }
}

/// What became of the keys of a wave.
pub(crate) async fn counts(host: &Host, rollout: u32, wave: &Wave) -> Result<Counts, HostError> {
    let cache = &host.rollouts().counts;
    if let Some(counts) = cache.get(rollout, wave) {
        return Ok(counts);
    }
    let at = Instant::now();
    let mut tx = host.store().read(host.now()).await?;
    let counts = tx.count_wave(rollout, wave).await?;
    drop(tx);
    let counted = Counted {
        counts,
        made: wave.made,
        at,
        took: at.elapsed(),
    };
    cache.counted().insert((rollout, wave.number), counted);
    Ok(counts)
}

/// Whether a wave has all its devices.
pub(crate) fn is_full(waves: &Waves, wave: &Wave) -> bool {
    waves.devices > 0 && wave.devices >= waves.devices.into()
}

/// Whether the next wave has to wait for confirmations of this one.
pub(crate) fn waits(waves: &Waves, wave: &Wave, counts: &Counts) -> bool {
    let awaited = wave.made.saturating_sub(counts.void);
    is_full(waves, wave) && counts.confirmed * 100 < awaited * u64::from(waves.proceed_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_wave_waits_for_what_can_be_confirmed() {
        let waves = Waves {
            devices: 10,
            proceed_at: 90,
            stop_after: None,
            forgiven: 0,
        };
        let wave = |devices, made| Wave {
            devices,
            made,
            ..Wave::default()
        };
        let counts = |confirmed, void| Counts {
            confirmed,
            void,
            ..Counts::default()
        };
        for (devices, made, confirmed, void, expected) in [
            (9, 9, 0, 0, false),
            (10, 10, 8, 0, true),
            (10, 10, 9, 0, false),
            (10, 10, 8, 2, false),
            (10, 10, 0, 9, true),
            (10, 10, 0, 10, false),
            (10, 0, 0, 0, false),
            (10, 20, 17, 0, true),
            (10, 20, 18, 0, false),
            (10, 11, 9, 0, true),
        ] {
            let found = waits(&waves, &wave(devices, made), &counts(confirmed, void));
            assert_eq!(found, expected, "{devices} {made} {confirmed} {void}");
        }
    }
}
