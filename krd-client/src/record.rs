//! What the terminal must remember, in the form in which it stands in the token: small JSON records
//! that carry the number of their format.

use hsm::{Kcv, KcvMethod, KeyName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tr34::{IssuerAndSerial, Profile};

use crate::{DeviceSerial, SlotName};

/// How tokens stand in records, whatever the configuration says of the wire: it may change.
pub(crate) const RECORD_PROFILE: Profile = Profile::X9_2019;

/// A record of any other format is refused: it was written by a later version of this program.
const FORMAT: u32 = 1;

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("record {label} in the token: {problem}")]
pub struct RecordError {
    /// The record.
    pub label: String,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    /// Written by a later version.
    #[error("its format is {0}, and this version knows format {FORMAT} only")]
    Format(u32),
    /// Not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    content: T,
}

/// To the bytes of a record.
pub(crate) fn encode<T: Serialize>(label: &str, content: &T) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(&Envelope {
        format: FORMAT,
        content,
    })
    .map_err(|error| damaged(label, &error))
}

/// From the bytes of a record.
pub(crate) fn decode<T: DeserializeOwned>(label: &str, bytes: &[u8]) -> Result<T, RecordError> {
    let head: Head = serde_json::from_slice(bytes).map_err(|error| damaged(label, &error))?;
    if head.format != FORMAT {
        return Err(RecordError {
            label: label.to_owned(),
            problem: RecordProblem::Format(head.format),
        });
    }
    serde_json::from_slice::<Envelope<T>>(bytes)
        .map(|envelope| envelope.content)
        .map_err(|error| damaged(label, &error))
}

fn damaged(label: &str, error: &serde_json::Error) -> RecordError {
    RecordError {
        label: label.to_owned(),
        problem: RecordProblem::Damaged(error.to_string()),
    }
}

/// Bytes, written in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

impl AsRef<[u8]> for HexBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for HexBytes {
    type Error = hex::FromHexError;

    fn try_from(digits: String) -> Result<Self, hex::FromHexError> {
        hex::decode(digits).map(Self)
    }
}

impl From<HexBytes> for String {
    fn from(bytes: HexBytes) -> Self {
        hex::encode(bytes.0)
    }
}

/// Who the terminal is: its certificate requests and, once enrolled, its certificates.
///
/// The requests are made with the keys and kept, so that the RSA key loses the right to sign at
/// once, and an Enroll whose answer was lost is repeated with the very same requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityRecord {
    pub(crate) serial_number: DeviceSerial,
    pub(crate) encryption_csr: HexBytes,
    pub(crate) authentication_csr: HexBytes,
    pub(crate) credentials: Option<CredentialsRecord>,
}

/// What Enroll brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialsRecord {
    /// `CT_KRD`, in [`RECORD_PROFILE`].
    pub(crate) ct_krd: HexBytes,
    pub(crate) authentication_certificate: HexBytes,
    /// The issuing CA first.
    pub(crate) chain: Vec<HexBytes>,
}

/// Whom the terminal is bound to, and all that has to change together with that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingRecord {
    pub(crate) state: BindingStateRecord,
    pub(crate) withdrawals: Vec<WithdrawalRecord>,
    pub(crate) acknowledgements: Vec<PendingAcknowledgement>,
}

/// The same as it may be found.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum FoundBinding {
    Present(BindingRecord),
    /// Of a terminal that was bound before there was any other way than this.
    ByCredential(CredentialBindingRecord),
}

/// The KDH that the terminal was bound to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialBindingRecord {
    /// `CT_KDH`, in [`RECORD_PROFILE`].
    pub(crate) ct_kdh: HexBytes,
}

/// [`BindingState`](crate::BindingState), in writing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum BindingStateRecord {
    #[default]
    Unbound,
    Bound {
        /// The KDH's certificate.
        kdh: HexBytes,
    },
    Unbinding {
        /// The certificate of the KDH that it was bound to.
        kdh: HexBytes,
        token_sha256: HexBytes,
        /// What it held when it took the token.
        keys: Vec<DestroyedKey>,
    },
}

/// [`Withdrawal`](crate::Withdrawal), in writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WithdrawalRecord {
    pub(crate) token_sha256: HexBytes,
    /// `IssuerAndSerialNumber`.
    pub(crate) kdh: HexBytes,
}

/// A key that goes, or went, because the terminal is unbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DestroyedKey {
    /// The slot that it was in.
    pub slot: SlotName,
    /// Its version.
    pub key_version: u32,
}

/// What the terminal says of a token that it obeyed: signed, and on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingAcknowledgement {
    pub(crate) token_sha256: HexBytes,
    /// The bytes that were signed.
    pub(crate) statement: HexBytes,
    pub(crate) signature: HexBytes,
}

/// Only one-pass key tokens that were signed later are taken. It is never set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SigningTimeRecord {
    /// Seconds since 1970.
    pub(crate) last: u64,
}

/// The revocation list with the highest number that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrlRecord {
    pub(crate) number: u64,
    pub(crate) crl: HexBytes,
}

/// A slot: the key that it holds, and what the host has still to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// The slot.
    pub slot: SlotName,
    /// Its key.
    pub held: Option<HeldKey>,
    /// A receipt that the host has not acknowledged yet.
    pub report: Option<PendingReport>,
}

