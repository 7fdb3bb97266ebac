//! What those learn and occupy who have no right to anything.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hsm_modules::SOFTHSM;
use http_body::Frame;
use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{
        ListAssignmentsRequest, ListAuthorityRequestsRequest, ListDevicesRequest,
        SuspendDeviceRequest, administration_client::AdministrationClient,
    },
};
use tokio::task::JoinHandle;
use tonic::{
    body::Body,
    codegen::{Bytes, Service as _, http},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::world::{self, World};

/// Connections that one key may have to the operators' listener, and calls that may be under way on each.
const CONNECTIONS: usize = 16;
const CALLS: usize = 16;
/// Streams of a connection.
const STREAMS: usize = 32;

#[test]
fn the_time_of_a_refusal_does_not_tell_whether_a_serial_number_is_known() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            world.added(&mut world.operator(&host).await, "SN-1").await;
            let enrollment = world.enrollment("SN-1", "0000-0000-0000-0000");
            let mut terminal = world.terminal(&host).await;
            for serial_number in ["SN-1", "SN-2", "no serial number", ""] {
                let mut enrollment = enrollment.clone();
                enrollment.serial_number = serial_number.to_owned();
                let begun = Instant::now();
                let refused = terminal.enroll(enrollment).await.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::EnrollmentRefused));
                assert!(
                    begun.elapsed() >= Duration::from_millis(300),
                    "{serial_number:?}: the answer came as soon as it was known"
                );
            }
            host.stop().await;
        });
    });
}

#[test]
fn a_terminal_that_calls_without_end_is_told_to_wait() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            world.configure("limits.device-calls-per-minute = 10\n");
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let mut terminals = Vec::new();
            for serial in ["SN-1", "SN-2"] {
                let code = world.added(&mut operator, serial).await;
                let enrollment = world.enrollment(serial, &code);
                let mut stranger = world.terminal(&host).await;
                let enrolled = stranger.enroll(enrollment).await.unwrap().into_inner();
                terminals.push(world.enrolled(&host, serial, &enrolled).await);
            }
            let list = ListAssignmentsRequest {};
            let mut calls = 0;
            let refused = loop {
                let refused = terminals[0].list_assignments(list).await.unwrap_err();
                if refused.reason() != Some(Reason::NotBound) {
                    break refused;
                }
                calls += 1;
                assert!(calls < 1000, "no end of calls");
            };
            assert!(calls >= 10, "refused after {calls} calls");
            assert_eq!(refused.reason(), Some(Reason::RateLimited));
            let wait = refused.retry_after().unwrap();
            assert!(wait <= Duration::from_secs(6), "{wait:?}");
            let other = terminals[1].list_assignments(list).await.unwrap_err();
            assert_eq!(other.reason(), Some(Reason::NotBound), "another terminal");
            host.stop().await;
        });
    });
}

#[test]
fn who_knows_a_used_code_does_not_fill_the_trail() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            world.configure("limits.device-calls-per-minute = 10\n");
            let host = world.serve().await;
            let code = world.added(&mut world.operator(&host).await, "SN-1").await;
            let enrollment = world.enrollment("SN-1", &code);
            let mut terminal = world.terminal(&host).await;
            terminal.enroll(enrollment.clone()).await.unwrap();
            let mut other = world.enrollment("SN-2", &code);
            other.serial_number = "SN-1".to_owned();
            let mut refusals = 0;
            let refused = loop {
                let refused = terminal.enroll(other.clone()).await.unwrap_err();
                if refused.reason() != Some(Reason::EnrollmentRefused) {
                    break refused;
                }
                refusals += 1;
                assert!(refusals < 1000, "no end of refusals");
            };
            assert_eq!(refused.reason(), Some(Reason::RateLimited));
            // Without the code it is as if there were no limit.
            other.activation_code.clear();
            let refused = terminal.enroll(other).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::EnrollmentRefused));
            host.stop().await;
        });
    });
}

#[test]
fn an_operator_is_known_by_certificate_and_not_by_name() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            world.added(&mut world.operator(&host).await, "SN-1").await;
            let suspend = SuspendDeviceRequest {
                serial_number: "SN-1".to_owned(),
                why: "because".to_owned(),
            };
            let mut namesake = world.namesake(&host).await;
            let refused = namesake.suspend_device(suspend.clone()).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::RoleMissing));
            let mut operator = world.operator(&host).await;
            operator.suspend_device(suspend).await.unwrap();
            host.stop().await;
        });
    });
}

/// The body of a request that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// Sends the headers of a call, which lasts until it is aborted.
async fn half_a_call(channel: &mut Channel) -> JoinHandle<()> {
    let request = http::Request::post("/kdh.v1.Administration/ListDevices")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Never))
        .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answer = channel.call(request);
    tokio::spawn(async move { drop(answer.await) })
}

#[test]
fn no_certificate_takes_the_places_of_all_operators() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            let list = ListDevicesRequest::default();
            let (mut connections, mut half) = (Vec::new(), Vec::new());
            for _ in 0..CONNECTIONS {
                let mut channel = world.namesakes_channel(&host).await.unwrap();
                for _ in 1..CALLS {
                    half.push(half_a_call(&mut channel).await);
                }
                let mut namesake = AdministrationClient::new(channel.clone());
                let refused = namesake.list_devices(list.clone()).await.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::RoleMissing));
                half.push(half_a_call(&mut channel).await);
                connections.push(channel);
            }
            // Half requests are held by as many connections as one key may have.
            if let Ok(channel) = world.namesakes_channel(&host).await {
                // The client takes the handshake for done, and is hung up on then.
                let mut one_more = AdministrationClient::new(channel);
                let hung_up = one_more.list_devices(list).await.unwrap_err();
                assert_eq!(hung_up.reason(), None, "{hung_up:?}");
            }
            let [mut bob, _] = world.recoverers(&host).await;
            for _ in 0..100 {
                let list = ListAuthorityRequestsRequest::default();
                // At once, and from the same address.
                bob.list_authority_requests(list).await.unwrap();
            }
            assert!(half.iter().all(|call| !call.is_finished()));
            half.iter().for_each(JoinHandle::abort);
            drop(connections);
            host.stop().await;
        });
    });
}

#[test]
fn a_connection_carries_so_many_streams() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let host = world.serve().await;
            let mut health = HealthClient::new(world.terminals_channel(&host).await);
            let whole_host = HealthCheckRequest::default();
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                streams.push(health.watch(whole_host.clone()).await.unwrap());
            }
            let is_one_over = Arc::new(AtomicBool::new(false));
            let one_more = tokio::spawn({
                let (is_one_over, whole_host) = (Arc::clone(&is_one_over), whole_host.clone());
                async move {
                    health.watch(whole_host).await.unwrap();
                    is_one_over.load(Ordering::Relaxed)
                }
            });
            let mut other = HealthClient::new(world.terminals_channel(&host).await);
            for _ in 0..100 {
                other.check(whole_host.clone()).await.unwrap();
            }
            is_one_over.store(true, Ordering::Relaxed);
            streams.pop();
            assert!(one_more.await.unwrap(), "it has waited");
            drop(streams);
            host.stop().await;
        });
    });
}
