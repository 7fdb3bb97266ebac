//! Names from outside, checked before they go anywhere.

use std::fmt;

/// Text that is not a name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct BadName {
    what: &'static str,
    rule: &'static str,
    text: String,
}

/// The beginning of a text from outside, which may be long; an error need not be.
pub(crate) fn beginning(text: &str) -> String {
    text.chars().take(64).collect()
}

macro_rules! checked_names {
    ($($(#[$doc:meta])* $name:ident: $what:literal, $rule:literal, $accepts:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(String);

        impl $name {
            /// From text.
            ///
            /// # Errors
            /// The text is not such a name; the error says what one looks like.
            pub(crate) fn parse(text: &str) -> Result<Self, BadName> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { what: $what, rule: $rule, text: beginning(text) })
                }
            }

            /// As text.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

checked_names! {
    /// The serial number of a device: its identity everywhere in this system.
    DeviceSerial: "serial number", "1 to 32 of A-Z, 0-9 and '-', not beginning with '-'",
        |text| bounded(text, 32, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-');
    /// A device model.
    Model: "device model", "1 to 64 printable ASCII characters",
        |text| bounded(text, 64, |byte| byte.is_ascii_graphic() || byte == b' ');
    /// Where a terminal keeps a key. Stands in a key's label in the terminal's token.
    Slot: "slot", "1 to 24 of a-z, 0-9 and '-'",
        |text| bounded(text, 24, is_label_byte);
    /// How operators call a key.
    KeyAlias: "key name", "1 to 64 of a-z, 0-9 and '-'",
        |text| bounded(text, 64, is_label_byte);
    /// How operators call another host that sends keys.
    SenderName: "name of a sender", "1 to 64 of a-z, 0-9 and '-'",
        |text| bounded(text, 64, is_label_byte);
    /// How operators call what the slots of devices hold.
    ProfileName: "name of a key profile", "1 to 64 of a-z, 0-9 and '-'",
        |text| bounded(text, 64, is_label_byte);
    /// How operators call devices that belong together.
    GroupName: "name of a device group", "1 to 64 of a-z, 0-9 and '-'",
        |text| bounded(text, 64, is_label_byte);
    /// How operators call a payment switch to which keys go.
    TargetName: "name of an export target", "1 to 64 of a-z, 0-9 and '-'",
        |text| bounded(text, 64, is_label_byte);
    /// A base derivation key in the HSM, without the prefix of its label.
    BdkName: "name of a base derivation key", "1 to 28 of a-z, 0-9 and '-': its label in the HSM is this behind \"bdk.\"",
        |text| bounded(text, 28, is_label_byte);
    /// Why an operator did something, for the audit trail.
    Why: "reason", "1 to 200 printable characters",
        |text| !text.is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
}

fn bounded(text: &str, max_len: usize, accepts: fn(u8) -> bool) -> bool {
    (1..=max_len).contains(&text.len()) && text.bytes().all(accepts)
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers() {
        for good in ["A", "SN-1001", "0123456789ABCDEF0123456789ABCDEF"] {
            assert_eq!(DeviceSerial::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-A",
            "sn-1",
            "A B",
            "A/B",
            "Ä",
            "A\n",
            "0123456789ABCDEF0123456789ABCDEF0",
        ] {
            assert!(DeviceSerial::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_names() {
        assert!(Slot::parse("tmk").is_ok());
        assert!(Model::parse("Model X 2").is_ok());
        assert!(Why::parse("lost in a taxi").is_ok());
        for bad in ["", "TMK", "a_b", "a.b", "0123456789012345678901234"] {
            assert!(Slot::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "tab\there"] {
            assert!(Model::parse(bad).is_err(), "{bad:?}");
            assert!(Why::parse(bad).is_err(), "{bad:?}");
        }
    }
}
