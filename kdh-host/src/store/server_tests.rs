//! What only a server can do: be set otherwise, ask for a password, go away, come back, say nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use private_postgres::{GUARDED, PASSWORD, Postgres};
use serde_json::json;
use time::{OffsetDateTime, macros::datetime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Actor, AuditEntry, Dialect, Store, StoreError,
    both::{Place, postgres},
};
use crate::config::{PostgresServer, PostgresSettings, StoreSettings};

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00:00 UTC);
/// Ends the connection that holds the lock.
const END_WRITER: &str =
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_database d ON d.oid = database
     WHERE locktype = 'advisory' AND granted AND datname = current_database()";

/// A database of the shared server.
fn database() -> PostgresSettings {
    match Place::new(Dialect::Postgres).settings {
        StoreSettings::Postgres(settings) => settings,
        StoreSettings::Sqlite(_) => unreachable!(),
    }
}

async fn open(settings: &PostgresSettings) -> Result<Store, StoreError> {
    Store::open(&StoreSettings::Postgres(settings.clone())).await
}

fn sql(settings: &PostgresSettings, statements: &str) -> String {
    let server = Postgres::shared();
    server.sql(&settings.database, statements).unwrap()
}

/// Writes a record of the trail.
async fn write(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.write(NOW).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: "test.done",
        device: None,
        outcome: "ok",
        detail: json!({}),
    })
    .await?;
    tx.commit().await
}

/// How many records the trail has. It holds.
async fn records(store: &Store) -> Result<u64, StoreError> {
    let records = store.read(NOW).await?.verify_audit().await?;
    Ok(records.unwrap())
}

#[tokio::test]
async fn a_server_that_would_lose_or_change_what_it_is_given_is_refused() {
    for (setting, refused) in [
        ("synchronous_commit = off", true),
        ("synchronous_commit = local", true),
        ("synchronous_commit = remote_write", true),
        ("synchronous_commit = remote_apply", false),
    ] {
        let settings = database();
        let alter = format!("ALTER DATABASE {} SET {setting}", settings.database);
        sql(&settings, &alter);
        match open(&settings).await {
            Ok(_) => assert!(!refused, "{setting}"),
            Err(StoreError::Unfit(error)) => {
                assert!(refused, "{setting}");
                let why = "with which a crash would take back what was committed: set it to on";
                assert_eq!(error, format!("the server has {setting}, {why}"));
            }
            Err(other) => panic!("{setting}: {other}"),
        }
    }

    let latin = PostgresSettings {
        database: "latin".to_owned(),
        ..database()
    };
    let make = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0";
    Postgres::shared().sql("postgres", make).unwrap();
    let error = open(&latin).await.unwrap_err();
    assert!(
        error.to_string().contains("server_encoding = LATIN1"),
        "{error}"
    );
}

#[tokio::test]
async fn how_long_a_commit_takes_to_be_safe_is_fixed_at_the_start() {
    let settings = database();
    let store = open(&settings).await.unwrap();
    let alter = format!(
        "ALTER DATABASE {} SET synchronous_commit",
        settings.database
    );
    sql(&settings, &format!("{alter} = off"));
    write(&store).await.unwrap();
    // A connection that is made again is asked again.
    sql(&settings, END_WRITER);
    let error = write(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfit(_)), "{error}");
    sql(&settings, &format!("{alter} = on"));
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 2);
}

#[tokio::test]
async fn a_writer_without_the_lock_does_not_write() {
    let settings = database();
    let store = open(&settings).await.unwrap();
    write(&store).await.unwrap();
    sql(&settings, END_WRITER);
    write(&store).await.unwrap();

    sql(&settings, END_WRITER);
    let other = open(&settings).await.unwrap();
    write(&other).await.unwrap();
    let error = write(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse), "{error}");
    assert_eq!(
        records(&store).await.unwrap(),
        3,
        "whoever reads is not kept from it"
    );
    write(&other).await.unwrap();
    other.close().await;
    // What the other one wrote since is not known to it: it goes on when it has followed the trail.
    let error = write(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::ForeignTrail(3)), "{error}");
    assert_eq!(records(&store).await.unwrap(), 4);
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 5);
}

