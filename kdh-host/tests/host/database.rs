//! The host's database, in the hands of somebody who reads it, and writes to it behind the host's back.

use sqlx::{AssertSqlSafe, Connection as _, FromRow, SqliteConnection, sqlite::SqliteRow};

use crate::world::World;

/// A connection that the host knows nothing of. What it is asked for is there.
pub(crate) struct Database(SqliteConnection);

impl Database {
    pub(crate) async fn open(world: &World<'_>) -> Self {
        let path = world.path("host.db");
        let connection = SqliteConnection::connect(path.to_str().unwrap()).await;
        Self(connection.unwrap())
    }

    /// Says how many rows it has changed.
    pub(crate) async fn execute(&mut self, statement: &str) -> u64 {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
        let done = statement.execute(&mut self.0).await;
        done.unwrap().rows_affected()
    }

    /// The same, for what has to change rows.
    pub(crate) async fn edit(&mut self, statement: &str) {
        assert_ne!(self.execute(statement).await, 0, "{statement}");
    }

    /// Takes a copy of a table, in the place of an earlier one.
    pub(crate) async fn keep(&mut self, table: &str, copy: &str) {
        self.execute(&format!("DROP TABLE IF EXISTS {copy}")).await;
        let keep = format!("CREATE TABLE {copy} AS SELECT * FROM {table}");
        self.execute(&keep).await;
    }

    /// Puts the rows of a table back as they were when the copy was taken.
    pub(crate) async fn put_back(&mut self, table: &str, copy: &str) {
        self.execute(&format!("DELETE FROM {table}")).await;
        let back = format!("INSERT INTO {table} SELECT * FROM {copy}");
        self.edit(&back).await;
    }

    pub(crate) async fn rows<T>(&mut self, query: &str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> FromRow<'r, SqliteRow>,
    {
        let query = sqlx::query_as(AssertSqlSafe(query.to_owned()));
        query.fetch_all(&mut self.0).await.unwrap()
    }

    /// The first row.
    pub(crate) async fn row<T>(&mut self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> FromRow<'r, SqliteRow>,
    {
        self.rows(query).await.into_iter().next().unwrap()
    }

    /// The one column of all rows.
    pub(crate) async fn column<T>(&mut self, query: &str) -> Vec<T>
    where
        T: Send + Unpin,
        (T,): for<'r> FromRow<'r, SqliteRow>,
    {
        let rows = self.rows::<(T,)>(query).await;
        rows.into_iter().map(|(value,)| value).collect()
    }

    /// The one column of the first row.
    pub(crate) async fn value<T>(&mut self, query: &str) -> T
    where
        T: Send + Unpin,
        (T,): for<'r> FromRow<'r, SqliteRow>,
    {
        self.row::<(T,)>(query).await.0
    }

    /// The names of a table's columns.
    pub(crate) async fn columns(&mut self, table: &str) -> Vec<String> {
        let columns = format!("SELECT name FROM pragma_table_info('{table}')");
        self.column(&columns).await
    }

    /// How many rows there are of this table, or of this table where something holds.
    pub(crate) async fn count(&mut self, what: &str) -> i64 {
        self.value(&format!("SELECT COUNT(*) FROM {what}")).await
    }

    /// For statements with parameters.
    pub(crate) const fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}
