//! The audit trail.

use kdh_proto::{ChainVerifier, audit_hash, to_hex, v1::AuditRecord};

use super::*;

on_both!(
"current_thread":
    every_change_of_the_trail_is_found,
    the_trail_is_read_in_pages,
    nothing_is_written_behind_a_record_that_is_somebody_elses,
    a_commit_of_which_nobody_was_told_is_found_out,
    doubts_are_settled_before_a_writer_judges,
    what_stands_between_two_milestones_is_in_its_place,
);

async fn every_change_of_the_trail_is_found(on: Dialect) {
    let cases = [
        (
            "sequence",
            "UPDATE audit SET sequence = 9 WHERE sequence = 3",
        ),
        (
            "at",
            "UPDATE audit SET at = '2027-01-01T00:00:00Z' WHERE sequence = 2",
        ),
        (
            "actor",
            "UPDATE audit SET actor = 'operator:eve' WHERE sequence = 2",
        ),
        (
            "action",
            "UPDATE audit SET action = 'key.assigned' WHERE sequence = 2",
        ),
        ("device", "UPDATE audit SET device = 'B' WHERE sequence = 2"),
        (
            "outcome",
            "UPDATE audit SET outcome = 'NOT_BOUND' WHERE sequence = 2",
        ),
        (
            "detail",
            "UPDATE audit SET detail = '{}' WHERE sequence = 2",
        ),
        (
            "previous_hash",
            "UPDATE audit SET previous_hash = hash WHERE sequence = 2",
        ),
        (
            "hash",
            "UPDATE audit SET hash = previous_hash WHERE sequence = 2",
        ),
        (
            "hash in capitals",
            "UPDATE audit SET hash = upper(hash) WHERE sequence = 2",
        ),
        (
            "the first taken out",
            "DELETE FROM audit WHERE sequence = 1",
        ),
        ("one taken out", "DELETE FROM audit WHERE sequence = 2"),
        (
            "one taken out and the rest moved up",
            "DELETE FROM audit WHERE sequence = 2; UPDATE audit SET sequence = 2 WHERE sequence = 3",
        ),
        (
            "one added",
            "INSERT INTO audit SELECT 4, at, actor, action, device, outcome, detail, hash, hash
             FROM audit WHERE sequence = 3",
        ),
    ];
    let database = Database::with_trail(on, 3).await;
    for (case, statement) in cases {
        // Dropped behind each case.
        let mut tx = database.tx().await;
        let changed = sqlx::raw_sql(statement).execute(tx.connection().await.unwrap());
        changed.await.unwrap();
        let found = tx.verify_audit().await.unwrap();
        assert!(found.is_err(), "{case}");
    }
    assert_eq!(verify(&database.store).await.unwrap(), Ok(3));
}

#[tokio::test]
async fn a_record_that_is_no_record_is_an_error() {
    let database = Database::with_trail(Dialect::Sqlite, 2).await;
    database
        .tamper("UPDATE audit SET detail = x'FF' WHERE sequence = 2")
        .await;
    assert!(verify(&database.store).await.is_err());
}

async fn the_trail_is_read_in_pages(on: Dialect) {
    let database = Database::with_trail(on, 1003).await;
    assert_eq!(verify(&database.store).await.unwrap(), Ok(1003));
    let mut tx = database.store.read(NOW).await.unwrap();
    let page = tx.audit_records(1000, 10).await.unwrap();
    let sequences: Vec<_> = page.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1001, 1002, 1003]);
}

/// A record that follows on the last one, as somebody else would write it.
async fn follow(tx: &mut Tx) -> AuditRecord {
    let end = tx.certain_end().sequence;
    let last = tx.audit_records(end - 1, 9).await.unwrap().pop().unwrap();
    let mut record = AuditRecord {
        sequence: last.sequence + 1,
        actor: "operator:eve".to_owned(),
        ..last
    };
    record.previous_hash = record.hash;
    let mut previous = [0; 32];
    hex::decode_to_slice(&record.previous_hash, &mut previous).unwrap();
    record.hash = String::new();
    record.hash = to_hex(&audit_hash(&previous, &record));
    record
}

