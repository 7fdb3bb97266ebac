//! What the token records of a stored sum: one record for each, in JSON, private to the token's user.
//! Never a component, nor what would tell one.

use std::fmt;

use cryptoki::object::Attribute;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tr34::KeyKind;

use super::rules::{Fingerprint, MAX_TRIES};
use crate::{
    CombiningWay, HsmError, Kcv, KcvMethod, KeyName, error::CallResult, records, self_test::KINDS,
    session::Session,
};

/// What labels of these records begin with.
const RECORD_PREFIX: &str = "sum.";
/// `CKA_LABEL` of the parts of a sum in the token.
pub(super) const PART_LABEL: &str = "partial-sum";
/// A record of any other format was written by a later version of this program.
const FORMAT: u32 = 1;
const OPERATION: &str = "read the record of a partial sum";

/// Which sum: that of an act of a plan. A plan that was changed has another digest, and finds no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SumId {
    plan: [u8; 32],
    act: u32,
}

impl SumId {
    /// The sum of the plan with this SHA-256 digest, and its act of this number.
    pub const fn new(plan: [u8; 32], act: u32) -> Self {
        Self { plan, act }
    }

    /// SHA-256 of the plan.
    pub const fn plan(&self) -> &[u8; 32] {
        &self.plan
    }

    /// The number of the act, counted from 1.
    pub const fn act(&self) -> u32 {
        self.act
    }

    /// The label of its record. The record holds the whole digest.
    pub(super) fn label(&self) -> String {
        let digest = hex::encode(&self.plan[..16]);
        format!("{RECORD_PREFIX}{digest}.{}", self.act)
    }
}

impl fmt::Display for SumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan {}, act {}", hex::encode(self.plan), self.act)
    }
}

/// What a sum is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumTarget {
    /// The master key's name.
    pub name: KeyName,
    /// Algorithm and length.
    pub kind: KeyKind,
    /// Check value of the whole key, as announced.
    pub kcv: Kcv,
}

/// A component that was entered, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnteredComponent {
    /// Counted from 1.
    pub number: u32,
    /// Whoever entered it, as the plan names them.
    pub custodian: String,
    /// Its own check value.
    pub kcv: Kcv,
}

/// The name of the parts of one state of a sum: random, so that what was left by a state that never came to be
/// is not taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation([u8; Self::LEN]);

impl Generation {
    const LEN: usize = 16;

    pub(super) fn random(session: &Session) -> Result<Self, HsmError> {
        random(session).map(Self)
    }

    /// `CKA_LABEL` and `CKA_ID` of the part at `position`.
    pub(super) fn name(&self, position: usize) -> [Attribute; 2] {
        let id = [&self.0[..], &position.to_be_bytes()].concat();
        [Attribute::Label(PART_LABEL.into()), Attribute::Id(id)]
    }

    /// Of the part with this `CKA_ID`.
    pub(super) fn of_part(id: &[u8]) -> Option<Self> {
        id.first_chunk().copied().map(Self)
    }
}

pub(super) fn random<const N: usize>(session: &Session) -> Result<[u8; N], HsmError> {
    let mut bytes = [0; N];
    session.generate_random_slice(&mut bytes).during("random")?;
    Ok(bytes)
}

/// How a sum stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) id: SumId,
    pub(super) target: SumTarget,
    pub(super) way: CombiningWay,
    pub(super) expires_at: OffsetDateTime,
    /// Of the parts that are the sum.
    pub(super) generation: Generation,
    /// How many parts there are.
    pub(super) parts: usize,
    /// Of the fingerprints.
    pub(super) salt: [u8; 16],
    pub(super) components: Vec<(EnteredComponent, Fingerprint)>,
    /// How often a last component was tried. A try counts as soon as it begins: whoever stops the program in the
    /// middle of it has had it.
    pub(super) tries: u32,
    /// The last component that was tried.
    pub(super) last: Option<EnteredComponent>,
}

