//! People who follow a script.

use std::collections::VecDeque;

use kdh_ceremony::{Ceremony, CeremonyError, Mode, People, Plan};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::site::Site;

pub(crate) struct Room {
    /// What custodians type, hidden.
    components: VecDeque<String>,
    /// What custodians say to a check value; "yes" where it ends.
    answers: VecDeque<String>,
    digest: String,
    /// Everything that was told or asked, in order.
    seen: Vec<String>,
}

impl Room {
    pub(crate) fn new<const N: usize>(components: [&str; N]) -> Self {
        Self {
            components: components.map(str::to_owned).into(),
            answers: VecDeque::new(),
            digest: String::new(),
            seen: Vec::new(),
        }
    }

    pub(crate) fn confirm_with<const N: usize>(&mut self, answers: [&str; N]) {
        self.answers = answers.map(str::to_owned).into();
    }

    /// Runs a plan with these people, through the library.
    pub(crate) fn run(&mut self, site: &Site, plan: &str) -> Result<(), CeremonyError> {
        let plan = Plan::load(&site.path(plan), Mode::Real, OffsetDateTime::now_utc())?;
        self.digest = plan.digest();
        Ceremony::run(&plan, self, &OffsetDateTime::now_utc)
    }

    pub(crate) fn seen(&self) -> String {
        self.seen.join("\n")
    }

    pub(crate) fn assert_all_asked(&self) {
        assert!(self.components.is_empty(), "{}", self.seen());
        assert!(self.answers.is_empty(), "{}", self.seen());
    }

    /// These were seen one after the other, whatever was seen in between.
    pub(crate) fn assert_order(&self, parts: &[&str]) {
        let mut rest = self.seen.iter();
        for part in parts {
            let found = rest.any(|seen| seen.contains(part));
            assert!(found, "{part:?} was not seen in its turn:\n{}", self.seen());
        }
    }
}

impl People for Room {
    fn tell(&mut self, text: &str) {
        self.seen.push(text.to_owned());
    }

    fn ask(&mut self, question: &str) -> Result<String, CeremonyError> {
        self.seen.push(question.to_owned());
        if question.contains("digest") {
            return Ok(self.digest[..32].to_owned());
        }
        Ok(self.answers.pop_front().unwrap_or_else(|| "yes".to_owned()))
    }

    fn ask_hidden(&mut self, question: &str) -> Result<Zeroizing<String>, CeremonyError> {
        self.seen.push(format!("hidden: {question}"));
        let typed = self.components.pop_front();
        typed
            .map(Zeroizing::new)
            .ok_or_else(|| CeremonyError::Declined("nobody answers".to_owned()))
    }

    fn part(&mut self) {
        self.seen.push("[parted]".to_owned());
    }
}
