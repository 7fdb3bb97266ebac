//! Who signed what, by which certificate, and what is missing.

use std::collections::BTreeMap;

use pki::{Certificate, Crl, CrlError, Role, VerifiedCrl, verify_crl, verify_unlisted};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Missing, RehearsalError, TranscriptError,
    beginning::{Audit, Beginning, Mode, decoded},
    chain::{last_before_seal, read},
    components::Components,
    event,
    line::{Line, SIGNATURE},
    missing::missing,
    story::{Entry, tell},
};
use crate::plain::escaped;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A ceremony.
    Ceremony,
    /// A rehearsal; the CA is its stand-in then.
    Rehearsal,
}

/// What signatures are checked against.
#[derive(Debug, Default)]
pub struct Trust {
    ca: Option<Certificate>,
    crl: Option<VerifiedCrl>,
}

/// What cannot be trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a sub-CA.
    #[error("{0} is no sub-CA; name the certificate of the CA that certified the participants")]
    NoCa(String),
    /// A revocation list alone.
    #[error("name the CA's certificate (--ca) along with its revocation list")]
    CrlAlone,
    /// Not a revocation list of that CA.
    #[error("{0}; give the revocation list of the CA that certified the participants")]
    Crl(#[from] CrlError),
}

impl Trust {
    /// A CA and its revocation list, PEM or DER, which may be of any age: that of the ceremony's day is
    /// the right one.
    ///
    /// # Errors
    /// The CA is none, or the list is not by it.
    pub fn new(ca: Option<Certificate>, crl: Option<&[u8]>) -> Result<Self, TrustError> {
        if let Some(ca) = &ca
            && Role::SubCa.verify(ca).is_err()
        {
            return Err(TrustError::NoCa(ca.subject().to_string()));
        }
        let crl = match (crl, &ca) {
            (None, _) => None,
            (Some(_), None) => return Err(TrustError::CrlAlone),
            (Some(bytes), Some(ca)) => {
                let crl = Crl::from_pem_or_der(bytes)?;
                let verified = verify_crl(crl.der(), ca, crl.this_update(), None)?;
                Some(verified)
            }
        };
        Ok(Self { ca, crl })
    }

    /// The CA that certificates were checked against.
    pub const fn ca(&self) -> Option<&Certificate> {
        self.ca.as_ref()
    }

    /// Its revocation list, if one was given.
    pub const fn crl(&self) -> Option<&VerifiedCrl> {
        self.crl.as_ref()
    }

    /// A certificate that is used in a line.
    fn require(
        &self,
        line: &Line,
        who: &str,
        certificate: &Certificate,
        role: Role,
    ) -> Result<(), TranscriptError> {
        let number = line.sequence;
        let ca = self.ca.as_ref().ok_or(TranscriptError::NoCa(number))?;
        verify_unlisted(certificate, ca, role, time_of(line)?)
            .map_err(|error| TranscriptError::Signer(number, who.to_owned(), error))?;
        match &self.crl {
            Some(list) if list.crl().lists(certificate.serial()) => Err(TranscriptError::Revoked(
                number,
                who.to_owned(),
                list.number(),
            )),
            _ => Ok(()),
        }
    }
}

/// A ceremony, or one sitting of it, whose record holds as far as it goes.
#[derive(Clone, Debug)]
pub struct Record {
    /// The plan's title.
    pub title: String,
    /// SHA-256 of the plan, hex.
    pub plan: String,
    /// The program and its version.
    pub tool: String,
    /// Whether nothing in it was real.
    pub rehearsal: bool,
    /// The last hash of its rehearsal, hex, if the plan demanded one.
    pub rehearsed: Option<String>,
    /// The PKCS#11 libraries, each with its SHA-256, hex, if it could be read.
    pub modules: BTreeMap<String, Option<String>>,
    /// The names of those who were to confirm the plan.
    pub officers: Vec<String>,
    /// When it began.
    pub began: OffsetDateTime,
    /// When the last line was written.
    pub ended: OffsetDateTime,
    /// Who took part with a token of their own.
    pub people: Vec<Person>,
    /// What happened, line by line.
    pub entries: Vec<Entry>,
    /// The hash of the last line, hex: to be compared with the one in the minutes.
    pub head: String,
    /// By what it was sealed, if it was.
    pub seal: Option<Seal>,
    /// What it does not show.
    pub missing: Vec<Missing>,
    /// The sitting, counted from 1.
    pub sitting: u32,
    /// How it was stopped, if another transcript was given that goes on behind it.
    pub stopped: Vec<Missing>,
}