impl State {
    /// All of the token's, by id.
    pub(super) fn load_all(session: &Session) -> Result<Vec<Self>, HsmError> {
        let labels = records::list(session, RECORD_PREFIX)?;
        let mut states = Vec::with_capacity(labels.len());
        for label in labels {
            if let Some(record) = records::load(session, &label)? {
                let state = Self::parse(&label, &record)?;
                if state.id.label() != label {
                    return Err(under_another_label(&label));
                }
                states.push(state);
            }
        }
        states.sort_by_key(|state| state.id);
        Ok(states)
    }

    pub(super) fn load(session: &Session, id: &SumId) -> Result<Option<Self>, HsmError> {
        let label = id.label();
        let Some(record) = records::load(session, &label)? else {
            return Ok(None);
        };
        let state = Self::parse(&label, &record)?;
        if state.id != *id {
            return Err(under_another_label(&label));
        }
        Ok(Some(state))
    }

    pub(super) fn store(&self, session: &Session) -> Result<(), HsmError> {
        let label = self.id.label();
        let record = serde_json::to_vec(&Written::from(self));
        let record = record.map_err(|error| damaged(&label, &error.to_string()))?;
        records::store(session, &label, &record)
    }

    pub(super) fn destroy(&self, session: &Session) -> Result<(), HsmError> {
        records::destroy(session, &self.id.label())
    }

    pub(super) fn is_expired(&self, now: OffsetDateTime) -> bool {
        now >= self.expires_at
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.tries >= MAX_TRIES
    }

    fn parse(label: &str, record: &[u8]) -> Result<Self, HsmError> {
        let head: Head =
            serde_json::from_slice(record).map_err(|error| damaged(label, &error.to_string()))?;
        if head.format != FORMAT {
            let format = head.format;
            let cause = format!("its format is {format}, and this version knows {FORMAT} only");
            return Err(damaged(label, &cause));
        }
        let written: Written =
            serde_json::from_slice(record).map_err(|error| damaged(label, &error.to_string()))?;
        written
            .read()
            .ok_or_else(|| damaged(label, "a value is out of its range"))
    }
}

fn under_another_label(label: &str) -> HsmError {
    damaged(label, "it is of another plan than its label says")
}

/// Something else than was written. What it is worth cannot be told, so it is not used.
fn damaged(label: &str, cause: &str) -> HsmError {
    HsmError::BadAnswer {
        operation: OPERATION,
        what: format!(
            "a record {label} that is damaged: {cause}. Find out who has the token's PIN and changed it. When the \
             record is deleted (pkcs11-tool), the next ceremony destroys its sum; start from the first component then"
        ),
    }
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    format: u32,
    plan_sha256: String,
    act: u32,
    key: String,
    kind: String,
    kcv: String,
    way: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    generation: String,
    parts: usize,
    salt: String,
    components: Vec<WrittenComponent>,
    tries: u32,
    last: Option<WrittenComponent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenComponent {
    number: u32,
    custodian: String,
    kcv: String,
    /// None of the last one, which may be entered again.
    fingerprint: Option<String>,
}

impl WrittenComponent {
    fn new(component: &EnteredComponent, fingerprint: Option<&Fingerprint>) -> Self {
        Self {
            number: component.number,
            custodian: component.custodian.clone(),
            kcv: component.kcv.to_string(),
            fingerprint: fingerprint.map(hex::encode),
        }
    }

    fn read(self, method: KcvMethod) -> Option<EnteredComponent> {
        Some(EnteredComponent {
            number: self.number,
            custodian: self.custodian,
            kcv: Kcv::parse(method, &self.kcv).ok()?,
        })
    }
}

impl From<&State> for Written {
    fn from(state: &State) -> Self {
        let components = state.components.iter();
        Self {
            format: FORMAT,
            plan_sha256: hex::encode(state.id.plan),
            act: state.id.act,
            key: state.target.name.label().to_owned(),
            kind: state.target.kind.name().to_owned(),
            kcv: state.target.kcv.to_string(),
            way: state.way.to_string(),
            expires_at: state.expires_at,
            generation: hex::encode(state.generation.0),
            parts: state.parts,
            salt: hex::encode(state.salt),
            components: components
                .map(|(component, fingerprint)| WrittenComponent::new(component, Some(fingerprint)))
                .collect(),
            tries: state.tries,
            last: state
                .last
                .as_ref()
                .map(|last| WrittenComponent::new(last, None)),
        }
    }
}

impl Written {
    fn read(self) -> Option<State> {
        let kind = KINDS.into_iter().find(|kind| kind.name() == self.kind)?;
        let method = KcvMethod::for_key(kind);
        // Nothing is recorded before the first.
        if self.components.is_empty() {
            return None;
        }
        let ways = super::LADDER.into_iter();
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            let fingerprint = array(component.fingerprint.as_deref()?)?;
            components.push((component.read(method)?, fingerprint));
        }
        Some(State {
            id: SumId::new(array(&self.plan_sha256)?, self.act),
            target: SumTarget {
                name: KeyName::new(&self.key).ok()?,
                kind,
                kcv: Kcv::parse(method, &self.kcv).ok()?,
            },
            way: ways.into_iter().find(|way| way.to_string() == self.way)?,
            expires_at: self.expires_at,
            generation: Generation(array(&self.generation)?),
            parts: self.parts,
            salt: array(&self.salt)?,
            components,
            tries: self.tries,
            last: match self.last {
                Some(last) => Some(last.read(method)?),
                None => None,
            },
        })
    }
}

