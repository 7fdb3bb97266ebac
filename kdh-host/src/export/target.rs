//! What two operators agree on when keys shall go to a payment switch. It stands, whole, in what they approve, which
//! the HSM seals: nobody else opens a target, or changes one.

use hsm::{ExportForm, Kcv, KcvMethod, KeyName};
use kdh_proto::{
    Reason,
    v1::{self, export_target::Scope},
};
use serde::{Deserialize, Serialize};
use tr34::KeyKind;

use crate::{
    HostError,
    config::{Config, OperatorRole},
    delivery::{kcv_message, parse_kcv},
    error::refused,
    key_profile::Target as Devices,
    names::{GroupName, Model, Slot, TargetName, beginning},
    store::{Approval, StoreError},
};

/// More than any terminal has.
const MAX_SLOTS: usize = 64;

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: TargetName,
    pub(crate) form: ExportForm,
    /// Over the exported keys.
    pub(crate) under: SharedKey,
    /// Makes MACs.
    pub(crate) mac: SharedKey,
    /// Whose keys; all devices', if none are named.
    pub(super) devices: Option<Devices>,
    /// From which slots; all, if none is named.
    slots: Vec<Slot>,
    /// None: they go in files.
    pub(crate) receiver: Option<Receiver>,
}

/// A key that the host shares with the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedKey {
    pub(crate) name: KeyName,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
}

/// The switch, as it shows who it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Receiver {
    /// The common name in its certificate.
    pub(crate) name: String,
    /// Of its public key, hexadecimal: it stays when the certificate is renewed.
    pub(crate) key_sha256: String,
}

/// A target as it stands in an approval.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    name: String,
    form: String,
    under: KeyDocument,
    mac: KeyDocument,
    model: Option<String>,
    group: Option<String>,
    slots: Vec<String>,
    receiver: Option<Receiver>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyDocument {
    label: String,
    kind: String,
    kcv: String,
}

impl Target {
    /// Reads one that an operator asks for.
    ///
    /// # Errors
    /// [`Reason::RequestInvalid`], naming the field and what to write there; [`Reason::NotFound`]: there is no such
    /// receiver.
    pub(super) fn parse(
        message: Option<v1::ExportTarget>,
        config: &Config,
    ) -> Result<Self, HostError> {
        let message = message.ok_or_else(|| invalid("no target is described"))?;
        let form = form_of(&message.form).ok_or_else(|| {
            let cause = format!(
                "form: {:?} is not key-wrap or tr31",
                beginning(&message.form)
            );
            invalid(&cause)
        })?;
        let devices = match &message.scope {
            None => None,
            Some(Scope::Model(name)) => Some(Devices::Model(Model::parse(name)?)),
            Some(Scope::Group(name)) => Some(Devices::Group(GroupName::parse(name)?)),
        };
        if message.slots.len() > MAX_SLOTS {
            return Err(invalid(&format!("more than {MAX_SLOTS} slots")));
        }
        let slots = message.slots.iter().map(|slot| Slot::parse(slot));
        let mut slots: Vec<Slot> = slots.collect::<Result<_, _>>()?;
        slots.sort();
        slots.dedup();
        if !message.receiver_key_sha256.is_empty() {
            return Err(invalid(
                "the host takes the receiver's key from its configuration: leave it out",
            ));
        }
        let receiver = match &*message.receiver {
            "" => None,
            name => Some(Receiver::find(name, config)?),
        };
        Ok(Self {
            name: TargetName::parse(&message.name)?,
            form,
            under: SharedKey::parse("under", message.under.as_ref())?,
            mac: SharedKey::parse("mac", message.mac.as_ref())?,
            devices,
            slots,
            receiver,
        })
    }

    /// As it stands in an approval.
    pub(super) fn to_subject(&self) -> Result<String, HostError> {
        let (mut model, mut group) = (None, None);
        match &self.devices {
            None => {}
            Some(Devices::Model(name)) => model = Some(name.to_string()),
            Some(Devices::Group(name)) => group = Some(name.to_string()),
        }
        let document = Document {
            name: self.name.to_string(),
            form: self.form.name().to_owned(),
            under: self.under.document(),
            mac: self.mac.document(),
            model,
            group,
            slots: self.slots.iter().map(Slot::to_string).collect(),
            receiver: self.receiver.clone(),
        };
        serde_json::to_string(&document).map_err(|error| HostError::Internal(error.to_string()))
    }

