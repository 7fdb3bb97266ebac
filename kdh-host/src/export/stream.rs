//! A switch that is connected: it gets records as they are made, and says which have arrived.

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use kdh_proto::{Reason, v1};
use pki::Certificate;
use tokio::{sync::watch, time::sleep};

use super::{OpenTarget, require_target, sending};
use crate::{
    Host, HostError,
    administration::Operator,
    error::refused,
    store::{Actor, ExportMarks},
};

/// Records that may be under way without being acknowledged.
pub(crate) const WINDOW: u64 = 256;
/// Records that leave at once.
const BATCH: u64 = 64;
/// How often such a number of those that have left before leaves again, for one target.
const AGAIN_PER_SECOND: NonZeroU32 = NonZeroU32::new(8).unwrap();
/// How often it is looked for records, if nobody says that there are some.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// A connected switch, and how far it has come.
pub(crate) struct Receiving {
    host: Host,
    open: OpenTarget,
    actor: Actor,
    /// Of the next record.
    next: u64,
    /// In this call, even if the mark is farther.
    acknowledged: u64,
    /// As far as it is known here, which spares the database what is not new to it.
    marks: ExportMarks,
    made: watch::Receiver<()>,
    /// That records leave again is put down once in a call.
    is_again_noted: bool,
    _place: Place,
}

impl Receiving {
    /// Begins with a record: the first behind the mark, or another one that is kept.
    ///
    /// # Errors
    /// [`Reason::IdentityMismatch`]: the target is another switch's. [`Reason::AlreadyExists`]: a switch is
    /// connected already. [`Reason::WrongState`]: the record is not kept any more. [`Reason::RequestInvalid`]: one before it has not left.
    pub(crate) async fn begin(
        host: &Host,
        operator: &Operator,
        certificate: &Certificate,
        from: &v1::ReceiveFrom,
    ) -> Result<Self, HostError> {
        let open = require_target(host, &from.name).await?;
        let key = hex::encode(certificate.public_key().fingerprint());
        let receiver = open.target.receiver.as_ref();
        if receiver
            .is_none_or(|receiver| receiver.name != operator.name() || receiver.key_sha256 != key)
        {
            let cause = format!(
                "export target {} is not for {} with this key",
                open.target.name,
                operator.name()
            );
            return Err(refused(Reason::IdentityMismatch, cause));
        }
        let made = host.exports().made.subscribe();
        let place = Place::take(&host.exports().taken, &open)?;
        let mut tx = host.store().read(host.now()).await?;
        let marks = tx.export_marks(open.id()).await?;
        let next = match from.position {
            0 => marks.acknowledged + 1,
            position => position,
        };
        sending::require_in_turn(&mut tx, &open, marks, next).await?;
        drop(tx);
        sending::require_kept(&open, marks, next)?;
        Ok(Self {
            host: host.clone(),
            actor: operator.actor(),
            open,
            next,
            acknowledged: next - 1,
            marks,
            made,
            is_again_noted: false,
            _place: place,
        })
    }

    /// Whether anything may leave before something is acknowledged.
    pub(crate) const fn has_room(&self) -> bool {
        self.room() > 0
    }

    const fn room(&self) -> u64 {
        WINDOW.saturating_sub(self.next - 1 - self.acknowledged)
    }

    /// The next records, which leave from here on; none if none is made, or before something is acknowledged.
    pub(crate) async fn next(&mut self) -> Result<Vec<v1::ExportRecord>, HostError> {
        // Those that have left before, and no other ones with them.
        let again = (self.marks.sent + 1).saturating_sub(self.next);
        let some = if again > 0 { again } else { BATCH };
        let limit = u32::try_from(self.room().min(BATCH).min(some)).unwrap_or_default();
        if limit == 0 {
            return Ok(Vec::new());
        }
        if again > 0 {
            self.host.exports().again.wait(self.open.id()).await;
        }
        self.made.mark_unchanged();
        let records = sending::fetch(&self.host, &self.open, self.next, limit).await?;
        let Some(last) = records.last() else {
            return Ok(records);
        };
        let (from, last) = (self.next, last.position);
        if again == 0 || !self.is_again_noted {
            let to = if again > 0 { self.marks.sent } else { last };
            sending::note_sent(&self.host, &self.open, &self.actor, from, to).await?;
            self.marks.sent = to;
            self.is_again_noted |= again > 0;
        }
        self.next = last + 1;
        Ok(records)
    }

    /// Every record up to this position has arrived. Only what brings the mark forward is written.
    ///
    /// # Errors
    /// [`Reason::RequestInvalid`]: that one never left.
    pub(crate) async fn acknowledge(&mut self, position: u64) -> Result<(), HostError> {
        sending::require_sent(&self.open, self.marks, position)?;
        if position > self.marks.acknowledged {
            let mark = sending::acknowledge(&self.host, &self.open, &self.actor, position);
            self.marks.acknowledged = mark.await?;
        }
        let position = position.min(self.next - 1);
        self.acknowledged = self.acknowledged.max(position);
        Ok(())
    }

    /// Returns when records may have been made since the last ones left.
    pub(crate) async fn news(&mut self) {
        // The host holds the sender for as long as it lives.
        if self.made.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns when the host stops.
pub(crate) async fn stopping(host: &Host) {
    let mut stopping = host.exports().stopping.subscribe();
    // An error means that the host is gone.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// How often records that have left may leave again, for each target: whoever begins anew without end does not keep
/// the HSM from what terminals ask of it.
#[derive(Debug)]
pub(super) struct Again(DefaultKeyedRateLimiter<String>);

impl Default for Again {
    fn default() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(AGAIN_PER_SECOND)))
    }
}

impl Again {
    /// Returns when some may leave.
    async fn wait(&self, target: &str) {
        while let Err(wait) = self.take(target) {
            sleep(wait).await;
        }
    }

    /// Lets some leave; or says when to ask again. Targets are few, so that none is forgotten.
    fn take(&self, target: &str) -> Result<(), Duration> {
        let taken = self.0.check_key(&target.to_owned());
        taken.map_err(|early| early.wait_time_from(self.0.clock().now()))
    }
}

/// The one place that a target has for a switch.
struct Place {
    taken: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl Place {
    fn take(taken: &Arc<Mutex<HashSet<String>>>, open: &OpenTarget) -> Result<Self, HostError> {
        let id = open.id().to_owned();
        let mut places = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if places.insert(id.clone()) {
            return Ok(Self {
                taken: Arc::clone(taken),
                id,
            });
        }
        let cause = format!(
            "a switch receives the records for {} already: one that is gone is noticed within a minute",
            open.target.name
        );
        Err(refused(Reason::AlreadyExists, cause))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        places.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_leaves_again_so_often_and_for_each_target_by_itself() {
        let again = Again::default();
        for _ in 0..AGAIN_PER_SECOND.get() {
            assert_eq!(again.take("a"), Ok(()));
        }
        let wait = again.take("a");
        assert!(
            wait.is_err_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{wait:?}"
        );
        assert_eq!(again.take("b"), Ok(()));
    }
}
