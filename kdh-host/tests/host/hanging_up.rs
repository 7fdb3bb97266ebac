//! A terminal or an operator who goes away in the middle of a call: what was begun comes to its end.

use std::time::{Duration, Instant};

use hsm_modules::SOFTHSM;
use kdh_proto::v1::{ShowDeviceRequest, administration_client::AdministrationClient};
use tonic::transport::Channel;

use crate::{
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    stage::{self, assigning},
    world::{self, Running, World},
};

/// Terminals, so that one of them is cut off at the worst moment. Where none is, the test passes.
const TERMINALS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_terminal_that_hangs_up_while_it_is_enrolled_can_ask_again() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            for number in 1..=TERMINALS {
                hang_up(world, &host, &mut operator, &format!("SN-{number}")).await;
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
    let mut database = Database::open(world).await;
    let mut terminal = world.terminal(host).await;
    let call = tokio::spawn({
        let enrollment = enrollment.clone();
        async move { terminal.enroll(enrollment).await.map(drop) }
    });
    let claimed = format!("certificates WHERE device = '{serial}'");
    while database.count(&claimed).await == 0 {}
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
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            for id in 1..=TERMINALS {
                let mut operator = stage.operator.clone();
                let assign = assigning("SN-1", "tmk", "");
                let call = tokio::spawn(async move { operator.assign_key(assign).await.map(drop) });
                // The id is given out before the HSM is asked for the key.
                let claimed = format!("derivation_ids WHERE last = {id}");
                while database.count(&claimed).await == 0 {}
                call.abort();
                drop(call.await);
                let begun = Instant::now();
                let made = format!("device_keys WHERE derivation_id = {id}");
                while database.count(&made).await == 0 {
                    assert!(begun.elapsed() < PATIENCE, "id {id} is nobody's");
                }
            }
            stage.host.stop().await;
        });
    });
}