    /// How every target of this name begins in its approval.
    pub(super) fn subject_begins(name: &TargetName) -> String {
        format!("{{\"name\":\"{name}\",")
    }

    /// From an approval.
    pub(crate) fn of(approval: &Approval) -> Result<Self, StoreError> {
        Self::of_subject(&approval.subject).ok_or(StoreError::Damaged("export target"))
    }

    fn of_subject(subject: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(subject).ok()?;
        let devices = match (document.model, document.group) {
            (None, None) => None,
            (Some(name), None) => Some(Devices::Model(Model::parse(&name).ok()?)),
            (None, Some(name)) => Some(Devices::Group(GroupName::parse(&name).ok()?)),
            (Some(_), Some(_)) => return None,
        };
        let slots = document.slots.iter().map(|slot| Slot::parse(slot).ok());
        Some(Self {
            name: TargetName::parse(&document.name).ok()?,
            form: form_of(&document.form)?,
            under: SharedKey::of_document(&document.under)?,
            mac: SharedKey::of_document(&document.mac)?,
            devices,
            slots: slots.collect::<Option<_>>()?,
            receiver: document.receiver,
        })
    }

    /// Whether it is about a slot of a device of this model and in this group.
    pub(super) fn covers(&self, slot: &Slot, model: &Model, group: Option<&GroupName>) -> bool {
        let slot = self.slots.is_empty() || self.slots.contains(slot);
        let device = match &self.devices {
            None => true,
            Some(Devices::Model(name)) => name == model,
            Some(Devices::Group(name)) => Some(name) == group,
        };
        slot && device
    }

    /// As operators see it.
    pub(crate) fn to_message(&self) -> v1::ExportTarget {
        let receiver = self.receiver.as_ref();
        v1::ExportTarget {
            name: self.name.to_string(),
            form: self.form.name().to_owned(),
            under: Some(self.under.to_message()),
            mac: Some(self.mac.to_message()),
            scope: self.devices.as_ref().map(|devices| match devices {
                Devices::Model(name) => Scope::Model(name.to_string()),
                Devices::Group(name) => Scope::Group(name.to_string()),
            }),
            slots: self.slots.iter().map(Slot::to_string).collect(),
            receiver: receiver.map_or_else(String::new, |receiver| receiver.name.clone()),
            receiver_key_sha256: receiver
                .map_or_else(String::new, |receiver| receiver.key_sha256.clone()),
        }
    }
}

impl SharedKey {
    fn parse(field: &str, message: Option<&v1::ExportKey>) -> Result<Self, HostError> {
        let fault = |cause: &str| invalid(&format!("{field}: {cause}"));
        let message = message.ok_or_else(|| fault("no key is named"))?;
        let name = KeyName::new(&message.label).map_err(|error| fault(&error.to_string()))?;
        let kind = KeyKind::from_name(&message.kind).filter(|kind| is_aes(*kind));
        let kcv = parse_kcv(message.kcv.as_ref());
        let kcv =
            kcv.filter(|kcv| kcv.method() == KcvMethod::AesCmac && kcv.value().len() == Kcv::LEN);
        Ok(Self {
            name,
            kind: kind.ok_or_else(|| fault("its kind is AES-128, AES-192 or AES-256"))?,
            kcv: kcv.ok_or_else(|| {
                fault("its check value is 3 bytes by AES-CMAC, as the ceremony reported it")
            })?,
        })
    }

    fn document(&self) -> KeyDocument {
        KeyDocument {
            label: self.name.label().to_owned(),
            kind: self.kind.name().to_owned(),
            kcv: self.kcv.to_string(),
        }
    }

    fn of_document(document: &KeyDocument) -> Option<Self> {
        Some(Self {
            name: KeyName::new(&document.label).ok()?,
            kind: KeyKind::from_name(&document.kind)?,
            kcv: Kcv::parse(KcvMethod::AesCmac, &document.kcv).ok()?,
        })
    }

