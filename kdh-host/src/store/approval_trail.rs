//! What the audit trail says of approvals: of each, how its row was when it was last changed.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes. A row or
//! a record that comes, goes or comes back behind the host's back changes nothing here.

use std::collections::{HashMap, HashSet};

use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Actor, Approval, AuditEntry, Sealed, SealedRow as _, Store, StoreError, Tx,
    memory::{Learns, Memory, Remembered},
};
use crate::state::{ApprovalState, ApprovedAct};

/// The action of the record that a row was not what the trail says.
const REFUSED: &str = "approval.refused";

/// The action of the record that belongs to a state.
const fn action(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Asked => "approval.asked",
        ApprovalState::Approved => "approval.approved",
        ApprovalState::Ended => "approval.ended",
        ApprovalState::Withdrawn => "approval.withdrawn",
        ApprovalState::Rejected => "approval.rejected",
        ApprovalState::Expired => "approval.expired",
    }
}

/// A row, as its record names it: SHA-256 of what is sealed, so that another seal changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Noted {
    row_sha256: String,
    act: ApprovedAct,
    subject: String,
    state: ApprovalState,
}

impl Noted {
    fn of(approval: &Approval) -> Self {
        Self {
            row_sha256: hex::encode(Sha256::digest(approval.to_be_sealed())),
            act: approval.act,
            subject: approval.subject.clone(),
            state: approval.state,
        }
    }

    /// From a record's detail.
    fn read(detail: &Value) -> Option<(String, Self)> {
        let text = |field: &str| detail[field].as_str().map(str::to_owned);
        let noted = Self {
            row_sha256: text("row-sha256")?,
            act: ApprovedAct::parse(&text("act")?)?,
            subject: text("subject")?,
            state: ApprovalState::parse(&text("state")?)?,
        };
        Some((text("approval")?, noted))
    }
}

/// What is known of all approvals.
pub(super) type ApprovalTrail = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// By id.
    rows: HashMap<String, Noted>,
    refused: HashSet<Noted>,
}

/// What a transaction adds.
#[derive(Debug)]
pub(super) enum Change {
    Row(String, Noted),
    Refused(Noted),
}

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if !record.action.starts_with("approval.") {
            return;
        }
        let detail = serde_json::from_str(&record.detail).unwrap_or_default();
        let Some((id, noted)) = Noted::read(&detail) else {
            return;
        };
        self.apply(if record.action == REFUSED {
            Change::Refused(noted)
        } else {
            Change::Row(id, noted)
        });
    }

    /// The approvals that are in force, by their ids, with the row of each.
    fn in_force(&self) -> impl Iterator<Item = (&String, &Noted)> {
        let rows = self.rows.iter();
        rows.filter(|(_, row)| row.state == ApprovalState::Approved)
    }
}

impl Learns for Known {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        match change {
            Change::Row(id, noted) => {
                self.rows.insert(id, noted);
            }
            Change::Refused(noted) => {
                self.refused.insert(noted);
            }
        }
    }
}

impl Memory {
    /// What the row of an approval may be, the newest last.
    fn approval(&self, id: &str) -> Vec<Noted> {
        let possible = self.possible(
            || self.approvals.known().rows.get(id).cloned(),
            |before, changes| {
                let mut newest = changes.approvals.iter().rev();
                let newest = newest.find_map(|change| match change {
                    Change::Row(of, noted) if of == id => Some(noted.clone()),
                    _ => None,
                });
                newest.or_else(|| before.clone())
            },
        );
        possible.into_iter().flatten().collect()
    }

    /// Whether a row is what the trail says.
    fn says(&self, approval: &Approval) -> bool {
        self.approval(&approval.id).contains(&Noted::of(approval))
    }
}

impl Store {
    /// What is wrong with a row, in words, if it is not what the trail says.
    pub(crate) fn fault_of_approval(&self, approval: &Approval) -> Option<String> {
        let rows = self.memory.approval(&approval.id);
        if rows.contains(&Noted::of(approval)) {
            return None;
        }
        Some(rows.last().map_or_else(
            || "the audit trail has nothing of it".to_owned(),
            |newest| {
                let newest = newest.state.as_str();
                format!(
                    "it is not what the audit trail says of it ({newest}): its row was put back behind the host's back"
                )
            },
        ))
    }

    /// The approvals that are in force by the trail, or may be: their acts and subjects, by their ids.
    pub(crate) fn approvals_in_force(&self) -> HashMap<String, (ApprovedAct, String)> {
        let possible = self.memory.possible(
            || {
                let known = self.memory.approvals.known();
                let rows = known.in_force();
                rows.map(|(id, row)| (id.clone(), row.clone()))
                    .collect::<HashMap<_, _>>()
            },
            |before, changes| {
                let rows = changes.approvals.iter().filter_map(|change| match change {
                    Change::Row(id, row) => Some((id.clone(), row.clone())),
                    Change::Refused(_) => None,
                });
                before.clone().into_iter().chain(rows).collect()
            },
        );
        let rows = possible.into_iter().flatten();
        rows.filter(|(_, row)| row.state == ApprovalState::Approved)
            .map(|(id, row)| (id, (row.act, row.subject)))
            .collect()
    }

    /// Whether the trail has something of an approval.
    pub(crate) fn knows_approval(&self, id: &str) -> bool {
        !self.memory.approval(id).is_empty()
    }

    /// Whether the trail says that an approval neither is nor comes in force any more.
    pub(crate) fn is_approval_over(&self, id: &str) -> bool {
        let rows = self.memory.approval(id);
        !rows.is_empty() && rows.iter().all(|row| row.state.is_over())
    }
}

