//! The terminal's memory: records in its token.

use hsm::Token;
use pki::{CrlNumber, VerifiedCrl};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    KrdError, SlotName,
    record::{self, CrlRecord, HexBytes, IdentityRecord, KdhRecord, SlotRecord},
};

const IDENTITY: &str = "krd.identity";
const KDH: &str = "krd.kdh";
const CRL: &str = "krd.crl";
const SLOT_PREFIX: &str = "krd.slot.";

/// Reads and writes the records. Each write replaces a whole record or leaves the old one.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'t> {
    token: &'t Token,
}

impl<'t> Memory<'t> {
    pub(crate) const fn new(token: &'t Token) -> Self {
        Self { token }
    }

    pub(crate) fn identity(self) -> Result<Option<IdentityRecord>, KrdError> {
        self.load(IDENTITY)
    }

    pub(crate) fn keep_identity(self, record: &IdentityRecord) -> Result<(), KrdError> {
        self.store(IDENTITY, record)
    }

    pub(crate) fn kdh(self) -> Result<Option<KdhRecord>, KrdError> {
        self.load(KDH)
    }

    pub(crate) fn keep_kdh(self, record: &KdhRecord) -> Result<(), KrdError> {
        self.store(KDH, record)
    }

    pub(crate) fn crl(self) -> Result<Option<CrlRecord>, KrdError> {
        self.load(CRL)
    }

    /// Keeps a verified revocation list if its number is higher than that of the one kept.
    ///
    /// To be called as soon as a list is verified, whatever becomes of the message that brought it:
    /// once the terminal has seen that a host is listed, an older list must not make it forget.
    pub(crate) fn keep_crl(self, crl: &VerifiedCrl) -> Result<(), KrdError> {
        let CrlNumber(number) = crl.number();
        if self.crl()?.is_some_and(|kept| kept.number >= number) {
            return Ok(());
        }
        let record = CrlRecord {
            number,
            crl: HexBytes(crl.crl().der().to_vec()),
        };
        self.store(CRL, &record)
    }

    pub(crate) fn slot(self, slot: &SlotName) -> Result<SlotRecord, KrdError> {
        let record = self.load(&slot_label(slot))?;
        Ok(record.unwrap_or_else(|| SlotRecord {
            slot: slot.clone(),
            held: None,
            report: None,
        }))
    }

    /// All slots, sorted by name.
    pub(crate) fn slots(self) -> Result<Vec<SlotRecord>, KrdError> {
        let labels = self.token.list_records(SLOT_PREFIX)?;
        let mut slots = Vec::with_capacity(labels.len());
        for label in labels {
            slots.extend(self.load(&label)?);
        }
        Ok(slots)
    }

    pub(crate) fn keep_slot(self, record: &SlotRecord) -> Result<(), KrdError> {
        self.store(&slot_label(&record.slot), record)
    }

    fn load<T: DeserializeOwned>(self, label: &str) -> Result<Option<T>, KrdError> {
        let Some(bytes) = self.token.load_record(label)? else {
            return Ok(None);
        };
        Ok(Some(record::decode(label, &bytes)?))
    }

    fn store<T: Serialize>(self, label: &str, content: &T) -> Result<(), KrdError> {
        let bytes = record::encode(label, content)?;
        Ok(self.token.store_record(label, &bytes)?)
    }
}

fn slot_label(slot: &SlotName) -> String {
    format!("{SLOT_PREFIX}{slot}")
}
