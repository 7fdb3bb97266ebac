//! A terminal that goes away in the middle of a call: what was begun comes to its end.

use std::time::{Duration, Instant};

use kdh_proto::v1::{ShowDeviceRequest, administration_client::AdministrationClient};
use sqlx::{Connection, SqliteConnection};
use tonic::transport::Channel;

use crate::world::{self, Running, World};

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