/// A key that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldKey {
    /// Rises with each new key of the slot that comes from one KDH.
    pub key_version: u32,
    /// `IssuerAndSerialNumber` of that KDH. Records of before do not have it: then it is the one that the terminal
    /// is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdh: Option<HexBytes>,
    /// The delivery that brought it.
    pub delivery_id: String,
    /// Key block header.
    pub header: String,
    /// Its check value when it was loaded.
    pub kcv: KcvRecord,
    /// Whether the host acknowledged its receipt.
    pub confirmed: bool,
}

impl HeldKey {
    /// What the token calls the key.
    pub(crate) fn key_name(&self, slot: &SlotName) -> Result<KeyName, hsm::NameError> {
        slot.key_name(self.key_version, &self.delivery_id)
    }

    /// Whether it outdates this version of the key from this KDH. Each host counts for itself: a terminal that was
    /// rebound takes the next one's first version.
    pub(crate) fn outdates(&self, key_version: u32, kdh: &IssuerAndSerial) -> bool {
        let same_kdh = |from: &HexBytes| from.0 == kdh.to_der();
        self.kdh.as_ref().is_none_or(same_kdh) && self.key_version > key_version
    }
}

/// A receipt, signed and on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingReport {
    /// The delivery that it speaks of.
    pub delivery_id: String,
    /// The bytes that were signed.
    pub statement: HexBytes,
    /// The signature.
    pub signature: HexBytes,
}

/// A key check value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KcvRecord {
    /// How it is computed.
    pub method: KcvMethodName,
    /// Its bytes.
    pub value: HexBytes,
}

/// [`KcvMethod`], in writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KcvMethodName {
    /// The encryption of 8 zero bytes.
    TdeaEcb,
    /// The CMAC over 16 zero bytes.
    AesCmac,
}

impl From<&Kcv> for KcvRecord {
    fn from(kcv: &Kcv) -> Self {
        Self {
            method: match kcv.method() {
                KcvMethod::TdeaEcb => KcvMethodName::TdeaEcb,
                KcvMethod::AesCmac => KcvMethodName::AesCmac,
            },
            value: HexBytes(kcv.value().to_vec()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LABEL: &str = "krd.crl";

    fn record() -> CrlRecord {
        CrlRecord {
            number: 7,
            crl: HexBytes(vec![0x30, 0x00]),
        }
    }

    #[test]
    fn records_read_back() {
        let bytes = encode(LABEL, &record()).unwrap();
        assert_eq!(
            str::from_utf8(&bytes).unwrap(),
            r#"{"format":1,"content":{"number":7,"crl":"3000"}}"#
        );
        assert_eq!(decode::<CrlRecord>(LABEL, &bytes).unwrap(), record());
    }

    #[test]
    fn a_key_outdates_older_versions_of_its_own_kdh_only() {
        let issuer = hex::decode("300c310a300806035504030c0141").unwrap();
        let kdh = |serial| IssuerAndSerial::new(&issuer, &[serial]).unwrap();
        let mut held = HeldKey {
            key_version: 2,
            kdh: Some(HexBytes(kdh(1).to_der())),
            delivery_id: "delivery".to_owned(),
            header: "D0000K0AB00E0000".to_owned(),
            kcv: KcvRecord {
                method: KcvMethodName::AesCmac,
                value: HexBytes(vec![1, 2, 3]),
            },
            confirmed: true,
        };
        assert!(held.outdates(1, &kdh(1)));
        assert!(!held.outdates(2, &kdh(1)));
        assert!(!held.outdates(1, &kdh(2)), "each host counts for itself");
        let bytes = encode(LABEL, &held).unwrap();
        assert_eq!(decode::<HeldKey>(LABEL, &bytes).unwrap(), held);

        held.kdh = None;
        let before = encode(LABEL, &held).unwrap();
        assert!(!str::from_utf8(&before).unwrap().contains("kdh"));
        let held = decode::<HeldKey>(LABEL, &before).unwrap();
        assert!(held.outdates(1, &kdh(2)), "a record of before");
    }

    #[test]
    fn a_later_format_is_refused_whatever_it_holds() {
        for text in [
            r#"{"format":2,"content":{"number":7,"crl":"3000"}}"#,
            r#"{"format":0,"content":{"number":7,"crl":"3000"}}"#,
            r#"{"format":2,"sealed":"..."}"#,
        ] {
            let error = decode::<CrlRecord>(LABEL, text.as_bytes()).unwrap_err();
            assert!(matches!(error.problem, RecordProblem::Format(_)), "{text}");
        }
    }

    #[test]
    fn damage_is_found() {
        let good = encode(LABEL, &record()).unwrap();
        let cases: [(&str, Vec<u8>); 9] = [
            ("empty", vec![]),
            ("truncated", good[..good.len() - 1].to_vec()),
            ("extended", [&good[..], b"}"].concat()),
            (
                "no format",
                br#"{"content":{"number":7,"crl":"3000"}}"#.to_vec(),
            ),
            ("no content", br#"{"format":1}"#.to_vec()),
            (
                "no number",
                br#"{"format":1,"content":{"crl":"3000"}}"#.to_vec(),
            ),
            (
                "half a byte",
                br#"{"format":1,"content":{"number":7,"crl":"300"}}"#.to_vec(),
            ),
            (
                "negative",
                br#"{"format":1,"content":{"number":-7,"crl":""}}"#.to_vec(),
            ),
            (
                "unknown field",
                br#"{"format":1,"content":{"number":7,"crl":"","more":1}}"#.to_vec(),
            ),
        ];
        for (case, bytes) in cases {
            let error = decode::<CrlRecord>(LABEL, &bytes).unwrap_err();
            assert!(matches!(error.problem, RecordProblem::Damaged(_)), "{case}");
        }
    }
}
