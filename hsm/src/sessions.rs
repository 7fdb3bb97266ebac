//! The sessions with a token, the login that they live by, and how both come back after a loss.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cryptoki::{
    error::{Error as CryptokiError, RvError},
    session::{Session, SessionState, UserType},
    slot::Slot,
};

use crate::{
    Failure, Health, HsmError, Module, Pin, TokenConfig,
    error::CallResult,
    health::Watchers,
    known::Known,
    worker::{Worker, Workplace},
};

/// Sessions with one token. Whoever works takes one, and gives it back if nothing failed in it.
pub(crate) struct Sessions {
    module: Module,
    config: TokenConfig,
    /// To log in again after a loss.
    pin: Pin,
    place: Workplace,
    line: Mutex<Line>,
    known: Mutex<Known>,
    reconnecting: AtomicBool,
    watchers: Watchers,
}

/// What a loss changes.
struct Line {
    health: Health,
    /// Counts the reconnects. A session of another generation is lost, and its handle may be that of
    /// somebody else's session by now.
    generation: u64,
    slot: Slot,
    idle: Vec<Worker>,
    /// The session that logged in, for all of this process's sessions with the token.
    anchor: Option<Session>,
    last_answer: Instant,
}

impl Sessions {
    /// Logs in: one try, since every wrong PIN brings the token closer to locking.
    pub(crate) fn open(
        module: &Module,
        slot: Slot,
        config: &TokenConfig,
        pin: &Pin,
        place: Workplace,
    ) -> Result<Self, HsmError> {
        let anchor = place.session(slot)?;
        match log_in(&anchor, pin, &config.label)? {
            Login::New => {}
            // Whose PIN it was we would not know.
            Login::Standing => {
                return Err(HsmError::TokenInUse {
                    label: config.label.clone(),
                });
            }
        }
        let generation = 0;
        // All that there will be, so that a token with too few shows now.
        let idle: Result<Vec<Worker>, HsmError> = (0..config.workers.max(1))
            .map(|_| Ok(Worker::new(place.clone(), place.session(slot)?, generation)))
            .collect();
        Ok(Self {
            module: module.clone(),
            config: config.clone(),
            pin: pin.clone(),
            line: Mutex::new(Line {
                health: Health::Ready,
                generation,
                slot,
                idle: idle?,
                anchor: Some(anchor),
                last_answer: Instant::now(),
            }),
            place,
            known: Mutex::default(),
            reconnecting: AtomicBool::new(false),
            watchers: Watchers::default(),
        })
    }

    pub(crate) const fn place(&self) -> &Workplace {
        &self.place
    }

    pub(crate) const fn config(&self) -> &TokenConfig {
        &self.config
    }

    pub(crate) fn watch(&self, watcher: impl Fn() + Send + 'static) {
        self.watchers.add(watcher);
    }

    pub(crate) fn health(&self) -> Health {
        self.line().health.clone()
    }

