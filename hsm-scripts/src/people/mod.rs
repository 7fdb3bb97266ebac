//! What is asked of the people in the room, and judged of what they answer.
//!
//! ```text
//! digest      how a plan's digest is shown, and what an officer has to type of it
//! component   a component on its way between a custodian and the HSM
//! typed       what nobody else may see
//! input       what arrives while somebody is asked
//! lines       plain lines
//! screen/     the full screen
//! ```
//!
//! [`People`] asks and shows; how, is up to its implementation. What an answer is worth is decided
//! here, once for all of them.

mod component;
mod digest;
mod input;
mod lines;
mod screen;
mod typed;

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::Path,
};

use hsm::{ClearKey, Kcv, Pin};
use subtle::ConstantTimeEq as _;

pub(crate) use self::digest::grouped;
pub use self::{
    component::{Component, Entered, KcvAnswer, Parity, Typing},
    lines::LineMode,
    screen::FullScreen,
    typed::Typed,
};
use crate::{CeremonyError, Mode, Plan};

/// How often a custodian may type back a component that they were shown.
const MAX_TYPED_BACK: usize = 3;

/// Longer than any token's PIN.
const MAX_PIN_LEN: usize = 255;

/// The people, behind a screen, lines of text, or in a test.
///
/// Where a method returns an error, nobody answered, or somebody stopped the ceremony:
/// [`CeremonyError::Declined`].
pub trait People {
    /// Shows everybody what is about to happen. Comes first.
    fn begin(&mut self, agenda: Agenda);
    /// Has an officer type the beginning of the plan's digest, from their printout.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn type_digest(&mut self, officer: &str) -> Result<String, CeremonyError>;
    /// Asks for a token's PIN, which is not shown; of `holder`, if the token is one person's own.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn type_pin(&mut self, token: &str, holder: Option<&str>) -> Result<Typed, CeremonyError>;
    /// An act of the agenda, counted from 1, is about to begin.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn act_begins(&mut self, number: usize) -> Result<(), CeremonyError>;
    /// It is done, and this is what it made; or why it failed.
    fn act_ends(&mut self, number: usize, outcome: Result<&str, &CeremonyError>);
    /// Tells everybody something.
    fn tell(&mut self, text: &str);
    /// Leaves one person alone with the screen and the keyboard, and waits for them.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn alone(&mut self, person: &str) -> Result<(), CeremonyError>;
    /// Has a custodian type a component, which is not shown. Helps them with its form as it can.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn type_component(
        &mut self,
        component: &Component<'_>,
        why: Typing,
    ) -> Result<Typed, CeremonyError>;
    /// Has a custodian compare the HSM's answer with their sheet.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn confirm_kcv(
        &mut self,
        component: &Component<'_>,
        entered: &Entered,
    ) -> Result<KcvAnswer, CeremonyError>;
    /// Shows a custodian, once, a component that is given out, until they say that it is on their
    /// sheet. Nothing of it stays.
    ///
    /// # Errors
    /// [`CeremonyError::Declined`].
    fn show_component(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
        kcv: &Kcv,
    ) -> Result<(), CeremonyError>;
    /// Parts what one person saw from what the next one sees.
    fn part(&mut self);
    /// It is over, for now.
    fn end(&mut self, ending: &Ending<'_>);
    /// It is over before its end: says where the record is. Why, the caller says.
    fn break_off(&mut self, ending: &Ending<'_>);
}

/// What is about to happen.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    /// What the ceremony is for.
    pub title: String,
    /// Whether it is meant.
    pub mode: Mode,
    /// SHA-256 of the plan, hex.
    pub digest: String,
    /// Who confirms the digest; nobody in an unattended ceremony.
    pub officers: Vec<String>,
    /// What the record will lack, a line for each.
    pub notes: Vec<String>,
    /// The participants and the tokens that acts use, a line for each.
    pub tokens: Vec<String>,
    /// The acts in their order, a line for each.
    pub acts: Vec<String>,
}

impl Agenda {
    /// What has to be known of it before anything else.
    pub(crate) const fn warning(&self) -> Option<&'static str> {
        match self.mode {
            Mode::Real => None,
            Mode::Rehearsal => {
                Some("REHEARSAL: throw-away tokens, made-up components. Nothing real is touched.")
            }
        }
    }

    /// What a plan is about to do.
    pub fn of(plan: &Plan) -> Self {
        let participants = plan.participants.iter().map(|(id, participant)| {
            let (name, label) = (plan.name_of(id), &participant.token.label);
            format!("participant {id}: {name}, token {label}")
        });
        let tokens = plan.tokens_in_use().into_iter().filter_map(|name| {
            let token = plan.tokens.get(name)?;
            let serial = token.serial.as_deref().unwrap_or("not fixed");
            Some(format!("token {name}: {}, serial {serial}", token.label))
        });
        Self {
            title: plan.title.clone(),
            mode: plan.mode,
            digest: plan.digest(),
            officers: plan
                .officers
                .iter()
                .map(|officer| plan.name_of(officer).into_owned())
                .collect(),
            notes: notes(plan),
            tokens: participants.chain(tokens).collect(),
            acts: plan.acts.iter().map(ToString::to_string).collect(),
        }
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    let unattended = plan.officers.is_empty();
    let unsigned = !unattended && plan.participants.is_empty();
    let unlisted = !plan.participants.is_empty() && plan.ceremony_crl.is_none();
    let notes = [
        (unattended, "UNATTENDED: nobody confirms this plan."),
        (
            unsigned,
            "UNSIGNED: who confirms it is named, and has no certificate to sign with.",
        ),
        (
            plan.audit.is_none(),
            "UNSEALED: no audit key seals the transcript.",
        ),
        (
            unlisted,
            "No revocation list of the participants' CA is looked at.",
        ),
    ];
    let notes = notes.into_iter().filter(|(true_here, _)| *true_here);
    notes.map(|(_, note)| note.to_owned()).collect()
}

