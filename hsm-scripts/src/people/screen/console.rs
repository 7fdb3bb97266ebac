//! The terminal as a whole: taken over, cleared, and given back however the program ends.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{MoveTo, Show},
        execute,
        terminal::{
            Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
            enable_raw_mode,
        },
    },
    layout::{Position, Rect, Size},
};
use zeroize::{Zeroize as _, Zeroizing};

/// A screen of the usual size is drawn with fewer bytes.
const ROOM: usize = 32 * 1024;

/// Whether there is something to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The alternate screen of the terminal, in raw mode. Nothing that was on it stays.
pub(super) struct Console {
    terminal: Terminal<CrosstermBackend<Output>>,
    /// What the buffers are for.
    size: Size,
}

impl Console {
    pub(super) fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let say = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                say(panic);
            }));
        });
        let mut output = Output::new()?;
        TAKEN.store(true, Ordering::Relaxed);
        let taken = enable_raw_mode()
            .and_then(|()| execute!(output, EnterAlternateScreen))
            .and_then(|()| Terminal::new(CrosstermBackend::new(output)))
            .and_then(|terminal| {
                let size = terminal.size()?;
                Ok(Self { terminal, size })
            });
        taken.inspect_err(|_| give_back())
    }

    /// When it was drawn last.
    pub(super) const fn size(&self) -> Size {
        self.size
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if self.terminal.size()? != self.size {
            // Before the buffers grow, which would leave their cells behind.
            self.wipe()?;
        }
        self.terminal.draw(draw).map(|_| ())
    }

    /// Clears the screen, what was scrolled off it, and both buffers that it is drawn from.
    ///
    /// A terminal emulator in a window may keep a copy all the same: in its own memory, in a log if
    /// it writes one, in the swap space of its machine. No program can clear that.
    pub(super) fn wipe(&mut self) -> io::Result<()> {
        self.forget();
        self.size = self.terminal.size()?;
        self.terminal
            .resize(Rect::from((Position::ORIGIN, self.size)))?;
        execute!(self.terminal.backend_mut(), Clear(ClearType::Purge))
    }

    /// Resets both buffers: the one that was drawn last, and the other, if that was not done to its end.
    fn forget(&mut self) {
        self.terminal.swap_buffers();
        self.terminal.swap_buffers();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.forget();
        give_back();
    }
}

/// Clears the screen and gives it back, once. Does what it can: who calls it is about to end.
fn give_back() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        // Cleared also because some consoles have no alternate screen.
        let mut out = io::stdout();
        let cleared = execute!(out, Clear(ClearType::All), Clear(ClearType::Purge));
        drop(cleared.and_then(|()| execute!(out, MoveTo(0, 0), Show, LeaveAlternateScreen)));
        drop(disable_raw_mode());
    }
}

/// Standard output past its buffer, which keeps what went through it.
struct Output {
    terminal: File,
    /// Never grows.
    pending: Zeroizing<Vec<u8>>,
}

impl Output {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminal: io::stdout().as_fd().try_clone_to_owned()?.into(),
            pending: Zeroizing::new(Vec::with_capacity(ROOM)),
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() == ROOM {
            self.flush()?;
        }
        let fits = bytes.len().min(ROOM - self.pending.len());
        self.pending.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.terminal.write_all(&self.pending);
        // Wiped also where it was not written: the terminal is gone then.
        self.pending.zeroize();
        written
    }
}
