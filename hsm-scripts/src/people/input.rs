//! What arrives while somebody is asked: bytes that were typed, and signals.
//!
//! Standard input is read here, by its descriptor, and nowhere else: buffers of libraries would keep what
//! was typed.

use std::{
    fmt,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{QueueSelector, isatty, tcflush},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    flag,
    low_level::pipe,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::CeremonyError;

/// As much as is read at once.
const AT_ONCE: usize = 256;

/// Standard input and the signals, of which none ends the program by itself any more.
pub(super) struct Input {
    source: OwnedFd,
    read: Zeroizing<[u8; AT_ONCE]>,
    taken: usize,
    filled: usize,
    told_to_end: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
    /// Becomes readable with each signal.
    signals: UnixStream,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input(..)")
    }
}

/// What arrived.
pub(super) enum Arrival {
    Byte(u8),
    /// SIGINT: somebody wants to stop.
    Interrupt,
    /// The terminal has another size.
    Resize,
    /// Nothing, for as long as that was waited for.
    Nothing,
}

impl Input {
    pub(super) fn new() -> Result<Self, CeremonyError> {
        let source = io::stdin().as_fd().try_clone_to_owned();
        source
            .and_then(Self::of)
            .map_err(|error| nobody(&error.to_string()))
    }

    pub(super) fn of(source: OwnedFd) -> io::Result<Self> {
        let (signals, wake) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        let told_to_end = Arc::default();
        let interrupted = Arc::default();
        let resized = Arc::default();
        for (signal, seen) in [
            (SIGTERM, &told_to_end),
            (SIGHUP, &told_to_end),
            (SIGQUIT, &told_to_end),
            (SIGINT, &interrupted),
            (SIGWINCH, &resized),
        ] {
            // In this order: who is woken finds the flag set.
            flag::register(signal, Arc::clone(seen))?;
            pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(Self {
            source,
            read: Zeroizing::new([0; AT_ONCE]),
            taken: 0,
            filled: 0,
            told_to_end,
            interrupted,
            resized,
            signals,
        })
    }

    /// Waits for what comes next: as long as it takes, or for `patience`.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`]: the program was told to end, or nobody can answer any more.
    pub(super) fn next(&mut self, patience: Option<Duration>) -> Result<Arrival, CeremonyError> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            if self.interrupted()? {
                return Ok(Arrival::Interrupt);
            }
            if self.resized.swap(false, Ordering::Relaxed) {
                return Ok(Arrival::Resize);
            }
            if self.taken < self.filled {
                let byte = std::mem::take(&mut self.read[self.taken]);
                self.taken += 1;
                return Ok(Arrival::Byte(byte));
            }
            let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
            if !self.fill(patience)? {
                return Ok(Arrival::Nothing);
            }
        }
    }

    /// Waits for bytes or a signal; false if there was neither in time.
    fn fill(&mut self, patience: Option<Duration>) -> Result<bool, CeremonyError> {
        let mut sources = [
            PollFd::new(&self.source, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let timeout = patience.map(|patience| Timespec {
            tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        });
        match poll(&mut sources, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(nobody(&error.to_string())),
        }
        let [typed, signalled] = sources.map(|source| !source.revents().is_empty());
        if signalled {
            // Empties it; the flags say which they were.
            while matches!(self.signals.read(&mut [0; 16]), Ok(read) if read > 0) {}
        } else if typed {
            (self.taken, self.filled) = (0, 0);
            match rustix::io::read(&self.source, self.read.as_mut_slice()) {
                Ok(0) => return Err(nobody("the input has ended")),
                Ok(read) => self.filled = read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(nobody(&error.to_string())),
            }
        }
        Ok(true)
    }

    /// Whether SIGINT came meanwhile.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`]: the program was told to end.
    pub(super) fn interrupted(&mut self) -> Result<bool, CeremonyError> {
        if self.told_to_end.load(Ordering::Relaxed) {
            let cause = "the program was told to end".to_owned();
            return Err(CeremonyError::Declined(cause));
        }
        Ok(self.interrupted.swap(false, Ordering::Relaxed))
    }

    /// Forgets the lines that were typed at a terminal before they were asked for.
    pub(super) fn forget_lines(&mut self) {
        if isatty(&self.source) {
            // One that is gone has none.
            let _ = tcflush(&self.source, QueueSelector::IFlush);
            (self.taken, self.filled) = (0, 0);
            self.read.zeroize();
        }
    }

    /// Forgets the keys that were pressed before they were asked for. Says whether there was a Ctrl-C in it.
    pub(super) fn forget(&mut self) -> Result<bool, CeremonyError> {
        let mut interrupted = false;
        loop {
            match self.next(Some(Duration::ZERO))? {
                Arrival::Byte(CTRL_C) | Arrival::Interrupt => interrupted = true,
                Arrival::Byte(_) | Arrival::Resize => {}
                Arrival::Nothing => {
                    self.read.zeroize();
                    return Ok(interrupted);
                }
            }
        }
    }
}

/// What the key sends where the terminal makes no signal of it.
pub(super) const CTRL_C: u8 = 0x03;

/// Somebody pressed Ctrl-C and meant it.
pub(super) fn stopped() -> CeremonyError {
    CeremonyError::Declined("somebody pressed Ctrl-C and said that it shall stop".to_owned())
}

pub(super) fn nobody(cause: &str) -> CeremonyError {
    CeremonyError::Declined(format!(
        "nobody answers: {cause}; start again when somebody does"
    ))
}