    fn to_message(&self) -> v1::ExportKey {
        v1::ExportKey {
            label: self.name.label().to_owned(),
            kind: self.kind.name().to_owned(),
            kcv: Some(kcv_message(&self.kcv)),
        }
    }
}

impl Receiver {
    /// Who is called so in the configuration, and may receive keys.
    fn find(name: &str, config: &Config) -> Result<Self, HostError> {
        let mut operators = config.operators.iter();
        let found = operators.find(|operator| {
            operator.name == name && operator.roles.contains(&OperatorRole::Switch)
        });
        let found = found.ok_or_else(|| {
            let cause = format!(
                "{:?} is not in the host's configuration with the role switch: add its certificate there",
                beginning(name)
            );
            refused(Reason::NotFound, cause)
        })?;
        Ok(Self {
            name: found.name.clone(),
            key_sha256: hex::encode(found.certificate.public_key().fingerprint()),
        })
    }
}

fn form_of(name: &str) -> Option<ExportForm> {
    ExportForm::ALL.into_iter().find(|form| form.name() == name)
}

const fn is_aes(kind: KeyKind) -> bool {
    matches!(kind, KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256)
}

fn invalid(cause: &str) -> HostError {
    refused(Reason::RequestInvalid, cause)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SUBJECT: &str = r#"{"name":"switch-1","form":"tr31","under":{"label":"kbpkx.switch","kind":"AES-256","kcv":"A1B2C3"},"mac":{"label":"zmac.switch","kind":"AES-128","kcv":"0D0E0F"},"model":"Model X","group":null,"slots":["dukpt","tmk"],"receiver":{"name":"switch","key-sha256":"00"}}"#;

    #[test]
    fn an_approval_says_all_of_a_target() {
        let target = Target::of_subject(SUBJECT).unwrap();
        assert_eq!(target.to_subject().unwrap(), SUBJECT);
        assert!(SUBJECT.starts_with(&Target::subject_begins(&target.name)));
        let slot = |slot| Slot::parse(slot).unwrap();
        let (x, y) = (Model::parse("Model X").unwrap(), Model::parse("Y").unwrap());
        let group = GroupName::parse("pilot").unwrap();
        assert!(target.covers(&slot("tmk"), &x, None));
        assert!(target.covers(&slot("tmk"), &x, Some(&group)));
        assert!(!target.covers(&slot("pin"), &x, None));
        assert!(!target.covers(&slot("tmk"), &y, None));
        let of = |text: &str| Target::of_subject(text).unwrap();
        let pilots = SUBJECT.replace(
            r#""model":"Model X","group":null"#,
            r#""model":null,"group":"pilot""#,
        );
        assert!(of(&pilots).covers(&slot("tmk"), &y, Some(&group)));
        assert!(!of(&pilots).covers(&slot("tmk"), &y, None));
        let all = SUBJECT
            .replace(r#""Model X""#, "null")
            .replace(r#""dukpt","tmk""#, "");
        assert!(of(&all).covers(&slot("pin"), &y, None));
    }

    #[test]
    fn text_that_describes_no_target_is_refused() {
        for (part, instead) in [
            (r#""name":"switch-1""#, r#""name":"Switch""#),
            (r#""name":"switch-1","#, ""),
            (r#""tr31""#, r#""pgp""#),
            ("kbpkx.switch", "KBPKX switch"),
            ("AES-256", "AES-512"),
            ("A1B2C3", "A1B2"),
            (r#""group":null"#, r#""group":"pilot""#),
            ("Model X", "Modell Ä"),
            (r#""tmk""#, r#""TMK""#),
            (r#""key-sha256""#, r#""key""#),
            (r#"{"name":"switch-1""#, r#"{"more":1,"name":"switch-1""#),
            (r#""00"}}"#, r#""00"}} "{"#),
        ] {
            let text = SUBJECT.replace(part, instead);
            assert_ne!(text, SUBJECT, "{part}");
            assert_eq!(Target::of_subject(&text), None, "{text}");
        }
    }
}
