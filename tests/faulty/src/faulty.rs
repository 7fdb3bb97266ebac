//! All that there is one of in a process, and what commands do to it.

use std::{
    env,
    fmt::Display,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use cryptoki_sys::{CK_RV, CK_SLOT_ID, CKR_GENERAL_ERROR};

use crate::{
    command::Command,
    control::Control,
    functions::{Function, Subject},
    gate::{Effect, Gate},
    nss::nss,
    real::Real,
    tokens::Tokens,
};

/// The library of the real module.
const MODULE: &str = "FAULTY_MODULE";
/// The socket's path.
const CONTROL: &str = "FAULTY_CONTROL";
/// Commands to start with.
const START: &str = "FAULTY_START";

/// A test that waits longer than this waits for something that does not happen.
const HANGING_LIMIT: Duration = Duration::from_secs(30);

pub(crate) static FAULTY: Faulty = Faulty {
    real: OnceLock::new(),
    gate: Gate::new(),
    tokens: Mutex::new(Tokens::new()),
    traffic: RwLock::new(()),
    control: Control::new(),
    started: OnceLock::new(),
};

pub(crate) struct Faulty {
    /// None if it cannot be loaded.
    real: OnceLock<Option<Real>>,
    gate: Gate,
    tokens: Mutex<Tokens>,
    /// Read by calls while they are in the real module, written by commands that close its sessions.
    /// Not every module bears that a session is closed while it is used.
    traffic: RwLock<()>,
    control: Control,
    /// What came of the commands to start with.
    started: OnceLock<Result<(), String>>,
}

impl Faulty {
    /// What each function does: `forward` is called unless something keeps the call from it.
    pub(crate) fn pass(
        &self,
        function: Function,
        subject: Subject,
        forward: impl FnOnce(&Real) -> CK_RV,
    ) -> CK_RV {
        let Some(real) = self.real() else {
            return CKR_GENERAL_ERROR;
        };
        if let Err(code) = self.gate.pass(function) {
            return code;
        }
        let call = || {
            let passed = self.tokens().pass(function, subject);
            match passed {
                Ok(()) => {
                    let begun = Instant::now();
                    let code = forward(real);
                    self.gate.took(function, begun.elapsed());
                    code
                }
                Err(code) => code,
            }
        };
        match function {
            // The one takes commands itself, the other may take for ever.
            Function::C_Initialize | Function::C_WaitForSlotEvent => call(),
            _ => self.while_undisturbed(call),
        }
    }

    /// Keeps commands off the sessions meanwhile.
    pub(crate) fn while_undisturbed<T>(&self, call: impl FnOnce() -> T) -> T {
        let _traffic = self.traffic.read().unwrap_or_else(PoisonError::into_inner);
        call()
    }

    /// Held for the moment, and never while the real module is called.
    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the tokens that commands named again: slots may have been numbered anew. Then carries
    /// out the commands to start with, the first time, and listens for others.
    ///
    /// # Errors
    /// What is wrong with them, or with the socket.
    pub(crate) fn start(&self, real: &Real) -> Result<(), String> {
        let troubled = self.tokens().troubled();
        for label in troubled {
            let slot = real.slot_of(&label).ok();
            self.tokens().locate(&label, slot);
        }
        self.started
            .get_or_init(|| {
                let commands = env::var(START).unwrap_or_default();
                let commands = commands.split(';').map(str::trim);
                for command in commands.filter(|command| !command.is_empty()) {
                    self.obey(command)
                        .map_err(|error| format!("{START}: {error}"))?;
                }
                Ok(())
            })
            .clone()?;
        let Some(path) = env::var_os(CONTROL) else {
            return Ok(());
        };
        self.control
            .listen(Path::new(&path), answer)
            .map_err(|error| format!("{CONTROL}={}: {error}", path.display()))
    }

    pub(crate) fn stop(&self) {
        self.control.stop();
    }

    fn real(&self) -> Option<&Real> {
        let load = || {
            let named = nss().map(|nss| nss.library.clone());
            let Some(path) = named.or_else(|| env::var_os(MODULE)) else {
                complain(&format!("{MODULE} is not set"));
                return None;
            };
            let real = Real::load(&path);
            real.map_err(|error| complain(&format!("{MODULE}={}: {error}", path.display())))
                .ok()
        };
        self.real.get_or_init(load).as_ref()
    }

    /// # Errors
    /// Why the command was not carried out.
    fn obey(&self, line: &str) -> Result<String, String> {
        match Command::parse(line)? {
            Command::Delay { target, time } => self.gate.delay(target, time),
            Command::Fail {
                target,
                code,
                calls,
            } => self.gate.inject(target, calls, Effect::Fail(code)),
            Command::Hang { target, calls } => self.gate.inject(target, calls, Effect::Hang),
            Command::Die { target, calls } => self.gate.inject(target, calls, Effect::Die),
            Command::Release => self.gate.release(),
            Command::WaitHanging(count) => self
                .gate
                .wait_hanging(count, HANGING_LIMIT)
                .map_err(|hanging| format!("{hanging} calls hang"))?,
            Command::LoseSessions(label) => {
                self.without_traffic(|real| self.lose_sessions(real, label.as_deref()))?;
            }
            Command::Remove(label) => self.without_traffic(|real| self.remove(real, &label))?,
            Command::Insert(label) => self.tokens().insert(&label)?,
            Command::FailToken { label, code } => self.without_traffic(|real| {
                let slot = real.slot_of(&label)?;
                self.tokens().fail(&label, slot, code);
                Ok(())
            })?,
            Command::HealToken(label) => self.tokens().heal(&label)?,
            Command::Count(target) => return Ok(self.gate.count(target).to_string()),
            Command::Counts => return Ok(by_function(self.gate.counts())),
            Command::Times => {
                let times = self.gate.times().into_iter();
                let times = times.map(|(function, time)| (function, time.as_micros()));
                return Ok(by_function(times));
            }
            Command::Clear => {
                self.tokens().clear();
                self.gate.clear();
            }
        }
        Ok("ok".to_owned())
    }

    fn lose_sessions(&self, real: &Real, label: Option<&str>) -> Result<(), String> {
        let slots = match label {
            None => self.tokens().slots_with_sessions(),
            Some(label) => [self.present(real, label)?].into(),
        };
        for slot in slots {
            real.close_all_sessions(slot)?;
            self.tokens().closed_all(slot);
        }
        Ok(())
    }

    fn remove(&self, real: &Real, label: &str) -> Result<(), String> {
        let slot = self.present(real, label)?;
        real.close_all_sessions(slot)?;
        self.tokens().remove(label, slot);
        Ok(())
    }

    fn present(&self, real: &Real, label: &str) -> Result<CK_SLOT_ID, String> {
        let slot = real.slot_of(label)?;
        if self.tokens().is_removed(slot) {
            return Err(format!("{label:?} is removed"));
        }
        Ok(slot)
    }

    /// Waits until no call is in the real module, and keeps them out meanwhile.
    fn without_traffic(&self, act: impl FnOnce(&Real) -> Result<(), String>) -> Result<(), String> {
        let real = self.real().ok_or("there is no real module")?;
        let _alone = self.traffic.write().unwrap_or_else(PoisonError::into_inner);
        act(real)
    }
}

/// As `C_Login=1 C_Sign=3`.
fn by_function(figures: impl IntoIterator<Item = (Function, impl Display)>) -> String {
    let figures = figures.into_iter();
    let figures = figures.map(|(function, figure)| format!("{}={figure}", function.name()));
    figures.collect::<Vec<_>>().join(" ")
}

pub(crate) fn complain(text: &str) {
    eprintln!("faulty-module: {text}");
}

fn answer(line: &str) -> String {
    FAULTY
        .obey(line)
        .unwrap_or_else(|error| format!("error: {error}"))
}
