//! Plain lines: for screen readers and recordings, and wherever there is no screen.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

use hsm::{ClearKey, Kcv, Pin};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{
    Agenda, Component, Ending, Entered, KcvAnswer, MAX_PIN_LEN, People, Typed, Typing, can_clear,
    component::{MAX_TYPED, spelled},
    digest::{GROUPS_PER_LINE, grouped},
    input::{Arrival, Input, nobody, stopped},
};
use crate::{CeremonyError, plain::escaped_lines};

/// Longer than any answer that is meant.
const MAX_ANSWER: usize = 1024;
/// As cards for people demand (FIPS 201); a module may demand more.
const MIN_NEW_PIN_LEN: usize = 6;
/// Clears the screen and what was scrolled off it.
const CLEAR: &[u8] = b"\x1b[2J\x1b[3J\x1b[H";

/// Everything is said in lines of text: no cursor moves, nothing is drawn, nothing is said by a colour.
///
/// The one exception is a component that is given out: the screen is cleared after it.
#[derive(Debug)]
pub struct LineMode {
    input: Input,
    acts: Vec<String>,
}

/// What became of a line.
enum Line {
    Typed(Typed),
    TooLong,
    /// By Ctrl-C: the terminal has thrown away what stood in it.
    Interrupted,
}

impl LineMode {
    /// On standard input and output.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`]: signals cannot be caught.
    pub fn new() -> Result<Self, CeremonyError> {
        Ok(Self {
            input: Input::new()?,
            acts: Vec::new(),
        })
    }

    /// Asks for a line that may be seen.
    fn ask(&mut self, question: &str) -> Result<String, CeremonyError> {
        loop {
            self.input.forget_lines();
            prompt(question);
            let line = self.line(MAX_ANSWER)?;
            if let Some(typed) = self.accept(line)? {
                return Ok(typed.expose_typed().trim().to_owned());
            }
        }
    }

    /// Asks for a line that is not shown.
    fn ask_hidden(&mut self, question: &str, room: usize) -> Result<Typed, CeremonyError> {
        loop {
            let hidden = EchoOff::new()?;
            self.input.forget_lines();
            prompt(question);
            let line = self.line(room);
            drop(hidden);
            if let Some(typed) = self.accept(line?)? {
                return Ok(typed);
            }
        }
    }

    /// Has a token's holder make its PIN: they type it twice, until both are the same, and nobody is shown it.
    pub(crate) fn make_pin(&mut self, token: &str) -> Result<Pin, CeremonyError> {
        loop {
            let question = format!("New PIN of token {token:?}, by its holder alone (not shown):");
            let pin = self.ask_hidden(&question, MAX_PIN_LEN)?;
            if pin.count() < MIN_NEW_PIN_LEN {
                say(&format!(
                    "A PIN has at least {MIN_NEW_PIN_LEN} characters. Nothing was used; type another."
                ));
                continue;
            }
            let again = self.ask_hidden("The same again (not shown):", MAX_PIN_LEN)?;
            if again.expose_typed() == pin.expose_typed() {
                return Ok(Pin::new(pin.expose_typed().into()));
            }
            say("That was not the same. Nothing was used; type both again.");
        }
    }

    /// What was typed, unless the question has to be asked again.
    fn accept(&mut self, line: Line) -> Result<Option<Typed>, CeremonyError> {
        match line {
            Line::Typed(typed) => return Ok(Some(typed)),
            Line::TooLong => say("That is too long. Nothing was used; type it again."),
            Line::Interrupted => self.ask_to_stop()?,
        }
        Ok(None)
    }

