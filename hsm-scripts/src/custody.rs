//! Who held which component of which key: kept beside the key, in its token, and enforced.
//!
//! Nobody ever enters, or is shown, two different components of one key, whatever plan and ceremony it is, and
//! whoever took them out of a plan and put them in again in between. A claim is recorded before its component is
//! used, so a killed ceremony leaves a claim too many and never one too few.

use std::collections::BTreeSet;

use hsm::{Kcv, KeyName, SumId, Token};
use icu_normalizer::ComposingNormalizerBorrowed;
use pki::Certificate;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tr34::KeyKind;

use crate::{CeremonyError, plan};

/// What labels of these records begin with.
const RECORD_PREFIX: &str = "custody.";
/// A record of any other format was written by a later version of this program.
const FORMAT: u32 = 1;

/// A person, by what they are known by. Who shares one of these with another is the same person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PersonId(Vec<String>);

impl PersonId {
    /// By name alone: the same in any case, spacing and writing of its characters (NFKC).
    pub(crate) fn of_name(name: &str) -> Self {
        let normal = ComposingNormalizerBorrowed::new_nfkc();
        let lower = normal.normalize(name).to_lowercase();
        let name = normal.normalize(&lower);
        let words: Vec<_> = name.split_whitespace().collect();
        Self(vec![format!("name:{}", words.join(" "))])
    }

    /// By the subject and the key of their certificate, too.
    pub(crate) fn with_certificate(mut self, certificate: &Certificate) -> Self {
        let key = Sha256::digest(certificate.public_key().as_spki_der());
        self.0.push(format!("subject:{}", certificate.subject()));
        self.0.push(format!("key:{}", hex::encode(key)));
        self
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.iter().any(|known| other.0.contains(known))
    }

    /// Takes up by what else the same person is known; says whether anything is new.
    fn learn(&mut self, same: &Self) -> bool {
        let known = self.0.len();
        for by in &same.0 {
            if !self.0.contains(by) {
                self.0.push(by.clone());
            }
        }
        self.0.len() > known
    }
}

/// The key of which somebody holds a component. One that comes back under another label is the same key.
#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) kind: KeyKind,
    pub(crate) kcv: &'a Kcv,
    pub(crate) name: &'a KeyName,
}

impl Key<'_> {
    /// Announced check values differ in length; the first bytes are there in any case.
    fn start_of_kcv(&self) -> String {
        let kcv = self.kcv.value();
        hex::encode_upper(&kcv[..Kcv::LEN.min(kcv.len())])
    }

    fn record_label(&self) -> String {
        let label = format!("{RECORD_PREFIX}{}.{}", self.kind, self.start_of_kcv());
        label.to_ascii_lowercase()
    }
}

/// How somebody came to know a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    Entered,
    Shown,
}

/// That somebody holds a component.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) person: PersonId,
    /// As the plan writes it.
    pub(crate) name: &'a str,
    /// Of the component, counted from 1.
    pub(crate) number: u32,
    /// Of the component.
    pub(crate) kcv: &'a Kcv,
    pub(crate) how: How,
    /// The plan and its act.
    pub(crate) act: SumId,
}

/// Where custody is kept.
pub(crate) enum Custody {
    InToken(Token),
    /// The token keeps no data, and the plan accepts it.
    Unrecorded,
}

impl Custody {
    /// Finds out whether the token keeps data.
    ///
    /// # Errors
    /// It does not, and the plan does not say that custody may go unrecorded.
    pub(crate) fn of(token: &Token, accepted: plan::Custody) -> Result<Self, CeremonyError> {
        match (token.keeps_records()?, accepted) {
            (Ok(()), _) => Ok(Self::InToken(token.clone())),
            (Err(_), plan::Custody::Unrecorded) => Ok(Self::Unrecorded),
            (Err(missing), plan::Custody::Recorded) => Err(CeremonyError::Custody(format!(
                "the token keeps no data ({missing}), so nobody could be held to one component of the key. Use a \
                 token that does, or accept it in the act with custody = \"unrecorded\", which goes on the record"
            ))),
        }
    }

