//! A line of a transcript: what its hash is of, and what its signature.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Keeps these hashes from meaning anything else.
const DOMAIN: &[u8] = b"kdh.ceremony.transcript.v2";
/// Keeps signatures from meaning anything else.
const SIGNATURE_DOMAIN: &[u8] = b"kdh.ceremony.signature.v2";
/// The field of a signed line's detail that is not part of what is signed.
pub(super) const SIGNATURE: &str = "signature";

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) sequence: u64,
    pub(super) at: String,
    pub(super) event: String,
    pub(super) detail: Value,
    /// SHA-256 of the line before, hex; empty at the beginning.
    pub(super) previous: String,
    pub(super) hash: String,
}

impl Line {
    /// With the hash that it has to have.
    pub(super) fn hashed(mut self) -> Self {
        self.hash = self.compute_hash();
        self
    }

    pub(super) fn compute_hash(&self) -> String {
        hex::encode(Sha256::digest(self.bytes(DOMAIN, &self.detail)))
    }

    /// What a participant or the audit key signs: the whole line but signature and hash. The hash of the
    /// line before is in it, and with that everything before.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let mut detail = self.detail.clone();
        if let Some(fields) = detail.as_object_mut() {
            fields.remove(SIGNATURE);
        }
        self.bytes(SIGNATURE_DOMAIN, &detail)
    }

    fn bytes(&self, domain: &[u8], detail: &Value) -> Vec<u8> {
        let mut bytes = [domain, &self.sequence.to_be_bytes()].concat();
        for field in [&self.previous, &self.at, &self.event, &detail.to_string()] {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field.as_bytes());
        }
        bytes
    }

    /// The line as it is written: the only form that is one of a transcript.
    pub(super) fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|text| text + "\n")
    }

    /// A text of its detail.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.detail.get(field)?.as_str()
    }
}
