//! The hash that chains audit records, shared by the host that writes them and by those who verify
//! an export without it.

use sha2::{Digest, Sha256};

use crate::v1::AuditRecord;

/// Keeps these hashes from meaning anything else.
const DOMAIN: &[u8] = b"kdh.v1.AuditRecord";

/// What the first record is chained to.
pub const FIRST_PREVIOUS_HASH: [u8; 32] = [0; 32];

/// Where a chain does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenChain {
    /// The record's hash is not that of its fields.
    Altered(u64),
    /// The record does not follow on the one before: a gap, a swap, or something taken out.
    Unlinked(u64),
}

impl std::fmt::Display for BrokenChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Altered(sequence) => write!(f, "audit record {sequence} was altered"),
            Self::Unlinked(sequence) => {
                write!(
                    f,
                    "audit record {sequence} does not follow on the one before"
                )
            }
        }
    }
}

impl std::error::Error for BrokenChain {}

/// The hash of a record: SHA-256 over a domain, the hash before, and each field with its length in
/// front. `hash` and `previous_hash` of the record itself are not looked at.
pub fn audit_hash(previous: &[u8; 32], record: &AuditRecord) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(previous);
    hash.update(record.sequence.to_be_bytes());
    for field in [
        &record.at,
        &record.actor,
        &record.action,
        &record.device,
        &record.outcome,
        &record.detail,
    ] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field.as_bytes());
    }
    hash.finalize().into()
}

/// Follows a chain, record by record.
#[derive(Clone, Debug)]
pub struct ChainVerifier {
    sequence: u64,
    head: [u8; 32],
}

impl Default for ChainVerifier {
    /// At the beginning of the trail.
    fn default() -> Self {
        Self {
            sequence: 0,
            head: FIRST_PREVIOUS_HASH,
        }
    }
}

impl ChainVerifier {
    /// In the middle of the trail, behind a record with this hash.
    pub const fn behind(sequence: u64, head: [u8; 32]) -> Self {
        Self { sequence, head }
    }

    /// Checks the next record.
    ///
    /// # Errors
    /// It was altered, or is not the next one.
    pub fn verify(&mut self, record: &AuditRecord) -> Result<(), BrokenChain> {
        if record.sequence != self.sequence + 1 || record.previous_hash != to_hex(&self.head) {
            return Err(BrokenChain::Unlinked(record.sequence));
        }
        let hash = audit_hash(&self.head, record);
        if record.hash != to_hex(&hash) {
            return Err(BrokenChain::Altered(record.sequence));
        }
        self.sequence = record.sequence;
        self.head = hash;
        Ok(())
    }

    /// How many records were verified.
    pub fn verified(&self) -> u64 {
        self.sequence
    }

    /// The hash of the last one, hex.
    pub fn head(&self) -> String {
        to_hex(&self.head)
    }
}

/// As hashes stand in records: lower-case hex.
pub fn to_hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(len: u64) -> Vec<AuditRecord> {
        let mut head = FIRST_PREVIOUS_HASH;
        (1..=len)
            .map(|sequence| {
                let mut record = AuditRecord {
                    sequence,
                    at: "2026-01-01T00:00:00Z".to_owned(),
                    actor: "operator:ada".to_owned(),
                    action: "device.added".to_owned(),
                    device: format!("SN-{sequence}"),
                    outcome: "ok".to_owned(),
                    detail: "{}".to_owned(),
                    previous_hash: to_hex(&head),
                    hash: String::new(),
                };
                head = audit_hash(&head, &record);
                record.hash = to_hex(&head);
                record
            })
            .collect()
    }

    fn verify(records: &[AuditRecord]) -> Result<u64, BrokenChain> {
        let mut verifier = ChainVerifier::default();
        records
            .iter()
            .try_for_each(|record| verifier.verify(record))?;
        Ok(verifier.verified())
    }

    #[test]
    fn a_whole_chain_verifies() {
        assert_eq!(verify(&chain(5)), Ok(5));
        assert_eq!(verify(&[]), Ok(0));
    }

    #[test]
    fn every_change_of_a_field_is_found() {
        type Change = fn(&mut AuditRecord);
        let changes: [(&str, Change); 6] = [
            ("at", |r| r.at.push('x')),
            ("actor", |r| r.actor = "operator:eve".to_owned()),
            ("action", |r| r.action.clear()),
            ("device", |r| r.device = "SN-9".to_owned()),
            ("outcome", |r| r.outcome = "NOT_BOUND".to_owned()),
            ("detail", |r| r.detail = "{\"a\":1}".to_owned()),
        ];
        for (field, change) in changes {
            let mut records = chain(3);
            change(&mut records[1]);
            assert_eq!(verify(&records), Err(BrokenChain::Altered(2)), "{field}");
        }
    }

    #[test]
    fn moving_text_between_fields_is_found() {
        let mut records = chain(1);
        records[0].actor = "operator:".to_owned();
        records[0].action = "adadevice.added".to_owned();
        assert_eq!(verify(&records), Err(BrokenChain::Altered(1)));
    }

    #[test]
    fn gaps_swaps_and_a_foreign_beginning_are_found() {
        let whole = chain(4);
        let without_second = [&whole[..1], &whole[2..]].concat();
        assert_eq!(verify(&without_second), Err(BrokenChain::Unlinked(3)));
        let swapped = [whole[1].clone(), whole[0].clone()];
        assert_eq!(verify(&swapped), Err(BrokenChain::Unlinked(2)));
        let repeated = [whole[0].clone(), whole[0].clone()];
        assert_eq!(verify(&repeated), Err(BrokenChain::Unlinked(1)));
        let mut renumbered = whole.clone();
        renumbered[1].previous_hash = to_hex(&[1; 32]);
        assert_eq!(verify(&renumbered), Err(BrokenChain::Unlinked(2)));
    }
}
