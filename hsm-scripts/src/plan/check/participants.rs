//! The people with tokens of their own, the audit key, and the rehearsal that has to have been.

use std::{collections::BTreeMap, path::Path};

use hsm::KeyName;
use pki::{
    Certificate, CredentialError, Crl, Role, VerifiedCrl, verify_credential, verify_unlisted,
};

use super::{Check, MAX_TOKEN_LABEL_LEN};
use crate::{
    CeremonyError,
    custody::PersonId,
    outputs::load_certificate,
    plan::{AuditPlan, IssuerCertificate, KeyPlace, ParticipantPlan, TokenPlan, raw},
    transcript::{self, RehearsalError},
};

/// A rehearsal names tokens after it.
const MAX_ID_LEN: usize = 20;

impl<'a> Check<'a> {
    /// Somebody who is named in the plan. Where there are participants, a name that is none of theirs is a
    /// slip, and whoever it is could sign nothing.
    pub(super) fn person(&mut self, place: &str, who: &str) {
        if self.participants.is_empty() || self.participants.contains_key(who) {
            return;
        }
        self.fault(
            place,
            format!(
                "{who:?} is no participant of this plan; correct the id, or add [participants.{who}]"
            ),
        );
    }

    /// The CA that certifies participants and the audit key, and its revocation list if it has one.
    pub(super) fn ceremony_ca(
        &mut self,
        contents: &'a raw::Contents,
    ) -> Option<(Certificate, Option<VerifiedCrl>)> {
        let Some(file) = &contents.ceremony_ca else {
            if !self.participants.is_empty() {
                self.fault(
                    "ceremony-ca",
                    "is missing; name the certificate of the CA that certifies participants",
                );
            }
            if contents.ceremony_crl.is_some() {
                self.fault("ceremony-crl", "whose list it is, ceremony-ca has to say");
            }
            return None;
        };
        self.plain_path("ceremony-ca", file);
        let ca = self.sound("ceremony-ca", load_certificate(&self.folder.join(file)))?;
        let name = ca.subject().to_string();
        self.plain_text("ceremony-ca: subject", &name);
        if Role::SubCa.verify(&ca).is_err() {
            let cause = format!(
                "{name} is no sub-CA; name the certificate of the CA that certifies participants"
            );
            self.fault("ceremony-ca", cause);
            return None;
        }
        if !(ca.not_before()..=ca.not_after()).contains(&self.now) {
            let cause =
                format!("{name} is not valid now; participants need certificates by one that is");
            self.fault("ceremony-ca", cause);
            return None;
        }
        let crl = match &contents.ceremony_crl {
            Some(file) => Some(self.ceremony_crl(file, &ca)?),
            None => None,
        };
        Some((ca, crl))
    }

    fn ceremony_crl(&mut self, file: &Path, ca: &Certificate) -> Option<VerifiedCrl> {
        let place = "ceremony-crl";
        self.plain_path(place, file);
        let path = self.folder.join(file);
        let bytes = std::fs::read(&path).map_err(|error| CeremonyError::file(&path, error));
        let crl = Crl::from_pem_or_der(&self.sound(place, bytes)?);
        let crl = self.sound(place, crl)?;
        let verified = pki::verify_crl(crl.der(), ca, self.now, None).map_err(|error| {
            format!(
                "{error}; have a current list by {} issued (act crl)",
                ca.subject()
            )
        });
        self.sound(place, verified)
    }

    pub(super) fn participants(
        &mut self,
        ca: Option<&Certificate>,
        crl: Option<&Option<VerifiedCrl>>,
    ) -> BTreeMap<String, ParticipantPlan> {
        let mut checked = BTreeMap::new();
        for (id, raw) in self.participants {
            let place = format!("participants.{id}");
            let Some(participant) = self.participant(&place, id, raw) else {
                continue;
            };
            if let Some(ca) = ca {
                let crl = crl.and_then(Option::as_ref);
                let place = format!("{place}: certificate");
                self.certified(&place, &participant.certificate, Role::Custodian, ca, crl);
            }
            for (other, known) in &checked {
                if let Some(same) = what_is_the_same(&participant, known) {
                    let cause = format!(
                        "is the same person as participants.{other}: they have the same {same}; \
                         nobody takes part twice"
                    );
                    self.fault(&place, cause);
                }
            }
            checked.insert(id.clone(), participant);
        }
        checked
    }

