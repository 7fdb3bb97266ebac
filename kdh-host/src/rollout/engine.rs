//! Takes every rollout that runs a step forward, again and again.

use std::time::Duration;

use hsm::HsmError;
use tokio::time::{Instant, sleep};

use super::{
    due::{Due, Watch},
    making, moved, progress, record, replace, replaced, sift,
};
use crate::{
    Host, HostError,
    state::RolloutState,
    store::{Actor, Proven, Rollout, SealedRow as _, StoreError, Wave},
};

/// How often it is looked whether there is something to be done, if nobody says so.
const LOOK: Duration = Duration::from_secs(5);

/// How long it rests when there is nothing to be done.
const REST: Duration = Duration::from_millis(100);

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It came forward, and there is more.
    Forward,
    /// It waits: for confirmations, or because rows were changed at the same time.
    Waits,
    /// There is nothing left.
    End,
}

/// Makes the keys that rollouts want, for as long as it is awaited.
pub(crate) async fn keep_rolling(host: &Host) {
    let mut engine = Engine {
        pace: Pace::new(host),
        watch: Watch::default(),
        due: None,
    };
    loop {
        match engine.roll(host).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "rollouts do not go on; the next try follows"),
        }
        // However much is confirmed meanwhile.
        sleep(REST).await;
        tokio::select! {
            () = host.rollouts().news.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// What it keeps from step to step.
struct Engine {
    pace: Pace,
    watch: Watch,
    /// What a renewal has not come to yet.
    due: Option<Vec<Due>>,
}

impl Engine {
    /// A step of each. Whether there is more to be done at once.
    async fn roll(&mut self, host: &Host) -> Result<bool, HostError> {
        // What cannot be begun keeps nothing that was begun from going on.
        if let Err(error) = self.watch.look(host).await {
            tracing::warn!(%error, "it was not seen whether keys are due; the next try follows");
        }
        let mut tx = host.store().read(host.now()).await?;
        let open = tx.open_rollouts().await?;
        drop(tx);
        let mut more = false;
        for rollout in sift(host, open).await? {
            let Ok(rollout) = rollout else { continue };
            if rollout.state != RolloutState::Running {
                continue;
            }
            let title = rollout.title();
            match self.step(host, &rollout).await {
                Ok(step) => more |= step == Step::Forward,
                Err(error) if passes(&error) => {
                    tracing::warn!(%error, "{title} does not go on; the next try follows");
                }
                Err(error) => pause(host, &rollout, &error.to_string()).await?,
            }
        }
        Ok(more)
    }

    async fn step(&mut self, host: &Host, rollout: &Proven<Rollout>) -> Result<Step, HostError> {
        if let Some(limit) = rollout.waves.stop_after {
            let mut tx = host.store().read(host.now()).await?;
            let mismatched = tx.mismatched(rollout.number).await?;
            drop(tx);
            let new = mismatched.saturating_sub(rollout.waves.forgiven);
            if new > limit {
                let why =
                    format!("{new} devices have reported a wrong check value, more than {limit}");
                pause(host, rollout, &why).await?;
                return Ok(Step::Waits);
            }
        }
        let mut tx = host.store().read(host.now()).await?;
        let last = tx.last_wave(rollout.number).await?;
        drop(tx);
        let wave = match last {
            None => begin_wave(host, rollout, 1, "").await?,
            Some(last) if is_last(host, rollout, &last).await? => {
                end(host, rollout).await?;
                return Ok(Step::End);
            }
            Some(last) if progress::is_full(&rollout.waves, &last) => {
                let counts = progress::counts(host, rollout.number, &last).await?;
                if progress::waits(&rollout.waves, &last, &counts) {
                    host.rollouts().await_news();
                    return Ok(Step::Waits);
                }
                begin_wave(host, rollout, last.number + 1, &last.last_device).await?
            }
            Some(last) => Some(last),
        };
        let Some(wave) = wave else {
            return Ok(Step::Waits);
        };
        let step = making::run(host, rollout, wave, &mut self.pace, &mut self.due).await?;
        if step == Step::End {
            end(host, rollout).await?;
        }
        Ok(step)
    }
}

/// Whether a later try may succeed without anybody's doing.
const fn passes(error: &HostError) -> bool {
    matches!(
        error,
        HostError::Hsm(HsmError::Busy | HsmError::Unavailable { .. })
            | HostError::Store(
                StoreError::Database(_) | StoreError::NotCommitted(_) | StoreError::InUse
            )
    )
}

/// Whether a wave that is full has no devices behind it.
async fn is_last(host: &Host, rollout: &Rollout, wave: &Wave) -> Result<bool, HostError> {
    if !progress::is_full(&rollout.waves, wave) {
        return Ok(false);
    }
    let mut tx = host.store().read(host.now()).await?;
    let behind = tx.reached(&rollout.reach, &wave.last_device, 1).await?;
    Ok(behind.is_empty())
}

/// The next wave. `None` if the rollout was changed at the same time.
async fn begin_wave(
    host: &Host,
    rollout: &Proven<Rollout>,
    number: u32,
    after: &str,
) -> Result<Option<Wave>, HostError> {
    let wave = Wave {
        number,
        after_device: after.to_owned(),
        last_device: after.to_owned(),
        ..Wave::default()
    };
    let mut tx = host.store().write(host.now()).await?;
    if !tx.is_unchanged(rollout.sealed()).await? || !tx.insert_wave(rollout.number, &wave).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(wave))
}

/// Somebody has to look at it.
async fn pause(host: &Host, rollout: &Proven<Rollout>, why: &str) -> Result<(), HostError> {
    tracing::error!("{} is paused: {why}", rollout.title());
    let paused = moved(host, rollout, RolloutState::Paused, why)?;
    replace(host, &Actor::Host, "rollout.paused", rollout, &paused).await
}

/// Every device was looked at.
async fn end(host: &Host, rollout: &Proven<Rollout>) -> Result<(), HostError> {
    let done = moved(host, rollout, RolloutState::Done, "")?;
    let sealed = host.keys().seal_one(done.clone()).await?;
    let mut tx = host.store().write(host.now()).await?;
    if !replaced(host, &mut tx, rollout.sealed(), &sealed).await? {
        return Ok(());
    }
    record(&mut tx, &Actor::Host, "rollout.done", &done).await?;
    Ok(tx.commit().await?)
}

/// How fast keys are made.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    next: Instant,
}

impl Pace {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            per_second: host.config().rollout_per_second.get(),
            next: Instant::now(),
        }
    }

    /// Waits until so many more may be made.
    pub(super) async fn wait(&mut self, keys: usize) {
        tokio::time::sleep_until(self.next).await;
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let pause = Duration::from_secs(1) * keys / self.per_second;
        self.next = self.next.max(Instant::now()) + pause;
    }
}
