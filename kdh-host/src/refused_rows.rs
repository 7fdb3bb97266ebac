//! Rows of devices' keys for which the HSM does not vouch: each is named once to operators and in the audit trail, and
//! hides no other. No terminal learns of them. Two operators can have one discarded.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kdh_proto::Reason;
use serde_json::json;

use crate::{
    Host, HostError,
    administration::{Operator, require_device},
    approvals,
    error::refused,
    names::{DeviceSerial, Slot, beginning},
    state::{ApprovalState, ApprovedAct},
    store::{
        Actor, Approval, AuditEntry, DeviceKey, KeyPlace, KeyRow, Proven, Sealed, SealedRow,
        StoreError, time_text,
    },
};

/// Rows that are looked at in one call.
const PAGE: u32 = 256;

/// The titles of rows that were refused, of whichever table.
#[derive(Debug, Default)]
pub(crate) struct RefusedRows(Mutex<Titles>);

#[derive(Debug, Default)]
struct Titles {
    /// Found not to be as the HSM has sealed them, and not to be mended since.
    refused: HashSet<String>,
    /// All that ever were, each of which is on record once.
    named: HashSet<String>,
}

impl RefusedRows {
    pub(crate) fn count(&self) -> usize {
        self.titles().refused.len()
    }

    /// Whether this one was found, and not to be mended since.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.titles().refused.contains(row)
    }

    /// It is mended, or gone.
    pub(crate) fn forget(&self, row: &str) {
        self.titles().refused.remove(row);
    }

    /// Takes note of one; `false` if it was named before.
    fn note(&self, row: &str) -> bool {
        let mut titles = self.titles();
        titles.refused.insert(row.to_owned());
        titles.named.insert(row.to_owned())
    }

    fn titles(&self) -> MutexGuard<'_, Titles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the HSM verify rows: gives those that are as it sealed them, and where the others stand, which are reported.
pub(crate) async fn sift(
    host: &Host,
    rows: Vec<KeyRow>,
) -> Result<(Vec<Proven<DeviceKey>>, Vec<KeyPlace>), HostError> {
    let mut refused = Vec::new();
    let mut sealed = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Ok(row) => sealed.push(row),
            Err(row) => refused.push(row.place),
        }
    }
    let mut proven = Vec::with_capacity(sealed.len());
    for outcome in host.keys().prove_each(sealed).await? {
        match outcome {
            Ok(row) => {
                // It may have been restored.
                host.refused_rows().forget(&row.title());
                proven.push(row);
            }
            Err(row) => refused.push(row.unproven().place()),
        }
    }
    for place in &refused {
        report(host, place).await?;
    }
    Ok((proven, refused))
}

/// The same, of rows of another table: each that is not as the HSM has sealed it is given as what it is called there.
pub(crate) async fn sift_others<R: SealedRow + Clone, I>(
    host: &Host,
    rows: Vec<Result<Sealed<R>, I>>,
    name: fn(&R) -> I,
    title: fn(&I) -> String,
) -> Result<Vec<Result<Proven<R>, I>>, HostError> {
    let sealed = rows.iter().filter_map(|row| row.as_ref().ok()).cloned();
    let mut proven = host.keys().prove_each(sealed.collect()).await?.into_iter();
    let mut sifted = Vec::with_capacity(rows.len());
    for row in rows {
        let row = row.and_then(|row| match proven.next() {
            Some(Ok(row)) => Ok(row),
            _ => Err(name(row.unproven())),
        });
        match &row {
            Ok(row) => host.refused_rows().forget(&row.title()),
            Err(name) => {
                let title = title(name);
                report_row(host, &title).await?;
            }
        }
        sifted.push(row);
    }
    Ok(sifted)
}

/// Puts down that a row is not as the HSM has sealed it, once as long as this process lives.
pub(crate) async fn report(host: &Host, place: &KeyPlace) -> Result<(), HostError> {
    let device = DeviceSerial::parse(&place.device).ok();
    let title = place.to_string();
    let detail = json!({"slot": beginning(&place.slot), "version": place.version});
    put_down(host, &title, device.as_ref(), detail).await
}

/// The same, of a row of another table.
pub(crate) async fn report_row(host: &Host, title: &str) -> Result<(), HostError> {
    put_down(host, title, None, json!({"row": title})).await
}

async fn put_down(
    host: &Host,
    title: &str,
    device: Option<&DeviceSerial>,
    detail: serde_json::Value,
) -> Result<(), HostError> {
    if !host.refused_rows().note(title) {
        return Ok(());
    }
    tracing::error!(row = title, "it is not as the HSM has sealed it");
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "storage.row-refused",
        device,
        outcome: Reason::Internal.as_str(),
        detail,
    })
    .await?;
    Ok(tx.commit().await?)
}

/// If a terminal's call failed because of a row, reports it.
pub(crate) async fn report_cause(host: &Host, device: &DeviceSerial, error: &HostError) {
    let HostError::Store(StoreError::NotSealed(title)) = error else {
        return;
    };
    // Of rows of other tables there is nothing to be found among the device's.
    if !is_of_device_key(title) || host.refused_rows().has(title) {
        return;
    }
    if let Err(error) = of_device(host, device).await {
        tracing::warn!(%error, "a refused row is not on record");
    }
}

/// Whether a title is that of a row of a device's key.
fn is_of_device_key(title: &str) -> bool {
    title.starts_with("version ")
}

