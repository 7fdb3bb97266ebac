//! A switch that is connected: it gets records as they are made, and says which have arrived.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kdh_proto::{Reason, v1};
use pki::Certificate;
use tokio::sync::watch;

use super::{
    OpenTarget, require_target,
    sending::{self, Leaving},
};
use crate::{Host, HostError, administration::Operator, error::refused};

/// Records that may be under way without being acknowledged.
pub(crate) const WINDOW: u64 = 256;
/// How often it is looked for records, if nobody says that there are some.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// A connected switch, and how far it has come.
pub(crate) struct Receiving {
    leaving: Leaving,
    /// In this call, even if the mark is farther.
    acknowledged: u64,
    made: watch::Receiver<()>,
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
        let shared = open.keys(host).await?;
        let mut tx = host.store().read(host.now()).await?;
        let from = from.position;
        let leaving = Leaving::begin(host, &mut tx, (open, shared), operator, from).await?;
        drop(tx);
        Ok(Self {
            acknowledged: leaving.next - 1,
            leaving,
            made,
            _place: place,
        })
    }

    /// Whether anything may leave before something is acknowledged.
    pub(crate) const fn has_room(&self) -> bool {
        self.room() > 0
    }

    const fn room(&self) -> u64 {
        WINDOW.saturating_sub(self.leaving.next - 1 - self.acknowledged)
    }

    /// The next records, which leave from here on; none if none is made, or before something is acknowledged.
    pub(crate) async fn next(&mut self) -> Result<Vec<v1::ExportRecord>, HostError> {
        self.made.mark_unchanged();
        let room = self.room();
        self.leaving.some(room).await
    }

    /// Every record up to this position has arrived. Only what brings the mark forward is written.
    ///
    /// # Errors
    /// [`Reason::RequestInvalid`]: that one never left.
    pub(crate) async fn acknowledge(&mut self, position: u64) -> Result<(), HostError> {
        let Leaving {
            host,
            open,
            actor,
            next,
            marks,
            ..
        } = &mut self.leaving;
        sending::require_sent(open, *marks, position)?;
        if position > marks.acknowledged {
            marks.acknowledged = sending::acknowledge(host, open, actor, position).await?;
        }
        let position = position.min(*next - 1);
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
