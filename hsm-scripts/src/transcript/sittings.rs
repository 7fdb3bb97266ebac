//! The transcripts of one plan, one after the other: of several sittings, or of one that was stopped and held again.

use std::collections::BTreeMap;

use pki::Certificate;

use super::{
    Missing, Record, TranscriptError, Trust,
    components::Components,
    verify::{Expected, Verified, verify_record},
};

/// Verifies the transcripts of a plan's sittings, in order; mostly there is one. A sitting that was stopped takes its
/// place, too: the one that goes on behind it uses what was entered there.
///
/// # Errors
/// The first transcript, counted from 0, that does not hold, and why.
pub fn verify_records(
    texts: &[&str],
    trust: &Trust,
    expected: Expected,
) -> Result<Vec<Record>, (usize, TranscriptError)> {
    let mut before = Before::default();
    for (index, text) in texts.iter().enumerate() {
        verify_record(text, trust, expected)
            .and_then(|verified| before.take(verified))
            .map_err(|error| (index, error))?;
    }
    Ok(before.records)
}

/// The transcripts so far.
#[derive(Default)]
struct Before {
    records: Vec<Record>,
    components: Vec<Components>,
    people: Vec<BTreeMap<String, Certificate>>,
}

impl Before {
    fn take(&mut self, next: Verified) -> Result<(), TranscriptError> {
        let Verified {
            mut record,
            components,
            certificates,
        } = next;
        let held = match self.records.last_mut() {
            None => 0,
            Some(before) => {
                if before.plan != record.plan {
                    return Err(TranscriptError::OtherCeremony);
                }
                if record.began < before.ended {
                    return Err(TranscriptError::Order);
                }
                before.goes_on();
                before.sitting
            }
        };
        for people in &self.people {
            require_same_people(people, &certificates)?;
        }
        let skipped = held + 1..record.sitting;
        if skipped.is_empty() {
            let name = |who: &str| record.name_of(who);
            let not_shown = components.not_shown_in(&self.components, name);
            record.missing.extend(not_shown);
        } else {
            record.missing.extend(skipped.map(Missing::SittingNotGiven));
        }
        self.records.push(record);
        self.components.push(components);
        self.people.push(certificates);
        Ok(())
    }
}

impl Record {
    /// Another transcript follows: that it is not the end is nothing that is missing any more.
    fn goes_on(&mut self) {
        let is_no_end = |missing: &Missing| match missing {
            Missing::Failed(_) | Missing::BreaksOff(_) => true,
            // Nobody seals what breaks off.
            Missing::Unsealed(_) | Missing::SealMissing(_) => self
                .missing
                .iter()
                .any(|missing| matches!(missing, Missing::BreaksOff(_))),
            _ => false,
        };
        let (stopped, mut missing): (Vec<_>, Vec<_>) =
            self.missing.iter().cloned().partition(is_no_end);
        missing.retain(|missing| *missing != Missing::Continued);
        self.missing = missing;
        self.stopped = stopped;
    }

    fn name_of(&self, who: &str) -> String {
        let person = self.people.iter().find(|person| person.id == who);
        person.map_or_else(|| who.to_owned(), |person| person.name.clone())
    }
}

/// An id is one person's in all transcripts, and a person has one id.
fn require_same_people(
    before: &BTreeMap<String, Certificate>,
    now: &BTreeMap<String, Certificate>,
) -> Result<(), TranscriptError> {
    for (id, certificate) in now {
        for (known_as, known) in before {
            let is_same = known.subject() == certificate.subject()
                || known.public_key() == certificate.public_key();
            match (is_same, known_as == id) {
                (true, false) => {
                    return Err(TranscriptError::OtherId(id.clone(), known_as.clone()));
                }
                (false, true) => return Err(TranscriptError::OtherPerson(id.clone())),
                (true, true) | (false, false) => {}
            }
        }
    }
    Ok(())
}
