//! The full screen: a page for each step of the ceremony.
//!
//! ```text
//! console    the terminal: taken over, cleared, given back
//! keyboard   keys, out of bytes
//! guide      what was done, what happens now, what comes next
//! page       how all of it is laid out
//! steps/     the pages
//! ```
//!
//! While somebody is asked, nothing else happens. Between two questions the HSM is at work: a thread
//! draws that, and throws away what is typed meanwhile.

mod console;
mod guide;
mod keyboard;
mod page;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod pictures;
mod steps;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hsm::{ClearKey, Kcv};

use self::{
    console::Console,
    guide::Guide,
    keyboard::{Key, key},
    page::{draw, fits, too_small},
    steps::{
        Alone, CheckValue, ConfirmDigest, End, EnterComponent, EnterPin, ShowComponent, Step, Stop,
        Working,
    },
};
use super::{
    Agenda, Component, Ending, Entered, KcvAnswer, People, Typed, Typing,
    input::{Input, nobody, stopped},
};
use crate::CeremonyError;

/// How often it is shown that the HSM is at work.
const TICK: Duration = Duration::from_millis(250);

/// The people, behind a screen of at least 80 columns and 24 rows.
pub struct FullScreen {
    stage: Arc<Mutex<Stage>>,
    at_work: Option<AtWork>,
    /// Said on the ordinary screen when this one is gone.
    last_words: Option<String>,
}

/// What is on the screen, and who reads the keyboard.
struct Stage {
    guide: Guide,
    /// `None` when it was given back.
    console: Option<Console>,
    input: Input,
    /// Ctrl-C was pressed while nobody was asked.
    interrupted: bool,
    /// Since when the HSM is at work.
    since: Instant,
}

/// The thread that shows that the HSM is at work.
struct AtWork {
    thread: JoinHandle<()>,
    /// It ends when this is dropped.
    until: Sender<()>,
}

