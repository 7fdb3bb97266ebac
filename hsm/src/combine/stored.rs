//! A sum at several sittings.
//!
//! The sum of all components but the last is kept in the token: as private, sensitive objects, which are the
//! sum, and as a record, which says what it is of and how it stands. The last component is added in a session,
//! so the whole key is nowhere in the token before it is the master key.
//!
//! Each change makes new objects first, then writes the record in one go, and destroys the old objects last. A
//! process that is killed leaves the sum as it was or as it was to be, and objects that no record names, which
//! [`sweep`] destroys.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use time::OffsetDateTime;

use super::{
    Completion, EnteredComponent, Home, Sum, SumId, SumTarget, component_kcv, finish,
    rules::{self, Fingerprint, MAX_TRIES},
    state::{Generation, PART_LABEL, State, random},
};
use crate::{
    ClearKey, HsmError, Kcv, KeyRole, SecretKey, Token, check_value,
    error::CallResult,
    inspect::{find_keys, require_free, stated_kind},
    keys::may,
    self_test,
    session::Session,
    template::Flag,
    token::self_test_failed,
    worker::{Ephemeral, Worker},
};

const OPERATION: &str = "keep a partial sum";

/// A key that grows from components over several sittings. Dropped, it stays in the token as it stands.
pub struct StoredSum {
    worker: Worker,
    sum: Sum,
    state: State,
    /// Nothing is in the token before the first component is.
    is_stored: bool,
    derives: bool,
    /// Keeps the login.
    token: Token,
}

/// A sum that is kept in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSumSummary {
    /// Which plan's and act's.
    pub id: SumId,
    /// What it is to become.
    pub target: SumTarget,
    /// The components in it, in the order in which they were entered.
    pub components: Vec<EnteredComponent>,
    /// When it expires. From then on it is not used any more.
    pub expires_at: OffsetDateTime,
    /// How often a last component was tried.
    pub tries: u32,
}

impl StoredSumSummary {
    /// Whether no try is left. One whose key was made at the last try is still to be completed.
    pub const fn is_spent(&self) -> bool {
        self.tries >= MAX_TRIES
    }

    /// Whether it may not be used any more.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        now >= self.expires_at
    }
}

impl StoredSum {
    pub(crate) fn begin(
        token: Token,
        id: SumId,
        target: SumTarget,
        expires_at: OffsetDateTime,
    ) -> Result<Self, HsmError> {
        token.require_records("to keep a partial sum between sittings")?;
        let way = *token.combining()?.as_ref().map_err(self_test_failed)?;
        let worker = token.writer()?;
        if State::load(&worker.session, &id)?.is_some() {
            return Err(HsmError::SumExists { id });
        }
        let state = State {
            way,
            expires_at,
            generation: Generation::random(&worker.session)?,
            parts: 0,
            salt: random(&worker.session)?,
            components: Vec::new(),
            tries: 0,
            last: None,
            id,
            target,
        };
        Self::new(token, worker, state, Vec::new(), false)
    }

    fn new(
        token: Token,
        worker: Worker,
        state: State,
        parts: Vec<ObjectHandle>,
        is_stored: bool,
    ) -> Result<Self, HsmError> {
        let derives = self_test::assembles(&worker)?;
        let mut sum = Sum::new(state.way, state.target.kind);
        sum.parts = parts;
        Ok(Self {
            worker,
            sum,
            state,
            is_stored,
            derives,
            token,
        })
    }

    /// What is in it, and until when.
    pub fn summary(&self) -> StoredSumSummary {
        summary(&self.state)
    }

