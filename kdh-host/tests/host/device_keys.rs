//! Keys of a device's own: made, delivered, confirmed, replaced; and rows that are not as the HSM sealed them.

use hsm_modules::{SOFTHSM, WHOLE};
use kdh_host::StartError;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        ListDeliveriesRequest, ListKeysRequest, SharedKey,
        administration_client::AdministrationClient, key_profile_slot::Source,
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    stage::{self, HEADER, LENIENT, Stage, assigning, carry, slot},
    world::{self, MASTER_KEY_KCV, World, assign_master_key},
};

/// Version, state, and whether the host has the key, of each row of the first device.
async fn rows(database: &mut Database) -> Vec<(i64, String, bool)> {
    let rows = "SELECT version, state, wrapped IS NOT NULL FROM device_keys WHERE device = 'SN-1' ORDER BY version";
    database.rows(rows).await
}

fn expected(rows: &[(i64, &str, bool)]) -> Vec<(i64, String, bool)> {
    let rows = rows.iter();
    rows.map(|(version, state, held)| (*version, (*state).to_owned(), *held))
        .collect()
}

#[test]
fn a_key_of_its_own_is_good_until_the_next_one_is_confirmed() {
    world::on(&WHOLE, |place| {
        stage::play(place, async |mut stage, mut database| {
            let [first, other] = [stage.assign(0).await, stage.assign(1).await];
            assert_eq!((first.key_version, &*first.header), (1, HEADER));
            let [kcv, other_kcv] = [first.kcv.clone().unwrap(), other.kcv.unwrap()];
            assert_eq!(kcv.value.len(), 5);
            assert_ne!(kcv, other_kcv, "no two devices have the same key");
            assert_eq!(rows(&mut database).await, expected(&[(1, "PENDING", true)]));

            let issued = stage.request(0).await.unwrap();
            assert_eq!(issued.kcv, Some(kcv));
            stage.confirm(0, &issued).await.unwrap();
            // Its answer may have been lost.
            stage.confirm(0, &issued).await.unwrap();
            assert_eq!(rows(&mut database).await, expected(&[(1, "ACTIVE", true)]));

            // One that the device never asks for, and the one in its place.
            stage.assign(0).await;
            assert_eq!(stage.assign(0).await.key_version, 3);
            let both = [
                (1, "ACTIVE", true),
                (2, "WITHDRAWN", false),
                (3, "PENDING", true),
            ];
            assert_eq!(rows(&mut database).await, expected(&both));
            let listed = stage.list(0).await.unwrap();
            let listed: Vec<_> = listed
                .iter()
                .map(|one| (one.key_version, one.confirmed))
                .collect();
            assert_eq!(listed, [(3, false)]);
            stage.fetch(0).await;
            let replaced = [
                (1, "DESTROYED", false),
                (2, "WITHDRAWN", false),
                (3, "ACTIVE", true),
            ];
            assert_eq!(rows(&mut database).await, expected(&replaced));

            // Delivered, then withdrawn, then confirmed: the device holds it, and gets the next.
            let slow = {
                stage.assign(0).await;
                stage.request(0).await.unwrap()
            };
            stage.assign(0).await;
            stage.confirm(0, &slow).await.unwrap();
            let now = rows(&mut database).await;
            let now = now[2..].to_vec();
            let behind = [
                (3, "ACTIVE", true),
                (4, "WITHDRAWN", false),
                (5, "PENDING", true),
            ];
            assert_eq!(now, expected(&behind));

            let deliveries = stage
                .operator
                .list_deliveries(ListDeliveriesRequest::default());
            let deliveries = deliveries.await.unwrap().into_inner().deliveries;
            assert!(
                deliveries
                    .iter()
                    .all(|delivery| delivery.key_name.is_empty())
            );
            let destroyed: Vec<String> = database
                .column(
                    "SELECT json_extract(detail, '$.\"destroyed-versions\"') FROM audit
                 WHERE action = 'delivery.confirmed' ORDER BY sequence",
                )
                .await;
            assert_eq!(destroyed, ["[]", "[1]", "[]"]);
            stage.host.stop().await;
            // What the HSM sealed it takes again.
            stage.world.serve().await.stop().await;
        });
    });
}

