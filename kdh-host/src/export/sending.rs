//! Records leave, arrive, and may leave again for as long as they are kept.

use hsm::ExportTarget;
use kdh_proto::{Reason, v1};
use serde_json::json;

use super::{OpenTarget, record, require_target};
use crate::{
    Host, HostError,
    administration::Operator,
    error::refused,
    state::ExportState,
    store::{Actor, AuditEntry, ExportMarks, ExportRow, StoreError, Tx},
};

/// Records that leave at once.
pub(super) const BATCH: u64 = 64;
/// Records whose arrival is put down in one transaction.
const ACKNOWLEDGED_AT_ONCE: u64 = 1000;

/// A target's records on their way, one after another.
pub(super) struct Leaving {
    pub(super) host: Host,
    pub(super) open: OpenTarget,
    /// Its keys in the HSM.
    pub(super) shared: ExportTarget,
    pub(super) actor: Actor,
    /// Of the next record.
    pub(super) next: u64,
    /// Of the last one that is meant.
    last: u64,
    /// As far as they are known here, which spares the database what is not new to it.
    pub(super) marks: ExportMarks,
    /// That records leave again is put down once, up to this one.
    again_noted_to: u64,
}

impl Leaving {
    /// Begins with a record: the first behind the mark, if it is 0, or another one that is kept.
    ///
    /// # Errors
    /// [`Reason::WrongState`]: the record is not kept any more. [`Reason::RequestInvalid`]: one before it has not left.
    pub(super) async fn begin(
        host: &Host,
        tx: &mut Tx,
        (open, shared): (OpenTarget, ExportTarget),
        operator: &Operator,
        from: u64,
    ) -> Result<Self, HostError> {
        let marks = open.marks(host, tx).await?;
        let next = match from {
            0 => marks.acknowledged + 1,
            from => from,
        };
        require_in_turn(tx, &open, marks, next).await?;
        require_kept(&open, marks, next)?;
        Ok(Self {
            host: host.clone(),
            open,
            shared,
            actor: operator.actor(),
            next,
            last: u64::MAX,
            marks,
            again_noted_to: 0,
        })
    }

    /// None behind this one.
    pub(super) fn up_to(self, last: u64) -> Self {
        Self { last, ..self }
    }

    /// Whether all that are meant have left.
    pub(super) const fn is_over(&self) -> bool {
        self.next > self.last
    }

    /// The next ones, so many at most, which leave from here on; none if none is made. What has left before waits for
    /// its turn.
    pub(super) async fn some(&mut self, at_most: u64) -> Result<Vec<v1::ExportRecord>, HostError> {
        let again = self.next <= self.marks.sent;
        // Those that have left before, and no other ones with them.
        let to = if again {
            self.last.min(self.marks.sent)
        } else {
            self.last
        };
        let behind = to.saturating_add(1);
        let limit = behind.saturating_sub(self.next).min(at_most).min(BATCH);
        let limit = u32::try_from(limit).unwrap_or_default();
        if limit == 0 {
            return Ok(Vec::new());
        }
        if again {
            self.host.exports().again.wait(self.open.id()).await;
        }
        let records = fetch(&self.host, &self.open, &self.shared, self.next, limit).await?;
        let Some(last) = records.last() else {
            return Ok(records);
        };
        let (from, last) = (self.next, last.position);
        if !again || last > self.again_noted_to {
            let to = if again { to } else { last };
            // Others may have been quicker: behind this, what they have sent leaves again.
            self.marks.sent = note_sent(&self.host, &self.open, &self.actor, from, to).await?;
            if again {
                self.again_noted_to = to;
            }
        }
        self.next = last + 1;
        Ok(records)
    }
}

/// A target's records from a position on, as far as they are made, and as they were made: the HSM has made their MACs
/// again.
///
/// # Errors
/// [`Reason::WrongState`]: the target was closed, or the first of them is not kept any more. The first one is not as it
/// was made.
async fn fetch(
    host: &Host,
    open: &OpenTarget,
    shared: &ExportTarget,
    from: u64,
    limit: u32,
) -> Result<Vec<v1::ExportRecord>, HostError> {
    // Before the rows are read: what is known of by then is made in them, and more may be meanwhile.
    let made = host.store().known_exported_up_to(open.id());
    let mut tx = host.store().read(host.now()).await?;
    open.require_open(host, &mut tx).await?;
    require_kept(open, open.marks(host, &mut tx).await?, from)?;
    let rows = tx.export_records(open.id(), from, limit).await?;
    drop(tx);
    let (mut whole, mut fault) = (Vec::new(), None);
    for (row, position) in rows.into_iter().zip(from..) {
        fault = match row.state {
            _ if row.position != position => Some(changed(open, position)),
            ExportState::Queued if position > made => break,
            ExportState::Queued => Some(put_back(open, position)),
            _ if record::is_whole(&row) => None,
            _ => Some(changed(open, position)),
        };
        if fault.is_some() {
            break;
        }
        whole.push(row);
    }
    if let Some(index) = first_changed(host, open, shared, &whole).await? {
        fault = Some(changed(open, whole[index].position));
        whole.truncate(index);
    }
    if let Some(last) = whole.last() {
        // Whatever became of the transaction: who has its MAC may have it.
        host.store().note_exported(open.id(), last.position);
    }
    match fault {
        Some(fault) if whole.is_empty() => Err(fault),
        // What is before it leaves.
        _ => {
            let messages = whole.iter().map(|row| record::message(&open.target, row));
            Ok(messages.collect())
        }
    }
}

