//! Where the audit trail has come by, every thousand records: what is looked up in the middle of it has to stand between
//! two such places, which costs a thousand records and not all of them.

use std::collections::BTreeMap;

use kdh_proto::{ChainVerifier, to_hex};

use super::{
    StoreError, Tx,
    commits::Head,
    memory::{Learns, Remembered},
};

const EVERY: u64 = 1000;

/// The hashes, by their records' numbers.
pub(super) type Milestones = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<u64, [u8; 32]>);

impl Known {
    /// Takes note of a record's place, if it is one of those.
    pub(super) fn note(&mut self, record: Head) {
        if is_milestone(record) {
            self.0.insert(record.sequence, record.hash);
        }
    }

    /// The last place before a record, and the first one from it on.
    fn around(&self, sequence: u64) -> (Head, Option<Head>) {
        let head = |(sequence, hash): (&u64, &[u8; 32])| Head {
            sequence: *sequence,
            hash: *hash,
        };
        let before = self.0.range(..sequence).next_back();
        let behind = self.0.range(sequence..).next();
        (before.map_or(Head::NONE, head), behind.map(head))
    }
}

impl Learns for Known {
    type Change = Head;

    fn apply(&mut self, place: Head) {
        self.note(place);
    }
}

pub(super) const fn is_milestone(record: Head) -> bool {
    record.sequence.is_multiple_of(EVERY)
}

impl Tx {
    /// Where the trail ends for certain: what this transaction reads from now on has everything up to there.
    pub(super) fn certain_end(&self) -> Head {
        self.memory.commits.known().end()
    }

    /// Whether the host has written the record that stands there, which is not behind this end.
    pub(super) async fn is_in_place(
        &mut self,
        sequence: u64,
        end: Head,
    ) -> Result<bool, StoreError> {
        let (before, behind) = self.memory.milestones.known().around(sequence);
        let behind = behind.filter(|behind| behind.sequence <= end.sequence);
        let behind = behind.unwrap_or(end);
        let len = i64::try_from(behind.sequence.saturating_sub(before.sequence));
        let len = len.map_err(|_| StoreError::Damaged("audit record"))?;
        let mut chain = ChainVerifier::behind(before.sequence, before.hash);
        let records = self.audit_records(before.sequence, len).await?;
        let holds = records.iter().all(|record| chain.verify(record).is_ok());
        Ok(holds
            && (before.sequence + 1..=behind.sequence).contains(&sequence)
            && chain.head() == to_hex(&behind.hash))
    }
}
