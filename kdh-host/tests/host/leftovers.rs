//! What a call claimed and could not give back itself: as if the database had not answered then.

use std::time::{Duration, Instant};

use sqlx::{Connection, SqliteConnection};

use crate::world::{self, World};

const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn what_is_nobodys_is_given_back_while_the_host_runs() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let code = world.added(&mut operator, "SN-1").await;
            world.added(&mut operator, "SN-2").await;
            let enrollment = world.enrollment("SN-1", &code);
            let path = world.path("host.db");
            let mut database = SqliteConnection::connect(path.to_str().unwrap())
                .await
                .unwrap();
            let leave = [
                "UPDATE activation_codes SET claim = '0A0B', claimed_by = x'00'",
                "INSERT INTO certificates VALUES ('0C', 'SN-1', 'ENCRYPTION', x'01', 'CLAIMED', NULL,
                 '2026-01-01T00:00:00Z')",
                "INSERT INTO nonces VALUES ('SN-2', x'02', '2026-01-01T00:00:00Z')",
                "INSERT INTO deliveries (id, device, slot, version, state, nonce, expires_at,
                 created_at, changed_at) VALUES ('1', 'SN-2', 'tmk', 1, 'PREPARED', x'02',
                 '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
                "INSERT INTO key_imports VALUES (1, '0e0f', 'new', 'AES-128', 'D0000K0AB00E0000', 'AES_CMAC',
                 'A1B2C3', x'', 'APPROVED', 'ada', 'new', 'bob', '2026-01-01T00:00:00Z',
                 '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', NULL)",
                "INSERT INTO nonces VALUES ('SN-2', x'03', '2026-01-01T00:00:00Z')",
                "INSERT INTO binding_orders VALUES (1, 'SN-2', 'UNBIND', NULL, 'OPEN', 'ada', 'repair',
                 '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
                "INSERT INTO binding_tokens VALUES ('2', 'SN-2', 1, NULL, 'UNBIND', x'3011300C310A300806035504030C0141020101',
                 NULL, 'PREPARED', x'03', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')",
            ];
            for statement in leave {
                sqlx::query(statement)
                    .execute(&mut database)
                    .await
                    .unwrap();
            }
            // Whoever comes first does not have to wait for it.
            let mut terminal = world.terminal(&host).await;
            terminal.enroll(enrollment).await.unwrap();
            let approval = "INSERT INTO authority_requests SELECT 1, '0a0b0c0d', 'SN-1', serial, 'UNBIND',
                x'3011300C310A300806035504030C0141020101', NULL, 'APPROVED', 'bob', 'burnt', 'cleo',
                '2026-01-01T00:00:00Z', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'
                FROM certificates WHERE purpose = 'ENCRYPTION'";
            sqlx::query(approval).execute(&mut database).await.unwrap();

            let left = "SELECT (SELECT count(*) FROM activation_codes WHERE claim = '0A0B') +
                (SELECT count(*) FROM certificates WHERE serial = '0C') +
                (SELECT count(*) FROM nonces) +
                (SELECT count(*) FROM deliveries WHERE state = 'PREPARED') +
                (SELECT count(*) FROM binding_tokens WHERE state = 'PREPARED') +
                (SELECT count(*) FROM key_imports WHERE state = 'APPROVED') +
                (SELECT count(*) FROM authority_requests WHERE state = 'APPROVED')";
            let begun = Instant::now();
            loop {
                let left: i64 = sqlx::query_scalar(left)
                    .fetch_one(&mut database)
                    .await
                    .unwrap();
                if left == 0 {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{left} claims are left");
                tokio::task::yield_now().await;
            }
            let recorded = "SELECT action || ' ' || device FROM audit
                WHERE action IN ('device.enrol.released', 'delivery.abandoned', 'binding.abandoned',
                    'authority.released') ORDER BY 1";
            let recorded: Vec<String> = sqlx::query_scalar(recorded)
                .fetch_all(&mut database)
                .await
                .unwrap();
            let expected = [
                "authority.released SN-1",
                "binding.abandoned SN-2",
                "delivery.abandoned SN-2",
                "device.enrol.released SN-1",
                "device.enrol.released SN-2",
            ];
            assert_eq!(recorded, expected);
            host.stop().await;
        });
    });
}