/// How a ceremony, or one sitting of it, ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Whether and how it goes on.
    pub outcome: &'a str,
    /// The record.
    pub transcript: &'a Path,
    /// Its last hash, hex.
    pub head: &'a str,
}

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} Transcript: {}\nIts last hash, for the minutes: {}",
            self.outcome,
            self.transcript.display(),
            self.head
        )
    }
}

/// The people at this terminal: behind the full screen, or, if that is wanted, if nobody has to be
/// there, or if this is no terminal with a screen, behind plain lines.
///
/// # Errors
/// [`CeremonyError::Declined`]: the terminal has a screen that is too small.
pub fn people_here(plan: &Plan, in_lines: bool) -> Result<Box<dyn People>, CeremonyError> {
    let unattended = plan.officers.is_empty();
    if in_lines || unattended || !can_clear() || !io::stdin().is_terminal() {
        Ok(Box::new(LineMode::new()?))
    } else {
        Ok(Box::new(FullScreen::new()?))
    }
}

/// Whether standard output is a terminal that does what it is told.
pub(crate) fn can_clear() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdout().is_terminal() && !dumb
}

impl dyn People + '_ {
    /// Has an officer type the beginning of the plan's digest, or more of it.
    pub(crate) fn confirm_digest(
        &mut self,
        officer: &str,
        digest: &str,
    ) -> Result<(), CeremonyError> {
        let typed = self.type_digest(officer)?;
        digest::judge(&typed, digest)
            .map_err(|fault| {
                CeremonyError::Declined(format!(
                    "{officer} typed {fault}. Nothing has happened: compare all of it with the printout, and start again"
                ))
            })?;
        self.tell(&format!("{officer} confirmed the digest."));
        Ok(())
    }

    /// Asks for a token's PIN; of `holder`, if the token is one person's own.
    pub(crate) fn ask_pin(
        &mut self,
        token: &str,
        holder: Option<&str>,
    ) -> Result<Pin, CeremonyError> {
        let typed = self.type_pin(token, holder)?;
        if typed.expose_typed().is_empty() {
            let cause = format!("no PIN was typed for token {token:?}; start again");
            return Err(CeremonyError::Declined(cause));
        }
        Ok(Pin::new(typed.expose_typed().into()))
    }

    /// Has a custodian, alone, type a component until its check value, as `check` has the HSM compute
    /// it, is the one on their sheet.
    pub(crate) fn enter_component(
        &mut self,
        component: &Component<'_>,
        check: &mut dyn FnMut(&ClearKey) -> Result<Kcv, CeremonyError>,
    ) -> Result<ClearKey, CeremonyError> {
        self.alone(component.custodian)?;
        let entered = self.enter_until_confirmed(component, check);
        self.part();
        let clear = entered?;
        let custodian = component.custodian;
        self.tell(&format!("{custodian} entered {component}."));
        Ok(clear)
    }

    fn enter_until_confirmed(
        &mut self,
        component: &Component<'_>,
        check: &mut dyn FnMut(&ClearKey) -> Result<Kcv, CeremonyError>,
    ) -> Result<ClearKey, CeremonyError> {
        loop {
            let typed = self.type_component(component, Typing::Enter)?;
            let clear = match component.read(&typed) {
                Ok(clear) => clear,
                Err(fault) => {
                    self.tell(&format!(
                        "That is {fault}. Nothing was used; type it again."
                    ));
                    continue;
                }
            };
            let entered = Entered {
                kcv: check(&clear)?,
                parity: component.parity(&clear),
            };
            match self.confirm_kcv(component, &entered)? {
                KcvAnswer::Yes => return Ok(clear),
                KcvAnswer::TypeAgain => {}
                KcvAnswer::Stop => {
                    let custodian = component.custodian;
                    return Err(CeremonyError::Declined(format!(
                        "{custodian} did not confirm the check value {}",
                        entered.kcv
                    )));
                }
            }
        }
    }

    /// Shows a custodian, alone and once, a component that is given out, and has them type it back from
    /// their sheet.
    pub(crate) fn give_component(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
        kcv: &Kcv,
    ) -> Result<(), CeremonyError> {
        self.alone(component.custodian)?;
        let given = self
            .show_component(component, value, kcv)
            .and_then(|()| self.require_written(component, value));
        self.part();
        given?;
        let custodian = component.custodian;
        self.tell(&format!("{custodian} took {component}."));
        Ok(())
    }

    /// Nothing is shown a second time: who did not write it down right leaves no key.
    fn require_written(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
    ) -> Result<(), CeremonyError> {
        for left in (0..MAX_TYPED_BACK).rev() {
            let typed = self.type_component(component, Typing::Back)?;
            let same = |typed: &ClearKey| typed.expose_clear().ct_eq(value.expose_clear()).into();
            if component.read(&typed).is_ok_and(|typed| same(&typed)) {
                return Ok(());
            }
            self.tell(&format!(
                "That is not the component. Read it from your sheet again: {left} of {MAX_TYPED_BACK} tries are left."
            ));
        }
        Err(CeremonyError::Declined(format!(
            "{} did not write the component down: it was typed back wrong {MAX_TYPED_BACK} times. No key was made; \
             destroy every sheet of this key and start again",
            component.custodian
        )))
    }
}
