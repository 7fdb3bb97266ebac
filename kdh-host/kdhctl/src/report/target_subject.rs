//! An export target as it stands in what two operators approve.

use kdh_proto::v1::{
    ExportKey, ExportTarget, KeyCheckValue, export_target::Scope, key_check_value::Method,
};
use serde::Deserialize;

/// `None` if it says anything that this program does not know: then whoever approves it has to see it as it is.
pub(super) fn read(subject: &str) -> Option<ExportTarget> {
    let target: Target = serde_json::from_str(subject).ok()?;
    let scope = match (target.model, target.group) {
        (None, None) => None,
        (Some(name), None) => Some(Scope::Model(name)),
        (None, Some(name)) => Some(Scope::Group(name)),
        (Some(_), Some(_)) => return None,
    };
    let (receiver, receiver_key_sha256) = target
        .receiver
        .map(|receiver| (receiver.name, receiver.key_sha256))
        .unwrap_or_default();
    Some(ExportTarget {
        name: target.name,
        form: target.form,
        under: Some(target.under.read()?),
        mac: Some(target.mac.read()?),
        scope,
        slots: target.slots,
        receiver,
        receiver_key_sha256,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Target {
    name: String,
    form: String,
    under: Key,
    mac: Key,
    model: Option<String>,
    group: Option<String>,
    slots: Vec<String>,
    receiver: Option<Receiver>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    label: String,
    kind: String,
    kcv: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Receiver {
    name: String,
    key_sha256: String,
}

impl Key {
    fn read(self) -> Option<ExportKey> {
        Some(ExportKey {
            label: self.label,
            kind: self.kind,
            kcv: Some(KeyCheckValue {
                method: Method::AesCmac.into(),
                value: hex::decode(self.kcv).ok()?,
            }),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) const SUBJECT: &str = r#"{"name":"switch","form":"tr31","under":{"label":"kbpkx.switch","kind":"AES-256","kcv":"A1B2C3"},"mac":{"label":"zmac.switch","kind":"AES-128","kcv":"0D0E0F"},"model":"Model X","group":null,"slots":["dukpt","tmk"],"receiver":{"name":"switch-1","key-sha256":"0a1b"}}"#;

    fn key(label: &str, kind: &str, value: [u8; 3]) -> ExportKey {
        ExportKey {
            label: label.to_owned(),
            kind: kind.to_owned(),
            kcv: Some(KeyCheckValue {
                method: Method::AesCmac.into(),
                value: value.to_vec(),
            }),
        }
    }

    #[test]
    fn every_word_of_a_target_is_read() {
        let whole = ExportTarget {
            name: "switch".to_owned(),
            form: "tr31".to_owned(),
            under: Some(key("kbpkx.switch", "AES-256", [0xA1, 0xB2, 0xC3])),
            mac: Some(key("zmac.switch", "AES-128", [0x0D, 0x0E, 0x0F])),
            scope: Some(Scope::Model("Model X".to_owned())),
            slots: vec!["dukpt".to_owned(), "tmk".to_owned()],
            receiver: "switch-1".to_owned(),
            receiver_key_sha256: "0a1b".to_owned(),
        };
        assert_eq!(read(SUBJECT).unwrap(), whole);
        let wide = SUBJECT
            .replace(r#""Model X""#, "null")
            .replace(r#""dukpt","tmk""#, "")
            .replace(r#"{"name":"switch-1","key-sha256":"0a1b"}"#, "null");
        let expected = ExportTarget {
            scope: None,
            slots: Vec::new(),
            receiver: String::new(),
            receiver_key_sha256: String::new(),
            ..whole
        };
        assert_eq!(read(&wide).unwrap(), expected);
    }

    #[test]
    fn what_is_not_wholly_known_is_not_read() {
        for (part, instead) in [
            (r#""name":"switch","#, ""),
            (r#""form":"tr31","#, ""),
            (r#""form":"tr31""#, r#""form":"tr31","until":"2027""#),
            (r#""kind":"AES-256","#, ""),
            (r#""kcv":"0D0E0F""#, r#""kcv":"0D0E0F","kcv-method":"X""#),
            ("A1B2C3", "A1B2C"),
            (r#""group":null"#, r#""group":"pilot""#),
            (r#""slots":["dukpt","tmk"]"#, r#""slots":"tmk""#),
            (r#","key-sha256":"0a1b""#, ""),
            (r#""0a1b"}}"#, r#""0a1b"}} {}"#),
        ] {
            let subject = SUBJECT.replace(part, instead);
            assert_ne!(subject, SUBJECT, "{part}");
            assert_eq!(read(&subject), None, "{subject}");
        }
    }
}
