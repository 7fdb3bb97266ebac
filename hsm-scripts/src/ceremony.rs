//! The order of a run: show the plan, have it confirmed, open the HSM, act, write, record.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use hsm::{KeyPairKind, KeyRole, Token};
use pki::PublicKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    CeremonyError, Mode, People, Plan, acts,
    outputs::write_new,
    people::confirm_digest,
    plan::KeyPlace,
    tokens::{self, Opened},
    transcript::Transcript,
};

/// A ceremony that was confirmed, with its tokens open.
pub struct Ceremony<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) people: &'a mut dyn People,
    clock: &'a dyn Fn() -> OffsetDateTime,
    tokens: BTreeMap<String, Token>,
    transcript: Transcript,
    /// Of the act that is going on.
    made: Vec<Made>,
}

/// What an act has made so far.
enum Made {
    /// Goes again if the act fails.
    Key(KeyPlace),
    /// Goes again if the act fails.
    File(PathBuf),
    /// Stays: nothing makes a token uninitialized.
    Token(String),
}

/// What became of what a failed act had made.
#[derive(Default)]
struct Undone {
    gone: Vec<String>,
    left: Vec<String>,
}

impl<'a> Ceremony<'a> {
    /// Runs a plan from beginning to end.
    ///
    /// # Errors
    /// The people declined, or a token cannot be opened or holds a key of the plan already: nothing
    /// has happened then. Or an act failed: what it had made is gone, and the error says what
    /// stands.
    pub fn run(
        plan: &'a Plan,
        people: &'a mut dyn People,
        clock: &'a dyn Fn() -> OffsetDateTime,
    ) -> Result<(), CeremonyError> {
        people.tell(&summary(plan));
        confirm_digest(people, &plan.officers, &plan.digest())?;
        let opened = tokens::open_all(plan)?;
        let mut ceremony = Self {
            plan,
            people,
            clock,
            tokens: BTreeMap::new(),
            transcript: Transcript::begin(&plan.path(&plan.transcript))?,
            made: Vec::new(),
        };
        ceremony.record_beginning()?;
        for (name, opened) in opened {
            ceremony.hold(name, opened)?;
        }
        let standing = ceremony.perform_acts()?;
        ceremony.record("finished", json!({"acts": standing.len()}))?;
        let end = format!(
            "Done. Transcript: {}\nIts last hash, for the minutes: {}",
            plan.path(&plan.transcript).display(),
            ceremony.transcript.head()
        );
        ceremony.people.tell(&end);
        Ok(())
    }

    /// The acts, one after the other; returns what they made, or stops at the first that fails.
    fn perform_acts(&mut self) -> Result<Vec<String>, CeremonyError> {
        let mut standing = Vec::new();
        for (index, act) in self.plan.acts.iter().enumerate() {
            let number = index + 1;
            let name = act.name();
            self.people.tell(&format!("Act {number}: {name}"));
            // An act that is not on the record did not happen.
            let done = acts::perform(self, act).and_then(|done| {
                self.record(name, done.record)?;
                Ok(done.summary)
            });
            match done {
                Ok(summary) => {
                    self.made.clear();
                    self.people.tell(&format!("  {summary}"));
                    standing.push(format!("act {number} ({name}): {summary}"));
                }
                Err(cause) => {
                    let Undone { gone, left } = self.undo();
                    let detail = json!({
                        "act": number,
                        "cause": cause.to_string(),
                        "undone": gone,
                        "left": left,
                    });
                    if let Err(error) = self.record("failed", detail) {
                        self.people
                            .tell(&format!("The failure is not on the record: {error}"));
                    }
                    return Err(CeremonyError::Act {
                        number,
                        name,
                        cause: Box::new(cause),
                        left,
                        standing,
                    });
                }
            }
        }
        Ok(standing)
    }

    /// A token of the plan.
    pub(crate) fn token(&self, name: &str) -> Result<&Token, CeremonyError> {
        self.tokens
            .get(name)
            .ok_or_else(|| CeremonyError::Plan(vec![format!("token {name:?} is not open")]))
    }