async fn append(database: &Database) {
    let record = follow(&mut database.store.read(NOW).await.unwrap()).await;
    let sequence = i64::try_from(record.sequence).unwrap();
    sqlx::query("INSERT INTO audit VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(sequence)
        .bind(record.at)
        .bind(record.actor)
        .bind(record.action)
        .bind(record.device)
        .bind(record.outcome)
        .bind(record.detail)
        .bind(record.previous_hash)
        .bind(record.hash)
        .execute(&database.store.pool)
        .await
        .unwrap();
}

async fn write(database: &Database) -> Result<(), StoreError> {
    let mut tx = database.store.write(NOW).await?;
    tx.record(entry(&Actor::Host)).await?;
    tx.commit().await
}

async fn nothing_is_written_behind_a_record_that_is_somebody_elses(on: Dialect) {
    let database = Database::with_trail(on, 3).await;
    let refused = async |case: &str| {
        for _ in 0..2 {
            let refused = write(&database).await.unwrap_err();
            assert!(
                matches!(refused, StoreError::ForeignTrail(3)),
                "{case}: {refused}"
            );
            let says = "the audit trail does not end in the database as this host has left it, with record 3: ";
            assert!(refused.to_string().starts_with(says), "{refused}");
        }
    };
    let keep = "CREATE TABLE kept AS SELECT * FROM audit";
    database.tamper(keep).await;
    // It fits the chain. The host's own record finds its place taken.
    append(&database).await;
    write(&database).await.unwrap_err();
    refused("one added").await;
    // Whoever follows the trail cannot tell, which is why nothing may be written behind it.
    let mut tx = database.store.read(NOW).await.unwrap();
    let records = tx.audit_records(0, 9).await.unwrap();
    let mut chain = ChainVerifier::default();
    assert!(records.iter().all(|record| chain.verify(record).is_ok()));
    drop(tx);
    for (case, change) in [
        ("the last one taken out", "DELETE FROM audit WHERE sequence = 3"),
        ("the last one changed", "UPDATE audit SET hash = previous_hash WHERE sequence = 3"),
        ("all taken out", "DELETE FROM audit"),
        (
            "one far behind",
            "INSERT INTO audit SELECT 1000, at, actor, action, device, outcome, detail, previous_hash, hash
             FROM audit WHERE sequence = 3",
        ),
    ] {
        for back in ["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"] {
            database.tamper(back).await;
        }
        // Whoever gives their turn up leaves no word of where the trail ends.
        drop(database.tx().await);
        database.tamper(change).await;
        refused(case).await;
    }
    for back in ["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"] {
        database.tamper(back).await;
    }
    write(&database).await.unwrap();
    assert_eq!(verify(&database.store).await.unwrap(), Ok(4));
}

async fn a_commit_of_which_nobody_was_told_is_found_out(on: Dialect) {
    for is_there in [false, true] {
        let database = Database::with_trail(on, 2).await;
        let mut tx = database.tx().await;
        for _ in 0..2 {
            tx.record(entry(&Actor::Host)).await.unwrap();
        }
        leave_in_doubt(tx, is_there).await;
        drop(database.tx().await);
        write(&database).await.unwrap();
        let records = if is_there { 5 } else { 3 };
        assert_eq!(verify(&database.store).await.unwrap(), Ok(records));
        // It does not go back to the other one.
        database
            .tamper("DELETE FROM audit WHERE sequence > 2")
            .await;
        drop(database.tx().await);
        write(&database).await.unwrap_err();
    }
}

async fn doubts_are_settled_before_a_writer_judges(on: Dialect) {
    let enrolled = async |database: &Database, key: u8| {
        let mut tx = database.tx().await;
        let key = hex::encode([key; 32]);
        let record = AuditEntry {
            action: "device.enrolled",
            device: Some(&device("A")),
            detail: json!({"encryption-key": key, "authentication-key": key}),
            ..entry(&Actor::Host)
        };
        tx.record(record).await.unwrap();
        tx
    };
    for is_there in [false, true] {
        let database = Database::new(on).await;
        let first = enrolled(&database, 5).await;
        first.commit().await.unwrap();
        leave_in_doubt(enrolled(&database, 7).await, is_there).await;
        database.leave_no_word().await;
        let has = |trail: DeviceTrail| {
            [5, 7].map(|key: u8| trail.has_key(Purpose::Encryption, &[key; 32]))
        };
        let now = || has(database.store.trail_of(&device("A")));
        assert_eq!(now(), [true, true], "in doubt");
        let tx = database.tx().await;
        assert_eq!(has(tx.trail_of(&device("A"))), [!is_there, is_there]);
        drop(tx);
        // Whoever finds nothing in doubt does not look.
        assert!(!database.tx().await.is_alone());

        leave_in_doubt(enrolled(&database, 9).await, false).await;
        append(&database).await;
        let refused = database.store.write(NOW).await.err().unwrap();
        assert!(matches!(refused, StoreError::ForeignTrail(_)), "{refused}");
    }
}

async fn what_stands_between_two_milestones_is_in_its_place(on: Dialect) {
    let database = Database::with_trail(on, 2003).await;
    for restarted in [false, true] {
        if restarted {
            assert_eq!(verify(&database.store).await.unwrap(), Ok(2003));
        }
        let mut tx = database.tx().await;
        for change in [
            None,
            Some((
                1500,
                "UPDATE audit SET actor = 'operator:eve' WHERE sequence = 1500",
            )),
            Some((
                2002,
                "UPDATE audit SET actor = 'operator:eve' WHERE sequence = 2002",
            )),
            Some((999, "DELETE FROM audit WHERE sequence = 1")),
        ] {
            let end = tx.certain_end();
            if let Some((_, change)) = change {
                let changed = sqlx::query(change).execute(tx.connection().await.unwrap());
                changed.await.unwrap();
            }
            let changed = change.map(|(place, _)| (place - 1) / 1000);
            for sequence in [1, 999, 1000, 1001, 1500, 2000, 2001, 2003] {
                let holds = tx.is_in_place(sequence, end).await.unwrap();
                let expected = changed != Some((sequence - 1) / 1000);
                assert_eq!(holds, expected, "{change:?} {sequence}");
            }
            for sequence in [0, 2004, 1_000_000] {
                let holds = tx.is_in_place(sequence, end).await.unwrap();
                assert!(!holds, "{sequence}");
            }
            drop(tx);
            tx = database.tx().await;
        }
    }
    // Not even with hashes that fit.
    append(&database).await;
    let mut tx = database.tx().await;
    let end = tx.certain_end();
    assert!(!tx.is_in_place(2004, end).await.unwrap());
}