/// Where the rows of a device stand that are not as the HSM has sealed them.
pub(crate) async fn of_device(
    host: &Host,
    device: &DeviceSerial,
) -> Result<Vec<KeyPlace>, HostError> {
    let (mut refused, mut after) = (Vec::new(), KeyPlace::default());
    loop {
        let (mut found, next) = look(host, Some(device), &after).await?;
        refused.append(&mut found);
        match next {
            Some(next) if next != after => after = next,
            _ => return Ok(refused),
        }
    }
}

/// Looks at some rows behind one: says which are refused, and after which to go on, if there may be more.
pub(crate) async fn look(
    host: &Host,
    device: Option<&DeviceSerial>,
    after: &KeyPlace,
) -> Result<(Vec<KeyPlace>, Option<KeyPlace>), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    if let Some(device) = device {
        require_device(&mut tx, device).await?;
    }
    let rows = tx.key_rows(device, after, PAGE).await?;
    drop(tx);
    let whole = u32::try_from(rows.len()).is_ok_and(|rows| rows == PAGE);
    let next = rows.last().filter(|_| whole).map(crate::store::place_of);
    let (_, refused) = sift(host, rows).await?;
    Ok((refused, next))
}

/// Asks that a row is discarded.
///
/// # Errors
/// [`Reason::NotFound`]: there is none. [`Reason::WrongState`]: it is as the HSM has sealed it.
pub(crate) async fn ask(
    host: &Host,
    operator: &Operator,
    place: (&str, &str, u32),
    why: &str,
) -> Result<Approval, HostError> {
    let doomed = Doomed::parse(place.0, place.1, place.2)?;
    drop(doomed.require_refused(host).await?);
    approvals::ask(
        host,
        operator,
        ApprovedAct::KeyDiscard,
        doomed.subject(),
        why,
    )
    .await
}

/// Discards a row, as another operator approves.
pub(crate) async fn approve(
    host: &Host,
    operator: &Operator,
    asked: &Proven<Approval>,
) -> Result<Approval, HostError> {
    let doomed = Doomed::of_subject(&asked.subject)?;
    let row = doomed.require_refused(host).await?;
    let mut tx = host.store().read(host.now()).await?;
    let (device, slot) = (&doomed.device, &doomed.slot);
    let was_assigned = tx.was_assigned(device, slot, doomed.version).await?;
    drop(tx);
    // What was never assigned is no version, whose number would have to be kept.
    let replacement = if was_assigned {
        Some(host.keys().seal_one(doomed.discarded(host)?).await?)
    } else {
        None
    };
    let decision = approvals::decision(host, operator, asked, ApprovalState::Ended).await?;
    let mut tx = host.store().write(host.now()).await?;
    let place = doomed.place();
    let under_present = replacement
        .iter()
        .all(|row| host.keys().is_under_present(row));
    if !under_present || tx.key_row(&place).await? != Some(row) {
        let cause = format!("{place} was changed at the same time: look at it, and try again");
        return Err(refused(Reason::WrongState, cause));
    }
    decision.put(host, &mut tx, &operator.actor(), &[]).await?;
    tx.discard_key_row(&place, replacement.as_ref()).await?;
    tx.supersede_deliveries_of_key(&place).await?;
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: "key.discarded",
        device: Some(&doomed.device),
        outcome: "ok",
        detail: json!({
            "approval": asked.id,
            "slot": doomed.slot.as_str(),
            "version": doomed.version,
            "asked-by": asked.asked_by,
            "why": asked.why,
            // A row that no operator had made is taken out.
            "was-assigned": replacement.is_some(),
        }),
    })
    .await?;
    tx.commit().await?;
    host.refused_rows().forget(&place.to_string());
    // It may have been what keeps an old pair of storage keys.
    host.rotation().look_again();
    Ok(decision.into_new())
}

/// Which row shall be discarded.
struct Doomed {
    device: DeviceSerial,
    slot: Slot,
    version: u32,
}

impl Doomed {
    fn parse(device: &str, slot: &str, version: u32) -> Result<Self, HostError> {
        Ok(Self {
            device: DeviceSerial::parse(device)?,
            slot: Slot::parse(slot)?,
            version,
        })
    }

    /// As the approval has it.
    fn subject(&self) -> String {
        format!("{} {} {}", self.device, self.slot, self.version)
    }

    fn of_subject(subject: &str) -> Result<Self, HostError> {
        let parts: Vec<_> = subject.split(' ').collect();
        if let [device, slot, version] = parts[..]
            && let Ok(version) = version.parse()
        {
            return Self::parse(device, slot, version);
        }
        Err(HostError::Internal(format!("{subject} is no row")))
    }

    fn place(&self) -> KeyPlace {
        KeyPlace {
            device: self.device.to_string(),
            slot: self.slot.to_string(),
            version: self.version.into(),
        }
    }

    /// The row, for which the HSM does not vouch.
    async fn require_refused(&self, host: &Host) -> Result<KeyRow, HostError> {
        let place = self.place();
        let mut tx = host.store().read(host.now()).await?;
        let row = tx.key_row(&place).await?;
        drop(tx);
        let row = row.ok_or_else(|| refused(Reason::NotFound, format!("there is no {place}")))?;
        let (proven, _) = sift(host, vec![row.clone()]).await?;
        if proven.is_empty() {
            return Ok(row);
        }
        let cause = format!(
            "{place} is as the HSM has sealed it: nothing is discarded. To withdraw a key, assign another one to its \
             slot"
        );
        Err(refused(Reason::WrongState, cause))
    }

    fn discarded(&self, host: &Host) -> Result<DeviceKey, HostError> {
        let now = time_text(host.now())?;
        let (device, slot) = (self.device.clone(), self.slot.clone());
        Ok(DeviceKey::discarded(device, slot, self.version, &now)?)
    }
}