fn array<const N: usize>(digits: &str) -> Option<[u8; N]> {
    hex::decode(digits).ok()?.try_into().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn state() -> State {
        let kcv = |digits| Kcv::parse(KcvMethod::AesCmac, digits).unwrap();
        let component = |number, digits| EnteredComponent {
            number,
            custodian: format!("Custodian {number}"),
            kcv: kcv(digits),
        };
        State {
            id: SumId::new([0x5f; 32], 3),
            target: SumTarget {
                name: KeyName::new("kn.acquirer").unwrap(),
                kind: KeyKind::Aes128,
                kcv: kcv("cbdf9500"),
            },
            way: CombiningWay::KeyWrap,
            expires_at: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(),
            generation: Generation([1; 16]),
            parts: 2,
            salt: [2; 16],
            components: vec![(component(1, "a19083"), [3; 32])],
            tries: 1,
            last: Some(component(2, "ec8692")),
        }
    }

    fn text(state: &State) -> String {
        serde_json::to_string(&Written::from(state)).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let state = state();
        assert_eq!(State::parse("sum", text(&state).as_bytes()).unwrap(), state);
        assert_eq!(
            state.id.label(),
            format!("sum.{}.3", "5f".repeat(16)),
            "it is a label of a record"
        );
    }

    #[test]
    fn a_record_that_was_changed_in_form_is_refused() {
        let good = text(&state());
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"format\":1,", ""),
            ("\"act\":3", "\"act\":-3"),
            ("5f5f\"", "5f\""),
            ("\"kn.acquirer\"", "\"kn acquirer\""),
            ("\"AES-128\"", "\"aes-128\""),
            ("\"CBDF9500\"", "\"CBDF\""),
            ("\"key-wrap\"", "\"wrap\""),
            ("\"2027-01-15T08:00:00Z\"", "\"tomorrow\""),
            ("\"parts\":2", "\"parts\":2,\"more\":2"),
            ("0303\"", "03\""),
            ("\"A19083\"", "\"A1908\""),
            ("\"EC8692\"", "\"\""),
            ("}", ""),
        ] {
            assert!(good.contains(from), "{from} is not in {good}");
            let bad = good.replacen(from, to, 1);
            let refused = State::parse("sum.x", bad.as_bytes()).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("sum.x that is damaged"), "{refused}");
        }
    }

    #[test]
    fn a_sum_expires_at_its_second_and_is_spent_at_the_third_try() {
        let mut state = state();
        let at = state.expires_at;
        assert!(!state.is_expired(at - time::Duration::SECOND));
        assert!(state.is_expired(at));
        for (tries, spent) in [(0, false), (2, false), (3, true), (4, true)] {
            state.tries = tries;
            assert_eq!(state.is_spent(), spent);
        }
    }
}
