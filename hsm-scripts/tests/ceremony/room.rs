//! People who follow a script.

use std::{collections::VecDeque, time::Instant};

use hsm::{ClearKey, Kcv};
use kdh_ceremony::{
    Agenda, Ceremony, CeremonyError, Component, Ending, Entered, KcvAnswer, Mode, People, Plan,
    Typed, Typing,
};
use time::OffsetDateTime;

use crate::site::Site;

pub(crate) struct Room {
    /// What is typed, hidden: components and PINs.
    components: VecDeque<String>,
    /// What custodians say to a check value; yes where it ends.
    answers: VecDeque<KcvAnswer>,
    digest: String,
    when_act_begins: Box<dyn FnMut(usize)>,
    /// What was shown to one person alone.
    revealed: Vec<String>,
    /// Whether custodians have written down what they were shown.
    write_down: bool,
    /// Everything that was told or asked, in order.
    seen: Vec<String>,
}

impl Room {
    pub(crate) fn new<const N: usize>(components: [&str; N]) -> Self {
        Self {
            components: components.map(str::to_owned).into(),
            answers: VecDeque::new(),
            digest: String::new(),
            when_act_begins: Box::new(|_| ()),
            revealed: Vec::new(),
            write_down: false,
            seen: Vec::new(),
        }
    }

    /// What custodians type from now on.
    pub(crate) fn types(&mut self, components: &[&str]) {
        let components = components.iter().map(|&component| component.to_owned());
        self.components = components.collect();
    }

    pub(crate) fn confirm_with<const N: usize>(&mut self, answers: [KcvAnswer; N]) {
        self.answers = answers.into();
    }

    pub(crate) fn when_act_begins(&mut self, does: impl FnMut(usize) + 'static) {
        self.when_act_begins = Box::new(does);
    }

    /// When nothing else is to be typed, custodians type what they were shown.
    pub(crate) fn writes_down(&mut self) {
        self.write_down = true;
    }

    /// Runs a plan with these people, through the library.
    pub(crate) fn run(&mut self, site: &Site, plan: &str) -> Result<(), CeremonyError> {
        self.run_at(site, plan, OffsetDateTime::now_utc())
    }

    /// The same, beginning at another time.
    pub(crate) fn run_at(
        &mut self,
        site: &Site,
        plan: &str,
        now: OffsetDateTime,
    ) -> Result<(), CeremonyError> {
        let plan = Plan::load(&site.path(plan), Mode::Real, now)?;
        let began = Instant::now();
        Ceremony::run(&plan, self, &|| now + began.elapsed())
    }

    pub(crate) fn revealed(&self) -> Vec<String> {
        self.revealed.clone()
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
    fn begin(&mut self, agenda: Agenda) {
        self.seen.push(format!("{agenda:?}"));
        self.digest = agenda.digest;
    }

    fn type_digest(&mut self, officer: &str) -> Result<String, CeremonyError> {
        self.seen.push(format!("digest: {officer}"));
        Ok(self.digest[..32].to_owned())
    }

    fn type_pin(&mut self, token: &str, holder: Option<&str>) -> Result<Typed, CeremonyError> {
        let holder = holder.unwrap_or("somebody");
        self.seen
            .push(format!("hidden: {holder}, PIN of token {token}"));
        let typed = self.components.pop_front();
        let typed = typed.unwrap_or_else(|| panic!("nobody has the PIN of token {token}"));
        Ok(Typed::copy_from(&typed))
    }

    fn act_begins(&mut self, number: usize) -> Result<(), CeremonyError> {
        self.seen.push(format!("[act {number}]"));
        (self.when_act_begins)(number);
        Ok(())
    }

    fn act_ends(&mut self, number: usize, outcome: Result<&str, &CeremonyError>) {
        self.seen.push(format!("[act {number}: {outcome:?}]"));
    }

    fn tell(&mut self, text: &str) {
        self.seen.push(text.to_owned());
    }

    fn alone(&mut self, person: &str) -> Result<(), CeremonyError> {
        self.seen.push(format!("[alone: {person}]"));
        Ok(())
    }

    fn type_component(
        &mut self,
        component: &Component<'_>,
        _why: Typing,
    ) -> Result<Typed, CeremonyError> {
        let custodian = component.custodian;
        self.seen.push(format!("hidden: {custodian}, {component}"));
        let written_down = || self.revealed.last().filter(|_| self.write_down).cloned();
        let typed = self.components.pop_front().or_else(written_down);
        typed
            .map(|typed| Typed::copy_from(&typed))
            .ok_or_else(|| CeremonyError::Declined("nobody answers".to_owned()))
    }

    fn confirm_kcv(
        &mut self,
        component: &Component<'_>,
        entered: &Entered,
    ) -> Result<KcvAnswer, CeremonyError> {
        let custodian = component.custodian;
        self.seen.push(format!("{custodian}: {}", entered.kcv));
        Ok(self.answers.pop_front().unwrap_or(KcvAnswer::Yes))
    }

    fn show_component(
        &mut self,
        component: &Component<'_>,
        value: &ClearKey,
        kcv: &Kcv,
    ) -> Result<(), CeremonyError> {
        let custodian = component.custodian;
        self.seen
            .push(format!("shown: {custodian}, {component}, {kcv}"));
        self.revealed.push(hex::encode(value.expose_clear()));
        Ok(())
    }

    fn part(&mut self) {
        self.seen.push("[parted]".to_owned());
    }

    fn end(&mut self, ending: &Ending<'_>) {
        self.seen.push(format!("{ending:?}"));
    }

    fn break_off(&mut self, ending: &Ending<'_>) {
        self.end(ending);
    }
}
