//! Statements about many rows at once.

use sqlx::AssertSqlSafe;

use super::{Row, StoreError, Tx, database::Dialect};
use crate::names::DeviceSerial;

impl Dialect {
    /// The first parameters of a statement, for so many rows of so many columns: `($1,$2),($3,$4)`. In SQLite numbers are
    /// names, and each value's is looked for among all of them: it gets `(?,?),(?,?)`, which is the same.
    pub(super) fn tuples(self, rows: usize, columns: usize) -> String {
        let parameter = |place: usize| match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${place}"),
        };
        let row = |row: usize| {
            let parameters = (1..=columns).map(|column| parameter(row * columns + column));
            format!("({})", parameters.collect::<Vec<_>>().join(","))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(",")
    }
}

impl Tx {
    /// [`Dialect::tuples`] of this database.
    pub(super) fn tuples(&self, rows: usize, columns: usize) -> String {
        self.put_off.dialect().tuples(rows, columns)
    }

    /// Rows that a statement finds of devices, which are its only parameters.
    pub(super) async fn about(
        &mut self,
        sql: String,
        devices: &[DeviceSerial],
    ) -> Result<Vec<Row>, StoreError> {
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for device in devices {
            statement = statement.bind(device.to_string());
        }
        Ok(statement.fetch_all(self.connection().await?).await?)
    }
}
