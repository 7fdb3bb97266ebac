//! The tables with sealed rows, all of them. Keys of devices are many; of the others there are few, which are read whole.

use sqlx::AssertSqlSafe;

use super::{DeviceKey, Row, Sealed, SealedRow, StoreError, Tx};

/// Does the same for every kind of sealed row of which there are few. This is the list of them.
macro_rules! for_each_kind_of_few {
    ($Row:ident => $act:expr) => {
        $crate::store::for_each_kind_of_few!(
            $Row => $act; StoredKey, StoredBdk, Approval, Rollout
        )
    };
    ($Row:ident => $act:expr; $($kind:ident),+) => {
        $({
            type $Row = $crate::store::$kind;
            $act;
        })+
    };
}
pub(crate) use for_each_kind_of_few;

/// Sealed rows of which there are few.
pub(crate) trait FewRows: SealedRow + Clone + Send + Sync + 'static {
    /// A row as it stands.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: the host cannot have written it.
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError>;

    /// Puts another seal on a row that is otherwise as it was. One that may be changed at any time is left alone if it
    /// was.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it is not as it was, and the host does not change such rows.
    fn reseal(
        tx: &mut Tx,
        old: &Sealed<Self>,
        new: &Sealed<Self>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Tx {
    /// All rows of a kind, as they stand.
    pub(crate) async fn few_rows<R: FewRows>(
        &mut self,
    ) -> Result<Vec<Result<Sealed<R>, StoreError>>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {}", R::TABLE)))
            .fetch_all(self.connection().await?)
            .await?;
        Ok(rows.iter().map(R::read).collect())
    }

    /// How many sealed rows of all tables are under each pair of storage keys.
    pub(crate) async fn rows_by_storage_key(&mut self) -> Result<Vec<(u32, u64)>, StoreError> {
        let mut tables = vec![DeviceKey::TABLE];
        for_each_kind_of_few!(Kind => tables.push(Kind::TABLE));
        let of_each = tables.iter().map(|table| {
            format!("SELECT storage_key, COUNT(*) AS rows_of_one FROM {table} GROUP BY storage_key")
        });
        let of_each = of_each.collect::<Vec<_>>().join(" UNION ALL ");
        let counted: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT CAST(storage_key AS BIGINT), CAST(SUM(rows_of_one) AS BIGINT) FROM ({of_each}) AS counted
             GROUP BY storage_key ORDER BY storage_key"
        )))
        .fetch_all(self.connection().await?)
        .await?;
        // What can be no number of a pair is none: such a row is refused wherever it is read.
        let counted = counted.into_iter().filter_map(|(number, rows)| {
            let number = u32::try_from(number).ok()?;
            Some((number, u64::try_from(rows).ok()?))
        });
        Ok(counted.collect())
    }
}