    /// Somebody pressed Ctrl-C: was it meant?
    fn ask_to_stop(&mut self) -> Result<(), CeremonyError> {
        if !io::stdin().is_terminal() {
            return Err(stopped());
        }
        say("");
        loop {
            prompt("Ctrl-C was pressed. Stop the ceremony? (yes, no)");
            if let Line::Typed(typed) = self.line(MAX_ANSWER)? {
                match typed.expose_typed().trim() {
                    "yes" => return Err(stopped()),
                    "no" => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    /// Waits for a custodian who writes down a component.
    fn until_written(&mut self, custodian: &str) -> Result<(), CeremonyError> {
        let question = format!("{custodian}: type \"written\" when both are on your sheet:");
        while self.ask(&question)? != "written" {}
        Ok(())
    }

    /// The next line, without its end.
    fn line(&mut self, room: usize) -> Result<Line, CeremonyError> {
        let mut typed = Zeroizing::new(Vec::with_capacity(room));
        let mut too_long = false;
        loop {
            match self.input.next(None)? {
                Arrival::Byte(b'\n') if too_long => return Ok(Line::TooLong),
                Arrival::Byte(b'\n') => {
                    let text = str::from_utf8(&typed).map_err(|_| nobody("this is no UTF-8"))?;
                    return Ok(Line::Typed(Typed::copy_from(text)));
                }
                Arrival::Byte(byte) if typed.len() < room => typed.push(byte),
                Arrival::Byte(_) => too_long = true,
                Arrival::Interrupt => return Ok(Line::Interrupted),
                Arrival::Resize | Arrival::Nothing => {}
            }
        }
    }
}

impl People for LineMode {
    fn begin(&mut self, agenda: Agenda) {
        if let Some(warning) = agenda.warning() {
            say(warning);
        }
        say(&format!("Ceremony: {}", agenda.title));
        say(&format!(
            "Plan digest (SHA-256):\n{}",
            grouped(&agenda.digest)
        ));
        for note in &agenda.notes {
            say(note);
        }
        say("The plan:");
        for token in &agenda.tokens {
            say(&format!("  {token}"));
        }
        for (index, act) in agenda.acts.iter().enumerate() {
            say(&format!("  {}. {act}", index + 1));
        }
        self.acts = agenda.acts;
    }

    fn type_digest(&mut self, officer: &str) -> Result<String, CeremonyError> {
        self.ask(&format!(
            "{officer}: compare the digest with your printout and type its first line \
             ({GROUPS_PER_LINE} groups):"
        ))
    }

    fn type_pin(&mut self, token: &str, holder: Option<&str>) -> Result<Typed, CeremonyError> {
        let holder = holder.map_or_else(String::new, |holder| format!("{holder}: "));
        let question =
            format!("{holder}PIN of token {token:?} (not shown; a wrong one is tried once):");
        self.ask_hidden(&question, MAX_PIN_LEN)
    }

    fn act_begins(&mut self, number: usize) -> Result<(), CeremonyError> {
        if self.input.interrupted()? {
            self.ask_to_stop()?;
        }
        let of = self.acts.len();
        let act = self
            .acts
            .get(number.saturating_sub(1))
            .map_or("", |act| act);
        say(&format!("Act {number} of {of} begins: {act}"));
        say("The HSM is at work; to make an RSA key can take a minute or two.");
        Ok(())
    }

    fn act_ends(&mut self, number: usize, outcome: Result<&str, &CeremonyError>) {
        let of = self.acts.len();
        match outcome {
            Ok(made) => say(&format!("Act {number} of {of} is done: {made}")),
            Err(_) => say(&format!("Act {number} of {of} failed.")),
        }
    }

    fn tell(&mut self, text: &str) {
        say(text);
    }

    fn alone(&mut self, person: &str) -> Result<(), CeremonyError> {
        say(&format!(
            "Now only {person} looks at the screen and the keyboard."
        ));
        self.ask(&format!(
            "{person}: press Enter when you are alone with them."
        ))?;
        Ok(())
    }

    fn type_component(
        &mut self,
        component: &Component<'_>,
        why: Typing,
    ) -> Result<Typed, CeremonyError> {
        let custodian = component.custodian;
        let back = match why {
            Typing::Enter => "",
            Typing::Back => " back from their sheet",
        };
        say(&format!("{custodian} types {component}{back}."));
        let digits = component.digits();
        let question = format!("{custodian}: type its {digits} hexadecimal digits (not shown):");
        self.ask_hidden(&question, MAX_TYPED)
    }

    fn confirm_kcv(
        &mut self,
        component: &Component<'_>,
        entered: &Entered,
    ) -> Result<KcvAnswer, CeremonyError> {
        say(&format!(
            "The HSM computed the check value {} from what was typed.",
            entered.kcv
        ));
        if let Some(parity) = &entered.parity {
            say(&format!("It has {parity}."));
        }
        let custodian = component.custodian;
        loop {
            let answer = self.ask(&format!(
                "{custodian}: is this the one on your sheet? (yes, no to type it again, stop)"
            ))?;
            match &*answer.to_ascii_lowercase() {
                "yes" => return Ok(KcvAnswer::Yes),
                "no" => return Ok(KcvAnswer::TypeAgain),
                "stop" => return Ok(KcvAnswer::Stop),
                _ => {}
            }
        }
    }

    fn show_component(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
        kcv: &Kcv,
    ) -> Result<(), CeremonyError> {
        if !can_clear() {
            let cause = "a component is shown on a terminal whose screen can be cleared, which this \
                         is not; nothing was shown";
            return Err(CeremonyError::Declined(cause.to_owned()));
        }
        let custodian = component.custodian;
        say(&format!(
            "{custodian} writes down {component}. It is shown once; then the screen is cleared."
        ));
        let shown = say_unbuffered(&[spelled(value).as_bytes(), b"\n"]);
        say(&format!("Its check value: {kcv}"));
        let answered = self.until_written(custodian);
        let cleared = say_unbuffered(&[CLEAR]);
        shown
            .and(cleared)
            .map_err(|error| nobody(&error.to_string()))?;
        answered
    }

    fn part(&mut self) {
        say("That was for one person alone. Everybody may look again.");
    }

    fn end(&mut self, ending: &Ending<'_>) {
        say(&ending.to_string());
    }

    fn break_off(&mut self, ending: &Ending<'_>) {
        self.end(ending);
    }
}

/// Echo is off on standard input while this is there.
struct EchoOff(Termios);

impl EchoOff {
    fn new() -> Result<Self, CeremonyError> {
        let stdin = io::stdin();
        let no_terminal = |_| nobody("this is typed at a terminal, which the input is not");
        let before = tcgetattr(&stdin).map_err(no_terminal)?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        // The end of the line moves on all the same.
        without.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&stdin, OptionalActions::Now, &without).map_err(no_terminal)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A terminal that is gone needs it no more.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A console that is gone is found out at the next question.
    drop(writeln!(out, "{}", escaped_lines(text)));
    drop(out.flush());
}

fn prompt(question: &str) {
    let mut out = io::stdout().lock();
    drop(write!(out, "{} ", escaped_lines(question)));
    drop(out.flush());
}

/// Past the buffer of standard output, which keeps what went through it.
fn say_unbuffered(parts: &[&[u8]]) -> io::Result<()> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    parts.iter().try_for_each(|part| out.write_all(part))
}
