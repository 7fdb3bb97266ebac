//! What is asked of the people in the room.

use std::io::{BufRead as _, Write as _};

use hsm::{ClearKey, Kcv};
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::CeremonyError;

/// Characters of the plan's digest that an officer types at least: the first line. These are 128 bits:
/// too many to find another plan that begins with those of a reviewed one, and also to find two plans
/// that begin alike, of which one is given to the reviewers.
const MIN_TYPED: usize = GROUP * GROUPS_PER_LINE;
/// How digests are shown to people.
const GROUP: usize = 4;
const GROUPS_PER_LINE: usize = 8;

/// The people, behind a console or in a test.
pub trait People {
    /// Tells everybody something.
    fn tell(&mut self, text: &str);
    /// Asks for a line, shown as it is typed.
    ///
    /// # Errors
    /// Nobody is there to answer.
    fn ask(&mut self, question: &str) -> Result<String, CeremonyError>;
    /// Asks for a line that is not shown.
    ///
    /// # Errors
    /// Nobody is there to answer.
    fn ask_hidden(&mut self, question: &str) -> Result<Zeroizing<String>, CeremonyError>;
    /// Parts what one person saw from what the next one sees.
    fn part(&mut self);
}

/// The terminal in the ceremony room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console;

impl People for Console {
    fn tell(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A console that is gone is found out at the next question.
        drop(writeln!(out, "{text}"));
        drop(out.flush());
    }

    fn ask(&mut self, question: &str) -> Result<String, CeremonyError> {
        {
            let mut out = std::io::stdout().lock();
            drop(write!(out, "{question} "));
            drop(out.flush());
        }
        let mut answer = String::new();
        match std::io::stdin().lock().read_line(&mut answer) {
            Ok(0) => Err(nobody("the input has ended")),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(error) => Err(nobody(&error.to_string())),
        }
    }

    fn ask_hidden(&mut self, question: &str) -> Result<Zeroizing<String>, CeremonyError> {
        rpassword::prompt_password(format!("{question} "))
            .map(Zeroizing::new)
            .map_err(|error| nobody(&error.to_string()))
    }

    fn part(&mut self) {
        // Clears the screen and what was scrolled off it.
        self.tell("\x1b[2J\x1b[3J\x1b[H");
    }
}

fn nobody(cause: &str) -> CeremonyError {
    CeremonyError::Declined(format!("nobody answers: {cause}"))
}

/// A digest as people compare and type it: groups in indented lines of equal length.
pub(crate) fn grouped(digest: &str) -> String {
    let mut text = String::new();
    for (index, character) in digest.chars().enumerate() {
        if index % (GROUP * GROUPS_PER_LINE) == 0 {
            text.push_str(if index == 0 { "  " } else { "\n  " });
        } else if index % GROUP == 0 {
            text.push(' ');
        }
        text.push(character);
    }
    text
}

/// Has every officer type the beginning of the plan's digest, or more of it.
pub(crate) fn confirm_digest(
    people: &mut dyn People,
    officers: &[String],
    digest: &str,
) -> Result<(), CeremonyError> {
    for officer in officers {
        let typed = people.ask(&format!(
            "{officer}: compare the digest with your printout and type its first line \
             ({GROUPS_PER_LINE} groups):"
        ))?;
        let typed = typed.replace([' ', '-'], "").to_ascii_lowercase();
        let fault = if typed.len() < MIN_TYPED {
            format!("less than the digest's first {MIN_TYPED} characters")
        } else if digest.starts_with(&typed) {
            continue;
        } else {
            "something else than the digest".to_owned()
        };
        return Err(CeremonyError::Declined(format!("{officer} typed {fault}")));
    }
    Ok(())
}

/// Has a custodian type a component, until it has the form of one.
pub(crate) fn ask_component(
    people: &mut dyn People,
    custodian: &str,
    kind: KeyKind,
) -> Result<ClearKey, CeremonyError> {
    loop {
        let typed = people.ask_hidden(&format!("{custodian}: type your component (hex):"))?;
        let fault = match ClearKey::from_hex(typed.trim()) {
            Ok(component) if component.len() == kind.key_len() => return Ok(component),
            Ok(component) => format!("{} bytes long, not {}", component.len(), kind.key_len()),
            Err(error) => error.to_string(),
        };
        people.tell(&format!(
            "That is {fault}. Nothing was used; type it again."
        ));
    }
}

/// What a custodian says to a check value.
pub(crate) enum KcvAnswer {
    /// It is the one on the sheet.
    Yes,
    /// Something was mistyped.
    TypeAgain,
}

/// Has a custodian compare a check value with their sheet.
pub(crate) fn confirm_kcv(
    people: &mut dyn People,
    custodian: &str,
    kcv: &Kcv,
) -> Result<KcvAnswer, CeremonyError> {
    people.tell(&format!(
        "The HSM computed the check value {kcv} from what was typed."
    ));
    loop {
        let answer = people.ask(&format!(
            "{custodian}: is this the one on your sheet? (yes, no to type it again, stop)"
        ))?;
        match &*answer.to_ascii_lowercase() {
            "yes" => return Ok(KcvAnswer::Yes),
            "no" => return Ok(KcvAnswer::TypeAgain),
            "stop" => {
                people.part();
                let cause = format!("{custodian} did not confirm the check value {kcv}");
                return Err(CeremonyError::Declined(cause));
            }
            _ => {}
        }
    }
}
