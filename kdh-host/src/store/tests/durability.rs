//! The database on real files: what it keeps apart, and what survives.

use super::*;

on_both!(
"current_thread":
    what_is_not_committed_is_not_there,
    what_was_committed_is_there_after_a_restart,
    damaged_rows_are_named_and_not_guessed,
    a_database_is_one_hosts_alone,
);

mod at_once {
    use super::*;

    on_both!("multi_thread": writers_follow_one_another);
}

#[tokio::test]
async fn the_file_is_durable_and_its_references_hold() {
    let database = Database::new(Dialect::Sqlite).await;
    let pragma = async |name: &'static str| -> String {
        let row = sqlx::query(name)
            .fetch_one(&database.store.pool)
            .await
            .unwrap();
        sqlx::Row::try_get::<String, _>(&row, 0)
            .or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|number| number.to_string()))
            .unwrap()
    };
    assert_eq!(pragma("PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma("PRAGMA synchronous").await, "2", "FULL");
    assert_eq!(pragma("PRAGMA foreign_keys").await, "1");

    let orphan = database
        .tx()
        .await
        .claim_nonce(&device("NOBODY"), Some(&slot()), &nonce(1))
        .await;
    assert!(orphan.is_err(), "a nonce of no device");
}

/// Two threads of SQLite 3.51.0 and 3.51.1, one of which opens a database while the other one closes it, can wait
/// for each other for ever.
#[tokio::test]
async fn sqlite_is_none_of_the_versions_that_deadlock() {
    let database = Database::new(Dialect::Sqlite).await;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&database.store.pool)
        .await
        .unwrap();
    assert!(!["3.51.0", "3.51.1"].contains(&&*version), "{version}");
}

async fn what_is_not_committed_is_not_there(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
    tx.record(entry(&Actor::Host)).await.unwrap();
    drop(tx);
    assert_eq!(verify(&database.store).await.unwrap(), Ok(0));
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
}

async fn what_was_committed_is_there_after_a_restart(on: Dialect) {
    let database = Database::with_trail(on, 2).await.restarted().await;
    assert_eq!(verify(&database.store).await.unwrap(), Ok(2));
    let mut tx = database.tx().await;
    tx.record(entry(&Actor::Host)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(verify(&database.store).await.unwrap(), Ok(3));
}

async fn writers_follow_one_another(on: Dialect) {
    let database = Arc::new(Database::with_devices(on, &["A"]).await);
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let database = Arc::clone(&database);
            tokio::spawn(async move {
                let mut tx = database.tx().await;
                let first = claim(&mut tx, &device("A"), &nonce(7)).await;
                if first {
                    tx.record(entry(&Actor::Device(device("A")))).await.unwrap();
                } else {
                    tx.record(entry(&Actor::Host)).await.unwrap();
                }
                tx.commit().await.unwrap();
                first
            })
        })
        .collect();
    let mut firsts = 0;
    for writer in writers {
        firsts += usize::from(writer.await.unwrap());
    }
    assert_eq!(
        firsts, 1,
        "a nonce is claimed once, whoever comes at the same time"
    );
    assert_eq!(verify(&database.store).await.unwrap(), Ok(100));
}

#[tokio::test]
async fn a_database_of_the_first_version_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.db");
    let settings = StoreSettings::Sqlite(path);
    let database = database::Database::new(&settings).unwrap();
    let mut connection = database.writer().await.unwrap();
    let migrations = database.dialect.migrations();
    migrations.run_to(1, &mut connection).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO devices VALUES
             ('A', 'M1', 'BOUND', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('B', 'M1', 'SUSPENDED', 'BOUND', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('C', 'M1', 'ENROLLED', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z');
         INSERT INTO keys VALUES ('tmk', 'kn.tmk', 'D0000K0AB00E0000', 'AES-128', 'AES_CMAC',
             'A1B2C3', '2026-01-01T00:00:00Z');
         INSERT INTO assignments VALUES ('A', 'tmk', 2, 'tmk', '2026-01-01T00:00:00Z', NULL);
         INSERT INTO deliveries VALUES (1, '1', 'A', 'tmk', 2, 'tmk', 'CONFIRMED', x'01', NULL,
             '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z');",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    drop((connection, database));

    let store = Store::open(&settings).await.unwrap();
    let mut tx = store.write(NOW).await.unwrap();
    assert!(assignments(&mut tx, &device("A")).await[0].confirmed);
    let stored = tx.device(&device("A")).await.unwrap().unwrap();
    assert_eq!((stored.bound_kdh, stored.keys_fate), (None, None));
    assert_eq!(tx.complete_bindings(&kdh(1)).await.unwrap(), 2);
    let mut bound = async |serial| tx.device(&device(serial)).await.unwrap().unwrap().bound_kdh;
    assert_eq!(bound("A").await, Some(kdh(1)));
    assert_eq!(bound("B").await, Some(kdh(1)));
    assert_eq!(bound("C").await, None, "it never bound");
    assert_eq!(tx.complete_bindings(&kdh(2)).await.unwrap(), 0);
}

async fn damaged_rows_are_named_and_not_guessed(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    database.tamper("UPDATE devices SET state = 'FINE'").await;
    let damaged = database.tx().await.device(&device("A")).await;
    assert!(matches!(damaged, Err(StoreError::Damaged("device"))));
}

async fn a_database_is_one_hosts_alone(on: Dialect) {
    let database = Database::new(on).await;
    let second = Store::open(&database.place.settings).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse), "{second}");
    database.restarted().await;
}

#[tokio::test]
async fn a_file_is_the_same_under_another_name() {
    let database = Database::new(Dialect::Sqlite).await;
    let folder = database.place.folder.path();
    let link = folder.join("link.db");
    std::os::unix::fs::symlink(folder.join("host.db"), &link).unwrap();
    let linked = Store::open(&StoreSettings::Sqlite(link)).await.unwrap_err();
    assert!(matches!(linked, StoreError::InUse), "{linked}");
}