#[test]
fn no_key_is_good_because_somebody_says_so_in_its_terminals_place() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let listed = async |stage: &mut Stage<'_>, terminal| {
                let listed = stage.list(terminal).await.unwrap().into_iter();
                let listed = listed.map(|one| (one.key_version, one.confirmed));
                listed.collect::<Vec<_>>()
            };
            stage.load(0).await;
            // From now on, a delivery is confirmed as soon as its token exists.
            database
                .execute(
                    "CREATE TRIGGER hasty AFTER UPDATE ON deliveries WHEN NEW.state = 'ISSUED' BEGIN
                         UPDATE deliveries SET state = 'CONFIRMED' WHERE id = NEW.id; END",
                )
                .await;
            stage.assign(0).await;
            let issued = stage.request(0).await.unwrap();
            assert_eq!(listed(&mut stage, 0).await, [(2, false)]);
            assert!(!stage.show(0).await.assignments[0].confirmed);
            let still = [(1, "ACTIVE", true), (2, "PENDING", true)];
            assert_eq!(rows(&mut database).await, expected(&still));
            let recorded = "audit WHERE action = 'delivery.confirmed' AND device = 'SN-1'";
            for _ in 0..2 {
                stage.confirm(0, &issued).await.unwrap();
                let replaced = [(1, "DESTROYED", false), (2, "ACTIVE", true)];
                assert_eq!(rows(&mut database).await, expected(&replaced));
                assert_eq!(database.count(recorded).await, 2);
            }
            assert_eq!(listed(&mut stage, 0).await, [(2, true)]);

            // Nor is it confirmed too late, or with another check value.
            stage.assign(0).await;
            let late = stage.request(0).await.unwrap();
            database
                .edit("UPDATE deliveries SET expires_at = '2026-01-01T00:00:00Z' WHERE version = 3")
                .await;
            let refused = stage.confirm(0, &late).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::DeliveryUnknown));
            stage.assign(1).await;
            let other = stage.request(1).await.unwrap();
            let wrong = stage.report(1, &other, issued.kcv).await.unwrap_err();
            assert_eq!(wrong.reason(), Some(Reason::KcvMismatch));
            assert_eq!(stage.show(1).await.device.unwrap().state, "QUARANTINED");
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_registered_key_that_was_withdrawn_is_not_delivered() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            assign_master_key(&mut stage.operator, "SN-1").await;
            stage.assign(0).await;
            assert_eq!(stage.request(0).await.unwrap().key_version, 2);
            // A table in which a version can stand twice: as it is, and as if it waited still.
            database.execute("PRAGMA foreign_keys = OFF").await;
            database.keep("device_keys", "kept").await;
            for change in [
                "DROP TABLE device_keys",
                "CREATE TABLE device_keys AS SELECT * FROM kept WHERE version = 1",
                "UPDATE device_keys SET state = 'PENDING'",
                "INSERT INTO device_keys SELECT * FROM kept WHERE version = 1",
            ] {
                database.execute(change).await;
            }
            let refused = stage.request(0).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::Internal));
            stage.host.stop().await;
        });
    });
}

#[test]
fn what_no_profile_says_is_refused() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            world.configure(&format!("{LENIENT}shared-keys = \"allow\"\n"));
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            world.added(&mut operator, "SN-1").await;
            let nothing = "neither the group nor the model of SN-1 carries a key profile: name a key, or have one \
                           carry a profile";
            refuses_to_assign(&mut operator, "SN-1", "tmk", Reason::NotFound, nothing).await;
            assign_master_key(&mut operator, "SN-1").await;
            let shared = SharedKey {
                key_name: "key".to_owned(),
            };
            let mut data = slot("tmk", "D0000K0AB00E0000", Source::Shared(shared));
            data.kcv_length = 3;
            carry(&mut operator, vec![data]).await;
            let no_slot = "key profile own of SN-1 has no slot pin";
            refuses_to_assign(&mut operator, "SN-1", "pin", Reason::NotFound, no_slot).await;
            let nobody = "there is no device SN-9";
            refuses_to_assign(&mut operator, "SN-9", "tmk", Reason::NotFound, nobody).await;
            let assigned = operator.assign_key(assigning("SN-1", "tmk", "")).await.unwrap();
            let assigned = assigned.into_inner();
            assert_eq!(assigned.kcv.unwrap().value, MASTER_KEY_KCV);
            assert_eq!(assigned.key_version, 2);
            host.stop().await;
        });
    });
}