/// A record, and what later ones are compared with.
pub(super) struct Verified {
    pub(super) record: Record,
    pub(super) components: Components,
    /// Of the participants, by their ids.
    pub(super) certificates: BTreeMap<String, Certificate>,
}

/// Somebody who took part with a token of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// In the plan.
    pub id: String,
    /// In their certificate.
    pub name: String,
    /// Serial number of their certificate, hex.
    pub serial: String,
    /// Label and serial number of the token that they signed with, if they did.
    pub token: Option<String>,
}

/// The audit key that sealed a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Of its certificate.
    pub subject: String,
    /// Of its certificate, hex.
    pub serial: String,
}

/// The hash at the end of the transcript of a finished rehearsal of a plan. Its signatures are by
/// stand-ins and show nothing.
pub(crate) fn finished_rehearsal(text: &str, digest: &str) -> Result<String, RehearsalError> {
    let lines = read(text)?;
    let beginning = Beginning::of(&lines[0])?;
    if beginning.mode != Mode::Rehearsal {
        return Err(TranscriptError::NoRehearsal.into());
    }
    if beginning.plan != digest {
        return Err(RehearsalError::OtherPlan(beginning.plan));
    }
    let last = last_before_seal(&lines);
    if last.event != event::FINISHED {
        return Err(RehearsalError::NotFinished(last.event.clone()));
    }
    Ok(lines[lines.len() - 1].hash.clone())
}

pub(super) fn verify_record(
    text: &str,
    trust: &Trust,
    expected: Expected,
) -> Result<Verified, TranscriptError> {
    let lines = read(text)?;
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    let beginning = Beginning::of(first)?;
    let rehearsal = beginning.mode == Mode::Rehearsal;
    match (expected, rehearsal) {
        (Expected::Ceremony, true) => return Err(TranscriptError::Rehearsal),
        (Expected::Rehearsal, false) => return Err(TranscriptError::NoRehearsal),
        (Expected::Ceremony, false) | (Expected::Rehearsal, true) => {}
    }
    let began = time_of(first)?;
    if let Some(crl) = &trust.crl
        && crl.crl().next_update() < began
    {
        return Err(TranscriptError::OldList);
    }
    let certificates = beginning.certificates()?;
    let name = |id: &str| {
        let name = certificates.get(id).and_then(Certificate::common_name);
        // From a certificate, to a screen.
        name.map_or_else(|| id.to_owned(), |name| escaped(&name))
    };
    verify_signatures(&lines, &certificates, trust)?;
    let seal = verify_seal(&lines, beginning.audit.as_ref(), trust)?;
    for line in lines.iter().filter(|line| line.event == event::CONFIRMED) {
        if line.text("plan-sha256") != Some(&beginning.plan) {
            return Err(TranscriptError::OtherPlan(line.sequence));
        }
    }
    let components = Components::of(&lines, rehearsal)?;
    let sitting = sitting_of(&lines)?;
    let missing = missing(&lines, &beginning, &certificates, seal.is_some(), &name);
    let people = certificates.iter().map(|(id, certificate)| Person {
        id: id.clone(),
        name: name(id),
        serial: certificate.serial().to_string(),
        token: token_of(&lines, id),
    });
    let record = Record {
        people: people.collect(),
        entries: tell(&lines, &name)?,
        officers: beginning.officers.iter().map(|id| name(id)).collect(),
        rehearsed: beginning.rehearsed,
        modules: beginning.modules,
        title: beginning.title,
        plan: beginning.plan,
        tool: beginning.tool,
        rehearsal,
        began,
        ended: time_of(last)?,
        head: last.hash.clone(),
        seal,
        missing,
        sitting,
        stopped: Vec::new(),
    };
    Ok(Verified {
        record,
        components,
        certificates,
    })
}

/// Counted from 1.
fn sitting_of(lines: &[Line]) -> Result<u32, TranscriptError> {
    let Some(line) = lines.iter().find(|line| line.event == event::SITTING) else {
        return Ok(1);
    };
    let sitting = line.detail.get("sitting").and_then(Value::as_u64);
    sitting
        .and_then(|sitting| sitting.try_into().ok())
        .ok_or(TranscriptError::Field(line.sequence, "its sitting"))
}

