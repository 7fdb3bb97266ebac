//! Somebody who writes to the audit trail behind the host's back, with hashes that fit.

use kdh_proto::{FIRST_PREVIOUS_HASH, audit_hash, to_hex, v1::AuditRecord};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::database::Database;

fn read(row: &SqliteRow) -> AuditRecord {
    AuditRecord {
        sequence: u64::try_from(row.get::<i64, _>("sequence")).unwrap(),
        at: row.get("at"),
        actor: row.get("actor"),
        action: row.get("action"),
        device: row.get("device"),
        outcome: row.get("outcome"),
        detail: row.get("detail"),
        previous_hash: row.get("previous_hash"),
        hash: row.get("hash"),
    }
}

/// Has a record follow on the one of this hash.
fn chain(record: &mut AuditRecord, previous: &str) {
    let mut hash = FIRST_PREVIOUS_HASH;
    hex::decode_to_slice(previous, &mut hash).unwrap();
    previous.clone_into(&mut record.previous_hash);
    record.hash = to_hex(&audit_hash(&hash, record));
}

async fn put(database: &mut Database, record: AuditRecord) {
    sqlx::query("INSERT OR REPLACE INTO audit VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(i64::try_from(record.sequence).unwrap())
        .bind(record.at)
        .bind(record.actor)
        .bind(record.action)
        .bind(record.device)
        .bind(record.outcome)
        .bind(record.detail)
        .bind(record.previous_hash)
        .bind(record.hash)
        .execute(database.connection())
        .await
        .unwrap();
}

/// Adds a record at the end.
pub(crate) async fn append(database: &mut Database, mut record: AuditRecord) {
    let last = "SELECT * FROM audit ORDER BY sequence DESC LIMIT 1";
    let last = sqlx::query(last)
        .fetch_one(database.connection())
        .await
        .unwrap();
    let last = read(&last);
    record.sequence = last.sequence + 1;
    chain(&mut record, &last.hash);
    put(database, record).await;
}

/// Changes the newest record of an action, or any other one if there is none, and has the next one follow on it. Until
/// [`put_back`].
pub(crate) async fn forge(
    database: &mut Database,
    action: &str,
    change: impl FnOnce(&mut AuditRecord),
) {
    let newest = "SELECT COALESCE(MAX(sequence), 2) FROM audit WHERE action = $1";
    let newest = sqlx::query_scalar(newest).bind(action.to_owned());
    let newest: i64 = newest.fetch_one(database.connection()).await.unwrap();
    let around = format!(
        "SELECT * FROM audit WHERE sequence BETWEEN {} AND {} ORDER BY sequence",
        newest - 1,
        newest + 1
    );
    database
        .execute(&format!("CREATE TABLE true_audit AS {around}"))
        .await;
    let around = sqlx::query(sqlx::AssertSqlSafe(around));
    let around = around.fetch_all(database.connection()).await.unwrap();
    let mut around = around.iter().map(read);
    let mut before = around.next().unwrap();
    let mut change = Some(change);
    for mut record in around {
        if let Some(change) = change.take() {
            change(&mut record);
        }
        chain(&mut record, &before.hash);
        put(database, record.clone()).await;
        before = record;
    }
}

/// The trail is as it was before [`forge`].
pub(crate) async fn put_back(database: &mut Database) {
    database
        .edit("INSERT OR REPLACE INTO audit SELECT * FROM true_audit")
        .await;
    database.execute("DROP TABLE true_audit").await;
}
