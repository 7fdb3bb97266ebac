//! Statements that go to the database together.
//!
//! A connection has a thread of its own, and each way to it and back costs more than most statements do. So
//! what can wait for the next statement, because nobody needs its answer before, goes with that one.

use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Encode, Executor as _, Sqlite, SqliteConnection, Type,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteRow},
};

/// Statements in the order in which they are to be run. One that fails keeps those behind it from being run.
#[derive(Default)]
pub(super) struct Batch {
    sql: String,
    arguments: SqliteArguments,
    unencodable: Option<BoxDynError>,
}

/// The parameters of a statement that was added.
pub(super) struct Parameters<'b>(&'b mut Batch);

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<SqliteRow>,
    /// Rows that it changed.
    pub(super) changed: u64,
}

impl Batch {
    /// Adds a statement. Its parameters, `$1` and so on, are its own.
    pub(super) fn add(&mut self, statement: &'static str) -> Parameters<'_> {
        let before = self.arguments.len();
        let mut parts = statement.split('$');
        self.sql.extend(parts.next());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let number: usize = number.parse().unwrap_or_default();
            self.sql
                .extend(["$", (before + number).to_string().as_str(), rest]);
        }
        self.sql.push(';');
        Parameters(self)
    }

    /// With this before it, which has no parameters.
    pub(super) fn behind(mut self, statements: &'static str) -> Self {
        self.sql = [statements, ";", &self.sql].concat();
        self
    }

    /// With this after it, which has no parameters.
    pub(super) fn before(mut self, statements: &'static str) -> Self {
        self.add(statements);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Runs them. Gives an answer for each.
    ///
    /// # Errors
    /// The first one that fails, or a value that has no form in the database: then none was run.
    pub(super) async fn send(self, connection: &mut SqliteConnection) -> sqlx::Result<Vec<Answer>> {
        if let Some(error) = self.unencodable {
            return Err(sqlx::Error::Encode(error));
        }
        // Put together from this program's own statements; values are bound.
        let statements = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments);
        let mut stream = connection.fetch_many(statements);
        let mut answers = Vec::new();
        let mut rows = Vec::new();
        while let Some(piece) = stream.try_next().await? {
            match piece {
                Either::Right(row) => rows.push(row),
                Either::Left(done) => answers.push(Answer {
                    rows: std::mem::take(&mut rows),
                    changed: done.rows_affected(),
                }),
            }
        }
        Ok(answers)
    }
}

impl Parameters<'_> {
    /// The next parameter's value.
    pub(super) fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(self, value: T) -> Self {
        if let Err(error) = self.0.arguments.add(value) {
            self.0.unencodable.get_or_insert(error);
        }
        self
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sqlx::{Connection as _, Row as _};

    use super::*;

    async fn database() -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        connection
            .execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
            .await
            .unwrap();
        connection
    }

    async fn rows(connection: &mut SqliteConnection) -> Vec<(i64, String)> {
        let rows = sqlx::query_as("SELECT a, b FROM t ORDER BY a");
        rows.fetch_all(connection).await.unwrap()
    }

    #[tokio::test]
    async fn each_statement_has_its_own_parameters_and_its_own_answer() {
        let mut connection = database().await;
        let mut batch = Batch::default();
        batch
            .add("INSERT INTO t VALUES ($1, $2), ($3, $2)")
            .bind(1)
            .bind("one")
            .bind(2);
        batch.add("INSERT INTO t VALUES (9, 'nine')");
        batch
            .add("UPDATE t SET b = $2 WHERE a = $1 RETURNING a, b")
            .bind(2)
            .bind("two");
        batch.add("SELECT a FROM t WHERE a > $1").bind(9);
        let answers = batch.send(&mut connection).await.unwrap();
        let changed: Vec<_> = answers.iter().map(|answer| answer.changed).collect();
        assert_eq!(changed[..3], [2, 1, 1]);
        let found: Vec<_> = answers.iter().map(|answer| answer.rows.len()).collect();
        assert_eq!(found, [0, 0, 1, 0]);
        assert_eq!(answers[2].rows[0].get::<String, _>("b"), "two");
        let expected = [(1, "one"), (2, "two"), (9, "nine")];
        assert_eq!(
            rows(&mut connection).await,
            expected.map(|(a, b)| (a, b.to_owned()))
        );
    }

    #[tokio::test]
    async fn more_than_nine_parameters_keep_their_places() {
        let mut connection = database().await;
        let mut batch = Batch::default();
        let mut first = batch.add(
            "INSERT INTO t VALUES ($1, $12), ($2, 'x'), ($3, 'x'), ($4, 'x'), ($5, 'x'), ($6, 'x'),
                 ($7, 'x'), ($8, 'x'), ($9, 'x'), ($10, $11)",
        );
        for number in 1..=10 {
            first = first.bind(number);
        }
        first.bind("eleven").bind("twelve");
        batch
            .add("INSERT INTO t VALUES ($2, $1)")
            .bind("b")
            .bind(20);
        batch.send(&mut connection).await.unwrap();
        let rows = rows(&mut connection).await;
        assert_eq!(rows[0], (1, "twelve".to_owned()));
        assert_eq!(rows[9], (10, "eleven".to_owned()));
        assert_eq!(rows[10], (20, "b".to_owned()));
    }

    #[tokio::test]
    async fn what_stands_behind_a_statement_that_fails_is_not_run() {
        let mut connection = database().await;
        let mut batch = Batch::default();
        batch.add("INSERT INTO t VALUES ($1, 'first')").bind(1);
        batch.add("INSERT INTO t VALUES ($1, 'again')").bind(1);
        batch.add("INSERT INTO t VALUES ($1, 'behind')").bind(2);
        let batch = batch.behind("BEGIN").before("COMMIT");
        let error = batch.send(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("UNIQUE"), "{error}");
        // The commit was not run either.
        connection.execute("ROLLBACK").await.unwrap();
        assert!(rows(&mut connection).await.is_empty());
    }

    #[tokio::test]
    async fn an_empty_batch_does_nothing() {
        let mut connection = database().await;
        let batch = Batch::default();
        assert!(batch.is_empty());
        assert!(batch.send(&mut connection).await.unwrap().is_empty());
    }
}
