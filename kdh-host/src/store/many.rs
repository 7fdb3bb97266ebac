//! Statements about many rows at once.

use sqlx::AssertSqlSafe;

use super::{Row, StoreError, Tx};
use crate::names::DeviceSerial;

impl Tx {
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

/// Parameters for so many rows of so many columns: `($1,$2),($3,$4)`.
pub(super) fn tuples(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let parameters = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", parameters.collect::<Vec<_>>().join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}
