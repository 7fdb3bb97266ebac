//! The host's database, from outside.

use private_postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};
use tokio::runtime;

use super::Fragile;

impl Fragile {
    /// The first column, a text, of what a query finds.
    pub(crate) fn find(&self, query: &str) -> Vec<String> {
        if let Some(database) = &self.options.postgres {
            let printed = Postgres::shared().sql(&database.name, query).unwrap();
            return printed.lines().map(ToOwned::to_owned).collect();
        }
        self.in_sqlite(async |connection| {
            let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
            query.fetch_all(connection).await.unwrap()
        })
    }

    /// Has the database refuse `what`, such as `INSERT ON audit`, of rows for which `when` holds.
    pub(crate) fn refuse(&self, what: &str, when: &str) {
        if let Some(database) = &self.options.postgres {
            let refuse = format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE 'a test'; END $$;
                 CREATE TRIGGER refused BEFORE {what} FOR EACH ROW WHEN ({when})
                     EXECUTE FUNCTION refuse()"
            );
            Postgres::shared().sql(&database.name, &refuse).unwrap();
            return;
        }
        self.execute(&format!(
            "CREATE TRIGGER refused BEFORE {what} WHEN {when}
             BEGIN SELECT RAISE(ABORT, 'a test'); END"
        ));
    }

    /// Ends what [`Self::refuse`] began with this table.
    pub(crate) fn refuse_no_more(&self, table: &str) {
        if let Some(database) = &self.options.postgres {
            let drop = format!("DROP TRIGGER refused ON {table}");
            Postgres::shared().sql(&database.name, &drop).unwrap();
            return;
        }
        self.execute("DROP TRIGGER refused");
    }

    /// Brings all of SQLite's log into its file, so that the log is empty.
    pub(crate) fn empty_log(&self) {
        // Somebody who reads keeps it from that.
        let busy = || {
            self.in_sqlite(async |connection| {
                let emptied = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)");
                let (busy, ..): (i64, i64, i64) = emptied.fetch_one(connection).await.unwrap();
                busy == 1
            })
        };
        while busy() {}
    }

    fn execute(&self, statement: &str) {
        self.in_sqlite(async |connection| {
            let statement = AssertSqlSafe(statement.to_owned());
            connection.execute(statement).await.unwrap();
        });
    }

    fn in_sqlite<T>(&self, act: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> T {
        let path = self.site.folder().join("host").join("kdh.sqlite");
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let path = format!("sqlite://{}", path.display());
            let mut connection = SqliteConnection::connect(&path).await.unwrap();
            let done = act(&mut connection).await;
            connection.close().await.unwrap();
            done
        })
    }
}