    /// As the transcript says it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::InToken(_) => "recorded",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// Records that somebody holds a component, before it is used.
    ///
    /// # Errors
    /// They hold another component of the key. The token does not record it.
    pub(crate) fn claim(
        &self,
        key: &Key<'_>,
        claim: &Claim<'_>,
        now: OffsetDateTime,
    ) -> Result<(), CeremonyError> {
        let Self::InToken(token) = self else {
            return Ok(());
        };
        let label = key.record_label();
        let mut record = match token.load_record(&label)? {
            Some(bytes) => Record::parse(&label, &bytes)?,
            None => Record::new(key),
        };
        if !record.take(key, claim, now)? {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&record).map_err(|error| damaged(&label, &error))?;
        Ok(token.store_record(&label, &bytes)?)
    }
}

/// All claims to components of one key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Record {
    format: u32,
    kind: String,
    kcv: String,
    /// Under which it was or was to be in the token.
    labels: Vec<String>,
    holders: Vec<Holder>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Holder {
    person: PersonId,
    name: String,
    number: u32,
    kcv: String,
    /// What they entered in this place before they typed it anew. Whether it was mistyped or another sheet, nobody can
    /// tell, so it stays.
    before: BTreeSet<String>,
    how: How,
    plan_sha256: String,
    act: u32,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl Record {
    fn new(key: &Key<'_>) -> Self {
        Self {
            format: FORMAT,
            kind: key.kind.name().to_owned(),
            kcv: key.start_of_kcv(),
            labels: Vec::new(),
            holders: Vec::new(),
        }
    }

    fn parse(label: &str, bytes: &[u8]) -> Result<Self, CeremonyError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| damaged(label, &error))?;
        if record.format != FORMAT {
            return Err(damaged(label, &format!("its format is {}", record.format)));
        }
        Ok(record)
    }

    /// Takes a claim up; says whether anything is new.
    fn take(
        &mut self,
        key: &Key<'_>,
        claim: &Claim<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, CeremonyError> {
        let mut changed = false;
        let label = key.name.label();
        if !self.labels.iter().any(|known| known == label) {
            self.labels.push(label.to_owned());
            changed = true;
        }
        let new = Holder {
            person: claim.person.clone(),
            name: claim.name.to_owned(),
            number: claim.number,
            kcv: claim.kcv.to_string(),
            before: BTreeSet::new(),
            how: claim.how,
            plan_sha256: hex::encode(claim.act.plan()),
            act: claim.act.act(),
            at: now,
        };
        // By what they are known now, they may have been several that held components.
        let is_theirs = |held: &Holder| held.person.is_same(&claim.person);
        let other = |held: &Holder| held.kcv != new.kcv && !held.is_same_place(&new);
        let mut held = self.holders.iter();
        if let Some(held) = held.find(|held| is_theirs(held) && other(held)) {
            let refusal = held.refusal(&self.kind, &self.kcv);
            return Err(CeremonyError::Custody(refusal));
        }
        match self.holders.iter_mut().find(|held| is_theirs(held)) {
            None => {
                self.holders.push(new);
                Ok(true)
            }
            // The same component again, whatever number another plan gives it.
            Some(held) if held.kcv == new.kcv => Ok(held.person.learn(&new.person) || changed),
            // Typed anew, in the place that the same reviewed plan has for them.
            Some(held) => {
                let Holder {
                    mut person,
                    mut before,
                    kcv,
                    ..
                } = held.clone();
                person.learn(&new.person);
                before.insert(kcv);
                *held = Holder {
                    person,
                    before,
                    ..new
                };
                Ok(true)
            }
        }
    }
}

impl Holder {
    fn is_same_place(&self, other: &Self) -> bool {
        (&self.plan_sha256, self.act, self.number) == (&other.plan_sha256, other.act, other.number)
    }

    fn refusal(&self, kind: &str, kcv: &str) -> String {
        let verb = match self.how {
            How::Entered => "entered",
            How::Shown => "was shown",
        };
        format!(
            "{} {verb} component {} (check value {}) of this key ({kind}, check value {kcv}) on {}, and nobody holds \
             two components of a key. Have another person bring this one",
            self.name,
            self.number,
            self.kcv,
            self.at.date()
        )
    }
}

