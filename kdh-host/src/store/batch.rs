//! Statements that go to the database together.
//!
//! A connection to SQLite has a thread of its own, and each way to it and back costs more than most statements do. So
//! what can wait for the next statement, because nobody needs its answer before, goes with that one. PostgreSQL gets
//! one after the other.

use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Encode, Executor as _, Type, error::BoxDynError,
};

use super::{
    Arguments, Db, Row,
    database::{Dialect, Session},
};

/// Statements in the order in which they are to be run. One that fails keeps those behind it from being run.
pub(super) struct Batch {
    dialect: Dialect,
    /// What is sent as one, which for SQLite is all of it.
    pieces: Vec<Piece>,
    statements: usize,
    before: &'static str,
    after: &'static str,
    unencodable: Option<BoxDynError>,
}

#[derive(Default)]
struct Piece {
    sql: String,
    arguments: Arguments,
}

/// The parameters of a statement that was added.
pub(super) struct Parameters<'b> {
    arguments: &'b mut Arguments,
    unencodable: &'b mut Option<BoxDynError>,
}

/// What a statement gave.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// Rows that it changed.
    pub(super) changed: u64,
}

impl Batch {
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            pieces: Vec::new(),
            statements: 0,
            before: "",
            after: "",
            unencodable: None,
        }
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Adds a statement. Its parameters, `$1` and so on, are its own.
    pub(super) fn add(&mut self, statement: &'static str) -> Parameters<'_> {
        if self.pieces.is_empty() || self.dialect == Dialect::Postgres {
            self.pieces.push(Piece::default());
        }
        self.statements += 1;
        let last = self.pieces.len() - 1;
        let Piece { sql, arguments } = &mut self.pieces[last];
        let before = arguments.len();
        let mut parts = statement.split('$');
        sql.extend(parts.next());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let number: usize = number.parse().unwrap_or_default();
            sql.extend(["$", (before + number).to_string().as_str(), rest]);
        }
        sql.push(';');
        Parameters {
            arguments,
            unencodable: &mut self.unencodable,
        }
    }

    /// With this statement or these before it. They have no parameters and give no answers.
    pub(super) const fn behind(mut self, before: &'static str) -> Self {
        self.before = before;
        self
    }

    /// With this after it, likewise.
    pub(super) const fn before(mut self, after: &'static str) -> Self {
        self.after = after;
        self
    }

    /// Leaves none.
    pub(super) const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.dialect))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.statements == 0
    }

    /// Runs them. Gives an answer for each.
    ///
    /// # Errors
    /// The first one that fails, or a value that has no form in the database: then none was run.
    pub(super) async fn send(mut self, mut session: Session<'_>) -> sqlx::Result<Vec<Answer>> {
        if let Some(error) = self.unencodable {
            return Err(sqlx::Error::Encode(error));
        }
        let mut answers = Vec::with_capacity(self.statements);
        match self.dialect {
            Dialect::Sqlite => {
                let Piece { sql, arguments } = self.pieces.pop().unwrap_or_default();
                let end = if self.before.is_empty() { "" } else { ";" };
                let sql = [self.before, end, &sql, self.after].concat();
                Piece { sql, arguments }.send(session, &mut answers).await?;
                let skipped = self.before.split_terminator(';').count();
                answers.drain(..skipped);
                answers.truncate(self.statements);
            }
            Dialect::Postgres => {
                run(session.again(), self.before).await?;
                for piece in self.pieces {
                    piece.send(session.again(), &mut answers).await?;
                }
                run(session, self.after).await?;
            }
        }
        Ok(answers)
    }
}

impl Piece {
    async fn send(self, session: Session<'_>, answers: &mut Vec<Answer>) -> sqlx::Result<()> {
        // Put together from this program's own statements; values are bound.
        let statements = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments);
        let mut stream = session.fetch_many(statements);
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
        Ok(())
    }
}

/// Runs what has neither parameters nor answers, in one go.
pub(super) async fn run(session: Session<'_>, statements: &'static str) -> sqlx::Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    session.execute(sqlx::raw_sql(statements)).await.map(drop)
}

impl Parameters<'_> {
    /// The next parameter's value.
    pub(super) fn bind<'q, T: Encode<'q, Db> + Type<Db>>(self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.unencodable.get_or_insert(error);
        }
        self
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::store::{
        Connection,
        both::{Place, on_both},
        database::Database,
    };

    on_both!(
    "current_thread":
        each_statement_has_its_own_parameters_and_its_own_answer,
        more_than_nine_parameters_keep_their_places,
        what_stands_behind_a_statement_that_fails_is_not_run,
        an_empty_batch_does_nothing,
    );

    async fn database(on: Dialect) -> (Connection, Place) {
        let place = Place::new(on);
        let database = Database::new(&place.settings).unwrap();
        let mut connection = database.writer().await.unwrap();
        run(
            Session(&mut connection),
            "CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT)",
        )
        .await
        .unwrap();
        (connection, place)
    }

    async fn rows(connection: &mut Connection) -> Vec<(i64, String)> {
        let rows = sqlx::query_as("SELECT a, b FROM t ORDER BY a");
        rows.fetch_all(connection).await.unwrap()
    }

    async fn each_statement_has_its_own_parameters_and_its_own_answer(on: Dialect) {
        let (mut connection, _place) = database(on).await;
        let mut batch = Batch::new(on);
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
        let answers = batch.send(Session(&mut connection)).await.unwrap();
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

    async fn more_than_nine_parameters_keep_their_places(on: Dialect) {
        let (mut connection, _place) = database(on).await;
        let mut batch = Batch::new(on);
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
        batch.send(Session(&mut connection)).await.unwrap();
        let rows = rows(&mut connection).await;
        assert_eq!(rows[0], (1, "twelve".to_owned()));
        assert_eq!(rows[9], (10, "eleven".to_owned()));
        assert_eq!(rows[10], (20, "b".to_owned()));
    }

    async fn what_stands_behind_a_statement_that_fails_is_not_run(on: Dialect) {
        let (mut connection, _place) = database(on).await;
        let mut batch = Batch::new(on);
        batch.add("INSERT INTO t VALUES ($1, 'first')").bind(1);
        batch.add("INSERT INTO t VALUES ($1, 'again')").bind(1);
        batch.add("INSERT INTO t VALUES ($1, 'behind')").bind(2);
        let batch = batch.behind("BEGIN").before("COMMIT");
        let error = batch.send(Session(&mut connection)).await.err().unwrap();
        assert!(
            error.to_string().to_lowercase().contains("unique"),
            "{error}"
        );
        // The commit was not run either.
        run(Session(&mut connection), "ROLLBACK").await.unwrap();
        assert!(rows(&mut connection).await.is_empty());
    }

    async fn an_empty_batch_does_nothing(on: Dialect) {
        let (mut connection, _place) = database(on).await;
        let batch = Batch::new(on);
        assert!(batch.is_empty());
        assert!(
            batch
                .send(Session(&mut connection))
                .await
                .unwrap()
                .is_empty()
        );
    }
}