    fn participant(
        &mut self,
        place: &str,
        id: &str,
        raw: &'a raw::Participant,
    ) -> Option<ParticipantPlan> {
        let accepted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if id.is_empty() || id.len() > MAX_ID_LEN || !id.bytes().all(accepted) {
            let rule = "id: a participant's id has 1 to 20 of a-z, A-Z, 0-9, '-' and '_'";
            self.fault(place, rule);
        }
        let label = format!("{place}: token");
        self.plain_text(&label, &raw.token);
        if raw.token.len() > MAX_TOKEN_LABEL_LEN {
            self.fault(&label, "a label has at most 32 characters");
        }
        if let Some(serial) = &raw.serial {
            self.plain_text(&format!("{place}: serial"), serial);
        }
        for (key, file) in [
            ("certificate", Some(&raw.certificate)),
            ("module", Some(&raw.module)),
            ("pin-file", raw.pin_file.as_ref()),
        ] {
            if let Some(file) = file {
                self.plain_path(&format!("{place}: {key}"), file);
            }
        }
        let token = TokenPlan {
            module: self.folder.join(&raw.module),
            label: raw.token.clone(),
            serial: raw.serial.clone(),
            pin_file: raw.pin_file.as_ref().map(|file| self.folder.join(file)),
            so_pin_file: None,
        };
        self.real_token(place, &token);
        let of_the_plan = self.tokens.iter().find(|(_, other)| {
            is_one_file(&self.folder.join(&other.module), &token.module)
                && may_be_one((&other.label, &other.serial), (&token.label, &token.serial))
        });
        if let Some((name, _)) = of_the_plan {
            let cause = format!("token: is tokens.{name}; a participant has a token of their own");
            self.fault(place, cause);
        }
        let key = self.sound(&format!("{place}: key"), KeyName::new(&raw.key));
        let place = format!("{place}: certificate");
        let certificate = load_certificate(&self.folder.join(&raw.certificate));
        let certificate = self.sound(&place, certificate)?;
        let name = certificate.common_name();
        if self.plain_text(&place, &certificate.subject().to_string()) && name.is_none() {
            self.fault(&place, "has no common name: it does not say whose it is");
        }
        Some(ParticipantPlan {
            certificate,
            token,
            key: key?,
        })
    }

    /// A certificate by the ceremony CA, in this role, that holds now.
    fn certified(
        &mut self,
        place: &str,
        certificate: &Certificate,
        role: Role,
        ca: &Certificate,
        crl: Option<&VerifiedCrl>,
    ) {
        let verified = match crl {
            Some(crl) => verify_credential(certificate, ca, role, crl, self.now).map(drop),
            None => verify_unlisted(certificate, ca, role, self.now),
        };
        if let Err(error) = verified {
            let way_on = match error {
                CredentialError::UntrustedIssuer | CredentialError::BadSignature => {
                    format!("name one by {}, the CA of ceremony-ca", ca.subject())
                }
                CredentialError::Expired | CredentialError::NotYetValid => {
                    "have one issued that holds at the ceremony".to_owned()
                }
                CredentialError::Revoked => {
                    "whoever holds it takes no part; have a new one issued, or name somebody else"
                        .to_owned()
                }
                CredentialError::WrongRole(_) if role == Role::Audit => {
                    "name the one that an act audit-credential made".to_owned()
                }
                CredentialError::WrongRole(_) => {
                    "name the one that an act custodian-credential made".to_owned()
                }
                CredentialError::NoRevocationStatus
                | CredentialError::StaleRevocationList
                | CredentialError::Invalid => "have a new one issued".to_owned(),
            };
            self.fault(place, format!("{error}; {way_on}"));
        }
    }

