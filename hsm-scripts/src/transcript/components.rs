//! What acts used of what people did: each component was entered by, or shown to, whom the act says.

use serde_json::Value;

use super::{Missing, TranscriptError, event, line::Line};

/// As an act says of a component that came before its sitting.
const EARLIER: &str = "earlier sitting";
/// As a rehearsal says of a component that it made up.
const MADE_UP: &str = "rehearsal";

/// Somebody came to know a component, in a step of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    act: u64,
    component: u64,
    who: String,
    kcv: String,
}

/// Those of a transcript.
#[derive(Debug, Default)]
pub(super) struct Components {
    known: Vec<Known>,
    /// Used here, known from earlier sittings.
    earlier: Vec<Known>,
}

impl Components {
    /// Follows them through a transcript.
    pub(super) fn of(lines: &[Line], rehearsal: bool) -> Result<Self, TranscriptError> {
        let mut components = Self::default();
        for line in lines {
            match &*line.event {
                event::COMPONENT_ENTERED | event::COMPONENT_SHOWN => {
                    components.known.push(Known::in_step(line)?);
                }
                event::IMPORT_COMPONENTS | event::SITTING_ENDED | event::GIVE_OUT_COMPONENTS => {
                    components.used_in(line, rehearsal)?;
                }
                _ => {}
            }
        }
        Ok(components)
    }

    fn used_in(&mut self, line: &Line, rehearsal: bool) -> Result<(), TranscriptError> {
        let number = line.sequence;
        let missing = || TranscriptError::Field(number, "its components");
        let used = line.detail.get("components").and_then(Value::as_array);
        let mut holders = Vec::new();
        for (component, index) in used.ok_or_else(missing)?.iter().zip(1..) {
            let text = |field| component.get(field).and_then(Value::as_str);
            let confirmed_by = text("confirmed-by");
            if rehearsal && confirmed_by == Some(MADE_UP) {
                continue;
            }
            let used = Known {
                act: number_of(line, "act")?,
                component: index,
                who: text("custodian").ok_or_else(missing)?.to_owned(),
                kcv: text("kcv").ok_or_else(missing)?.to_owned(),
            };
            if holders.contains(&used.who) {
                return Err(TranscriptError::TwoComponents(number, used.who));
            }
            holders.push(used.who.clone());
            if confirmed_by == Some(EARLIER) {
                self.earlier.push(used);
            } else if !self.known.contains(&used) {
                return Err(TranscriptError::NoStep(number, index, used.who));
            }
        }
        Ok(())
    }

    /// What earlier transcripts do not show, and was used here; none if all of it is there.
    pub(super) fn not_shown_in(
        &self,
        before: &[Self],
        name: impl Fn(&str) -> String,
    ) -> Vec<Missing> {
        let is_shown = |used: &&Known| before.iter().any(|one| one.known.contains(*used));
        let mut missing = Vec::new();
        for used in self.earlier.iter().filter(|used| !is_shown(used)) {
            let not_given = Missing::StepNotGiven(used.component, name(&used.who));
            if !missing.contains(&not_given) {
                missing.push(not_given);
            }
        }
        missing
    }
}

impl Known {
    fn in_step(line: &Line) -> Result<Self, TranscriptError> {
        let text = |field, what| {
            let text = line.text(field).map(str::to_owned);
            text.ok_or(TranscriptError::Field(line.sequence, what))
        };
        Ok(Self {
            act: number_of(line, "act")?,
            component: number_of(line, "component")?,
            who: text("by", "who did it")?,
            kcv: text("kcv", "its check value")?,
        })
    }
}

fn number_of(line: &Line, field: &'static str) -> Result<u64, TranscriptError> {
    let number = line.detail.get(field).and_then(Value::as_u64);
    number.ok_or(TranscriptError::Field(line.sequence, field))
}
