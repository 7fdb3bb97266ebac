//! What the audit trail says of exports: of each target, up to which position records were made.
//!
//! It is learnt from the trail at the start, as what it says of approvals is, and kept in memory as the host writes. A
//! row that somebody puts back into line changes nothing here: what was made once is never made anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};

use super::{Actor, AuditEntry, ExportRow, Store, StoreError, Tx, audit::read};

/// The action of the record of a key that was exported.
const MADE: &str = "export.made";
/// The same, of one that was not.
const SKIPPED: &str = "export.skipped";

/// What is known of all targets.
#[derive(Debug, Default)]
pub(super) struct ExportTrail(Mutex<Known>);

/// By a target's id.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, MadeUpTo>);

/// A target's last record that was made, or that there is nothing to be made of. Records are made in the order of
/// their positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MadeUpTo {
    position: u64,
    /// Further ones are about to be committed, or nobody was told how that ended.
    in_doubt: bool,
}

impl Known {
    /// Takes note of a record of the trail.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let MADE | SKIPPED = &*record.action
            && let Some((target, position)) = noted(&record.detail)
        {
            let made = self.0.entry(target).or_default();
            made.position = made.position.max(position);
        }
    }
}

/// Target and position.
fn noted(detail: &str) -> Option<(String, u64)> {
    let detail: Value = serde_json::from_str(detail).ok()?;
    let target = detail["target"].as_str()?.to_owned();
    Some((target, detail["position"].as_u64()?))
}

impl ExportTrail {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, target: &str) -> MadeUpTo {
        self.known().0.get(target).copied().unwrap_or_default()
    }

    /// Up to which position a target's records were made for certain.
    pub(super) fn made_up_to(&self, target: &str) -> u64 {
        self.of(target).position
    }

    /// They were made for certain up to this one.
    fn raise(&self, target: &str, position: u64) {
        let mut known = self.known();
        let made = known.0.entry(target.to_owned()).or_default();
        made.position = made.position.max(position);
    }

    /// From now on, this is what is known.
    pub(super) fn learn(&self, known: Known) {
        *self.known() = known;
    }

    /// These records are about to be committed.
    pub(super) fn expect(&self, made: &[(String, u64)]) {
        let mut known = self.known();
        for (target, _) in made {
            known.0.entry(target.clone()).or_default().in_doubt = true;
        }
    }

    /// They are committed.
    pub(super) fn settle(&self, made: Vec<(String, u64)>) {
        let mut known = self.known();
        for (target, position) in made {
            let made = known.0.entry(target).or_default();
            made.position = made.position.max(position);
            made.in_doubt = false;
        }
    }
}

impl Store {
    /// Up to which position a target's records were made for certain. Whatever is read from now on has them.
    pub(crate) fn known_exported_up_to(&self, target: &str) -> u64 {
        self.memory.exports.made_up_to(target)
    }

    /// Takes note of a record that was made, as its MAC says.
    pub(crate) fn note_exported(&self, target: &str, position: u64) {
        self.memory.exports.raise(target, position);
    }
}

impl Tx {
    /// Up to which position a target's records were made, whatever the database says of them.
    ///
    /// # Errors
    /// [`StoreError::NotRecorded`]: nobody was told how a commit ended, and the record that would say it has no place
    /// in the trail.
    pub(crate) async fn exported_up_to(&mut self, target: &str) -> Result<u64, StoreError> {
        let known = self.memory.exports.of(target);
        if !known.in_doubt {
            return Ok(known.position);
        }
        let newest = sqlx::query(
            "SELECT * FROM audit WHERE action IN ('export.made', 'export.skipped') AND detail LIKE $1
             ORDER BY sequence DESC LIMIT 1",
        )
        // Ids have no character that means something here.
        .bind(format!("%\"target\":\"{target}\"%"))
        .fetch_optional(self.connection().await?)
        .await?;
        let newest = newest.as_ref().map(read).transpose()?;
        let mut up_to = known.position.max(self.export_marks(target).await?.sent);
        if let Some(newest) = newest {
            if !self.is_chained(newest.sequence).await? {
                let what = format!("what was made for export target {target}");
                return Err(StoreError::NotRecorded(what));
            }
            up_to = up_to.max(noted(&newest.detail).map_or(0, |(_, position)| position));
        }
        Ok(up_to)
    }

    /// Puts down what became of a record of a target that is called so: the SHA-256 of what its MAC goes over, and why
    /// it has no key, if it has none.
    pub(crate) async fn record_export(
        &mut self,
        name: &str,
        row: &ExportRow,
        sha256: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut detail = json!({
            "target": row.target,
            "name": name,
            "position": row.position,
            "slot": row.slot.as_str(),
            "version": row.version,
            "sha256": sha256,
        });
        let action = if let Some(made) = &row.made {
            detail["kcv"] = json!(made.kcv);
            MADE
        } else {
            detail["why"] = json!(why);
            SKIPPED
        };
        self.record(AuditEntry {
            actor: &Actor::Host,
            action,
            device: Some(&row.device),
            outcome: "ok",
            detail,
        })
        .await?;
        self.changes
            .exports
            .push((row.target.clone(), row.position));
        Ok(())
    }
}