async fn refuses_to_assign(
    operator: &mut AdministrationClient<Channel>,
    serial_number: &str,
    slot: &str,
    reason: Reason,
    cause: &str,
) {
    let request = assigning(serial_number, slot, "");
    let refused = operator.assign_key(request).await.unwrap_err();
    assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
}

/// Each column of a row of `device_keys`, with another value that could stand there.
const EDITS: &[(&str, &str)] = &[
    ("device", "'SN-3'"),
    ("slot", "'pin'"),
    ("version", "7"),
    ("state", "'PENDING'"),
    ("source", "'SHARED'"),
    ("key_name", "'key'"),
    (
        "wrapped",
        "x'00112233445566778899aabbccddeeff0011223344556677'",
    ),
    ("wrapped", "NULL"),
    ("header", "'D0000P0AB00E0000'"),
    ("kind", "'AES-256'"),
    ("kcv_method", "'TDEA_ECB'"),
    ("kcv", "'A1B2C3D4E5'"),
    ("recipient", "NULL"),
    ("created_at", "'2020-01-01T00:00:00Z'"),
    ("changed_at", "'2020-01-01T00:00:00Z'"),
    ("storage_key", "2"),
    ("storage_key", "0"),
    ("mac", "x'00112233445566778899aabbccddeeff'"),
    ("mac", "x'00'"),
    ("mac", "NULL"),
    ("bdk", "'other'"),
    ("key_set_id", "'12345679'"),
    ("derivation_id", "7"),
];

/// And what only a derived key has.
const EDITS_OF_DERIVED: &[(&str, &str)] = &[
    ("source", "'UNIQUE'"),
    ("bdk", "NULL"),
    ("key_set_id", "NULL"),
    ("key_set_id", "'1234567'"),
    ("derivation_id", "NULL"),
    ("derivation_id", "-1"),
    ("derivation_id", "4294967296"),
];

#[test]
fn a_row_that_was_edited_is_refused_whatever_was_edited() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            register_bdks(&mut stage).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            stage.world.added(&mut stage.operator, "SN-3").await;
            stage.load(0).await;
            stage.assign(1).await;
            database.keep("device_keys", "kept").await;
            let columns = database.columns("device_keys").await;
            for column in &columns {
                assert!(EDITS.iter().any(|(edited, _)| edited == column), "{column}");
            }
            for (column, value) in EDITS {
                for victim in ["SN-1", "SN-2"] {
                    if (*column, *value, victim) == ("state", "'PENDING'", "SN-2") {
                        continue;
                    }
                    let change = format!(
                        "UPDATE device_keys SET {column} = {value}
                         WHERE device = '{victim}' AND state IN ('PENDING', 'ACTIVE')"
                    );
                    database.edit(&change).await;
                    refuses(&mut stage, victim, column, value, 1).await;
                    restore(&mut database).await;
                }
            }
            // A row in another's place, and keys that were swapped.
            let swapped = "UPDATE device_keys SET wrapped = (SELECT k.wrapped FROM kept k
                 WHERE k.device <> device_keys.device AND k.wrapped IS NOT NULL)
                 WHERE device = 'SN-1'";
            database
                .execute("UPDATE device_keys SET wrapped = NULL WHERE device = 'SN-2'")
                .await;
            database.edit(swapped).await;
            refuses(&mut stage, "SN-1", "wrapped", "the other's", 2).await;
            restore(&mut database).await;
            // Each row is on record once, whoever has seen it how often.
            let recorded = "SELECT device || ' ' || detail, COUNT(*) FROM audit WHERE action = 'storage.row-refused'
                 GROUP BY device, detail ORDER BY 1";
            let recorded: Vec<(String, i64)> = database.rows(recorded).await;
            let row = |device, slot, version| {
                let row = format!(r#"{device} {{"slot":"{slot}","version":{version}}}"#);
                (row, 1)
            };
            assert_eq!(
                recorded,
                [
                    row("SN-1", "pin", 1),
                    row("SN-1", "tmk", 1),
                    row("SN-1", "tmk", 7),
                    row("SN-2", "pin", 2),
                    row("SN-2", "tmk", 2),
                    row("SN-2", "tmk", 7),
                    row("SN-3", "tmk", 1),
                    row("SN-3", "tmk", 2),
                ]
            );
            for terminal in [0, 1] {
                stage.fetch(terminal).await;
            }

            derive_from_now_on(&mut stage, true).await;
            stage.header = stage.assign(1).await.header;
            stage.fetch(1).await;
            database.keep("device_keys", "kept").await;
            for (column, value) in EDITS.iter().chain(EDITS_OF_DERIVED) {
                if (*column, *value) == ("wrapped", "NULL") {
                    continue;
                }
                let change = format!(
                    "UPDATE device_keys SET {column} = {value} WHERE device = 'SN-2' AND state = 'ACTIVE'"
                );
                database.edit(&change).await;
                refuses(&mut stage, "SN-2", column, value, 1).await;
                restore(&mut database).await;
            }
            stage.request(1).await.unwrap();
            stage.host.stop().await;
        });
    });
}