    /// How long it has been since the token did what it was asked.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.line().last_answer.elapsed()
    }

    /// What the token must hold whenever it comes back.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work in a session. What fails costs the session: an operation may be open in it, and its
    /// handles may be what was wrong. If no other can be had, the token is lost.
    ///
    /// # Errors
    /// The work's; [`HsmError::Unavailable`] if it failed because the token is lost, or because the module
    /// failed.
    pub(crate) fn work<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Worker) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let taken = self.take(operation);
        let outcome = taken.and_then(|mut worker| match work(&mut worker) {
            Ok(done) => {
                self.give_back(worker);
                Ok(done)
            }
            Err(error) => {
                self.close(worker);
                Err(error)
            }
        });
        outcome.map_err(|error| match self.examine(operation) {
            Ok(()) => error.or_unavailable(operation),
            Err(_) => HsmError::Unavailable {
                operation,
                reason: match error {
                    HsmError::Unavailable { reason, .. } => reason,
                    other => other.to_string(),
                },
            },
        })
    }

    /// Whether the token gives a session that is logged in. If it does not, it is lost.
    ///
    /// # Errors
    /// It is, or was already.
    pub(crate) fn examine(&self, operation: &'static str) -> Result<(), HsmError> {
        let (slot, generation) = self.line().require_ready(operation)?;
        match self.logged_in_session(slot) {
            Ok(session) => {
                self.give_back(Worker::new(self.place.clone(), session, generation));
                Ok(())
            }
            Err(error) => {
                self.lose(generation, &error);
                Err(error)
            }
        }
    }

    fn logged_in_session(&self, slot: Slot) -> Result<Session, HsmError> {
        let session = self.place.session(slot)?;
        if is_logged_in(&session)? {
            return Ok(session);
        }
        Err(HsmError::Unavailable {
            operation: "open a session",
            reason: "the login is lost".to_owned(),
        })
    }

    /// A worker in a session of its own that can change what the token holds, on the caller's thread.
    pub(crate) fn writer(&self) -> Result<Worker, HsmError> {
        let (slot, generation) = self.line().require_ready("open a session")?;
        let session = self.place.writing_session(slot)?;
        Ok(Worker::new(self.place.clone(), session, generation))
    }

    fn take(&self, operation: &'static str) -> Result<Worker, HsmError> {
        let mut line = self.line();
        let (slot, generation) = line.require_ready(operation)?;
        if let Some(worker) = line.idle.pop() {
            return Ok(worker);
        }
        drop(line);
        let session = self.place.session(slot)?;
        Ok(Worker::new(self.place.clone(), session, generation))
    }

    fn give_back(&self, worker: Worker) {
        let mut line = self.line();
        let wanted = line.idle.len() < self.config.workers.max(1);
        if worker.generation == line.generation && line.health.is_ready() && wanted {
            line.last_answer = Instant::now();
            line.idle.push(worker);
        } else {
            drop(line);
            self.close(worker);
        }
    }

    fn close(&self, worker: Worker) {
        if worker.generation == self.line().generation {
            drop(worker);
        } else {
            // Closing it could close the session of somebody else that has the same handle now.
            std::mem::forget(worker);
        }
    }

    fn lose(&self, generation: u64, error: &HsmError) {
        let mut line = self.line();
        if line.generation != generation || !line.health.is_ready() {
            return;
        }
        tracing::error!(token = self.config.label, %error, "the token is lost");
        line.health = Health::Lost {
            reason: error.to_string(),
        };
        drop(line);
        self.watchers.tell();
    }

    /// Gives the token up for the life of this process.
    pub(crate) fn fail(&self, failure: Failure) {
        let mut line = self.line();
        if matches!(line.health, Health::Failed(_)) {
            return;
        }
        tracing::error!("{failure}");
        line.health = Health::Failed(failure);
        drop(line);
        self.watchers.tell();
    }

    /// Tries once to have sessions again. Does nothing while another try is under way, however long
    /// that takes: the PIN must not be tried again before it is known what became of it.
    pub(crate) fn reconnect(&self) {
        if self.reconnecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let _under_way = UnderWay(&self.reconnecting);
        match self.try_reconnect() {
            Ok(()) => self.watchers.tell(),
            Err(HsmError::PinIncorrect { token } | HsmError::PinLocked { token }) => {
                self.fail(Failure::PinRefused { token });
            }
            Err(error) => {
                tracing::warn!(token = self.config.label, %error, "the token is still lost");
                let mut line = self.line();
                if let Health::Lost { reason } = &mut line.health {
                    *reason = error.to_string();
                }
            }
        }
    }

    fn try_reconnect(&self) -> Result<(), HsmError> {
        let (idle, anchor, generation) = {
            let mut line = self.line();
            let idle = std::mem::take(&mut line.idle);
            (idle, line.anchor.take(), line.generation + 1)
        };
        // Closed, where they are still open, before there are new ones.
        drop((idle, anchor));

        let serial = self.config.serial.as_deref();
        let (slot, _) = self.module.find_token(&self.config.label, serial)?;
        let anchor = self.place.session(slot)?;
        // A call that is still inside of the module may have kept our login.
        log_in(&anchor, &self.pin, &self.config.label)?;
        let session = self.place.session(slot)?;
        let mut worker = Worker::new(self.place.clone(), session, generation);
        let known = self.known().copy();
        known.require(&mut worker, &self.config.label)?;

        let mut line = self.line();
        if let Health::Failed(_) = line.health {
            return Ok(());
        }
        tracing::info!(token = self.config.label, "the token is back");
        *line = Line {
            health: Health::Ready,
            generation,
            slot,
            idle: vec![worker],
            anchor: Some(anchor),
            last_answer: Instant::now(),
        };
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        line.idle.clear();
        // Explicitly: sessions of workers that are still to end would keep the login alive.
        if let Some(anchor) = &line.anchor
            && let Err(error) = anchor.logout()
        {
            tracing::warn!(%error, "could not log out");
        }
    }
}

impl Line {
    fn require_ready(&self, operation: &'static str) -> Result<(Slot, u64), HsmError> {
        if self.health.is_ready() {
            return Ok((self.slot, self.generation));
        }
        Err(HsmError::Unavailable {
            operation,
            reason: self.health.to_string(),
        })
    }
}

/// A try to reconnect, also one that panics.
struct UnderWay<'s>(&'s AtomicBool);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether a login is new or was there.
enum Login {
    New,
    Standing,
}

/// Logs in, unless this process is logged in. The PIN is tried once.
fn log_in(session: &Session, pin: &Pin, token: &str) -> Result<Login, HsmError> {
    let operation = "log in";
    let token = || token.to_owned();
    match session.login(UserType::User, Some(pin.as_secret())) {
        Ok(()) => Ok(Login::New),
        Err(CryptokiError::Pkcs11(code, function)) => match code {
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
                Err(HsmError::PinIncorrect { token: token() })
            }
            RvError::PinLocked => Err(HsmError::PinLocked { token: token() }),
            RvError::UserAlreadyLoggedIn | RvError::UserAnotherAlreadyLoggedIn => {
                Ok(Login::Standing)
            }
            _ => Err(CryptokiError::Pkcs11(code, function)).during(operation),
        },
        Err(error) => Err(error).during(operation),
    }
}

fn is_logged_in(session: &Session) -> Result<bool, HsmError> {
    let info = session.get_session_info().during("open a session")?;
    Ok(matches!(
        info.session_state(),
        SessionState::RoUser | SessionState::RwUser
    ))
}
