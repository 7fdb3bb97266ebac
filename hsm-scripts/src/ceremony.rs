//! The order of a run: show the plan, have it confirmed, open the HSM, act, write, record.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hsm::{KeyPairKind, KeyRole, Operations, SigningKey, Token};
use pki::{Certificate, PublicKey, rfc3339};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    CeremonyError, Mode, People, Plan, acts,
    outputs::{load_certificate, write_new},
    people::{Agenda, Ending},
    plan::{IssuerCertificate, KeyPlace},
    sittings,
    tokens::{self, Opened},
    transcript::Transcript,
    turn::Turn,
};

/// A ceremony that is going on.
pub struct Ceremony<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) people: &'a mut dyn People,
    clock: &'a dyn Fn() -> OffsetDateTime,
    tokens: BTreeMap<String, Opened>,
    /// Of a participant, with their token open.
    turn: Option<Turn>,
    transcript: Transcript,
    /// The number of the act that is going on.
    act: Option<u32>,
    /// The sitting that is held, counted from 1.
    pub(crate) sitting: u32,
    /// Of the act that is going on.
    made: Vec<Made>,
}

/// What an act has made so far.
enum Made {
    /// A note that the act makes a key; goes when the act is over.
    Note(KeyPlace),
    /// Goes again if the act fails.
    Key(KeyPlace),
    /// Goes again if the act fails.
    File(PathBuf),
    /// Stays: nothing makes a token uninitialized.
    Token(String),
}

/// How the acts ended.
enum End {
    Done {
        standing: Vec<String>,
    },
    /// What there is waits for the next sitting.
    ToBeContinued {
        until: OffsetDateTime,
    },
}

/// What became of what a failed act had made.
#[derive(Default)]
struct Undone {
    gone: Vec<String>,
    left: Vec<String>,
}