impl Tx {
    /// Puts down what an approval is from now on, with whatever else is to be said.
    pub(crate) async fn record_approval(
        &mut self,
        actor: &Actor,
        approval: &Approval,
        more: &[(&str, Value)],
    ) -> Result<(), StoreError> {
        let noted = Noted::of(approval);
        let action = match &approval.progress {
            Some(_) if approval.state == ApprovalState::Approved => "approval.progressed",
            _ => action(approval.state),
        };
        let mut detail = detail(approval, &noted);
        for (field, value) in more {
            detail[*field] = value.clone();
        }
        self.record(AuditEntry {
            actor,
            action,
            device: None,
            outcome: "ok",
            detail,
        })
        .await?;
        let change = Change::Row(approval.id.clone(), noted);
        self.changes.approvals.push(change);
        Ok(())
    }

    /// Puts down that a row is not what the trail says, unless that is known. Says whether it was not.
    pub(crate) async fn refuse_approval(
        &mut self,
        approval: &Approval,
    ) -> Result<bool, StoreError> {
        let noted = Noted::of(approval);
        if self.memory.approvals.known().refused.contains(&noted) {
            return Ok(false);
        }
        self.record(AuditEntry {
            actor: &Actor::Host,
            action: REFUSED,
            device: None,
            outcome: kdh_proto::Reason::Internal.as_str(),
            detail: detail(approval, &noted),
        })
        .await?;
        self.changes.approvals.push(Change::Refused(noted));
        Ok(true)
    }

    /// How much of a kind an operator has asked for that nobody has decided, and that has not expired. What the trail
    /// does not say of a row does not count: whoever makes rows up keeps nobody from asking.
    pub(crate) async fn undecided_approvals(
        &mut self,
        act: ApprovedAct,
        asked_by: &str,
    ) -> Result<usize, StoreError> {
        let rows = self.readable_open_approvals(act).await?;
        let undecided = rows.iter().map(Sealed::unproven).filter(|row| {
            row.asked_by == asked_by
                && row.state_at(&self.now) == ApprovalState::Asked
                && self.memory.says(row)
        });
        Ok(undecided.count())
    }

    /// The approvals that are in force by the trail, and whose rows are gone or are not what it says of them. In a turn to
    /// write, so that none is being changed.
    pub(crate) async fn lost_approvals(&mut self) -> Result<Vec<String>, StoreError> {
        let in_force: Vec<_> = {
            let known = self.memory.approvals.known();
            known.in_force().map(|(id, _)| id.clone()).collect()
        };
        let mut lost = Vec::new();
        for id in in_force {
            let rows = self.memory.approval(&id);
            let row = match self.approval(&id).await {
                Err(StoreError::NotSealed(_)) => None,
                row => row?,
            };
            if row.is_none_or(|row| !rows.contains(&Noted::of(row.unproven()))) {
                lost.push(id);
            }
        }
        Ok(lost)
    }

    /// From now on, this is what is known. What is wrong with a row that is in force, in words: without the right one,
    /// less would be in force than operators know.
    pub(super) async fn verify_approvals(
        &mut self,
        known: Known,
    ) -> Result<Option<String>, StoreError> {
        for (id, noted) in known.in_force() {
            let row = self.approval(id).await?;
            if row.is_none_or(|row| Noted::of(row.unproven()) != *noted) {
                return Ok(Some(format!(
                    "approval {id} is in force, and its row in the database is not what the audit trail says of it: \
                     restore it from a backup of the database"
                )));
            }
        }
        *self.memory.approvals.known() = known;
        Ok(None)
    }
}

fn detail(approval: &Approval, noted: &Noted) -> Value {
    json!({
        "approval": approval.id,
        "act": approval.act.as_str(),
        "subject": approval.subject,
        "state": approval.state.as_str(),
        "why": approval.why,
        "asked-by": approval.asked_by,
        "row-sha256": noted.row_sha256,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::store::{
        commits::{Head, Records},
        memory::Changes,
    };

    fn change(row: &str) -> Change {
        let noted = Noted {
            row_sha256: row.to_owned(),
            act: ApprovedAct::StorageRotation,
            subject: String::new(),
            state: ApprovalState::Asked,
        };
        Change::Row("a".to_owned(), noted)
    }

    const fn head(sequence: u64) -> Head {
        Head {
            sequence,
            hash: [0; 32],
        }
    }

    fn expect(memory: &Memory, sequence: u64, row: &str) {
        let records = Records {
            behind: head(sequence - 1),
            last: head(sequence),
        };
        memory.expect(Changes {
            records: Some(records),
            approvals: vec![change(row)],
            ..Changes::default()
        });
    }

    fn may_be(memory: &Memory) -> Vec<String> {
        let rows = memory.approval("a").into_iter();
        rows.map(|row| row.row_sha256).collect()
    }

    #[test]
    fn either_may_be_there_until_one_of_them_is_known_to_be() {
        let memory = Memory::default();
        memory.commits.known().learn(head(0));
        expect(&memory, 1, "1");
        memory.settle(head(1));
        assert_eq!(may_be(&memory), ["1"]);
        for (sequence, row) in [(2, "2"), (3, "3"), (4, "4")] {
            expect(&memory, sequence, row);
        }
        assert_eq!(may_be(&memory), ["1", "2", "3", "4"]);
        assert!(memory.approval("b").is_empty());
        // Nobody was told how the first of them ended.
        memory.settle(head(3));
        assert_eq!(may_be(&memory), ["3", "4"]);
        memory.find(head(3), true).unwrap();
        assert_eq!(may_be(&memory), ["3"]);
    }
}
