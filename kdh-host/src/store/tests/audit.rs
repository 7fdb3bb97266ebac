//! The audit trail.

use super::*;

on_both!(
"current_thread":
    every_change_of_the_trail_is_found,
    the_trail_is_read_in_pages,
    what_stands_in_a_records_detail_is_found,
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

async fn what_stands_in_a_records_detail_is_found(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    for (action, detail) in [
        ("a.done", json!({"id": "1", "number": 7, "other": "2"})),
        ("b.done", json!({"id": "it's \"2\""})),
        ("c.done", json!({"id": "3"})),
    ] {
        let record = AuditEntry {
            action,
            detail,
            ..entry(&Actor::Host)
        };
        tx.record(record).await.unwrap();
    }
    for (actions, field, value, found) in [
        (&["a.done", "b.done"][..], "id", "1", true),
        (&["b.done", "a.done"], "id", "1", true),
        (&["b.done"], "id", "it's \"2\"", true),
        (&["b.done"], "id", "1", false),
        (&["a.done", "b.done"], "id", "3", false),
        (&["a.done"], "id", "2", false),
        (&["a.done"], "number", "7", false),
        (&["a.done"], "none", "1", false),
        (&[], "id", "1", false),
    ] {
        let noted = tx.is_noted(actions, field, value).await.unwrap();
        assert_eq!(noted, found, "{actions:?} {field} {value}");
        let chained = tx.is_chained_note(actions, field, value).await.unwrap();
        assert_eq!(chained, found, "{actions:?} {field} {value}");
    }
    edit(&mut tx, "DELETE FROM audit WHERE sequence = 1").await;
    let actions = ["b.done"];
    let value = "it's \"2\"";
    assert!(tx.is_noted(&actions, "id", value).await.unwrap());
    let chained = tx.is_chained_note(&actions, "id", value).await.unwrap();
    assert!(!chained, "not in its place");
    let broken = "UPDATE audit SET detail = '{' WHERE action = 'c.done'";
    edit(&mut tx, broken).await;
    tx.is_noted(&["c.done"], "id", "3").await.unwrap_err();
}
