//! The order of a run: show the plan, have it confirmed, open the HSM, act, write, record.

use std::{collections::BTreeMap, fmt::Write as _};

use hsm::{KeyName, Module, Pin, Token, TokenConfig};
use serde_json::json;
use time::OffsetDateTime;

use crate::{CeremonyError, People, Plan, acts, people::confirm_digest, transcript::Transcript};

/// How long one operation may take: making an RSA key can take a while.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(2);

/// Whether it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The plan's tokens, the real components.
    Real,
    /// Throw-away tokens and components that were made up; marked so in the transcript.
    Rehearsal,
}

/// A ceremony that was confirmed, with its tokens open.
pub struct Ceremony<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) mode: Mode,
    pub(crate) people: &'a mut dyn People,
    pub(crate) now: OffsetDateTime,
    tokens: BTreeMap<String, Token>,
    transcript: Transcript,
}

impl<'a> Ceremony<'a> {
    /// Runs a plan from beginning to end.
    ///
    /// # Errors
    /// The people declined, or an act failed. What the failing act had made is gone; the error says
    /// what stands.
    pub fn run(
        plan: &'a Plan,
        mode: Mode,
        people: &'a mut dyn People,
        now: OffsetDateTime,
    ) -> Result<(), CeremonyError> {
        people.tell(&summary(plan, mode));
        if plan.is_attended() {
            confirm_digest(people, &plan.contents.officers, &plan.digest())?;
        }
        let transcript = Transcript::begin(&plan.output(&plan.contents.transcript))?;
        let mut ceremony = Self {
            plan,
            mode,
            people,
            now,
            tokens: BTreeMap::new(),
            transcript,
        };
        ceremony.begin()?;
        for (index, act) in plan.contents.acts.iter().enumerate() {
            let number = index + 1;
            ceremony
                .people
                .tell(&format!("Act {number}: {}", act.name()));
            match acts::perform(&mut ceremony, act) {
                Ok(done) => {
                    ceremony.people.tell(&format!("  {}", done.summary));
                    ceremony.record(act.name(), done.record)?;
                }
                Err(cause) => {
                    let text = cause.to_string();
                    ceremony.record("failed", json!({"act": number, "cause": text}))?;
                    return Err(CeremonyError::Act {
                        number,
                        name: act.name(),
                        cause: Box::new(cause),
                    });
                }
            }
        }
        ceremony.record("finished", json!({}))?;
        let transcript = plan.output(&plan.contents.transcript);
        ceremony
            .people
            .tell(&format!("Done. Transcript: {}", transcript.display()));
        Ok(())
    }

    /// Opens the tokens, and makes sure that no key that shall be made is there yet.
    fn begin(&mut self) -> Result<(), CeremonyError> {
        let officers = if self.plan.is_attended() {
            self.plan.contents.officers.clone()
        } else {
            Vec::new()
        };
        self.record(
            "began",
            json!({
                "title": self.plan.contents.title,
                "plan-sha256": self.plan.digest(),
                "tool": concat!("kdh-ceremony ", env!("CARGO_PKG_VERSION")),
                "mode": match self.mode { Mode::Real => "real", Mode::Rehearsal => "rehearsal" },
                "confirmed-by": officers,
                "unattended": !self.plan.is_attended(),
            }),
        )?;
        for name in self.plan.tokens_in_use() {
            let token = self.open(name)?;
            self.tokens.insert(name.to_owned(), token);
        }
        for act in &self.plan.contents.acts {
            if let Some((token, key)) = act.makes_key() {
                let listed = self.token(token)?.list_keys()?;
                if listed.iter().any(|found| found.label == key) {
                    return Err(hsm::HsmError::KeyExists {
                        label: key.to_owned(),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, name: &str) -> Result<Token, CeremonyError> {
        let settings = self
            .plan
            .contents
            .tokens
            .get(name)
            .ok_or_else(|| CeremonyError::Plan(vec![format!("there is no token {name:?}")]))?;
        let pin = match &settings.pin_file {
            Some(path) => Pin::from_file(&self.plan.folder.join(path))?,
            None => Pin::prompt(&format!("PIN of token {:?}: ", settings.label))?,
        };
        let mut config = TokenConfig::new(&settings.label);
        config.serial.clone_from(&settings.serial);
        config.workers = 1;
        config.deadline = DEADLINE;
        let token = Module::load(&self.plan.folder.join(&settings.module))?.open(&config, &pin)?;
        let info = token.info();
        let detail = json!({
            "name": name,
            "label": info.label,
            "serial": info.serial,
            "model": info.model,
            "manufacturer": info.manufacturer,
        });
        self.record("token-opened", detail)?;
        Ok(token)
    }

    /// A token of the plan.
    pub(crate) fn token(&self, name: &str) -> Result<&Token, CeremonyError> {
        self.tokens
            .get(name)
            .ok_or_else(|| CeremonyError::Plan(vec![format!("token {name:?} is not open")]))
    }

    /// Destroys a key that a failed act had made.
    pub(crate) fn undo(&mut self, token: &str, key: &KeyName) {
        let undone = self.token(token).map_err(|error| error.to_string());
        let undone =
            undone.and_then(|token| token.destroy_key(key).map_err(|error| error.to_string()));
        if let Err(error) = undone {
            self.people.tell(&format!(
                "The key {key} in token {token} could not be destroyed ({error}); destroy it by hand."
            ));
        }
    }

    fn record(&mut self, event: &str, detail: serde_json::Value) -> Result<(), CeremonyError> {
        self.transcript.record(self.now, event, detail)
    }
}

/// What is about to happen, for everybody to read.
fn summary(plan: &Plan, mode: Mode) -> String {
    let mut text = String::new();
    if mode == Mode::Rehearsal {
        text.push_str("REHEARSAL: throw-away tokens, made-up components\n");
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", plan.contents.title);
    let _ = writeln!(text, "plan digest (SHA-256): {}", plan.digest());
    for (index, act) in plan.contents.acts.iter().enumerate() {
        let key = act
            .makes_key()
            .map(|(token, key)| format!(": key {key} in token {token}"))
            .unwrap_or_default();
        let output = act
            .output()
            .map(|output| format!(" -> {}", output.display()))
            .unwrap_or_default();
        let _ = writeln!(text, "  {}. {}{key}{output}", index + 1, act.name());
    }
    text
}
