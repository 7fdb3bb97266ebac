//! Who looks after a token while others work with it: asks a quiet one whether it is there, opens a
//! lost one again, and replaces threads that do not come back.
//!
//! The warden's own thread never calls into the module, which may keep it. What it has to ask it has the
//! pool's threads ask.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    Failure, Health,
    pool::{Pool, TooManyStuck},
    sessions::Sessions,
};

/// Between a loss and the first try; doubled after each try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between tries, at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it looks, at the least.
const TICK: Duration = Duration::from_millis(500);

/// Stops when dropped.
pub(crate) struct Warden {
    messages: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Look,
    Stop,
}

impl Warden {
    pub(crate) fn start(pool: &Arc<Pool>, sessions: &Arc<Sessions>) -> io::Result<Self> {
        let (messages, received) = sync_channel(1);
        let changed = messages.clone();
        // One that waits to be read is as good.
        sessions.watch(move || drop(changed.try_send(Message::Look)));
        let watch = Watch {
            pool: Arc::clone(pool),
            sessions: Arc::clone(sessions),
            asked: Instant::now(),
            asking: Arc::default(),
            lost: None,
        };
        let thread = thread::Builder::new()
            .name("hsm-warden".to_owned())
            .spawn(move || watch.keep(&received))?;
        Ok(Self {
            messages,
            thread: Some(thread),
        })
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let stopped = self.messages.send(Message::Stop).is_ok();
        if let Some(thread) = self.thread.take()
            && (!stopped || thread.join().is_err())
        {
            tracing::warn!("the token's warden panicked");
        }
    }
}

struct Watch {
    pool: Arc<Pool>,
    sessions: Arc<Sessions>,
    /// When a quiet token was last asked.
    asked: Instant,
    /// Whether it has not answered yet.
    asking: Arc<AtomicBool>,
    lost: Option<Pauses>,
}

/// While a token is lost.
#[derive(Debug)]
struct Pauses {
    next_try: Instant,
    pause: Duration,
}

impl Pauses {
    fn begin(now: Instant) -> Self {
        Self {
            next_try: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
        }
    }

    /// Whether it is time for a try; the pause after it is longer than the one before.
    fn is_over(&mut self, now: Instant) -> bool {
        if now < self.next_try {
            return false;
        }
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        self.next_try = now + self.pause;
        true
    }
}

impl Watch {
    fn keep(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.until_next()) {
                Ok(Message::Look) | Err(RecvTimeoutError::Timeout) => self.look(Instant::now()),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn until_next(&self) -> Duration {
        let to_try = self.lost.as_ref().map_or(TICK, |lost| {
            lost.next_try.saturating_duration_since(Instant::now())
        });
        to_try.min(TICK).min(self.sessions.config().deadline / 2)
    }

    fn look(&mut self, now: Instant) {
        if let Err(TooManyStuck(calls)) = self.pool.replace_stuck() {
            let token = self.sessions.config().label.clone();
            self.sessions.fail(Failure::Stuck { token, calls });
        }
        match self.sessions.health() {
            Health::Ready => {
                self.lost = None;
                self.ask_if_quiet(now);
            }
            Health::Lost { .. } => {
                let config = self.sessions.config();
                let limit = config.longest_try.max(config.deadline);
                // Nobody may try while another try is under way, and this one is for ever.
                if self.sessions.trying_for().is_some_and(|time| time > limit) {
                    let token = config.label.clone();
                    self.sessions.fail(Failure::Stuck { token, calls: 1 });
                    return;
                }
                let lost = self.lost.get_or_insert_with(|| Pauses::begin(now));
                if lost.is_over(now) {
                    self.have(limit, Sessions::reconnect);
                }
            }
            Health::Failed(_) => self.lost = None,
        }
    }

    /// One that hangs is a call that does not come back, like any other.
    fn ask_if_quiet(&mut self, now: Instant) {
        let config = self.sessions.config();
        let quiet_for = self.sessions.quiet_for();
        if config.probe_after.is_none_or(|limit| quiet_for < limit) {
            return;
        }
        let since = now.saturating_duration_since(self.asked);
        if self.asking.swap(true, Ordering::AcqRel) && since < config.deadline {
            return;
        }
        self.asked = now;
        let asking = Arc::clone(&self.asking);
        let submitted = self.have(config.deadline, move |sessions| {
            // If it does not answer, it is lost from here on.
            drop(sessions.examine("ask a quiet token"));
            asking.store(false, Ordering::Release);
        });
        self.asking.fetch_and(submitted, Ordering::AcqRel);
    }

    /// By a thread that may hang. If all have too much to do, there is another time.
    fn have(&self, limit: Duration, act: impl FnOnce(&Sessions) + Send + 'static) -> bool {
        let sessions = Arc::clone(&self.sessions);
        self.pool.submit(limit, move || act(&sessions)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let begin = Instant::now();
        let mut pauses = Pauses::begin(begin);
        assert!(!pauses.is_over(begin));
        let mut now = begin;
        let mut waited = Vec::new();
        for _ in 0..9 {
            let next = pauses.next_try;
            assert!(pauses.is_over(next));
            assert!(!pauses.is_over(next));
            waited.push(next.duration_since(now).as_millis());
            now = next;
        }
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(waited, expected);
    }
}
