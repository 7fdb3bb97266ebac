//! What the terminal is called, and what its keys are called.

use std::{fmt, str::FromStr};

use hsm::KeyName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Characters of a serial number.
const MAX_SERIAL_LEN: usize = 32;

/// Labels of the keys that were loaded start like this; the slot follows.
pub(crate) const LOADED_KEY_PREFIX: &str = "kn.";

/// Bytes of a loaded key's id.
const KEY_ID_LEN: usize = 16;

/// A terminal's serial number: 1 to 32 of `A-Z 0-9 -`, the first one a letter or digit. It is the
/// common name of the terminal's certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceSerial(String);

/// Text that is not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is 1 to 32 of A-Z, 0-9 and \"-\", the first one a letter or digit")]
pub struct DeviceSerialError;

impl DeviceSerial {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceSerial {
    type Err = DeviceSerialError;

    fn from_str(text: &str) -> Result<Self, DeviceSerialError> {
        let allowed = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-');
        let sound = (1..=MAX_SERIAL_LEN).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-');
        sound
            .then(|| Self(text.to_owned()))
            .ok_or(DeviceSerialError)
    }
}

impl fmt::Display for DeviceSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeviceSerial {
    type Error = DeviceSerialError;

    fn try_from(text: String) -> Result<Self, DeviceSerialError> {
        text.parse()
    }
}

impl From<DeviceSerial> for String {
    fn from(serial: DeviceSerial) -> Self {
        serial.0
    }
}

/// Where a terminal keeps a key, for example `tmk`: a name that fits into a key's label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName(String);

/// Text that is not a slot's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot's name is 1 to 29 of a-z 0-9 . _ : -")]
pub struct SlotNameError;

impl SlotName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the slot's key that came with this delivery. Two deliveries never share one, so
    /// that the old key of a slot and the new one can stand side by side.
    ///
    /// # Errors
    /// Never for a slot's name that was checked; the naming scheme has the last word.
    pub fn key_name(&self, version: u32, delivery_id: &str) -> Result<KeyName, hsm::NameError> {
        let digest = Sha256::new()
            .chain_update(version.to_be_bytes())
            .chain_update(delivery_id)
            .finalize();
        KeyName::with_id(&self.key_label(), &digest[..KEY_ID_LEN])
    }

    pub(crate) fn key_label(&self) -> String {
        format!("{LOADED_KEY_PREFIX}{}", self.0)
    }
}

impl FromStr for SlotName {
    type Err = SlotNameError;

    fn from_str(text: &str) -> Result<Self, SlotNameError> {
        let name = Self(text.to_owned());
        if text.is_empty() || KeyName::new(&name.key_label()).is_err() {
            return Err(SlotNameError);
        }
        Ok(name)
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SlotName {
    type Error = SlotNameError;

    fn try_from(text: String) -> Result<Self, SlotNameError> {
        text.parse()
    }
}

impl From<SlotName> for String {
    fn from(slot: SlotName) -> Self {
        slot.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers() {
        for text in ["A", "0", "KRD-000001", "A-", &"9".repeat(32)] {
            assert_eq!(text.parse::<DeviceSerial>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "-A",
            "a",
            "KRD 1",
            "KRD_1",
            "KRD.1",
            "Ä",
            "A\n",
            &"9".repeat(33),
        ] {
            assert_eq!(
                text.parse::<DeviceSerial>(),
                Err(DeviceSerialError),
                "{text}"
            );
        }
    }

    #[test]
    fn slots() {
        for text in ["tmk", "0", "pin.key-2", &"s".repeat(29)] {
            assert_eq!(text.parse::<SlotName>().unwrap().as_str(), text);
        }
        for text in ["", "TMK", "t k", "t/k", "ä", "tmk\0", &"s".repeat(30)] {
            assert_eq!(text.parse::<SlotName>(), Err(SlotNameError), "{text}");
        }
    }

    #[test]
    fn keys_of_a_slot_share_a_label_and_nothing_more() {
        let slot: SlotName = "tmk".parse().unwrap();
        let name = |version, delivery| slot.key_name(version, delivery).unwrap();
        assert_eq!(name(1, "d-1"), name(1, "d-1"));
        assert_eq!(name(1, "d-1").label(), "kn.tmk");
        assert_eq!(name(2, "d-1").label(), "kn.tmk");
        assert_ne!(name(1, "d-1").id(), name(2, "d-1").id());
        assert_ne!(name(1, "d-1").id(), name(1, "d-2").id());
    }
}