/// What it is worth cannot be told, so nobody goes on without it.
fn damaged(label: &str, cause: &dyn std::fmt::Display) -> CeremonyError {
    CeremonyError::Custody(format!(
        "record {label} in the token is damaged ({cause}); nothing says any more who held what. Find out who changed \
         it, and ask for a new key: nobody can be held to one component of this one"
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use hsm::KcvMethod;

    use super::*;

    fn kcv(digits: &str) -> Kcv {
        Kcv::parse(KcvMethod::AesCmac, digits).unwrap()
    }

    /// A claim under a plan, and whether it is taken.
    #[derive(Clone, Copy)]
    struct Case {
        plan: u8,
        name: &'static str,
        number: u32,
        kcv: &'static str,
        refused: Option<&'static str>,
    }

    fn assert_claims(cases: &[Case]) -> Record {
        let name = KeyName::new("kn.acquirer").unwrap();
        let whole = kcv("CBDF95");
        let key = Key {
            kind: KeyKind::Aes128,
            kcv: &whole,
            name: &name,
        };
        let mut record = Record::new(&key);
        for case in cases {
            let component = kcv(case.kcv);
            let claim = Claim {
                person: PersonId::of_name(case.name),
                name: case.name,
                number: case.number,
                kcv: &component,
                how: How::Entered,
                act: SumId::new([case.plan; 32], 1),
            };
            let taken = record.take(&key, &claim, OffsetDateTime::UNIX_EPOCH);
            let refused = taken.err().map(|error| error.to_string());
            match (&refused, case.refused) {
                (None, None) => {}
                (Some(found), Some(expected)) if found.contains(expected) => {}
                other => panic!("{} {} {}: {other:?}", case.plan, case.name, case.number),
            }
        }
        record
    }

    const fn case(plan: u8, name: &'static str, number: u32, kcv: &'static str) -> Case {
        Case {
            plan,
            name,
            number,
            kcv,
            refused: None,
        }
    }

    const fn refused(case: Case, because: &'static str) -> Case {
        Case {
            refused: Some(because),
            ..case
        }
    }

    #[test]
    fn nobody_holds_two_components() {
        let anna = "Anna entered component 1 (check value A19083) of this key (AES-128, check value CBDF95) on \
                    1970-01-01, and nobody holds two components of a key. Have another person bring this one";
        assert_claims(&[
            case(1, "Anna", 1, "A19083"),
            case(1, "Ben", 2, "EC8692"),
            // Again, also under another number, in another plan.
            case(1, "Anna", 1, "A19083"),
            case(2, "Anna", 1, "A19083"),
            case(2, "Anna", 2, "A19083"),
            // Another one: in the same plan, in another place of it, in another plan.
            refused(case(1, "Anna", 2, "EC8692"), anna),
            refused(case(2, "Anna", 1, "EC8692"), anna),
            refused(case(2, "Anna", 2, "EC8692"), anna),
            refused(case(3, " ANNA ", 3, "000000"), anna),
            refused(case(2, "Ben", 1, "A19083"), "Ben entered component 2"),
            // A deputy who held none.
            case(2, "Carl", 2, "EC8692"),
            refused(case(3, "carl", 1, "A19083"), "Carl entered component 2"),
        ]);
    }

    #[test]
    fn what_was_mistyped_may_be_typed_anew_in_its_place() {
        let record = assert_claims(&[
            case(1, "Anna", 1, "111111"),
            case(1, "Anna", 1, "A19083"),
            refused(case(2, "Anna", 1, "111111"), "check value A19083"),
            case(2, "Anna", 1, "A19083"),
        ]);
        // It may have been another sheet.
        let [anna] = &record.holders[..] else {
            panic!("{record:?}");
        };
        assert_eq!(anna.kcv, "A19083");
        assert!(anna.before.iter().eq(["111111"]));
    }

    #[test]
    fn a_person_is_known_in_any_writing_of_the_name() {
        let anna = PersonId::of_name("Anna Example");
        for same in [
            "anna example",
            " Anna  Example ",
            "ANNA\tEXAMPLE",
            "\u{ff21}nna\u{a0}Example",
        ] {
            assert!(anna.is_same(&PersonId::of_name(same)), "{same}");
        }
        for other in ["Anna", "Anna Example-Miller", "AnnaExample", ""] {
            assert!(!anna.is_same(&PersonId::of_name(other)), "{other}");
        }
    }

    /// Who comes under a new name with the old key, and later with the old name and a new key, is one person.
    #[test]
    fn a_person_is_known_by_all_that_they_were_ever_known_by() {
        let by = |known: &[&str]| PersonId(known.iter().map(|&by| by.to_owned()).collect());
        let mut anna = by(&["name:anna", "key:1"]);
        assert!(!anna.learn(&by(&["key:1"])));
        assert!(anna.learn(&by(&["name:anna", "key:2"])));
        assert!(anna.is_same(&by(&["name:anna miller", "key:2"])));
        assert!(anna.is_same(&by(&["name:anna miller", "key:1"])));
        assert!(!anna.is_same(&by(&["name:anna miller", "key:3"])));
    }

    /// Two who held different components turn out to be one person: by a certificate with the name of the one and the
    /// key of the other.
    #[test]
    fn who_is_two_holders_brings_none_of_their_components() {
        let name = KeyName::new("kn.acquirer").unwrap();
        let whole = kcv("CBDF95");
        let key = Key {
            kind: KeyKind::Aes128,
            kcv: &whole,
            name: &name,
        };
        let mut record = Record::new(&key);
        let mut take = |known: &[&str], number, component: &str| {
            let component = kcv(component);
            let claim = Claim {
                person: PersonId(known.iter().map(|&by| by.to_owned()).collect()),
                name: known[0],
                number,
                kcv: &component,
                how: How::Entered,
                act: SumId::new([9; 32], number),
            };
            let taken = record.take(&key, &claim, OffsetDateTime::UNIX_EPOCH);
            taken.map_err(|error| error.to_string())
        };
        take(&["name:anna"], 1, "A19083").unwrap();
        take(&["name:anna miller", "key:1"], 2, "EC8692").unwrap();
        for (number, component, held) in [
            (3, "A19083", "name:anna miller entered component 2"),
            (3, "EC8692", "name:anna entered component 1"),
        ] {
            let refused = take(&["name:anna", "key:1"], number, component).unwrap_err();
            assert!(refused.contains(held), "{refused}");
        }
    }

    #[test]
    fn a_letter_with_an_accent_is_one_letter_however_it_is_written() {
        let rene = PersonId::of_name("Ren\u{e9}");
        assert!(rene.is_same(&PersonId::of_name("RENE\u{301}")));
        assert!(!rene.is_same(&PersonId::of_name("Rene")));
    }

    #[test]
    fn a_key_is_the_same_under_another_label_and_with_a_longer_check_value() {
        let names = ["kn.one", "kn.two"].map(|label| KeyName::new(label).unwrap());
        let labels = [("CBDF95", 0), ("CBDF9500", 1), ("CBDF950011", 1)].map(|(digits, name)| {
            let kcv = kcv(digits);
            let key = Key {
                kind: KeyKind::Aes128,
                kcv: &kcv,
                name: &names[name],
            };
            key.record_label()
        });
        assert!(labels.iter().all(|label| label == "custody.aes-128.cbdf95"));
    }

    #[test]
    fn a_damaged_record_stops_everything() {
        let whole = kcv("CBDF95");
        let name = KeyName::new("kn.acquirer").unwrap();
        let key = Key {
            kind: KeyKind::Aes128,
            kcv: &whole,
            name: &name,
        };
        let good = serde_json::to_string(&Record::new(&key)).unwrap();
        assert!(Record::parse("custody.x", good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"holders\":[]", "\"holders\":[],\"more\":[]"),
            ("\"holders\":[]", "\"holders\":[{}]"),
            ("}", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            let refused = Record::parse("custody.x", bad.as_bytes()).unwrap_err();
            assert!(refused.to_string().contains("custody.x"), "{refused}");
        }
    }
}