/// Which one does not have its MAC.
async fn first_changed(
    host: &Host,
    open: &OpenTarget,
    shared: &ExportTarget,
    rows: &[ExportRow],
) -> Result<Option<usize>, HostError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let records = rows
        .iter()
        .map(|row| record::bytes(&record::message(&open.target, row)));
    let macs = host.keys().export_macs(shared, records.collect()).await?;
    let mut rows = rows.iter().zip(macs);
    let changed = rows.position(|(row, mac)| row.mac != Some(mac));
    if changed.is_some() {
        // By another key of that name all of them would have another one.
        open.keys(host).await?;
    }
    Ok(changed)
}

fn changed(open: &OpenTarget, position: u64) -> HostError {
    let row = format!("record {position} for export target {}", open.target.name);
    StoreError::NotSealed(row).into()
}

/// A record that was made, of which its row says that it is still to be made.
pub(super) fn put_back(open: &OpenTarget, position: u64) -> HostError {
    let row = format!("record {position} for export target {}", open.target.name);
    StoreError::NotRecorded(row).into()
}

/// Refuses a position whose key is not kept any more.
fn require_kept(open: &OpenTarget, marks: ExportMarks, from: u64) -> Result<(), HostError> {
    if from > marks.erased {
        return Ok(());
    }
    let cause = format!(
        "records for {} up to {} are not kept any more: begin with {}",
        open.target.name,
        marks.erased,
        marks.erased + 1
    );
    Err(refused(Reason::WrongState, cause))
}

/// Refuses to leave out a record that is there and has not left: it would count as arrived with those behind it.
async fn require_in_turn(
    tx: &mut Tx,
    open: &OpenTarget,
    marks: ExportMarks,
    from: u64,
) -> Result<(), HostError> {
    let next = tx.first_unsent(open.id(), marks.sent).await?;
    if from <= next {
        return Ok(());
    }
    let cause = format!(
        "records for {} leave one after another: begin with {next}, or before it",
        open.target.name
    );
    Err(refused(Reason::RequestInvalid, cause))
}

/// Puts down that records leave, before they do. Says which is the last one that has left by now.
///
/// # Errors
/// [`Reason::RequestInvalid`]: one before them has not left.
async fn note_sent(
    host: &Host,
    open: &OpenTarget,
    actor: &Actor,
    from: u64,
    to: u64,
) -> Result<u64, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    open.require_open(host, &mut tx).await?;
    let marks = open.marks(host, &mut tx).await?;
    require_in_turn(&mut tx, open, marks, from).await?;
    let sent = marks.sent.max(to);
    tx.set_export_marks(open.id(), ExportMarks { sent, ..marks })
        .await?;
    note(&mut tx, open, actor, "export.sent", from, to).await?;
    tx.commit().await?;
    Ok(sent)
}

/// Every record up to a position has arrived. Says where the mark is now; it never goes back.
///
/// # Errors
/// [`Reason::RequestInvalid`]: that one never left.
pub(super) async fn acknowledge(
    host: &Host,
    open: &OpenTarget,
    actor: &Actor,
    position: u64,
) -> Result<u64, HostError> {
    loop {
        let mark = acknowledge_some(host, open, actor, position).await?;
        if mark >= position {
            return Ok(mark);
        }
    }
}

/// Brings the mark forward by one step, so that other writers do not wait for a long line.
async fn acknowledge_some(
    host: &Host,
    open: &OpenTarget,
    actor: &Actor,
    position: u64,
) -> Result<u64, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    open.require_open(host, &mut tx).await?;
    let marks = open.marks(host, &mut tx).await?;
    require_sent(open, marks, position)?;
    if position <= marks.acknowledged {
        return Ok(marks.acknowledged);
    }
    let from = marks.acknowledged + 1;
    let to = position.min(marks.acknowledged + ACKNOWLEDGED_AT_ONCE);
    tx.note_arrived(open.id(), from, to).await?;
    let marks = ExportMarks {
        acknowledged: to,
        ..marks
    };
    tx.set_export_marks(open.id(), marks).await?;
    note(&mut tx, open, actor, "export.acknowledged", from, to).await?;
    tx.commit().await?;
    Ok(to)
}

/// Refuses a position that never left.
pub(super) fn require_sent(
    open: &OpenTarget,
    marks: ExportMarks,
    position: u64,
) -> Result<(), HostError> {
    if position <= marks.sent {
        return Ok(());
    }
    let cause = format!(
        "record {position} for {} has not left: the last one that has is {}",
        open.target.name, marks.sent
    );
    Err(refused(Reason::RequestInvalid, cause))
}

async fn note(
    tx: &mut Tx,
    open: &OpenTarget,
    actor: &Actor,
    action: &'static str,
    from: u64,
    to: u64,
) -> Result<(), StoreError> {
    tx.record(AuditEntry {
        actor,
        action,
        device: None,
        outcome: "ok",
        detail: json!({
            "target": open.id(),
            "name": open.target.name.as_str(),
            "from": from,
            "to": to,
        }),
    })
    .await
}

/// What is in a file has arrived.
pub(crate) async fn acknowledge_file(
    host: &Host,
    operator: &Operator,
    name: &str,
    position: u64,
) -> Result<u64, HostError> {
    let open = require_target(host, name).await?;
    require_files(&open)?;
    acknowledge(host, &open, &operator.actor(), position).await
}

/// Refuses a target whose records a switch fetches itself.
pub(super) fn require_files(open: &OpenTarget) -> Result<(), HostError> {
    let Some(receiver) = &open.target.receiver else {
        return Ok(());
    };
    let cause = format!(
        "records for {} go to {}, which fetches and acknowledges them itself",
        open.target.name, receiver.name
    );
    Err(refused(Reason::WrongState, cause))
}
