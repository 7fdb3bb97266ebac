//! The database fails: no token leaves that is not on record, and what was claimed is given back.

use std::process::Command;

use hsm_modules::SOFTHSM;
use kdh_proto::Reason;
use private_postgres::Postgres;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use system_tests::host::HostOptions;

use super::lab::Lab;

/// Runs SQL in the host's database, from outside.
fn sql(lab: &Lab, statements: &'static str) {
    let path = lab.folder().join("host").join("kdh.sqlite");
    lab.wait_for(async {
        let url = format!("sqlite://{}", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        connection.execute(statements).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn an_audit_record_that_cannot_be_written_fails_the_delivery() {
    let lab = Lab::open(&SOFTHSM, &HostOptions::default());
    let terminal = lab.terminal("STORE-1");
    // Before anything is claimed: the intent.
    sql(
        &lab,
        "CREATE TRIGGER broken BEFORE INSERT ON audit WHEN NEW.action = 'delivery.intent'
         BEGIN SELECT RAISE(ABORT, 'a test'); END",
    );
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    assert!(terminal.deliveries().is_empty());

    // When the token is made and signed.
    sql(
        &lab,
        "DROP TRIGGER broken;
         CREATE TRIGGER broken BEFORE INSERT ON audit WHEN NEW.action = 'delivery.issued'
         BEGIN SELECT RAISE(ABORT, 'a test'); END",
    );
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    assert_eq!(terminal.deliveries(), ["ABANDONED"]);

    sql(&lab, "DROP TRIGGER broken");
    terminal.request_key(1).unwrap();
    lab.verify_audit().unwrap();
}

#[test]
fn a_claim_that_cannot_be_given_back_at_once_is_given_back_later() {
    let lab = Lab::open(&SOFTHSM, &HostOptions::default());
    let terminal = lab.terminal("STORE-1");
    sql(
        &lab,
        "CREATE TRIGGER broken BEFORE INSERT ON audit
         WHEN NEW.action IN ('delivery.issued', 'delivery.abandoned')
         BEGIN SELECT RAISE(ABORT, 'a test'); END",
    );
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    assert_eq!(terminal.deliveries(), ["PREPARED"]);
    sql(&lab, "DROP TRIGGER broken");
    while terminal.deliveries() != ["ABANDONED"] {}
    terminal.request_key(1).unwrap();
    assert_eq!(terminal.deliveries(), ["ISSUED", "ABANDONED"]);
    lab.verify_audit().unwrap();
}

#[test]
fn a_database_that_another_process_holds_fails_the_delivery() {
    let lab = Lab::open(&SOFTHSM, &HostOptions::default());
    let terminal = lab.terminal("STORE-1");
    let holder = lab.hold_database();
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    lab.wait_for(async { holder.close().await.unwrap() });
    terminal.request_key(1).unwrap();
    assert_eq!(terminal.deliveries(), ["ISSUED"]);
}

/// No file of the host may grow above this many bytes, or any number of them.
fn limit_files(lab: &Lab, limit: &str) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", lab.host.id()))
        .arg(format!("--fsize={limit}:unlimited"))
        .status()
        .unwrap();
    assert!(limited.success());
}

#[test]
fn a_full_disk_fails_the_delivery() {
    let options = HostOptions {
        survives_full_files: true,
        ..HostOptions::default()
    };
    let lab = Lab::open(&SOFTHSM, &options);
    let terminal = lab.terminal("STORE-1");
    limit_files(&lab, "1");
    for _ in 0..3 {
        assert_eq!(
            terminal.request_key(1).unwrap_err(),
            Reason::StoreUnavailable
        );
    }
    limit_files(&lab, "unlimited");
    terminal.request_key(1).unwrap();
    assert_eq!(terminal.deliveries(), ["ISSUED"]);
    lab.verify_audit().unwrap();
}

/// A record that PostgreSQL refuses spoils the transaction, as SQLite's does not.
#[test]
fn a_record_that_a_server_refuses_fails_the_delivery() {
    let server = Postgres::shared();
    let options = HostOptions::with_postgres(server).unwrap();
    let database = options.postgres.clone().unwrap().name;
    let lab = Lab::open(&SOFTHSM, &options);
    let terminal = lab.terminal("STORE-1");
    let refuse = |action: &str| {
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE 'a test'; END $$;
             DROP TRIGGER IF EXISTS broken ON audit;
             CREATE TRIGGER broken BEFORE INSERT ON audit FOR EACH ROW
                 WHEN (NEW.action = '{action}') EXECUTE FUNCTION refuse()"
        );
        server.sql(&database, &trigger).unwrap();
    };
    refuse("delivery.intent");
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    assert!(terminal.deliveries().is_empty());
    refuse("delivery.issued");
    assert_eq!(
        terminal.request_key(1).unwrap_err(),
        Reason::StoreUnavailable
    );
    assert_eq!(terminal.deliveries(), ["ABANDONED"]);
    server
        .sql(&database, "DROP TRIGGER broken ON audit")
        .unwrap();
    terminal.request_key(1).unwrap();
    lab.verify_audit().unwrap();
}

#[test]
fn a_database_server_that_is_killed_is_found_again() {
    let server = Postgres::start().unwrap();
    let lab = Lab::open(&SOFTHSM, &HostOptions::with_postgres(&server).unwrap());
    let terminal = lab.terminal("STORE-1");
    terminal.request_key(1).unwrap();
    server.crash().unwrap();
    for _ in 0..2 {
        assert_eq!(
            terminal.request_key(2).unwrap_err(),
            Reason::StoreUnavailable
        );
    }
    server.start_again().unwrap();
    terminal.request_key(2).unwrap();
    assert_eq!(terminal.deliveries(), ["ISSUED", "SUPERSEDED"]);

    // Under many calls at once: each is answered, and counts if it was answered well.
    let calls: Vec<_> = (3..30).map(|nonce| terminal.begin_request(nonce)).collect();
    server.crash().unwrap();
    server.start_again().unwrap();
    let answered = calls.into_iter().filter_map(|answer| answer().ok()).count();
    while terminal.deliveries().contains(&"PREPARED".to_owned()) {}
    let states = terminal.deliveries();
    let issued = states.iter().filter(|state| *state != "ABANDONED").count();
    assert!(issued >= answered + 2, "{states:?}");
    terminal.request_key(40).unwrap();
    lab.verify_audit().unwrap();
}

#[test]
fn a_second_host_on_one_database_does_not_start() {
    let options = HostOptions::with_postgres(Postgres::shared()).unwrap();
    let lab = Lab::open(&SOFTHSM, &options);
    let terminal = lab.terminal("STORE-1");
    let error = lab.site.start_host(&options).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("another kdh-host is using this database"),
        "{error}"
    );
    terminal.request_key(1).unwrap();
}
