//! The sessions with a token, the login that they live by, and how both come back after a loss.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use cryptoki::{
    error::{Error as CryptokiError, RvError},
    session::{SessionState, UserType},
    slot::Slot,
};

use crate::{
    Failure, Health, HsmError, Module, Pin, TokenConfig, TokenInfo,
    error::CallResult,
    health::Watchers,
    known::Known,
    self_test::Sealing,
    session::Session,
    worker::{Worker, Workplace},
};

/// Sessions with one token. Whoever works takes one, and gives it back if nothing failed in it.
pub(crate) struct Sessions {
    module: Module,
    config: TokenConfig,
    /// To log in again after a loss.
    pin: Pin,
    place: Workplace,
    /// As it was when it was first there.
    info: OnceLock<TokenInfo>,
    /// What became of the self-test.
    sealing: OnceLock<Sealing>,
    line: Mutex<Line>,
    /// Since when somebody has been trying to have sessions.
    trying: Mutex<Option<Instant>>,
    watchers: Watchers,
}

/// What a loss changes.
struct Line {
    health: Health,
    /// Counts how often it was opened. A session of another generation is lost, and its handle may be
    /// that of somebody else's session by now.
    generation: u64,
    /// Where it was last.
    slot: Option<Slot>,
    /// Whether a login of this process was ever ours: one that stands before that is somebody else's.
    logged_in: bool,
    /// Whether somebody was told that it is not there.
    missed: bool,
    idle: Vec<Worker>,
    /// The session that logged in, for all of this process's sessions with the token.
    anchor: Option<Session>,
    last_answer: Instant,
}

impl Sessions {
    /// None yet: [`Self::connect`] makes them.
    pub(crate) fn new(module: &Module, config: &TokenConfig, pin: &Pin) -> Self {
        Self {
            place: Workplace::new(module, &config.label, config.accept_imported_keys),
            module: module.clone(),
            config: config.clone(),
            pin: pin.clone(),
            info: OnceLock::new(),
            sealing: OnceLock::new(),
            line: Mutex::new(Line {
                health: Health::Lost {
                    reason: "it was never open".to_owned(),
                },
                generation: 0,
                slot: None,
                logged_in: false,
                missed: false,
                idle: Vec::new(),
                anchor: None,
                last_answer: Instant::now(),
            }),
            trying: Mutex::default(),
            watchers: Watchers::default(),
        }
    }

    pub(crate) const fn place(&self) -> &Workplace {
        &self.place
    }

    pub(crate) const fn config(&self) -> &TokenConfig {
        &self.config
    }

    pub(crate) fn info(&self) -> Option<&TokenInfo> {
        self.info.get()
    }

    /// Which token it is, in words.
    pub(crate) fn title(&self) -> String {
        let serial = self.info().map(|info| &info.serial);
        match serial.or(self.config.serial.as_ref()) {
            Some(serial) => format!("{} ({serial})", self.config.label),
            None => self.config.label.clone(),
        }
    }

    pub(crate) const fn sealing(&self) -> &OnceLock<Sealing> {
        &self.sealing
    }

    pub(crate) fn watch(&self, watcher: impl Fn() + Send + 'static) {
        self.watchers.add(watcher);
    }

    pub(crate) fn health(&self) -> Health {
        self.line().health.clone()
    }

    /// Which generation of sessions there is, if there is one.
    pub(crate) fn generation(&self) -> Option<u64> {
        let line = self.line();
        line.health.is_ready().then_some(line.generation)
    }