/// Behind each step of a participant stands their signature, and no signature stands elsewhere.
fn verify_signatures(
    lines: &[Line],
    certificates: &BTreeMap<String, Certificate>,
    trust: &Trust,
) -> Result<(), TranscriptError> {
    for (index, line) in lines.iter().enumerate() {
        let number = line.sequence;
        if index > 0 && line.event == event::BEGAN {
            return Err(TranscriptError::BeginsAgain(number));
        }
        let by = line.text("by");
        if line.event != event::SIGNED {
            if by.is_none() && event::is_somebodys(line) {
                return Err(TranscriptError::Field(number, "who did it"));
            }
            // A plan that has participants names nobody else.
            if let Some(who) = by.filter(|_| !certificates.is_empty()) {
                if !certificates.contains_key(who) {
                    return Err(TranscriptError::Stranger(number, who.to_owned()));
                }
                let next = lines.get(index + 1);
                let signed = next.is_some_and(|next| {
                    next.event == event::SIGNED && next.text("by") == Some(who)
                });
                if !signed {
                    return Err(TranscriptError::NotSigned(number, who.to_owned()));
                }
            }
            continue;
        }
        let who = by.ok_or(TranscriptError::Field(number, "who signed"))?;
        let named = || who.to_owned();
        let certificate = certificates
            .get(who)
            .ok_or_else(|| TranscriptError::Stranger(number, named()))?;
        let step = index.checked_sub(1).map(|before| &lines[before]);
        if step.is_none_or(|step| step.event == event::SIGNED || step.text("by") != Some(who)) {
            return Err(TranscriptError::SignsNothing(number, named()));
        }
        if line.text("certificate-sha256") != Some(&hex::encode(certificate.fingerprint())) {
            return Err(TranscriptError::OtherCertificate(number, named()));
        }
        trust.require(line, who, certificate, Role::Custodian)?;
        verify_signature(line, who, certificate)?;
    }
    Ok(())
}

/// The seal, if there is one, which is the last line then.
fn verify_seal(
    lines: &[Line],
    audit: Option<&Audit>,
    trust: &Trust,
) -> Result<Option<Seal>, TranscriptError> {
    const WHO: &str = "the audit key";
    let Some(index) = lines.iter().position(|line| line.event == event::SEALED) else {
        return Ok(None);
    };
    let line = &lines[index];
    let number = line.sequence;
    if index + 1 < lines.len() {
        return Err(TranscriptError::BehindSeal(number + 1));
    }
    let certificate = line.text("certificate").and_then(decoded);
    let certificate = certificate.ok_or(TranscriptError::Field(number, "its certificate"))?;
    let is_the_one = match audit.map(|audit| &audit.certificate_sha256) {
        Some(Some(expected)) => *expected == hex::encode(certificate.fingerprint()),
        Some(None) => {
            let key = hex::encode(certificate.public_key().fingerprint());
            lines.iter().any(|line| {
                line.event == event::AUDIT_CREDENTIAL
                    && line.text("public-key-sha256") == Some(&key)
            })
        }
        None => false,
    };
    if !is_the_one {
        return Err(TranscriptError::OtherSeal(number));
    }
    trust.require(line, WHO, &certificate, Role::Audit)?;
    verify_signature(line, WHO, &certificate)?;
    Ok(Some(Seal {
        // From a certificate, to a screen.
        subject: escaped(&certificate.subject().to_string()),
        serial: certificate.serial().to_string(),
    }))
}

fn verify_signature(
    line: &Line,
    who: &str,
    certificate: &Certificate,
) -> Result<(), TranscriptError> {
    let number = line.sequence;
    let signature = line.text(SIGNATURE).and_then(|text| hex::decode(text).ok());
    let signature = signature.ok_or(TranscriptError::Field(number, "its signature"))?;
    certificate
        .public_key()
        .verify(&line.signed_bytes(), &signature)
        .map_err(|_| TranscriptError::BadSignature(number, who.to_owned()))
}

/// The token that somebody signed with first.
fn token_of(lines: &[Line], who: &str) -> Option<String> {
    let theirs = |line: &&Line| line.event == event::SIGNED && line.text("by") == Some(who);
    let line = lines.iter().find(theirs)?;
    let (label, serial) = (line.text("token")?, line.text("token-serial")?);
    Some(format!("{label}, serial number {serial}"))
}

pub(super) fn time_of(line: &Line) -> Result<OffsetDateTime, TranscriptError> {
    OffsetDateTime::parse(&line.at, &Rfc3339)
        .map_err(|_| TranscriptError::Field(line.sequence, "its time"))
}
