//! Rows of keys from before the HSM sealed them, and those of which somebody says so.

use hsm_modules::SOFTHSM;
use kdh_host::{Adoption, StartError, SystemClock};
use kdh_proto::{FIRST_PREVIOUS_HASH, audit_hash, to_hex, v1::AuditRecord};
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::{
    database::Database,
    stage,
    world::{self, World, assign_master_key},
};

async fn find(world: &World<'_>) -> Result<Adoption, String> {
    let found = Adoption::find(world.config(), Box::new(SystemClock)).await;
    found.map_err(|StartError(faults)| faults.join("\n"))
}

/// Takes all seals away, and has the trail be one of a host that made none: nothing else stands in it.
async fn age(database: &mut Database) {
    for table in ["keys", "device_keys"] {
        database
            .execute(&format!("UPDATE {table} SET storage_key = 0, mac = NULL"))
            .await;
    }
    rewrite(database, |record, detail| {
        for field in ["source", "header", "kcv", "warned-of", "storage-key"] {
            if record.action != "key.registered" {
                detail.as_object_mut().unwrap().remove(field);
            }
        }
    })
    .await;
}

/// Changes the trail, with a chain that holds.
async fn rewrite(database: &mut Database, change: impl Fn(&AuditRecord, &mut Value)) {
    let rows = sqlx::query("SELECT * FROM audit ORDER BY sequence")
        .fetch_all(database.connection())
        .await
        .unwrap();
    let mut last = FIRST_PREVIOUS_HASH;
    for row in rows {
        let sequence: i64 = row.get("sequence");
        let mut record = AuditRecord {
            sequence: u64::try_from(sequence).unwrap(),
            at: row.get("at"),
            actor: row.get("actor"),
            action: row.get("action"),
            device: row.get("device"),
            outcome: row.get("outcome"),
            detail: row.get("detail"),
            previous_hash: to_hex(&last),
            hash: String::new(),
        };
        let mut detail: Value = serde_json::from_str(&record.detail).unwrap();
        change(&record, &mut detail);
        record.detail = detail.to_string();
        last = audit_hash(&last, &record);
        sqlx::query(
            "UPDATE audit SET detail = $2, previous_hash = $3, hash = $4 WHERE sequence = $1",
        )
        .bind(sequence)
        .bind(&record.detail)
        .bind(&record.previous_hash)
        .bind(to_hex(&last))
        .execute(database.connection())
        .await
        .unwrap();
    }
}

#[test]
fn only_what_no_host_has_sealed_before_is_sealed_and_only_as_the_trail_has_it() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            assign_master_key(&mut stage.operator, "SN-1").await;
            stage.host.stop().await;
            assert!(find(stage.world).await.unwrap().is_empty());

            // Somebody takes every seal away.
            database.keep("device_keys", "kept").await;
            for table in ["keys", "device_keys"] {
                database
                    .edit(&format!("UPDATE {table} SET storage_key = 0, mac = NULL"))
                    .await;
            }
            let refused = "store: the HSM has sealed rows of keys in this database before (the audit trail has a record \
                           host.started), and 1 registered keys and 1 keys of devices are without a seal: somebody else \
                           has put them there, or taken their seals away. Restore the database from a backup";
            assert_eq!(find(stage.world).await.err().unwrap(), refused);
            let StartError(faults) = stage.world.host().await.map(drop).unwrap_err();
            assert!(
                faults[0].contains("key key is not as the HSM has sealed it"),
                "{faults:?}"
            );

            // What was really never sealed has to be what the trail says.
            age(&mut database).await;
            let StartError(faults) = stage.world.host().await.map(drop).unwrap_err();
            assert!(faults[0].contains("by kdh-host adopt-keys"), "{faults:?}");
            refuses_what_the_trail_does_not_have(stage.world, &mut database).await;
            refuses_a_trail_of_a_host_that_seals(stage.world, &mut database).await;

            let adoption = find(stage.world).await.unwrap();
            let lines = adoption.describe();
            assert_eq!(
                lines,
                [
                    "key key: kn.test in the HSM, AES-128, header D0000K0AB00E0000, check value D4B1C0; keys of devices: 1 \
                     PENDING",
                    "1 keys of devices, each one of these, and each as the audit trail has it",
                ]
            );
            assert_eq!(
                adoption.to_json(),
                json!({
                    "keys": [{
                        "name": "key",
                        "hsm_label": "kn.test",
                        "kind": "AES-128",
                        "header": "D0000K0AB00E0000",
                        "kcv": "D4B1C0",
                        "device_keys": {"PENDING": 1},
                    }],
                    "device_keys": 1,
                })
            );
            assert_eq!(adoption.seal().await.unwrap(), 1);
            stage.host = stage.world.serve().await;
            stage.operator = stage.world.operator(&stage.host).await;
            let kept = stage.show(0).await;
            assert_eq!((kept.assignments.len(), kept.refused.len()), (1, 0));
            stage.host.stop().await;
            assert!(find(stage.world).await.unwrap().is_empty());
        });
    });
}

/// Each differs in one column from what the trail says.
async fn refuses_what_the_trail_does_not_have(world: &World<'_>, database: &mut Database) {
    database.execute("PRAGMA foreign_keys = OFF").await;
    database.keep("device_keys", "kept").await;
    let not_assigned = "the audit trail does not say that an operator assigned it";
    for (column, value, fault) in [
        ("device", "'SN-2'", not_assigned),
        ("slot", "'pin'", not_assigned),
        ("version", "2", not_assigned),
        (
            "kcv",
            "'A1B2C3'",
            "it is not the registered key of its name",
        ),
        (
            "header",
            "'D0000P0AB00E0000'",
            "it is not the registered key of its name",
        ),
        (
            "kind",
            "'AES-256'",
            "it is not the registered key of its name",
        ),
        (
            "key_name",
            "'other'",
            "it is not the registered key of its name",
        ),
        (
            "recipient",
            "NULL",
            "the audit trail says that it is meant for another encryption key",
        ),
        (
            "recipient",
            "x'00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF'",
            "the audit trail says that it is meant for another encryption key",
        ),
        (
            "source",
            "'UNIQUE', key_name = NULL",
            "it is no registered key, and there were no others before the HSM sealed rows",
        ),
    ] {
        database
            .edit(&format!("UPDATE device_keys SET {column} = {value}"))
            .await;
        let refused = find(world).await.err().unwrap();
        assert!(refused.ends_with(fault), "{column}: {refused}");
        database.put_back("device_keys", "kept").await;
    }
}

/// One record of it is enough, whichever.
async fn refuses_a_trail_of_a_host_that_seals(world: &World<'_>, database: &mut Database) {
    for action in [
        "keys.adopted",
        "storage.began",
        "approval.asked",
        "key.discarded",
    ] {
        let record = format!("UPDATE audit SET action = '{action}' WHERE action = 'host.stopped'");
        database.edit(&record).await;
        rewrite(database, |_, _| ()).await;
        let refused = find(world).await.err().unwrap();
        assert!(
            refused.contains(&format!("has a record {action})")),
            "{refused}"
        );
        database
            .edit(&format!(
                "UPDATE audit SET action = 'host.stopped' WHERE action = '{action}'"
            ))
            .await;
        rewrite(database, |_, _| ()).await;
    }
}