#[tokio::test]
async fn a_server_that_goes_away_is_missed_and_found_again() {
    let server = Postgres::start().unwrap();
    let settings = postgres(&server, &server.new_database().unwrap());
    let store = open(&settings).await.unwrap();
    write(&store).await.unwrap();
    // More than one connection has to be found out.
    let readers = (store.ask(NOW).await.unwrap(), store.ask(NOW).await.unwrap());
    drop(readers);

    server.crash().unwrap();
    for _ in 0..2 {
        write(&store).await.unwrap_err();
        records(&store).await.unwrap_err();
    }
    server.start_again().unwrap();
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 2);

    // Nobody called while it was away.
    server.crash().unwrap();
    server.start_again().unwrap();
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 3);

    // In the middle of a turn.
    let mut tx = store.write(NOW).await.unwrap();
    let model = crate::names::Model::parse("M1").unwrap();
    let device = crate::names::DeviceSerial::parse("A").unwrap();
    tx.insert_device(&device, &model).await.unwrap();
    server.crash().unwrap();
    server.start_again().unwrap();
    tx.commit().await.unwrap_err();
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 4);
    let found = store.ask(NOW).await.unwrap().device(&device).await.unwrap();
    assert!(found.is_none());

    // It takes what is sent, and says nothing.
    server.freeze().unwrap();
    let (written, read) = tokio::join!(write(&store), records(&store));
    assert!(written.is_err() && read.is_err());
    server.thaw().unwrap();
    write(&store).await.unwrap();
    assert_eq!(records(&store).await.unwrap(), 5);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let settings = PostgresSettings {
        server: PostgresServer::Socket {
            folder: folder.path().to_owned(),
            port: 5432,
        },
        ..database()
    };
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, StoreError::Database(_)), "{error}");
}

fn private_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_password_comes_from_its_file_and_goes_nowhere_else() {
    Postgres::shared().make_database(GUARDED).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let mut settings = PostgresSettings {
        database: GUARDED.to_owned(),
        ..database()
    };
    let error = open(&settings).await.unwrap_err();
    assert!(error.to_string().contains("password"), "{error}");
    settings.password_file = Some(path.clone());
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfit(_)), "{error}");
    private_file(&path, "another-password");
    let error = open(&settings).await.unwrap_err();
    assert!(
        error.to_string().contains("password authentication failed"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("another-password"));

    private_file(&path, &format!("{PASSWORD}\n"));
    let store = open(&settings).await.unwrap();
    write(&store).await.unwrap();
    let shown = format!("{store:?}");
    assert!(!shown.contains("password"), "{shown}");
}

/// The server proves who it is before it is told anything, and nothing goes to it in clear.
#[tokio::test]
async fn over_tcp_there_is_tls_with_a_server_that_is_the_right_one() {
    let server = Postgres::start_with_tls().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    private_file(&password, PASSWORD);
    let database = server.new_database().unwrap();
    let settings = |host: &str, port, ca: &str| PostgresSettings {
        server: PostgresServer::Tls {
            host: host.to_owned(),
            port,
            ca: server.socket().join(ca),
        },
        password_file: Some(password.clone()),
        ..postgres(&server, &database)
    };
    let store = open(&settings("localhost", server.port(), "ca.pem")).await;
    let store = store.unwrap();
    write(&store).await.unwrap();
    let encrypted =
        "SELECT COUNT(*) > 0 AND BOOL_AND(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'kdh-host'";
    assert_eq!(server.sql(&database, encrypted).unwrap(), "t");
    store.close().await;
    for (host, ca, fault) in [
        ("localhost", "other-ca.pem", "invalid peer certificate"),
        ("127.0.0.1", "ca.pem", "not valid for name"),
    ] {
        let error = open(&settings(host, server.port(), ca)).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(fault), "{host} {ca}: {error}");
    }

    // One that knows no TLS gets no more than the question.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        let mut question = [0; 8];
        stream.read_exact(&mut question).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        stream.read_to_end(&mut said).await.unwrap();
        said
    });
    let error = open(&settings("localhost", port, "ca.pem")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("does not support TLS"), "{error}");
    assert_eq!(plain.await.unwrap(), [0; 0]);
}

/// What the migrations become, for which no migration has to do anything.
#[tokio::test]
async fn text_is_compared_byte_by_byte_and_numbers_are_wide() {
    let settings = database();
    open(&settings).await.unwrap();
    let odd = "SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' AND NOT (data_type IN ('bigint', 'bytea')
             OR data_type = 'text' AND collation_name = 'C')";
    assert_eq!(sql(&settings, odd), "");
    let texts = "SELECT COUNT(*) > 20 FROM information_schema.columns
         WHERE table_schema = 'public' AND data_type = 'text'";
    assert_eq!(sql(&settings, texts), "t");
}

#[tokio::test]
async fn it_is_told_at_once_of_a_table_that_has_grown() {
    let settings = database();
    let store = open(&settings).await.unwrap();
    let known = || {
        let rows = "SELECT reltuples FROM pg_class WHERE relname = 'devices'";
        sql(&settings, rows).trim().to_owned()
    };
    let grow = |from: u32, to: u32| {
        // What was changed is known to others at once, and not in ten seconds.
        sql(
            &settings,
            &format!(
                "INSERT INTO devices (serial_number, model, state, created_at, changed_at)
                 SELECT n, 'M', 'REGISTERED', '', '' FROM generate_series({from}, {to}) AS n;
                 SELECT pg_stat_force_next_flush()"
            ),
        );
    };
    for (from, to, expected) in [
        (1, 400, "-1"),
        (401, 1200, "1200"),
        (1201, 1800, "1200"),
        (1801, 4000, "4000"),
    ] {
        grow(from, to);
        store.keep_quick().await.unwrap();
        assert_eq!(known(), expected, "{to}");
    }
}
