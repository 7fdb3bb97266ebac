//! A key profile in a file, as people write it: TOML.

use std::{fmt::Write as _, fs, path::Path};

use hsm::KcvMethod;
use kdh_proto::v1::{
    DerivedKey, KeyProfile, KeyProfileSlot, KeyProfileVersion, SharedKey, UniqueKey,
    key_check_value::Method, key_profile_slot::Source,
};
use serde::Deserialize;
use tr34::KeyKind;

use crate::failure::Failure;

/// A profile, and the version that was looked at when it was written.
#[derive(Debug, PartialEq)]
pub(crate) struct ProfileFile {
    pub(crate) profile: KeyProfile,
    pub(crate) based_on: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: String,
    #[serde(default)]
    based_on: u32,
    slots: Vec<RawSlot>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSlot {
    slot: String,
    header: String,
    kind: String,
    #[serde(default)]
    source: RawSource,
    bdk: Option<String>,
    key_set_id: Option<String>,
    ksn_in_header: Option<bool>,
    key: Option<String>,
    kcv_method: Option<RawMethod>,
    #[serde(default = "kcv_length")]
    kcv_length: u32,
    validity_days: u32,
    #[serde(default)]
    renewal_days: u32,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSource {
    #[default]
    Unique,
    Derived,
    Shared,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMethod {
    AesCmac,
    TdeaEcb,
}

const fn kcv_length() -> u32 {
    3
}

/// Reads a file. Whether the profile is a good one is for the host to say.
pub(crate) fn read(path: &Path) -> Result<ProfileFile, Failure> {
    let fault =
        |fault: &dyn std::fmt::Display| Failure::usage(format!("{}: {fault}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    parse(&text).map_err(|error| fault(&error))
}

fn parse(text: &str) -> Result<ProfileFile, String> {
    let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
    let slots: Result<_, String> = raw.slots.into_iter().map(slot).collect();
    Ok(ProfileFile {
        profile: KeyProfile {
            name: raw.name,
            slots: slots?,
        },
        based_on: raw.based_on,
    })
}

fn slot(raw: RawSlot) -> Result<KeyProfileSlot, String> {
    let name = raw.slot.clone();
    let source = source(&raw).map_err(|fault| format!("slot {name}: {fault}"))?;
    let usual = KeyKind::from_name(&raw.kind).map(KcvMethod::for_key);
    let method = match (raw.kcv_method, usual) {
        (Some(RawMethod::AesCmac), _) | (None, Some(KcvMethod::AesCmac)) => Method::AesCmac,
        (Some(RawMethod::TdeaEcb), _) | (None, Some(KcvMethod::TdeaEcb)) => Method::TdeaEcb,
        (None, None) => {
            let kinds = KeyKind::ALL.map(KeyKind::name).join(", ");
            return Err(format!(
                "slot {name}: {:?} is no kind of key: name one of {kinds}",
                raw.kind
            ));
        }
    };
    Ok(KeyProfileSlot {
        slot: raw.slot,
        header: raw.header,
        kind: raw.kind,
        source: Some(source),
        kcv_method: method.into(),
        kcv_length: raw.kcv_length,
        validity_days: raw.validity_days,
        renewal_days: raw.renewal_days,
    })
}

/// What stands beside a source that it has nothing to do with is a mistake.
fn source(raw: &RawSlot) -> Result<Source, String> {
    let derived = [
        ("bdk", raw.bdk.is_some()),
        ("key-set-id", raw.key_set_id.is_some()),
        ("ksn-in-header", raw.ksn_in_header.is_some()),
    ];
    let shared = [("key", raw.key.is_some())];
    let none = |fields: &[(&str, bool)], source: &str| match fields.iter().find(|field| field.1) {
        Some((field, _)) => Err(format!("{field} goes with source = \"{source}\"")),
        None => Ok(()),
    };
    let needed = |value: &Option<String>, field: &str, source: &str| {
        let missing = || format!("source = \"{source}\" needs {field}");
        value.clone().ok_or_else(missing)
    };
    match raw.source {
        RawSource::Unique => {
            none(&derived, "derived")?;
            none(&shared, "shared")?;
            Ok(Source::Unique(UniqueKey {}))
        }
        RawSource::Derived => {
            none(&shared, "shared")?;
            let digits = needed(&raw.key_set_id, "key-set-id", "derived")?;
            Ok(Source::Derived(DerivedKey {
                bdk: needed(&raw.bdk, "bdk", "derived")?,
                key_set_id: hex::decode(&digits)
                    .map_err(|_| format!("key-set-id {digits:?} is not hexadecimal digits"))?,
                ksn_in_header: raw.ksn_in_header.unwrap_or_default(),
            }))
        }
        RawSource::Shared => {
            none(&derived, "derived")?;
            Ok(Source::Shared(SharedKey {
                key_name: needed(&raw.key, "key", "shared")?,
            }))
        }
    }
}

/// A version as a file that can be changed and put.
pub(crate) fn write(version: &KeyProfileVersion) -> String {
    let profile = version.profile.clone().unwrap_or_default();
    let mut text = format!(
        "# Key profile {0}, version {1}. Change it, then: kdhctl profile put FILE --why TEXT\n\
         name = {2}\nbased-on = {1}\n",
        profile.name,
        version.version,
        quoted(&profile.name)
    );
    for slot in &profile.slots {
        text.push_str("\n[[slots]]\n");
        for (field, value) in fields(slot) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{field} = {value}");
        }
    }
    text
}

fn fields(slot: &KeyProfileSlot) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("slot", quoted(&slot.slot)),
        ("header", quoted(&slot.header)),
        ("kind", quoted(&slot.kind)),
    ];
    match &slot.source {
        None => {}
        Some(Source::Unique(UniqueKey {})) => fields.push(("source", quoted("unique"))),
        Some(Source::Derived(derived)) => fields.extend([
            ("source", quoted("derived")),
            ("bdk", quoted(&derived.bdk)),
            (
                "key-set-id",
                quoted(&hex::encode_upper(&derived.key_set_id)),
            ),
            ("ksn-in-header", derived.ksn_in_header.to_string()),
        ]),
        Some(Source::Shared(shared)) => fields.extend([
            ("source", quoted("shared")),
            ("key", quoted(&shared.key_name)),
        ]),
    }
    fields.extend([
        ("kcv-method", quoted(method_word(slot.kcv_method()))),
        ("kcv-length", slot.kcv_length.to_string()),
        ("validity-days", slot.validity_days.to_string()),
    ]);
    if slot.renewal_days > 0 {
        fields.push(("renewal-days", slot.renewal_days.to_string()));
    }
    fields
}

/// As the file has it.
pub(crate) const fn method_word(method: Method) -> &'static str {
    match method {
        Method::AesCmac => "aes-cmac",
        Method::TdeaEcb => "tdea-ecb",
        Method::Unspecified => "",
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../deploy/key-profile.toml");

    #[test]
    fn the_sample_is_read_and_comes_back_when_it_is_written() {
        let file = parse(SAMPLE).unwrap();
        assert_eq!(
            (&*file.profile.name, file.based_on),
            ("acquirer-standard", 0)
        );
        let version = KeyProfileVersion {
            profile: Some(file.profile),
            version: 7,
            ..KeyProfileVersion::default()
        };
        let again = parse(&write(&version)).unwrap();
        assert_eq!(again.based_on, 7);
        assert_eq!(Some(again.profile), version.profile);
    }

    /// In which every field has its default that can have one.
    const SHORT: &str = "name = \"n\"\n[[slots]]\nslot = \"tmk\"\nheader = \"D0000K0TD00N0000\"\n\
                         kind = \"TDEA-2KEY\"\nvalidity-days = 9\n";

    #[test]
    fn what_is_left_out_has_its_default() {
        let file = parse(SHORT).unwrap();
        let slot = &file.profile.slots[0];
        assert_eq!(slot.source, Some(Source::Unique(UniqueKey {})));
        assert_eq!((slot.kcv_method(), slot.kcv_length), (Method::TdeaEcb, 3));
        assert_eq!((slot.renewal_days, file.based_on), (0, 0));
        let derived =
            SHORT.to_owned() + "source = \"derived\"\nbdk = \"b\"\nkey-set-id = \"0a0B0c0D\"\n";
        let expected = DerivedKey {
            bdk: "b".to_owned(),
            key_set_id: vec![0x0A, 0x0B, 0x0C, 0x0D],
            ksn_in_header: false,
        };
        let slot = parse(&derived).unwrap().profile.slots.remove(0);
        assert_eq!(slot.source, Some(Source::Derived(expected)));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (more, fault) in [
            (
                "bdk = \"b\"",
                "slot tmk: bdk goes with source = \"derived\"",
            ),
            (
                "key-set-id = \"00000000\"",
                "slot tmk: key-set-id goes with source = \"derived\"",
            ),
            (
                "ksn-in-header = false",
                "slot tmk: ksn-in-header goes with source = \"derived\"",
            ),
            ("key = \"k\"", "slot tmk: key goes with source = \"shared\""),
            (
                "source = \"shared\"",
                "slot tmk: source = \"shared\" needs key",
            ),
            (
                "source = \"shared\"\nkey = \"k\"\nbdk = \"b\"",
                "slot tmk: bdk goes with source = \"derived\"",
            ),
            (
                "source = \"derived\"\nbdk = \"b\"",
                "slot tmk: source = \"derived\" needs key-set-id",
            ),
            (
                "source = \"derived\"\nkey-set-id = \"00000000\"",
                "slot tmk: source = \"derived\" needs bdk",
            ),
            (
                "source = \"derived\"\nbdk = \"b\"\nkey-set-id = \"00000000\"\nkey = \"k\"",
                "slot tmk: key goes with source = \"shared\"",
            ),
            (
                "source = \"derived\"\nbdk = \"b\"\nkey-set-id = \"0000000\"",
                "slot tmk: key-set-id \"0000000\" is not hexadecimal digits",
            ),
        ] {
            assert_eq!(parse(&format!("{SHORT}{more}\n")).unwrap_err(), fault);
        }
        let kind = parse(&SHORT.replace("TDEA-2KEY", "TDEA")).unwrap_err();
        let expected = "slot tmk: \"TDEA\" is no kind of key: name one of TDEA-2KEY, TDEA-3KEY, AES-128, AES-192, \
                        AES-256";
        assert_eq!(kind, expected);
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        for (case, good, bad) in [
            ("no name", "name = \"n\"\n", ""),
            ("no header", "header =", "# header ="),
            ("no validity", "validity-days = 9\n", ""),
            ("no slots", "[[slots]]", "[[slot]]"),
            ("an unknown key", "kind =", "pin = 1\nkind ="),
            ("snake case", "validity-days", "validity_days"),
            ("another source", "kind =", "source = \"random\"\nkind ="),
            (
                "another method",
                "kind =",
                "kcv-method = \"AES_CMAC\"\nkind =",
            ),
            ("a negative number", "= 9", "= -9"),
            ("a number beyond all", "= 9", "= 4294967296"),
            ("no TOML", "name = \"n\"", "name"),
        ] {
            assert!(SHORT.contains(good), "{case}");
            assert!(parse(&SHORT.replacen(good, bad, 1)).is_err(), "{case}");
        }
        let missing = read(Path::new("/nowhere/profile.toml")).unwrap_err();
        assert_eq!(missing.exit_code, 2);
        assert!(
            missing.to_string().contains("/nowhere/profile.toml: "),
            "{missing}"
        );
    }
}