    /// Adds a component that is not the last, and returns its own check value.
    ///
    /// # Errors
    /// The component is of another length, zero in a piece of 8 bytes, of parts of which two are equal, the
    /// sixth, or one that was added before, at this sitting or an earlier one; or a call failed. The sum is what
    /// it was then, or with the component in it if it was only the old objects that could not be destroyed.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a component is spent by adding it"
    )]
    pub fn add(
        &mut self,
        component: ClearKey,
        number: u32,
        custodian: &str,
    ) -> Result<Kcv, HsmError> {
        let (entered, fingerprint) = self.examine(&component, number, custodian)?;
        self.require_current()?;
        let session = &self.worker.session;
        let generation = Generation::random(session)?;
        let parts = self
            .sum
            .with(session, &component, &Home::Token(generation))?;
        // From here on the record decides which objects are the sum. If it cannot be written, or it is not
        // known whether it was, a sweep finds out.
        let parts: Vec<_> = parts.into_iter().map(Ephemeral::keep).collect();
        let mut state = self.state.clone();
        let kcv = entered.kcv.clone();
        state.generation = generation;
        state.parts = parts.len();
        state.components.push((entered, fingerprint));
        state.store(session)?;
        self.state = state;
        self.is_stored = true;
        self.sum.replace(session, parts);
        Ok(kcv)
    }

    /// Makes the sum with `last` the master key, if its check value is the announced one. If not, `last` may be
    /// entered anew: three times in all, however often the program is started.
    ///
    /// # Errors
    /// As for [`Self::add`]; fewer than two components; the name is taken; [`HsmError::BadSum`], with which the
    /// sum is destroyed. With others it is what it was, but for the try.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a component is spent by adding it"
    )]
    pub fn complete(
        &mut self,
        last: ClearKey,
        number: u32,
        custodian: &str,
    ) -> Result<Completion, HsmError> {
        let (entered, _) = self.examine(&last, number, custodian)?;
        rules::require_enough(self.state.components.len() + 1)?;
        self.require_current()?;
        let session = &self.worker.session;
        require_free(session, &self.state.target.name)?;
        self.state.tries += 1;
        self.state.last = Some(entered);
        self.state.store(session)?;

        let SumTarget { name, kcv, .. } = &self.state.target;
        match finish::enter_with(&self.worker, &self.sum, &last, name, kcv, self.derives) {
            Ok(key) => {
                self.close()?;
                Ok(Completion::Key(key))
            }
            Err(HsmError::KcvMismatch { found, .. }) => {
                let tries_left = MAX_TRIES.saturating_sub(self.state.tries);
                if tries_left == 0 {
                    self.destroy()?;
                }
                Ok(Completion::Wrong { found, tries_left })
            }
            Err(error @ HsmError::BadSum { .. }) => {
                self.destroy()?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The master key, if it was made and the program was stopped before the sum was destroyed; and the last
    /// component. The sum is destroyed then.
    ///
    /// # Errors
    /// The key of this name is another one, or weaker than its role; a call failed.
    pub fn completed(&mut self) -> Result<Option<(SecretKey, EnteredComponent)>, HsmError> {
        let SumTarget { name, kind, kcv } = &self.state.target;
        let Some(last) = &self.state.last else {
            return Ok(None);
        };
        if !is_made(&self.worker.session, &self.state)? {
            return Ok(None);
        }
        let role = KeyRole::of_secret(name);
        let key = self.worker.key(role, name)?;
        let session = &self.worker.session;
        // A key over others cannot be measured where its length is not stated; its check value tells it.
        let stated = stated_kind(session, key, name.label())?;
        let is_of_kind = stated.is_none_or(|stated| stated == *kind);
        if !is_of_kind || check_value::of_copy(session, key, *kind, kcv.value().len())? != *kcv {
            return Err(HsmError::KeyExists {
                label: name.label().to_owned(),
            });
        }
        let may_derive = may(session, key, Flag::Derive, name)?;
        let key = SecretKey::new(name.clone(), role, *kind, may_derive);
        let completed = (key, last.clone());
        self.close()?;
        Ok(Some(completed))
    }

    /// Ends the sum when its key is made: the record last, so that whoever starts the program again finds what it was
    /// made of.
    fn close(&mut self) -> Result<(), HsmError> {
        self.sum.destroy(&self.worker.session);
        self.state.destroy(&self.worker.session)?;
        self.is_stored = false;
        Ok(())
    }

    /// Destroys the sum: the record first, so that nothing uses the objects any more.
    ///
    /// # Errors
    /// The token refuses.
    pub fn destroy(&mut self) -> Result<(), HsmError> {
        if self.is_stored {
            self.state.destroy(&self.worker.session)?;
            self.is_stored = false;
        }
        self.sum.destroy(&self.worker.session);
        Ok(())
    }

    /// A component's check value and fingerprint, if it may come into the sum.
    fn examine(
        &self,
        component: &ClearKey,
        number: u32,
        custodian: &str,
    ) -> Result<(EnteredComponent, Fingerprint), HsmError> {
        let kind = self.sum.kind;
        rules::require_sound_component(component, kind)?;
        let fingerprint = rules::fingerprint(&self.state.salt, component);
        let components = self.state.components.iter();
        let earlier: Vec<_> = components.map(|(_, fingerprint)| *fingerprint).collect();
        rules::require_new(&fingerprint, &earlier)?;
        let entered = EnteredComponent {
            number,
            custodian: custodian.to_owned(),
            kcv: component_kcv(&self.worker.session, component, kind)?,
        };
        Ok((entered, fingerprint))
    }

    /// Refuses to go on with a sum that is recorded otherwise than it was left: by a call that failed halfway, or
    /// by another process.
    fn require_current(&self) -> Result<(), HsmError> {
        let recorded = State::load(&self.worker.session, &self.state.id)?;
        if recorded.as_ref() == self.is_stored.then_some(&self.state) {
            return Ok(());
        }
        Err(HsmError::BadAnswer {
            operation: OPERATION,
            what: "another state of the sum than it was left in; start again".to_owned(),
        })
    }
}

impl std::fmt::Debug for StoredSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StoredSumSummary { id, components, .. } = self.summary();
        let (count, kind) = (components.len(), self.sum.kind);
        let token = &self.token;
        write!(
            f,
            "StoredSum({kind} of {count} components, {id}, in {token:?})"
        )
    }
}