async fn restore(database: &mut Database) {
    database.put_back("device_keys", "kept").await;
}

/// Nothing is delivered from the row, and nothing is told of it but where it stands, to operators.
async fn refuses(stage: &mut Stage<'_>, victim: &str, column: &str, value: &str, rows: usize) {
    let terminal = usize::from(victim == "SN-2");
    let what = format!("{column} = {value} of {victim}");
    match stage.request(terminal).await {
        // The row is no more in the slot, or is meant for nobody.
        Err(status) if ["device", "slot", "recipient"].contains(&column) => {
            assert_eq!(status.reason(), Some(Reason::NoKeyAssigned), "{what}");
        }
        outcome => {
            let status = outcome.map(|_| &what).unwrap_err();
            assert_eq!(
                (status.code(), status.reason(), status.message()),
                (Code::Internal, Some(Reason::Internal), "INTERNAL"),
                "{what}"
            );
        }
    }
    assert_eq!(stage.list(terminal).await.unwrap(), [], "{what}");
    assert_eq!(stage.refused().await.len(), rows, "{what}");
    let shown = stage.show(terminal).await;
    assert_eq!(shown.assignments, [], "{what}");
    let here = usize::from(column != "device");
    assert_eq!(shown.refused.len(), here, "{what}");
}

#[test]
fn a_host_does_not_start_with_a_registered_key_whose_row_was_edited() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            assign_master_key(&mut stage.operator, "SN-2").await;
            stage.host.stop().await;
            database.keep("keys", "kept").await;
            let edits = [
                ("name", "'other'"),
                ("hsm_label", "'zmk.switch'"),
                ("header", "'D0000P0AB00E0000'"),
                ("kind", "'AES-256'"),
                ("kcv_method", "'TDEA_ECB'"),
                ("kcv", "'A1B2C3'"),
                ("created_at", "'2020-01-01T00:00:00Z'"),
                ("storage_key", "2"),
                ("mac", "x'00112233445566778899aabbccddeeff'"),
                ("mac", "NULL"),
            ];
            let columns = database.columns("keys").await;
            for column in &columns {
                assert!(edits.iter().any(|(edited, _)| edited == column), "{column}");
            }
            database.execute("PRAGMA foreign_keys = OFF").await;
            for (column, value) in edits {
                database
                    .execute(&format!("UPDATE keys SET {column} = {value}"))
                    .await;
                let StartError(faults) = stage.world.host().await.map(drop).unwrap_err();
                let [fault] = &faults[..] else {
                    panic!("{faults:?}")
                };
                let says = [
                    "no operator registered it as its row in the database says",
                    "is not as the HSM has sealed it",
                ];
                assert!(
                    says.iter().any(|text| fault.contains(text)),
                    "{column}: {fault}"
                );
                database.put_back("keys", "kept").await;
            }
            let host = stage.world.serve().await;
            let mut operator = stage.world.operator(&host).await;
            let keys = operator.list_keys(ListKeysRequest {}).await.unwrap();
            assert_eq!(keys.into_inner().keys.len(), 1);
            host.stop().await;
        });
    });
}
