//! A terminal's certificate counts only while it is valid, whatever it was when the connection was
//! made.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use kdh_host::{Clock, SystemClock};
use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{BindRequest, ListAssignmentsRequest},
};
use time::OffsetDateTime;

use crate::world::World;

/// The system's clock, put forward.
#[derive(Clone, Default)]
struct Forward(Arc<AtomicI64>);

impl Clock for Forward {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + time::Duration::hours(self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn a_certificate_is_refused_once_it_has_expired() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let clock = Forward::default();
            let host = world.serve_by(clock.clone()).await;
            let code = world.added(&mut world.operator(&host).await, "SN-1").await;
            let enrollment = world.enrollment("SN-1", &code);
            let mut stranger = world.terminal(&host).await;
            let enrolled = stranger.enroll(enrollment).await.unwrap().into_inner();
            let mut terminal = world.enrolled(&host, "SN-1", &enrolled).await;
            let ct_krd = enrolled.ct_krd;
            terminal.bind(BindRequest { ct_krd }).await.unwrap();
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
