//! A terminal's certificate counts only while it is valid, whatever it was when the connection was
//! made.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use kdh_host::{Clock, SystemClock};
use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{ListAssignmentsRequest, RequestKeyRequest},
};
use time::OffsetDateTime;
use tr34::{KrdNonce, RandomToken};

use crate::world::{self, World, assign_master_key};

/// The system's clock, put forward.
#[derive(Clone, Default)]
pub(crate) struct Forward(Arc<AtomicI64>);

impl Forward {
    pub(crate) fn put_to(&self, hours: i64) {
        self.0.store(hours, Ordering::Relaxed);
    }
}

impl Clock for Forward {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + time::Duration::hours(self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn a_certificate_is_refused_once_it_has_expired() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let clock = Forward::default();
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut terminal = world.bound(&host, &mut operator, "SN-1").await.client;
            let list = ListAssignmentsRequest {};
            terminal.list_assignments(list).await.unwrap();

            clock.put_to(25);
            let expired = terminal.list_assignments(list).await.unwrap_err();
            assert_eq!(expired.reason(), Some(Reason::CredentialRejected));
            clock.put_to(0);
            terminal.list_assignments(list).await.unwrap();
            host.stop().await;
        });
    });
}

/// The system's clock until it was asked so often; then a day and an hour later.
#[derive(Clone)]
pub(crate) struct Jumping {
    asked: Arc<AtomicUsize>,
    jumps_at: Arc<AtomicUsize>,
}

impl Jumping {
    pub(crate) fn never() -> Self {
        Self {
            asked: Arc::default(),
            jumps_at: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn jump_at(&self, asked: usize) {
        self.jumps_at.store(asked, Ordering::SeqCst);
    }
}

impl Clock for Jumping {
    fn now(&self) -> OffsetDateTime {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let jumped = asked >= self.jumps_at.load(Ordering::SeqCst);
        SystemClock.now() + time::Duration::hours(if jumped { 25 } else { 0 })
    }
}

#[test]
fn no_key_token_leaves_once_the_certificate_has_expired_however_late_that_is() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            world.configure("key-strength = \"warn\"\n");
            let clock = Jumping::never();
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut terminal = world.bound(&host, &mut operator, "SN-1").await.client;
            assign_master_key(&mut operator, "SN-1").await;

            let mut nonces = 0_u8..;
            let mut request = || {
                let nonce = KrdNonce::from_bytes([nonces.next().unwrap(); 16]);
                RequestKeyRequest {
                    slot: "tmk".to_owned(),
                    rt_krd: RandomToken::new(nonce).to_der(),
                }
            };
            // The host has other things to look at the clock for, now and then.
            let mut looks = usize::MAX;
            for _ in 0..3 {
                let before = clock.asked();
                terminal.request_key(request()).await.unwrap();
                looks = looks.min(clock.asked() - before);
            }
            for look in 1..=looks {
                clock.jump_at(clock.asked() + look);
                let refused = terminal.request_key(request()).await;
                clock.jump_at(usize::MAX);
                let refused = refused.map(drop).unwrap_err();
                let reason = refused.reason();
                assert_eq!(
                    reason,
                    Some(Reason::CredentialRejected),
                    "{look} of {looks}"
                );
            }
            terminal.request_key(request()).await.unwrap();
            host.stop().await;
        });
    });
}
