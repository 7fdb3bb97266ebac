//! A terminal's certificate counts only while it is valid, whatever it was when the connection was
//! made.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use kdh_host::{Clock, SystemClock};
use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{
        AssignKeyRequest, BindRequest, KeyCheckValue, ListAssignmentsRequest, RegisterKeyRequest,
        RequestKeyRequest, administration_client::AdministrationClient, key_check_value::Method,
        key_distribution_client::KeyDistributionClient,
    },
};
use time::OffsetDateTime;
use tonic::transport::Channel;
use tr34::{KrdNonce, RandomToken};

use crate::world::{MASTER_KEY, MASTER_KEY_KCV, Running, World};

/// The system's clock, put forward.
#[derive(Clone, Default)]
struct Forward(Arc<AtomicI64>);

impl Clock for Forward {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + time::Duration::hours(self.0.load(Ordering::Relaxed))
    }
}

/// The terminal SN-1, added, enrolled and bound.
async fn bound(
    world: &World<'_>,
    host: &Running,
    operator: &mut AdministrationClient<Channel>,
) -> KeyDistributionClient<Channel> {
    let code = world.added(operator, "SN-1").await;
    let enrollment = world.enrollment("SN-1", &code);
    let mut stranger = world.terminal(host).await;
    let enrolled = stranger.enroll(enrollment).await.unwrap().into_inner();
    let mut terminal = world.enrolled(host, "SN-1", &enrolled).await;
    let ct_krd = enrolled.ct_krd;
    terminal.bind(BindRequest { ct_krd }).await.unwrap();
    terminal
}

#[test]
fn a_certificate_is_refused_once_it_has_expired() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let clock = Forward::default();
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut terminal = bound(&world, &host, &mut operator).await;
            let list = ListAssignmentsRequest {};
            terminal.list_assignments(list).await.unwrap();

            clock.0.store(25, Ordering::Relaxed);
            let expired = terminal.list_assignments(list).await.unwrap_err();
            assert_eq!(expired.reason(), Some(Reason::CredentialRejected));
            clock.0.store(0, Ordering::Relaxed);
            terminal.list_assignments(list).await.unwrap();
            host.stop().await;
        });
    });
}

/// The system's clock until it was asked so often; then a day and an hour later.
#[derive(Clone)]
struct Jumping {
    asked: Arc<AtomicUsize>,
    jumps_at: Arc<AtomicUsize>,
}

impl Jumping {
    fn never() -> Self {
        Self {
            asked: Arc::default(),
            jumps_at: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn jump_at(&self, asked: usize) {
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
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        world.configure("key-strength = \"warn\"\n");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let clock = Jumping::never();
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut terminal = bound(&world, &host, &mut operator).await;
            let key = RegisterKeyRequest {
                name: "key".to_owned(),
                hsm_label: MASTER_KEY.to_owned(),
                header: "D0000K0AB00E0000".to_owned(),
                kcv: Some(KeyCheckValue {
                    method: Method::AesCmac.into(),
                    value: MASTER_KEY_KCV.to_vec(),
                }),
            };
            operator.register_key(key).await.unwrap();
            let assignment = AssignKeyRequest {
                serial_number: "SN-1".to_owned(),
                slot: "tmk".to_owned(),
                key_name: "key".to_owned(),
                encryption_key_sha256: String::new(),
            };
            operator.assign_key(assignment).await.unwrap();

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