impl<'a> Ceremony<'a> {
    /// Runs a plan from beginning to end, or the sitting of it that is due.
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
        people.begin(Agenda::of(plan));
        let mut ceremony = Self {
            plan,
            people,
            clock,
            tokens: BTreeMap::new(),
            turn: None,
            transcript: Transcript::default(),
            act: None,
            sitting: 1,
            made: Vec::new(),
        };
        ceremony.record_beginning()?;
        ceremony.confirm()?;
        let opened = tokens::open_all(plan, ceremony.people)?;
        ceremony.begin_sitting(&opened)?;
        for (name, opened) in opened {
            ceremony.hold(name, opened)?;
        }
        ceremony.sweep()?;
        ceremony.undo_unfinished()?;
        let outcome = match ceremony.perform_acts()? {
            End::Done { standing } => {
                ceremony.end("finished", json!({"acts": standing.len()}))?;
                "Done.".to_owned()
            }
            End::ToBeContinued { until } => {
                let (sitting, of) = (ceremony.sitting, plan.sittings());
                let until = rfc3339(until);
                let detail = json!({"sitting": sitting, "of": of, "until": until});
                ceremony.end("to-be-continued", detail)?;
                format!(
                    "Sitting {sitting} of {of} has ended. To be continued until {until}, with the same command and \
                     the same plan. After that the components so far are destroyed."
                )
            }
        };
        ceremony.people.end(&Ending {
            outcome: &outcome,
            transcript: &plan.path(&plan.transcript_of(ceremony.sitting)),
            head: ceremony.transcript.head(),
        });
        Ok(())
    }

    /// Begins the sitting that is due, with a transcript of its own.
    fn begin_sitting(&mut self, opened: &BTreeMap<String, Opened>) -> Result<(), CeremonyError> {
        let (sitting, of) = (sittings::due(self.plan, opened)?, self.plan.sittings());
        self.sitting = sitting;
        let path = self.plan.path(&self.plan.transcript_of(sitting));
        if path.symlink_metadata().is_ok() {
            let cause = "exists already: keep the transcript of the sitting that was stopped, or of the sum that has \
                         expired, under another name. Nothing has happened.";
            return Err(CeremonyError::file(&path, cause));
        }
        if of > 1 {
            self.people.tell(&format!("Sitting {sitting} of {of}."));
            self.record("sitting", json!({"sitting": sitting, "of": of}))?;
        }
        self.transcript.open(&path)
    }

    /// Has each officer confirm the plan, and sign that if they have a token, before the HSM is opened.
    fn confirm(&mut self) -> Result<(), CeremonyError> {
        let digest = self.plan.digest();
        for officer in &self.plan.officers {
            let name = self.plan.name_of(officer).into_owned();
            self.people.confirm_digest(&name, &digest)?;
            self.sign_step(officer, "confirmed", json!({"plan-sha256": digest}))?;
        }
        self.turn = None;
        Ok(())
    }

    /// Destroys partial sums in these tokens that may not be used any more, of whatever plan.
    fn sweep(&mut self) -> Result<(), CeremonyError> {
        let tokens: Vec<_> = self
            .tokens
            .iter()
            .map(|(name, opened)| (name.clone(), opened.token.clone()))
            .collect();
        for (name, token) in tokens {
            for gone in token.sweep_stored_sums(self.plan.now)? {
                let cause = if gone.is_expired(self.plan.now) {
                    "it has expired"
                } else {
                    "three wrong combined check values"
                };
                let (key, plan) = (gone.target.name, hex::encode(gone.id.plan()));
                let detail = json!({
                    "token": name,
                    "key": key.label(),
                    "plan-sha256": plan,
                    "act": gone.id.act(),
                    "components": gone.components.len(),
                    "cause": cause,
                });
                self.record("partial-sum-destroyed", detail)?;
                self.people.tell(&format!(
                    "A partial sum of {key} in token {name} was destroyed: {cause}. To bring the key in, start from \
                     its first component."
                ));
            }
        }
        Ok(())
    }

    /// Destroys keys that this plan was making when the program was killed: the act was not on the record.
    fn undo_unfinished(&mut self) -> Result<(), CeremonyError> {
        let plan = self.plan;
        for (act, number) in plan.acts.iter().zip(1..) {
            let Some(noted) = act.noted_key() else {
                continue;
            };
            let Some(opened) = self.tokens.get(&noted.token) else {
                continue;
            };
            let token = opened.token.clone();
            if token.is_unfinished(&noted.key, &sittings::sum_id(plan, number))? {
                for place in act.makes_keys() {
                    self.destroy_unfinished(&token, place, number)?;
                }
            }
            // Another plan's, too, whose key never came to be: it would take the one that is made now for its own.
            token.forget_unfinished(&noted.key)?;
        }
        Ok(())
    }

    fn destroy_unfinished(
        &mut self,
        token: &Token,
        place: &KeyPlace,
        act: u32,
    ) -> Result<(), CeremonyError> {
        let label = place.key.label();
        if !token.list_keys()?.iter().any(|key| key.label == label) {
            return Ok(());
        }
        token.destroy_key(&place.key)?;
        let detail = json!({"token": place.token, "key": label, "act": act});
        self.record("unfinished-key-destroyed", detail)?;
        self.people.tell(&format!(
            "The {place} was destroyed: act {act} was making it when the program was stopped."
        ));
        Ok(())
    }

    /// The acts, one after the other, until one waits for its next sitting, or fails.
    fn perform_acts(&mut self) -> Result<End, CeremonyError> {
        let mut standing = Vec::new();
        for (act, number) in self.plan.acts.iter().zip(1_u32..) {
            let name = act.name();
            self.act = Some(number);
            let begun = self.people.act_begins(number as usize);
            // An act that is not on the record did not happen.
            let done = begun.and_then(|()| {
                let done = acts::perform(self, act, number)?;
                let record = self.with_operations(done.record);
                let event = done.continues_until.map_or(name, |_| "sitting-ended");
                self.record(event, record)?;
                Ok((done.summary, done.continues_until))
            });
            if done.is_ok() {
                self.forget_notes();
            }
            self.turn = None;
            let outcome = done.as_ref().map(|(summary, _)| &**summary);
            self.people.act_ends(number as usize, outcome);
            match done {
                Ok((summary, continues_until)) => {
                    if let Some(until) = continues_until {
                        return Ok(End::ToBeContinued { until });
                    }
                    standing.push(format!("act {number} ({name}): {summary}"));
                }
                Err(cause) => {
                    let Undone { gone, left } = self.undo();
                    let detail = json!({
                        "cause": cause.to_string(),
                        "undone": gone,
                        "left": left,
                    });
                    match self.end("failed", detail) {
                        Ok(()) => self.people.break_off(&Ending {
                            outcome: "The ceremony failed.",
                            transcript: &self.plan.path(&self.plan.transcript_of(self.sitting)),
                            head: self.transcript.head(),
                        }),
                        Err(error) => self
                            .people
                            .tell(&format!("The failure is not on the record: {error}")),
                    }
                    return Err(CeremonyError::Act {
                        number: number as usize,
                        name,
                        cause: Box::new(cause),
                        left,
                        standing,
                    });
                }
            }
        }
        self.act = None;
        Ok(End::Done { standing })
    }

    /// The time.
    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    /// A token of the plan.
    pub(crate) fn token(&self, name: &str) -> Result<&Token, CeremonyError> {
        self.tokens
            .get(name)
            .map(|opened| &opened.token)
            .ok_or_else(|| CeremonyError::Plan(vec![format!("token {name:?} is not open")]))
    }

    /// Opens a token that the act has initialized.
    pub(crate) fn open_initialized(
        &mut self,
        name: &str,
        operations: &Operations,
    ) -> Result<(), CeremonyError> {
        self.made.push(Made::Token(name.to_owned()));
        let opened = tokens::open_named(self.plan, name, self.people, operations)?;
        self.hold(name.to_owned(), opened)
    }

    fn hold(&mut self, name: String, opened: Opened) -> Result<(), CeremonyError> {
        let detail = opened.describe(&name, tokens::settings(self.plan, &name)?);
        self.record("token-opened", detail)?;
        self.tokens.insert(name, opened);
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

    /// To be called before the HSM makes the keys of an act that writes no file, with the one of them that stands for
    /// all: if the program is killed then, the same plan destroys them when it is started again.
    pub(crate) fn making_key(&mut self, place: &KeyPlace) -> Result<(), CeremonyError> {
        let number = self.act.unwrap_or_default();
        let act = sittings::sum_id(self.plan, number);
        if self
            .token(&place.token)?
            .note_unfinished(&place.key, &act)?
        {
            self.made.push(Made::Note(place.clone()));
        }
        Ok(())
    }

    /// The act is on the record, and what it made stands.
    fn forget_notes(&mut self) {
        for made in std::mem::take(&mut self.made) {
            if let Made::Note(place) = made
                && let Err(error) = self.forget(&place)
            {
                self.people.tell(&format!(
                    "The {place} stands, but its token still says that it is being made ({error}): never start this \
                     plan again, it would destroy the key."
                ));
            }
        }
    }

    fn forget(&self, place: &KeyPlace) -> Result<(), CeremonyError> {
        Ok(self.token(&place.token)?.forget_unfinished(&place.key)?)
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
                Made::Note(place) => {
                    if let Err(error) = self.forget(place) {
                        undone.left.push(format!("a note of the {place} ({error})"));
                    }
                    continue;
                }
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
        let plan = self.plan;
        let participants = plan.participants.iter().map(|(id, participant)| {
            let settings = &participant.token;
            let participant = json!({
                "certificate": base64(&participant.certificate),
                "name": plan.name_of(id),
                "module": settings.module,
                "token": settings.label,
            });
            (id.clone(), participant)
        });
        let in_use = plan.tokens_in_use().into_iter();
        let modules = in_use
            .filter_map(|name| plan.tokens.get(name))
            .chain(plan.participants.values().map(|one| &one.token))
            .map(|token| (token.module.display().to_string(), sha256(&token.module)));
        let detail = json!({
            "title": plan.title,
            "plan-sha256": plan.digest(),
            "tool": concat!("kdh-ceremony ", env!("CARGO_PKG_VERSION")),
            "mode": match plan.mode {
                Mode::Real => "real",
                Mode::Rehearsal => "rehearsal",
            },
            "unattended": plan.officers.is_empty(),
            "officers": plan.officers,
            "participants": participants.collect::<Map<_, _>>(),
            "ceremony-ca-sha256": plan.ceremony_ca.as_ref().map(|ca| hex::encode(ca.fingerprint())),
            "ceremony-crl": plan.ceremony_crl.as_ref().map(|crl| crl.number().0),
            "audit": plan.audit.as_ref().map(|audit| json!({
                "token": audit.place.token,
                "key": audit.place.key.label(),
                "certificate-sha256": match &audit.certificate {
                    IssuerCertificate::Earlier(certificate) => {
                        Some(hex::encode(certificate.fingerprint()))
                    }
                    IssuerCertificate::MadeHere(_) => None,
                },
            })),
            "rehearsed": plan.rehearsal,
            "modules": modules.collect::<Map<_, _>>(),
        });
        self.record("began", detail)
    }

    /// Adds a line to the transcript, with the act that is going on.
    pub(crate) fn record(&mut self, event: &str, detail: Value) -> Result<(), CeremonyError> {
        let detail = self.within_act(detail);
        self.transcript.record(self.now(), event, detail)
    }

    /// With the number of the act that is going on.
    fn within_act(&self, mut detail: Value) -> Value {
        if let (Some(act), Some(fields)) = (self.act, detail.as_object_mut()) {
            fields.insert("act".to_owned(), act.into());
        }
        detail
    }

    /// As [`Self::record`], for a step that somebody took: with who it was, and behind it their signature
    /// over everything so far, if they have a token of their own.
    ///
    /// # Errors
    /// As [`Self::begin_turn`]; or their token does not sign.
    pub(crate) fn sign_step(
        &mut self,
        who: &str,
        event: &str,
        mut detail: Value,
    ) -> Result<(), CeremonyError> {
        self.begin_turn(who)?;
        if let Some(fields) = detail.as_object_mut() {
            fields.insert("by".to_owned(), who.into());
        }
        let Some(turn) = &self.turn else {
            return self.record(event, detail);
        };
        let (now, detail) = ((self.clock)(), self.within_act(detail));
        self.transcript
            .record_step(now, (event, detail), (turn.signer(), &turn.key))
    }

    /// Opens a participant's token, unless it is their turn already, and closes that of the one before. Does
    /// no more than that for somebody who has none. To be called before somebody does what they sign for, so
    /// that a wrong PIN costs nothing.
    ///
    /// # Errors
    /// The token is not there, is another one, or refuses the PIN, which is tried once.
    pub(crate) fn begin_turn(&mut self, who: &str) -> Result<(), CeremonyError> {
        if self.turn.as_ref().is_some_and(|turn| turn.who == who) {
            return Ok(());
        }
        // Closed before another one is opened.
        self.turn = None;
        if let Some(participant) = self.plan.participants.get(who) {
            self.turn = Some(Turn::begin(self.plan, who, participant, self.people)?);
        }
        Ok(())
    }

    /// The last line, and the seal if there is a key for it.
    pub(crate) fn end(&mut self, event: &str, mut detail: Value) -> Result<(), CeremonyError> {
        let seal = self.seal();
        detail = self.with_operations(detail);
        if let (Err(cause), Some(fields)) = (&seal, detail.as_object_mut()) {
            fields.insert("not-sealed".to_owned(), cause.clone().into());
        }
        self.record(event, detail)?;
        let sealed = seal.and_then(|(key, certificate)| {
            let detail = json!({"certificate": base64(&certificate)});
            let now = (self.clock)();
            let sealed = self.transcript.record_signed(now, "sealed", detail, &key);
            sealed.map_err(|error| error.to_string())
        });
        if let Err(cause) = sealed {
            self.people
                .tell(&format!("The transcript is not sealed: {cause}."));
        }
        Ok(())
    }

    /// The audit key and its certificate, or why there is none.
    fn seal(&self) -> Result<(SigningKey, Certificate), String> {
        let audit = self.plan.audit.as_ref();
        let audit = audit.ok_or("the plan names no audit key")?;
        let certificate = match &audit.certificate {
            IssuerCertificate::Earlier(certificate) => Certificate::clone(certificate),
            IssuerCertificate::MadeHere(file) => load_certificate(&self.plan.path(file))
                .map_err(|_| "the audit key has no certificate yet")?,
        };
        let key = self
            .token(&audit.place.token)
            .and_then(|token| Ok(token.signing_key(KeyRole::Audit, &audit.place.key)?));
        let key = key.map_err(|error| error.to_string())?;
        Ok((key, certificate))
    }

    /// Which PKCS#11 functions were called since the last time, by token.
    fn with_operations(&self, mut detail: Value) -> Value {
        let counts = self
            .tokens
            .iter()
            .map(|(name, opened)| (name.clone(), json!(opened.operations.take())));
        let counts: Map<_, _> = counts
            .filter(|(_, counts)| counts.as_object().is_some_and(|counts| !counts.is_empty()))
            .collect();
        if let Some(fields) = detail.as_object_mut() {
            fields.insert("operations".to_owned(), counts.into());
        }
        detail
    }
}

fn base64(certificate: &Certificate) -> String {
    BASE64_STANDARD.encode(certificate.der())
}

/// Of a file that may not be there to be read.
fn sha256(file: &Path) -> Value {
    let contents = fs::read(file).ok();
    contents.map_or(Value::Null, |contents| {
        hex::encode(Sha256::digest(contents)).into()
    })
}