    /// How long it has been since the token did what it was asked.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.line().last_answer.elapsed()
    }

    /// What the token must be and hold whenever it comes back.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.place.known()
    }

    /// Adds to what is known. If it came back without that, after it was `asked`, it has to come back
    /// again.
    pub(crate) fn remember(&self, asked: Option<u64>, add: impl Fn(&mut Known)) {
        add(&mut self.known());
        if let Some(generation) = self.generation().filter(|now| Some(*now) != asked) {
            let unseen = HsmError::Unavailable {
                operation: "compare keys",
                reason: "it came back before all that it must hold was known".to_owned(),
            };
            self.lose(generation, &unseen);
        }
    }

    /// Work in a session. What fails costs the session: an operation may be open in it, and its
    /// handles may be what was wrong. If no other can be had, or if it holds other keys than it did, the token
    /// is lost.
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
        let outcome = taken.and_then(|mut worker| {
            let generation = worker.generation;
            match work(&mut worker) {
                Ok(done) if self.is_present(generation) => {
                    self.give_back(worker);
                    Ok(done)
                }
                // What its handles stood for meanwhile nobody knows.
                Ok(_) => {
                    self.close(worker);
                    Err(HsmError::Unavailable {
                        operation,
                        reason: "the token was lost meanwhile".to_owned(),
                    })
                }
                Err(error) => {
                    self.close(worker);
                    if matches!(error, HsmError::KeyDiffers { .. }) {
                        self.lose(generation, &error);
                    }
                    Err(error)
                }
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
            // It is there, and others have what we were to have.
            Err(error) if error.is_session_limit() => Ok(()),
            Err(error) => {
                self.lose(generation, &error);
                Err(error)
            }
        }
    }

    /// Whether the token has not been lost since this generation began.
    fn is_present(&self, generation: u64) -> bool {
        self.generation() == Some(generation)
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
        tracing::error!(token = self.title(), %error, "the token is lost");
        line.health = Health::Lost {
            reason: error.to_string(),
        };
        line.missed = true;
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

    /// Tries again to have sessions with a token that is lost.
    pub(crate) fn reconnect(&self) {
        let Some(Err(error)) = self.try_connect() else {
            return;
        };
        tracing::warn!(token = self.title(), %error, "the token is still lost");
        self.miss(&error);
    }

    /// Takes note that somebody learns that it is not there.
    pub(crate) fn miss(&self, error: &HsmError) {
        let mut line = self.line();
        line.missed = true;
        let now = Health::Lost {
            reason: error.to_string(),
        };
        if line.health == now || !matches!(line.health, Health::Lost { .. }) {
            return;
        }
        line.health = now;
        drop(line);
        self.watchers.tell();
    }

    /// Tries once to have sessions, whoever waits for it. Does nothing while another try is under way,
    /// however long that takes: the PIN must not be tried again before it is known what became of it.
    pub(crate) fn try_connect(&self) -> Option<Result<(), HsmError>> {
        let _under_way = UnderWay::begin(&self.trying)?;
        if !matches!(self.health(), Health::Lost { .. }) {
            return None;
        }
        let outcome = self.connect();
        match &outcome {
            Ok(()) => self.watchers.tell(),
            Err(HsmError::PinIncorrect { token } | HsmError::PinLocked { token }) => {
                let token = token.clone();
                self.fail(Failure::PinRefused { token });
            }
            Err(_) => {}
        }
        Some(outcome)
    }

    /// For how long somebody has been trying, if anybody is.
    pub(crate) fn trying_for(&self) -> Option<Duration> {
        let trying = self.trying.lock().unwrap_or_else(PoisonError::into_inner);
        trying.map(|since| since.elapsed())
    }

    /// Has new sessions. Nobody else may be trying.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn connect(&self) -> Result<(), HsmError> {
        let (idle, anchor, generation) = {
            let mut line = self.line();
            let idle = std::mem::take(&mut line.idle);
            (idle, line.anchor.take(), line.generation + 1)
        };
        // Closed, where they are still open, before there are new ones.
        drop((idle, anchor));

        let serial = self.config.serial.as_deref();
        let (slot, info) = self.module.find_token(&self.config.label, serial)?;
        self.place.learn(slot)?;
        let anchor = self.place.session(slot)?;
        self.log_in(&anchor)?;
        let session = || -> Result<Worker, HsmError> {
            let session = self.place.session(slot)?;
            Ok(Worker::new(self.place.clone(), session, generation))
        };
        // At first all that there will be, so that a token with too few shows now.
        let wanted = match self.info() {
            None => self.config.workers.max(1),
            Some(_) => 1,
        };
        let others: Result<Vec<Worker>, HsmError> = (1..wanted).map(|_| session()).collect();
        let (mut idle, mut worker) = (others?, session()?);
        loop {
            let known = self.known().clone();
            known.require(&mut worker, &self.sealing)?;
            // Whoever adds something from here on sees that it is back.
            let now = self.known();
            if !now.has_more_than(&known) {
                self.info.get_or_init(|| info);
                idle.push(worker);
                self.ready(generation, slot, idle, anchor);
                return Ok(());
            }
        }
    }

    fn ready(&self, generation: u64, slot: Slot, idle: Vec<Worker>, anchor: Session) {
        let mut line = self.line();
        if let Health::Failed(_) = line.health {
            return;
        }
        if line.missed {
            tracing::info!(token = self.title(), "the token is back");
        }
        *line = Line {
            health: Health::Ready,
            generation,
            slot: Some(slot),
            logged_in: true,
            missed: false,
            idle,
            anchor: Some(anchor),
            last_answer: Instant::now(),
        };
    }

    /// Logs in: one try, since every wrong PIN brings the token closer to locking.
    fn log_in(&self, anchor: &Session) -> Result<(), HsmError> {
        match log_in(anchor, &self.pin, &self.config.label)? {
            Login::New => self.line().logged_in = true,
            // A call that is still inside of the module may have kept our login. One that was never ours
            // is by a PIN that we do not know.
            Login::Standing if self.line().logged_in => {}
            Login::Standing => {
                return Err(HsmError::TokenInUse {
                    label: self.config.label.clone(),
                });
            }
        }
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
        match self.slot {
            Some(slot) if self.health.is_ready() => Ok((slot, self.generation)),
            _ => Err(HsmError::Unavailable {
                operation,
                reason: self.health.to_string(),
            }),
        }
    }
}

/// A try to have sessions, also one that panics.
struct UnderWay<'s>(&'s Mutex<Option<Instant>>);

impl<'s> UnderWay<'s> {
    /// None if there is one.
    fn begin(trying: &'s Mutex<Option<Instant>>) -> Option<Self> {
        let mut since = trying.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some() {
            return None;
        }
        *since = Some(Instant::now());
        Some(Self(trying))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
