//! Check values of devices' own keys, and how many keys share one.

use hsm::{Kcv, KcvMethod};
use sqlx::{AssertSqlSafe, Row as _};

use super::{StoreError, Tx, keys::method_word};

/// In the index over live check values.
const LIVE: &str = "source = 'UNIQUE' AND state IN ('PENDING', 'ACTIVE')";

impl Tx {
    /// How many live keys have check values of this form, in the index alone.
    pub(crate) async fn live_check_values(
        &mut self,
        method: KcvMethod,
        len: usize,
    ) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT COUNT(*) FROM device_keys WHERE kcv_method = $1 AND LENGTH(kcv) = $2 AND {LIVE}"
        );
        let digits = i64::try_from(2 * len).map_err(|_| StoreError::Damaged("check value"))?;
        let keys: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(method_word(method))
            .bind(digits)
            .fetch_one(self.connection().await?)
            .await?;
        u64::try_from(keys).map_err(|_| StoreError::Damaged("count"))
    }

    /// Those of these check values, all of one method, that more than one live key has, and how many have.
    pub(crate) async fn equal_check_values(
        &mut self,
        kcvs: Vec<&Kcv>,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let Some(first) = kcvs.first() else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT kcv, COUNT(*) AS held FROM device_keys WHERE kcv IN {} AND kcv_method = '{}' AND {LIVE}
             GROUP BY kcv HAVING COUNT(*) > 1",
            self.tuples(1, kcvs.len()),
            method_word(first.method())
        );
        let statement = kcvs
            .iter()
            .fold(sqlx::query(AssertSqlSafe(sql)), |statement, kcv| {
                statement.bind(kcv.to_string())
            });
        let rows = statement.fetch_all(self.connection().await?).await?;
        let rows = rows.iter().map(|row| {
            let (kcv, held): (String, i64) = (row.try_get("kcv")?, row.try_get("held")?);
            let held = u64::try_from(held).map_err(|_| StoreError::Damaged("count"))?;
            Ok((kcv, held))
        });
        rows.collect()
    }
}