/// The sums that a token keeps, expired ones too.
pub(crate) fn list(session: &Session) -> Result<Vec<StoredSumSummary>, HsmError> {
    Ok(State::load_all(session)?.iter().map(summary).collect())
}

/// The sum of this id, unless it is expired or used up.
pub(crate) fn resume(
    token: Token,
    id: &SumId,
    now: OffsetDateTime,
) -> Result<Option<StoredSum>, HsmError> {
    let worker = token.writer()?;
    let session = &worker.session;
    let Some(state) = State::load(session, id)? else {
        return Ok(None);
    };
    if is_over(session, &state, now)? {
        return Ok(None);
    }
    // Of a sum whose key is made the parts may be gone.
    let is_made = state.last.is_some() && is_made(session, &state)?;
    let mut parts = Vec::with_capacity(state.parts);
    for position in 0..state.parts {
        let template = [&any_part()[..], &state.generation.name(position)].concat();
        match session.find_objects(&template).during(OPERATION)?[..] {
            [part] => parts.push(part),
            [] if is_made => {}
            ref found => {
                return Err(HsmError::BadAnswer {
                    operation: OPERATION,
                    what: format!(
                        "{} objects for a part of the sum of {id}. `kdh-ceremony sums destroy` destroys what there \
                         is of it; start from the first component then",
                        found.len()
                    ),
                });
            }
        }
    }
    StoredSum::new(token, worker, state, parts, true).map(Some)
}

/// Destroys the sums that are expired or used up, whosever they are, and every object that no record names.
/// Returns the sums that were destroyed.
pub(crate) fn sweep(
    session: &Session,
    now: OffsetDateTime,
) -> Result<Vec<StoredSumSummary>, HsmError> {
    let (mut live, mut gone) = (Vec::new(), Vec::new());
    for state in State::load_all(session)? {
        if is_over(session, &state, now)? {
            state.destroy(session)?;
            gone.push(summary(&state));
        } else {
            live.push(state.generation);
        }
    }
    destroy_all_but(session, &live)?;
    Ok(gone)
}

/// Destroys a sum; says whether there was one.
pub(crate) fn destroy(session: &Session, id: &SumId) -> Result<bool, HsmError> {
    let mut live = Vec::new();
    let mut found = false;
    for state in State::load_all(session)? {
        if state.id == *id {
            state.destroy(session)?;
            found = true;
        } else {
            live.push(state.generation);
        }
    }
    destroy_all_but(session, &live)?;
    Ok(found)
}

fn destroy_all_but(session: &Session, live: &[Generation]) -> Result<(), HsmError> {
    for part in session.find_objects(&any_part()).during(OPERATION)? {
        let id = session
            .get_attributes(part, &[AttributeType::Id])
            .during(OPERATION)?;
        let named = id.first().is_some_and(|id| match id {
            Attribute::Id(id) => Generation::of_part(id).is_some_and(|found| live.contains(&found)),
            _ => false,
        });
        if !named {
            session.destroy_object(part).during(OPERATION)?;
        }
    }
    Ok(())
}

fn any_part() -> [Attribute; 3] {
    [
        Attribute::Token(true),
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(PART_LABEL.into()),
    ]
}

/// Whether a sum may not be used any more. One whose key was made at the last try is still to be completed.
fn is_over(session: &Session, state: &State, now: OffsetDateTime) -> Result<bool, HsmError> {
    Ok(state.is_expired(now) || (state.is_spent() && !is_made(session, state)?))
}

/// Whether a key of the sum's name is in the token.
fn is_made(session: &Session, state: &State) -> Result<bool, HsmError> {
    let found = find_keys(session, ObjectClass::SECRET_KEY, &state.target.name)?;
    Ok(!found.is_empty())
}

fn summary(state: &State) -> StoredSumSummary {
    let components = state.components.iter();
    StoredSumSummary {
        id: state.id,
        target: state.target.clone(),
        components: components.map(|(entered, _)| entered.clone()).collect(),
        expires_at: state.expires_at,
        tries: state.tries,
    }
}
