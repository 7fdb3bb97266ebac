//! What operators have ordered about the bindings of devices.

use sqlx::Row as _;

use super::{Row, StoreError, Tx};
use crate::{
    names::{DeviceSerial, Why},
    state::BindingChange,
};

/// An order to be given.
#[derive(Debug)]
pub(crate) struct NewBindingOrder<'a> {
    pub(crate) device: &'a DeviceSerial,
    /// With the new KDH's certificate, DER.
    pub(crate) change: BindingChange<&'a [u8]>,
    /// The operator's name.
    pub(crate) by: &'a str,
    pub(crate) why: &'a Why,
}

/// How an order ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderEnd {
    /// The device has acknowledged it.
    Done,
    /// An operator took it back.
    Cancelled,
}

impl OrderEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// An order.
#[derive(Clone, Debug)]
pub(crate) struct BindingOrder {
    pub(crate) number: i64,
    pub(crate) change: BindingChange<Vec<u8>>,
    pub(crate) ordered_by: String,
    pub(crate) why: String,
    pub(crate) created_at: String,
}

impl Tx {
    /// Gives an order. Returns its number; none if the device has an open one.
    pub(crate) async fn insert_binding_order(
        &mut self,
        order: &NewBindingOrder<'_>,
    ) -> Result<Option<i64>, StoreError> {
        let number = sqlx::query_scalar(
            "INSERT INTO binding_orders (device, kind, new_kdh, state, ordered_by, why, created_at,
             changed_at) VALUES ($1, $2, $3, 'OPEN', $4, $5, $6, $6) ON CONFLICT DO NOTHING
             RETURNING number",
        )
        .bind(order.device.as_str())
        .bind(order.change.kind().as_str())
        .bind(order.change.new_kdh().copied())
        .bind(order.by)
        .bind(order.why.as_str())
        .bind(self.now.clone())
        .fetch_optional(self.connection().await?)
        .await?;
        Ok(number)
    }

    /// The open order of a device.
    pub(crate) async fn open_order(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<BindingOrder>, StoreError> {
        sqlx::query("SELECT * FROM binding_orders WHERE device = $1 AND state = 'OPEN'")
            .bind(device.as_str())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Closes an order; `false` if it is closed already.
    pub(crate) async fn close_order(
        &mut self,
        number: i64,
        end: OrderEnd,
    ) -> Result<bool, StoreError> {
        let closed = sqlx::query(
            "UPDATE binding_orders SET state = $2, changed_at = $3
             WHERE number = $1 AND state = 'OPEN'",
        )
        .bind(number)
        .bind(end.as_str())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(closed.rows_affected() == 1)
    }
}

fn read(row: &Row) -> Result<BindingOrder, StoreError> {
    let kind: String = row.try_get("kind")?;
    let change = BindingChange::of_parts(&kind, row.try_get("new_kdh")?);
    Ok(BindingOrder {
        number: row.try_get("number")?,
        change: change.ok_or(StoreError::Damaged("order"))?,
        ordered_by: row.try_get("ordered_by")?,
        why: row.try_get("why")?,
        created_at: row.try_get("created_at")?,
    })
}