impl FullScreen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`]: it is too small, or none.
    pub fn new() -> Result<Self, CeremonyError> {
        let input = Input::new()?;
        let console = Console::take().map_err(gone)?;
        let size = console.size();
        if !fits(size) {
            drop(console);
            return Err(CeremonyError::Declined(format!(
                "{} Make it larger, or run this with --plain. Nothing has happened.",
                too_small(size)
            )));
        }
        let stage = Stage {
            guide: Guide::new(Agenda::default()),
            console: Some(console),
            input,
            interrupted: false,
            since: Instant::now(),
        };
        Ok(Self {
            stage: Arc::new(Mutex::new(stage)),
            at_work: None,
            last_words: None,
        })
    }

    /// With the screen and the keyboard, and nothing in the background.
    fn with<T>(&mut self, act: impl FnOnce(&mut Stage) -> T) -> T {
        if let Some(AtWork { thread, until }) = self.at_work.take() {
            drop(until);
            // It draws, and has nothing to say.
            drop(thread.join());
        }
        act(&mut locked(&self.stage))
    }

    /// Asks somebody something; then the HSM is at work again.
    fn ask<S: Step>(
        &mut self,
        step: &mut S,
        prepare: impl FnOnce(&mut Guide),
    ) -> Result<S::Answer, CeremonyError> {
        let answer = self.with(|stage| {
            prepare(&mut stage.guide);
            stage.ask(step)
        });
        self.go_to_work();
        answer
    }

    /// Changes the guide; then the HSM is at work again.
    fn note(&mut self, change: impl FnOnce(&mut Guide)) {
        self.with(|stage| change(&mut stage.guide));
        self.go_to_work();
    }

    fn go_to_work(&mut self) {
        let stage = Arc::clone(&self.stage);
        let (until, ended) = mpsc::channel();
        locked(&stage).show_work();
        let thread = thread::Builder::new().spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                locked(&stage).show_work();
            }
        });
        // Without a thread, the seconds stand still.
        self.at_work = thread.ok().map(|thread| AtWork { thread, until });
    }
}

impl Stage {
    /// Shows a step until it is answered.
    fn ask<S: Step>(&mut self, step: &mut S) -> Result<S::Answer, CeremonyError> {
        let answer = self.until_answered(step);
        // Whoever comes next sees nothing of it.
        self.wipe();
        self.guide.heard();
        self.since = Instant::now();
        answer
    }

    fn until_answered<S: Step>(&mut self, step: &mut S) -> Result<S::Answer, CeremonyError> {
        self.interrupted |= self.input.forget()?;
        if step.can_be_stopped() {
            self.require_no_interrupt()?;
        }
        self.wipe();
        loop {
            let has_room = self.show(step).map_err(gone)?;
            match key(&mut self.input, None)? {
                Some(Key::Interrupt) if step.can_be_stopped() => {
                    self.interrupted = true;
                    self.require_no_interrupt()?;
                    self.wipe();
                }
                Some(pressed) if has_room || step.needs_no_room() => {
                    if let Some(answer) = step.press(pressed) {
                        return Ok(answer);
                    }
                }
                _ => {}
            }
        }
    }

    /// If somebody pressed Ctrl-C, asks whether it was meant.
    fn require_no_interrupt(&mut self) -> Result<(), CeremonyError> {
        self.interrupted |= self.input.forget()?;
        if !std::mem::take(&mut self.interrupted) {
            return Ok(());
        }
        self.wipe();
        loop {
            self.show(&mut Stop).map_err(gone)?;
            let pressed = key(&mut self.input, None)?;
            match pressed.and_then(|key| Stop.press(key)) {
                Some(true) => return Err(stopped()),
                Some(false) => return Ok(()),
                None => {}
            }
        }
    }

    /// Shows that the HSM is at work.
    fn show_work(&mut self) {
        // That it was told to end is found out at the next question.
        self.interrupted |= self.input.forget().unwrap_or_default();
        let mut working = Working {
            elapsed: self.since.elapsed(),
            interrupted: self.interrupted,
        };
        // A terminal that is gone is, too.
        drop(self.show(&mut working));
    }

    /// Draws a step; says whether there is room for it.
    fn show(&mut self, step: &mut impl Step) -> io::Result<bool> {
        let Some(console) = &mut self.console else {
            return Ok(false);
        };
        let guide = &self.guide;
        console.draw(|frame| draw(frame, guide, step))?;
        Ok(fits(console.size()))
    }

    fn wipe(&mut self) {
        if let Some(console) = &mut self.console {
            // A terminal that is gone shows nothing.
            drop(console.wipe());
        }
    }
}

impl People for FullScreen {
    fn begin(&mut self, agenda: Agenda) {
        self.note(|guide| *guide = Guide::new(agenda));
    }

    fn type_digest(&mut self, officer: &str) -> Result<String, CeremonyError> {
        self.ask(&mut ConfirmDigest::new(officer), |guide| {
            guide.officer_confirms(officer);
        })
    }

    fn type_pin(&mut self, token: &str, holder: Option<&str>) -> Result<Typed, CeremonyError> {
        self.ask(&mut EnterPin::new(token, holder), |guide| {
            if holder.is_none() {
                guide.tokens_are_opened();
            }
        })
    }

    fn act_begins(&mut self, number: usize) -> Result<(), CeremonyError> {
        let goes_on = self.with(|stage| {
            stage.guide.act_begins(number);
            stage.since = Instant::now();
            stage.require_no_interrupt()
        });
        self.go_to_work();
        goes_on
    }

    fn act_ends(&mut self, number: usize, outcome: Result<&str, &CeremonyError>) {
        self.note(|guide| guide.act_ends(number, outcome));
    }

    fn tell(&mut self, text: &str) {
        self.note(|guide| guide.told.push(text.to_owned()));
    }

    fn alone(&mut self, person: &str) -> Result<(), CeremonyError> {
        self.ask(&mut Alone { person }, |_| ())
    }

    fn type_component(
        &mut self,
        component: &Component<'_>,
        why: Typing,
    ) -> Result<Typed, CeremonyError> {
        self.ask(&mut EnterComponent::new(component, why), |_| ())
    }

    fn confirm_kcv(
        &mut self,
        component: &Component<'_>,
        entered: &Entered,
    ) -> Result<KcvAnswer, CeremonyError> {
        self.ask(&mut CheckValue { component, entered }, |_| ())
    }

    fn show_component(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
        kcv: &Kcv,
    ) -> Result<(), CeremonyError> {
        let mut step = ShowComponent {
            component,
            value,
            kcv,
        };
        self.ask(&mut step, |_| ())
    }

    fn part(&mut self) {
        self.with(Stage::wipe);
        self.go_to_work();
    }

    fn end(&mut self, ending: &Ending<'_>) {
        self.last_words = Some(ending.to_string());
        let seen = self.with(|stage| {
            stage.guide.end();
            stage.ask(&mut End { ending })
        });
        // It has ended, also for somebody who does not look.
        drop(seen);
    }

    fn break_off(&mut self, ending: &Ending<'_>) {
        self.last_words = Some(ending.to_string());
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        self.with(|stage| stage.console = None);
        if let Some(last_words) = &self.last_words {
            let mut out = io::stdout();
            drop(io::Write::write_all(
                &mut out,
                format!("{last_words}\n").as_bytes(),
            ));
        }
    }
}

impl fmt::Debug for FullScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FullScreen(..)")
    }
}

fn locked(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn gone(error: io::Error) -> CeremonyError {
    nobody(&error.to_string())
}
