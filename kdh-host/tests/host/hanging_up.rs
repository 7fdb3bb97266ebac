//! A terminal or an operator who goes away in the middle of a call: what was begun comes to its end.

use std::time::{Duration, Instant};

use hsm_modules::SOFTHSM;
use kdh_proto::v1::{
    AssignKeyRequest, ShowDeviceRequest, administration_client::AdministrationClient,
};
use sqlx::{Connection, SqliteConnection};
use tonic::transport::Channel;

use crate::{
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    device_keys::{Stage, database},
    rollouts::count,
    world::{self, Running, World},
};

/// Terminals, so that one of them is cut off at the worst moment. Where none is, the test passes.
const TERMINALS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_terminal_that_hangs_up_while_it_is_enrolled_can_ask_again() {
    world::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            for number in 1..=TERMINALS {
                hang_up(&world, &host, &mut operator, &format!("SN-{number}")).await;
            }
            host.stop().await;
        });
    });
}

async fn hang_up(
    world: &World<'_>,
    host: &Running,
    operator: &mut AdministrationClient<Channel>,
    serial: &str,
) {
    let code = world.added(operator, serial).await;
    let enrollment = world.enrollment(serial, &code);

    let path = world.path("host.db");
    let mut database = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let mut terminal = world.terminal(host).await;
    let call = tokio::spawn({
        let enrollment = enrollment.clone();
        async move { terminal.enroll(enrollment).await.map(drop) }
    });
    let claimed = "SELECT count(*) FROM certificates WHERE device = $1";
    loop {
        let rows: i64 = sqlx::query_scalar(claimed)
            .bind(serial)
            .fetch_one(&mut database)
            .await
            .unwrap();
        if rows > 0 {
            break;
        }
    }
    call.abort();
    drop(call.await);

    let begun = Instant::now();
    loop {
        let device = ShowDeviceRequest {
            serial_number: serial.to_owned(),
        };
        let device = operator
            .show_device(device)
            .await
            .unwrap()
            .into_inner()
            .device;
        if device.unwrap().state == "ENROLLED" {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the enrolment of {serial} was left open"
        );
    }
    let mut terminal = world.terminal(host).await;
    terminal.enroll(enrollment).await.unwrap();
}

#[test]
fn what_an_operator_has_begun_comes_to_its_end_without_the_operator() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::with_kdh_token(place.folder(), bring_bdks);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let mut database = database(&world).await;
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            for id in 1..=TERMINALS {
                let mut operator = stage.operator.clone();
                let assign = AssignKeyRequest {
                    serial_number: "SN-1".to_owned(),
                    slot: "tmk".to_owned(),
                    ..AssignKeyRequest::default()
                };
                let call = tokio::spawn(async move { operator.assign_key(assign).await.map(drop) });
                // The id is given out before the HSM is asked for the key.
                let claimed = format!("derivation_ids WHERE last = {id}");
                while count(&mut database, &claimed).await == 0 {}
                call.abort();
                drop(call.await);
                let begun = Instant::now();
                let made = format!("device_keys WHERE derivation_id = {id}");
                while count(&mut database, &made).await == 0 {
                    assert!(begun.elapsed() < PATIENCE, "id {id} is nobody's");
                }
            }
            stage.host.stop().await;
        });
    });
}