    /// The key that seals: of an earlier ceremony, or of an act of this one.
    pub(super) fn audit(
        &mut self,
        contents: &'a raw::Contents,
        ca: Option<&Certificate>,
        crl: Option<&Option<VerifiedCrl>>,
    ) -> Option<AuditPlan> {
        let place = "audit";
        let raw = contents.audit.as_ref()?;
        self.plain_path(&format!("{place}: certificate"), &raw.certificate);
        let key = self.sound(&format!("{place}: key"), KeyName::new(&raw.key));
        if !self.tokens.contains_key(&raw.token) {
            let cause = format!("there is no token {:?} in the plan", raw.token);
            self.fault(place, cause);
        }
        let made_here = contents.acts.iter().find_map(|act| match act {
            raw::Act::AuditCredential(act) if act.certificate == raw.certificate => Some(act),
            _ => None,
        });
        let certificate = if let Some(act) = made_here {
            if (&act.token, &act.key) != (&raw.token, &raw.key) {
                let cause = format!(
                    "{} belongs to the key {} in token {}",
                    raw.certificate.display(),
                    act.key,
                    act.token
                );
                self.fault(place, cause);
            }
            IssuerCertificate::MadeHere(raw.certificate.clone())
        } else {
            let place = format!("{place}: certificate");
            let loaded = load_certificate(&self.folder.join(&raw.certificate));
            let certificate = self.sound(&place, loaded)?;
            match ca {
                Some(ca) => {
                    let crl = crl.and_then(Option::as_ref);
                    self.certified(&place, &certificate, Role::Audit, ca, crl);
                }
                None if contents.ceremony_ca.is_none() => self.fault(
                    "ceremony-ca",
                    "is missing; name the certificate of the CA that certified the audit key",
                ),
                None => {}
            }
            IssuerCertificate::Earlier(Box::new(certificate))
        };
        Some(AuditPlan {
            place: KeyPlace {
                token: raw.token.clone(),
                key: key?,
            },
            certificate,
        })
    }

    /// The last hash of the rehearsal that the plan demands.
    pub(super) fn rehearsal(&mut self, contents: &'a raw::Contents) -> Option<String> {
        let place = "rehearsal-transcript";
        let file = match (&contents.rehearsal_transcript, contents.require_rehearsal) {
            (Some(file), true) => file,
            (Some(_), false) => {
                self.fault(
                    place,
                    "is demanded by require-rehearsal = true only; write both",
                );
                return None;
            }
            (None, true) => {
                self.fault(
                    "require-rehearsal",
                    "say in rehearsal-transcript which file the rehearsal's transcript is copied to",
                );
                return None;
            }
            (None, false) => return None,
        };
        self.plain_path(place, file);
        if self.mode == crate::Mode::Rehearsal {
            return None;
        }
        let path = self.folder.join(file);
        let found = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))
            .and_then(|text| {
                transcript::finished_rehearsal(&text, &hex::encode(self.digest))
                    .map_err(|error: RehearsalError| error.to_string())
            })
            .map_err(|cause| {
                format!(
                    "{cause}; rehearse this plan (kdh-ceremony run PLAN --rehearse) and copy the \
                     transcript there"
                )
            });
        self.sound(place, found)
    }
}

/// What makes two participants one person.
fn what_is_the_same(one: &ParticipantPlan, other: &ParticipantPlan) -> Option<&'static str> {
    if one.certificate.subject() == other.certificate.subject() {
        return Some("subject");
    }
    if one.certificate.public_key() == other.certificate.public_key() {
        return Some("public key");
    }
    // As custody knows people.
    let name = |one: &ParticipantPlan| {
        one.certificate
            .common_name()
            .map(|name| PersonId::of_name(&name))
    };
    if name(one).is_some() && name(one) == name(other) {
        return Some("name");
    }
    let (one, other) = (&one.token, &other.token);
    let is_one = is_one_file(&one.module, &other.module)
        && may_be_one((&one.label, &one.serial), (&other.label, &other.serial));
    is_one.then_some("token")
}

/// Whether two paths lead to one file.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let [one_file, other_file] = [one, other].map(|path| path.canonicalize().ok());
    one == other || (one_file.is_some() && one_file == other_file)
}

/// Whether two tokens of one module, by label and serial number, may be the same.
fn may_be_one(one: (&str, &Option<String>), other: (&str, &Option<String>)) -> bool {
    let differ = matches!((one.1, other.1), (Some(one), Some(other)) if one != other);
    one.0 == other.0 && !differ
}
