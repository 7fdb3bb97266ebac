//! Key profiles as messages and the database have them.

use hsm::KcvMethod;
use kdh_proto::{
    Reason,
    v1::{
        self, DerivedKey, KeyProfileSlot, SharedKey, UniqueKey, key_check_value::Method,
        key_profile_slot::Source,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tr34::KeyKind;

use super::{
    policy,
    profile::{Derivation, KcvForm, KeyProfile, KeySource, ProfileSlot},
};
use crate::{
    HostError,
    error::refused,
    names::{BdkName, KeyAlias, ProfileName, Slot, beginning},
    store::method_word,
};

/// More than any terminal has.
const MAX_SLOTS: usize = 64;
/// Ten years.
const MAX_DAYS: u32 = 3660;
/// Bytes of a check value. Which of these a method gives is the policy's question.
const KCV_LEN: std::ops::RangeInclusive<u32> = 3..=5;

/// A slot in the database.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SlotDocument {
    slot: String,
    header: String,
    kind: String,
    source: SourceDocument,
    kcv_method: String,
    kcv_length: u32,
    validity_days: u32,
    renewal_days: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum SourceDocument {
    Unique,
    #[serde(rename_all = "kebab-case")]
    Derived {
        bdk: String,
        key_set_id: String,
        ksn_in_header: bool,
    },
    Shared(String),
}

/// Reads a profile that an operator has sent.
///
/// # Errors
/// Every field that is none of its kind, all at once.
pub(crate) fn parse(message: &v1::KeyProfile) -> Result<KeyProfile, HostError> {
    let mut faults = Vec::new();
    let name = ProfileName::parse(&message.name).map_err(|fault| faults.push(fault.to_string()));
    if !(1..=MAX_SLOTS).contains(&message.slots.len()) {
        faults.push(format!(
            "a profile has 1 to {MAX_SLOTS} slots, not {}",
            message.slots.len()
        ));
    }
    let slots = message.slots.iter().take(MAX_SLOTS);
    let slots = slots.filter_map(|slot| match parse_slot(slot) {
        Ok(slot) => Some(slot),
        Err(of_slot) => {
            faults.extend(of_slot);
            None
        }
    });
    let mut slots: Vec<_> = slots.collect();
    slots.sort_by(|one, other| one.slot.cmp(&other.slot));
    for pair in slots.windows(2) {
        if pair[0].slot == pair[1].slot {
            faults.push(format!("slot {}: stands there twice", pair[0].slot));
        }
    }
    match name {
        Ok(name) if faults.is_empty() => Ok(KeyProfile { name, slots }),
        _ => Err(refused(Reason::RequestInvalid, faults.join("\n"))),
    }
}

fn parse_slot(message: &KeyProfileSlot) -> Result<ProfileSlot, Vec<String>> {
    let slot = Slot::parse(&message.slot).map_err(|fault| vec![fault.to_string()])?;
    let mut faults = Faults(Vec::new());
    let header = policy::read_header(&message.header);
    let header = faults.keep(header.map_err(|(rule, found)| format!("{found} ({rule})")));
    let kind = faults.keep(KeyKind::from_name(&message.kind).ok_or_else(|| {
        let kinds = KeyKind::ALL.map(KeyKind::name).join(", ");
        format!(
            "{} is no kind of key: name one of {kinds}",
            quoted(&message.kind)
        )
    }));
    let source = parse_source(message.source.as_ref(), &mut faults);
    let method = faults.keep(match message.kcv_method() {
        Method::AesCmac => Ok(KcvMethod::AesCmac),
        Method::TdeaEcb => Ok(KcvMethod::TdeaEcb),
        Method::Unspecified => Err("kcv-method is not said: it is aes-cmac or tdea-ecb"),
    });
    let mut range = |what, value, min, max| {
        if !(min..=max).contains(&value) {
            faults
                .0
                .push(format!("{what}: {value} is not between {min} and {max}"));
        }
    };
    range(
        "kcv-length",
        message.kcv_length,
        *KCV_LEN.start(),
        *KCV_LEN.end(),
    );
    range("validity-days", message.validity_days, 1, MAX_DAYS);
    range("renewal-days", message.renewal_days, 0, MAX_DAYS);
    match (header, kind, source, method) {
        (Some(header), Some(kind), Some(source), Some(method)) if faults.0.is_empty() => {
            Ok(ProfileSlot {
                slot,
                header,
                kind,
                source,
                kcv: KcvForm {
                    method,
                    len: message.kcv_length,
                },
                validity_days: message.validity_days,
                renewal_days: Some(message.renewal_days).filter(|days| *days > 0),
            })
        }
        _ => {
            let of_slot = |fault| format!("slot {slot}: {fault}");
            Err(faults.0.into_iter().map(of_slot).collect())
        }
    }
}

fn parse_source(source: Option<&Source>, faults: &mut Faults) -> Option<KeySource> {
    match source {
        None => faults.keep(Err(
            "its source is not said: it is unique, derived or shared",
        )),
        Some(Source::Unique(UniqueKey {})) => Some(KeySource::Unique),
        Some(Source::Derived(derived)) => {
            let bdk = faults.keep(BdkName::parse(&derived.bdk));
            let len = derived.key_set_id.len();
            let id = <[u8; 4]>::try_from(&derived.key_set_id[..]);
            let id = id.map_err(|_| format!("key-set-id has 4 bytes, not {len}"));
            let id = faults.keep(id);
            Some(KeySource::Derived(Derivation {
                bdk: bdk?,
                key_set_id: id?,
                ksn_in_header: derived.ksn_in_header,
            }))
        }
        Some(Source::Shared(shared)) => {
            let key = KeyAlias::parse(&shared.key_name);
            faults.keep(key).map(KeySource::Shared)
        }
    }
}

/// Keeps what is wrong, and goes on.
struct Faults(Vec<String>);

impl Faults {
    fn keep<T>(&mut self, outcome: Result<T, impl ToString>) -> Option<T> {
        outcome.map_err(|fault| self.0.push(fault.to_string())).ok()
    }
}

/// Text from outside, which may be long.
fn quoted(text: &str) -> String {
    format!("{:?}", beginning(text))
}

/// As operators get it.
pub(crate) fn to_message(profile: &KeyProfile) -> v1::KeyProfile {
    v1::KeyProfile {
        name: profile.name.to_string(),
        slots: profile.slots.iter().map(slot_message).collect(),
    }
}

fn slot_message(slot: &ProfileSlot) -> KeyProfileSlot {
    KeyProfileSlot {
        slot: slot.slot.to_string(),
        header: slot.header.to_string(),
        kind: slot.kind.to_string(),
        source: Some(match &slot.source {
            KeySource::Unique => Source::Unique(UniqueKey {}),
            KeySource::Derived(derivation) => Source::Derived(DerivedKey {
                bdk: derivation.bdk.as_str().to_owned(),
                key_set_id: derivation.key_set_id.to_vec(),
                ksn_in_header: derivation.ksn_in_header,
            }),
            KeySource::Shared(key) => Source::Shared(SharedKey {
                key_name: key.to_string(),
            }),
        }),
        kcv_method: match slot.kcv.method {
            KcvMethod::AesCmac => Method::AesCmac,
            KcvMethod::TdeaEcb => Method::TdeaEcb,
        }
        .into(),
        kcv_length: slot.kcv.len,
        validity_days: slot.validity_days,
        renewal_days: slot.renewal_days.unwrap_or_default(),
    }
}

/// The slots as the database and the audit trail have them: JSON, of which there is one text for each profile.
pub(crate) fn to_json(profile: &KeyProfile) -> Value {
    let slots = profile.slots.iter().map(SlotDocument::of);
    json!(slots.collect::<Vec<_>>())
}

/// From there. `None` if it is none of this program's.
pub(crate) fn from_json(name: &ProfileName, text: &str) -> Option<KeyProfile> {
    let slots: Vec<SlotDocument> = serde_json::from_str(text).ok()?;
    let message = v1::KeyProfile {
        name: name.to_string(),
        slots: slots
            .into_iter()
            .map(SlotDocument::into_message)
            .collect::<Option<_>>()?,
    };
    parse(&message).ok()
}

impl SlotDocument {
    fn of(slot: &ProfileSlot) -> Self {
        Self {
            slot: slot.slot.to_string(),
            header: slot.header.to_string(),
            kind: slot.kind.to_string(),
            source: match &slot.source {
                KeySource::Unique => SourceDocument::Unique,
                KeySource::Derived(derivation) => SourceDocument::Derived {
                    bdk: derivation.bdk.as_str().to_owned(),
                    key_set_id: hex::encode_upper(derivation.key_set_id),
                    ksn_in_header: derivation.ksn_in_header,
                },
                KeySource::Shared(key) => SourceDocument::Shared(key.to_string()),
            },
            kcv_method: method_word(slot.kcv.method).to_owned(),
            kcv_length: slot.kcv.len,
            validity_days: slot.validity_days,
            renewal_days: slot.renewal_days.unwrap_or_default(),
        }
    }

    fn into_message(self) -> Option<KeyProfileSlot> {
        Some(KeyProfileSlot {
            slot: self.slot,
            header: self.header,
            kind: self.kind,
            source: Some(match self.source {
                SourceDocument::Unique => Source::Unique(UniqueKey {}),
                SourceDocument::Derived {
                    bdk,
                    key_set_id,
                    ksn_in_header,
                } => Source::Derived(DerivedKey {
                    bdk,
                    key_set_id: hex::decode(key_set_id).ok()?,
                    ksn_in_header,
                }),
                SourceDocument::Shared(key_name) => Source::Shared(SharedKey { key_name }),
            }),
            kcv_method: Method::from_str_name(&self.kcv_method)?.into(),
            kcv_length: self.kcv_length,
            validity_days: self.validity_days,
            renewal_days: self.renewal_days,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::key_profile::samples::sample;

    fn refusal(change: fn(&mut v1::KeyProfile)) -> String {
        let mut message = to_message(&sample());
        change(&mut message);
        match parse(&message).unwrap_err() {
            HostError::Refused { reason, cause } => {
                assert_eq!(reason, Reason::RequestInvalid);
                cause
            }
            other => panic!("{other}"),
        }
    }

    fn derived(message: &mut v1::KeyProfile) -> &mut DerivedKey {
        match message.slots[1].source.as_mut().unwrap() {
            Source::Derived(derived) => derived,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_profile_is_what_it_was_when_it_comes_back() {
        let profile = sample();
        assert_eq!(parse(&to_message(&profile)).unwrap(), profile);
        let json = to_json(&profile).to_string();
        assert_eq!(from_json(&profile.name, &json).unwrap(), profile);
        // One text for each profile, in whatever order its slots were sent.
        let mut message = to_message(&profile);
        message.slots.reverse();
        assert_eq!(to_json(&parse(&message).unwrap()).to_string(), json);
        assert_eq!(
            json,
            "[{\"header\":\"D0000D0AB00E0000\",\"kcv-length\":5,\"kcv-method\":\"AES_CMAC\",\"kind\":\"AES-128\",\
             \"renewal-days\":0,\"slot\":\"data\",\"source\":{\"shared\":\"acq-data\"},\"validity-days\":365},\
             {\"header\":\"D0000B1AX00N0000\",\"kcv-length\":3,\"kcv-method\":\"AES_CMAC\",\"kind\":\"AES-128\",\
             \"renewal-days\":0,\"slot\":\"dukpt\",\"source\":{\"derived\":{\"bdk\":\"acquirer\",\
             \"key-set-id\":\"01234567\",\"ksn-in-header\":true}},\"validity-days\":730},\
             {\"header\":\"D0000K0AD00N0000\",\"kcv-length\":5,\"kcv-method\":\"AES_CMAC\",\"kind\":\"AES-128\",\
             \"renewal-days\":365,\"slot\":\"tmk\",\"source\":\"unique\",\"validity-days\":400}]"
        );
    }

    type Change = fn(&mut v1::KeyProfile);

    /// What is wrong, and the whole of what is said of it.
    const MALFORMED: [(Change, &str); 22] = [
        (
            |it| it.name = "Standard".into(),
            "\"Standard\" is no name of a key profile: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (|it| it.slots.clear(), "a profile has 1 to 64 slots, not 0"),
        (
            |it| it.slots[0].slot = "A".into(),
            "\"A\" is no slot: 1 to 24 of a-z, 0-9 and '-'",
        ),
        (
            |it| it.slots[0].slot = "tmk".into(),
            "slot tmk: stands there twice",
        ),
        (
            |it| it.slots[0].header = "D0000D0AB00E000".into(),
            "slot data: \"D0000D0AB00E000\": key block header has 15 characters, not 16: terminals take 16 characters \
             as in TR-31, for example D0000P0AE00N0000 (malformed-header)",
        ),
        (
            |it| it.slots[0].header = "D0000D0QB00E0000".into(),
            "slot data: \"D0000D0QB00E0000\": key block header has an unknown value of algorithm: terminals take 16 \
             characters as in TR-31, for example D0000P0AE00N0000 (malformed-header)",
        ),
        (
            |it| it.slots[0].header = "D000010AB00E0000".into(),
            "slot data: \"D000010AB00E0000\": key block header has an unknown value of key usage: nobody can say what a \
             key of a numeric or unknown usage may do: take one that X9.143 defines (unknown-usage)",
        ),
        (
            |it| it.slots[0].header = "D0000Z9AB00E0000".into(),
            "slot data: \"D0000Z9AB00E0000\": key block header has an unknown value of key usage: nobody can say what a \
             key of a numeric or unknown usage may do: take one that X9.143 defines (unknown-usage)",
        ),
        (
            |it| it.slots[0].kind = "AES".into(),
            "slot data: \"AES\" is no kind of key: name one of TDEA-2KEY, TDEA-3KEY, AES-128, AES-192, AES-256",
        ),
        (
            |it| it.slots[0].source = None,
            "slot data: its source is not said: it is unique, derived or shared",
        ),
        (
            |it| {
                it.slots[0].source = Some(Source::Shared(SharedKey::default()));
            },
            "slot data: \"\" is no key name: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            |it| derived(it).bdk = "abcdefghijklmnopqrstuvwxyz-12".into(),
            "slot dukpt: \"abcdefghijklmnopqrstuvwxyz-12\" is no name of a base derivation key: 1 to 28 of a-z, 0-9 and \
             '-': its label in the HSM is this behind \"bdk.\"",
        ),
        (
            |it| derived(it).bdk = "bdk.acquirer".into(),
            "slot dukpt: \"bdk.acquirer\" is no name of a base derivation key: 1 to 28 of a-z, 0-9 and '-': its label in \
             the HSM is this behind \"bdk.\"",
        ),
        (
            |it| derived(it).key_set_id = vec![0; 3],
            "slot dukpt: key-set-id has 4 bytes, not 3",
        ),
        (
            |it| derived(it).key_set_id = vec![0; 5],
            "slot dukpt: key-set-id has 4 bytes, not 5",
        ),
        (
            |it| it.slots[0].kcv_method = 0,
            "slot data: kcv-method is not said: it is aes-cmac or tdea-ecb",
        ),
        (
            |it| it.slots[0].kcv_length = 2,
            "slot data: kcv-length: 2 is not between 3 and 5",
        ),
        (
            |it| it.slots[0].kcv_length = 6,
            "slot data: kcv-length: 6 is not between 3 and 5",
        ),
        (
            |it| it.slots[0].validity_days = 0,
            "slot data: validity-days: 0 is not between 1 and 3660",
        ),
        (
            |it| it.slots[0].validity_days = 3661,
            "slot data: validity-days: 3661 is not between 1 and 3660",
        ),
        (
            |it| it.slots[2].renewal_days = 3661,
            "slot tmk: renewal-days: 3661 is not between 0 and 3660",
        ),
        (
            |it| {
                it.name.clear();
                it.slots[0].kcv_length = 9;
                it.slots[0].kind.clear();
                it.slots[2].validity_days = 0;
            },
            "\"\" is no name of a key profile: 1 to 64 of a-z, 0-9 and '-'\n\
             slot data: \"\" is no kind of key: name one of TDEA-2KEY, TDEA-3KEY, AES-128, AES-192, AES-256\n\
             slot data: kcv-length: 9 is not between 3 and 5\n\
             slot tmk: validity-days: 0 is not between 1 and 3660",
        ),
    ];

    #[test]
    fn what_is_malformed_is_named() {
        for (change, expected) in MALFORMED {
            assert_eq!(refusal(change), expected);
        }
        let many = refusal(|it| it.slots = vec![it.slots[0].clone(); 65]);
        assert!(
            many.starts_with("a profile has 1 to 64 slots, not 65\n"),
            "{many}"
        );
    }

    #[test]
    fn what_this_program_did_not_write_is_no_profile() {
        let profile = sample();
        let json = to_json(&profile).to_string();
        for (good, bad) in [
            ("[", ""),
            ("\"unique\"", "\"other\""),
            ("AES_CMAC", "CMAC"),
            ("\"renewal-days\":0,", ""),
            ("\"renewal-days\"", "\"renewal_days\""),
            ("01234567", "0123456"),
            ("01234567", "012345"),
            ("D0000D0A", "D000010A"),
            ("\"kcv-length\":5", "\"kcv-length\":\"5\""),
            ("\"kcv-length\":5", "\"kcv-length\":5,\"more\":1"),
        ] {
            assert!(json.contains(good));
            let text = json.replacen(good, bad, 1);
            assert_eq!(from_json(&profile.name, &text), None, "{bad}");
        }
    }
}
