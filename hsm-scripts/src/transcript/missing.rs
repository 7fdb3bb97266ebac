//! What a record that holds does not show.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use pki::Certificate;

use super::{
    beginning::{Audit, Beginning},
    chain::last_before_seal,
    event,
    line::Line,
};

/// Participants who have to confirm.
const MIN_CONFIRMED: usize = 2;

/// What a record that holds does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nobody confirmed.
    Unattended,
    /// These are named, and had no certificate to sign with.
    OnlyNamed(Vec<String>),
    /// There is no seal, and no key that could have made one.
    Unsealed(String),
    /// There is no seal, although there was a key for it.
    SealMissing(String),
    /// An officer did not confirm before the HSM was opened.
    NotConfirmed(String),
    /// Fewer participants than two confirmed.
    NotDual,
    /// An act failed.
    Failed(String),
    /// It breaks off.
    BreaksOff(String),
    /// Another sitting follows, whose transcript was not given.
    Continued,
    /// A sitting came before, whose transcript was not given.
    SittingNotGiven(u32),
    /// A component was entered, by this person, at a sitting whose transcript was not given.
    StepNotGiven(u64, String),
}

impl Missing {
    /// Whether it is in the nature of a founding or unattended ceremony, and may be accepted.
    pub const fn can_be_accepted(&self) -> bool {
        match self {
            Self::Unattended | Self::OnlyNamed(_) | Self::Unsealed(_) => true,
            Self::SealMissing(_)
            | Self::NotConfirmed(_)
            | Self::NotDual
            | Self::Failed(_)
            | Self::BreaksOff(_)
            | Self::Continued
            | Self::SittingNotGiven(_)
            | Self::StepNotGiven(_, _) => false,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unattended => f.write_str("Nobody confirmed the plan: it ran unattended."),
            Self::OnlyNamed(names) => write!(
                f,
                "Named and without a signature, since they had no certificates: {}.",
                names.join(", ")
            ),
            Self::Unsealed(cause) | Self::SealMissing(cause) => {
                write!(f, "The audit key did not seal it: {cause}.")
            }
            Self::NotConfirmed(name) => write!(
                f,
                "{name} was to confirm the plan before the HSM was opened, and did not."
            ),
            Self::NotDual => f.write_str("Fewer than two people confirmed the plan."),
            Self::Failed(cause) => write!(f, "The ceremony failed: {cause}."),
            Self::BreaksOff(event) => write!(
                f,
                "It breaks off: the last that it says is {event:?}, and not \"finished\"."
            ),
            Self::Continued => {
                f.write_str("The ceremony went on at another sitting; give its transcript too.")
            }
            Self::SittingNotGiven(sitting) => write!(
                f,
                "Sitting {sitting} came before; give the transcripts of all sittings, in order."
            ),
            Self::StepNotGiven(component, name) => write!(
                f,
                "Component {component} was entered by {name} at a sitting whose transcript was not given; give it \
                 too, in order, also if that sitting was stopped."
            ),
        }
    }
}

/// What these lines, which hold, lack.
pub(super) fn missing(
    lines: &[Line],
    beginning: &Beginning,
    certificates: &BTreeMap<String, Certificate>,
    sealed: bool,
    name: &impl Fn(&str) -> String,
) -> Vec<Missing> {
    let mut missing = Vec::new();
    // What was confirmed after the HSM was opened came too late.
    let before_the_hsm = lines
        .iter()
        .take_while(|line| line.event != event::TOKEN_OPENED);
    let confirmed: BTreeSet<&str> = before_the_hsm
        .filter(|line| line.event == event::CONFIRMED)
        .filter_map(|line| line.text("by"))
        .collect();
    if beginning.unattended {
        missing.push(Missing::Unattended);
    } else {
        if confirmed.len() < MIN_CONFIRMED {
            missing.push(Missing::NotDual);
        }
        let silent = beginning
            .officers
            .iter()
            .filter(|officer| !confirmed.contains(&***officer));
        missing.extend(silent.map(|officer| Missing::NotConfirmed(name(officer))));
    }
    let without_certificate: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.text("by"))
        .filter(|who| !certificates.contains_key(*who))
        .collect();
    if !without_certificate.is_empty() {
        let names = without_certificate.into_iter().map(str::to_owned);
        missing.push(Missing::OnlyNamed(names.collect()));
    }
    let last = last_before_seal(lines);
    match &*last.event {
        event::FINISHED => {}
        event::CONTINUED => missing.push(Missing::Continued),
        event::FAILED => {
            let cause = last.text("cause").unwrap_or("no cause is given");
            missing.push(Missing::Failed(cause.trim_end_matches('.').to_owned()));
        }
        other => missing.push(Missing::BreaksOff(other.to_owned())),
    }
    if !sealed {
        missing.push(no_seal(lines, beginning.audit.as_ref(), last));
    }
    missing
}

fn no_seal(lines: &[Line], audit: Option<&Audit>, last: &Line) -> Missing {
    let Some(audit) = audit else {
        return Missing::Unsealed("the plan names none".to_owned());
    };
    let cause = last
        .text("not-sealed")
        .unwrap_or("it says nothing of why")
        .trim_end_matches('.')
        .to_owned();
    let made = lines
        .iter()
        .any(|line| line.event == event::AUDIT_CREDENTIAL);
    if made || audit.certificate_sha256.is_some() {
        Missing::SealMissing(cause)
    } else {
        Missing::Unsealed(cause)
    }
}
