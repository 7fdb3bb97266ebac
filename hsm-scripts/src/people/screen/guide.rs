//! The way through a ceremony: what was done, what happens now, what comes next.

use super::page::fits_guide;
use crate::{CeremonyError, Mode, people::Agenda};

/// How far the ceremony is.
#[derive(Debug)]
pub(super) struct Guide {
    pub(super) agenda: Agenda,
    pub(super) stations: Vec<Station>,
    /// The station of now.
    pub(super) at: usize,
    /// What was told, the last at the end.
    pub(super) told: Vec<String>,
    /// How much of it was there when somebody answered the last time.
    heard: usize,
}

#[derive(Debug)]
pub(super) struct Station {
    pub(super) text: String,
    pub(super) failed: bool,
}

impl Guide {
    pub(super) fn new(agenda: Agenda) -> Self {
        let officers = agenda.officers.iter();
        let officers = officers.map(|officer| format!("{officer} confirms the plan"));
        let tokens = ["the tokens are opened".to_owned()];
        let acts = agenda.acts.iter().enumerate();
        let acts = acts.map(|(index, act)| format!("act {}: {act}", index + 1));
        let end = ["the end: the last hash of the transcript".to_owned()];
        let texts = officers.chain(tokens).chain(acts).chain(end);
        let stations = texts.map(|text| Station {
            text,
            failed: false,
        });
        Self {
            stations: stations.collect(),
            agenda,
            at: 0,
            told: Vec::new(),
            heard: 0,
        }
    }

    pub(super) fn officer_confirms(&mut self, officer: &str) {
        let officers = &self.agenda.officers;
        if let Some(station) = officers.iter().position(|known| known == officer) {
            self.at = station;
        }
    }

    pub(super) fn tokens_are_opened(&mut self) {
        self.at = self.at.max(self.agenda.officers.len());
    }

    pub(super) fn act_begins(&mut self, number: usize) {
        self.at = self.station_of(number);
    }

    pub(super) fn act_ends(&mut self, number: usize, outcome: Result<&str, &CeremonyError>) {
        let index = self.station_of(number);
        let Some(station) = self.stations.get_mut(index) else {
            return;
        };
        match outcome {
            Ok(made) => {
                station.text = format!("act {number}: {made}");
                // A check value or a fingerprint at the end of it would be cut off.
                if !fits_guide(&station.text) {
                    self.told.push(station.text.clone());
                }
                self.at = index + 1;
            }
            Err(_) => station.failed = true,
        }
    }

    /// Somebody has answered, with all on the screen that was told.
    pub(super) const fn heard(&mut self) {
        self.heard = self.told.len();
    }

    /// What was told since.
    pub(super) fn news(&self) -> &[String] {
        self.told.get(self.heard..).unwrap_or_default()
    }

    pub(super) fn end(&mut self) {
        self.at = self.stations.len() - 1;
    }

    /// What stands at the right of the title: the mode and the act.
    pub(super) fn progress(&self) -> String {
        let mode = match self.agenda.mode {
            Mode::Real => "FOR REAL",
            Mode::Rehearsal => "REHEARSAL",
        };
        let of = self.agenda.acts.len();
        let before = self.station_of(1);
        if (before..before + of).contains(&self.at) {
            format!("act {} of {of}  {mode}", self.at - before + 1)
        } else {
            mode.to_owned()
        }
    }

    fn station_of(&self, act: usize) -> usize {
        self.agenda.officers.len() + act
    }
}