    /// Opens a token that the act has initialized.
    pub(crate) fn open_initialized(&mut self, name: &str) -> Result<(), CeremonyError> {
        self.made.push(Made::Token(name.to_owned()));
        let opened = tokens::open(self.plan, name)?;
        self.hold(name.to_owned(), opened)
    }

    fn hold(&mut self, name: String, (token, detail): Opened) -> Result<(), CeremonyError> {
        self.record("token-opened", detail)?;
        self.tokens.insert(name, token);
        Ok(())
    }

    /// Makes a key pair, which goes again if the act fails.
    pub(crate) fn make_key_pair(
        &mut self,
        place: &KeyPlace,
        role: KeyRole,
        kind: KeyPairKind,
    ) -> Result<PublicKey, CeremonyError> {
        let token = self.token(&place.token)?;
        let public_key = token.generate_key_pair(role, &place.key, kind)?;
        self.made.push(Made::Key(place.clone()));
        Ok(public_key)
    }

    /// Keeps account of a key that the HSM made, which goes again if the act fails.
    pub(crate) fn made_key(&mut self, place: &KeyPlace) {
        self.made.push(Made::Key(place.clone()));
    }

    /// Writes a new file and reads it back; it goes again if the act fails. Returns the SHA-256 of
    /// what stands in it, hex.
    pub(crate) fn write(&mut self, file: &Path, contents: &[u8]) -> Result<String, CeremonyError> {
        let path = self.plan.path(file);
        write_new(&path, contents)?;
        self.made.push(Made::File(path.clone()));
        let read = fs::read(&path).map_err(|error| CeremonyError::file(&path, error))?;
        if read != contents {
            let cause = "does not read back as it was written";
            return Err(CeremonyError::file(&path, cause));
        }
        Ok(hex::encode(Sha256::digest(&read)))
    }

    /// Takes back what the act had made, the last first.
    fn undo(&mut self) -> Undone {
        let mut undone = Undone::default();
        while let Some(made) = self.made.pop() {
            let (what, result) = match &made {
                Made::Key(place) => (place.to_string(), self.destroy(place)),
                Made::File(path) => {
                    let removed = fs::remove_file(path);
                    let removed = removed.map_err(|error| CeremonyError::file(path, error));
                    (path.display().to_string(), removed)
                }
                Made::Token(name) => {
                    undone.left.push(format!("token {name}, initialized"));
                    continue;
                }
            };
            match result {
                Ok(()) => undone.gone.push(what),
                Err(error) => undone.left.push(format!("{what} ({error})")),
            }
        }
        undone
    }

    fn destroy(&self, place: &KeyPlace) -> Result<(), CeremonyError> {
        Ok(self.token(&place.token)?.destroy_key(&place.key)?)
    }

    fn record_beginning(&mut self) -> Result<(), CeremonyError> {
        let detail = json!({
            "title": self.plan.title,
            "plan-sha256": self.plan.digest(),
            "tool": concat!("kdh-ceremony ", env!("CARGO_PKG_VERSION")),
            "mode": match self.plan.mode {
                Mode::Real => "real",
                Mode::Rehearsal => "rehearsal",
            },
            "unattended": self.plan.officers.is_empty(),
            "confirmed-by": self.plan.officers,
        });
        self.record("began", detail)
    }

    fn record(&mut self, event: &str, detail: Value) -> Result<(), CeremonyError> {
        self.transcript.record((self.clock)(), event, detail)
    }
}

/// What is about to happen, for everybody to read.
fn summary(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.mode == Mode::Rehearsal {
        text.push_str(
            "REHEARSAL: throw-away tokens, made-up components. Nothing real is touched.\n",
        );
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", plan.title);
    let _ = writeln!(text, "plan digest (SHA-256):\n{}", plan.grouped_digest());
    if plan.officers.is_empty() {
        text.push_str("UNATTENDED: nobody confirms this plan.\n");
    }
    for name in plan.tokens_in_use() {
        if let Some(token) = plan.tokens.get(name) {
            let serial = token.serial.as_deref().unwrap_or("not fixed");
            let _ = writeln!(text, "  token {name}: {}, serial {serial}", token.label);
        }
    }
    for (index, act) in plan.acts.iter().enumerate() {
        let _ = writeln!(text, "  {}. {act}", index + 1);
    }
    text
}
