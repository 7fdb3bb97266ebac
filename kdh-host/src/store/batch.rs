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
            self.sql.push_str(&format!("${}{rest}", before + number));
        }
        self.sql.push(';');
        Parameters(self)
    }

    /// With this before it, which has no parameters.
    pub(super) fn behind(mut self, statements: &'static str) -> Self {
        self.sql.insert_str(0, ";");
        self.sql.insert_str(0, statements);
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
