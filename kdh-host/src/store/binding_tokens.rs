//! Unbind and rebind tokens.

use sqlx::Row as _;
use tr34::IssuerAndSerial;

use super::{Row, StoreError, Tx, flag, kdh_id};
use crate::{
    names::DeviceSerial,
    state::{BindingChange, BindingTokenState},
};

/// What a token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MadeFor {
    /// An operator's order, by number: signed by the KDH.
    Order(i64),
    /// A request to the authority, by id: signed by `CA_KRD`.
    Authority(String),
}

/// A token that ends a device's binding.
#[derive(Clone, Debug)]
pub(crate) struct BindingToken {
    pub(crate) id: String,
    pub(crate) device: DeviceSerial,
    pub(crate) made_for: MadeFor,
    pub(crate) change: BindingChange<IssuerAndSerial>,
    /// The KDH that is left.
    pub(crate) kdh: IssuerAndSerial,
    pub(crate) state: BindingTokenState,
    /// Of those that the KDH signs.
    pub(crate) nonce: Option<Vec<u8>>,
    /// Once it exists.
    pub(crate) sha256: Option<Vec<u8>>,
}

impl Tx {
    /// Records a token, or the intent to make one.
    pub(crate) async fn insert_binding_token(
        &mut self,
        token: &BindingToken,
    ) -> Result<(), StoreError> {
        let (order, authority) = match &token.made_for {
            MadeFor::Order(number) => (Some(*number), None),
            MadeFor::Authority(id) => (None, Some(id)),
        };
        sqlx::query(
            "INSERT INTO binding_tokens (id, device, order_number, authority, kind, kdh, new_kdh,
             state, nonce, token_sha256, created_at, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
        )
        .bind(&token.id)
        .bind(token.device.as_str())
        .bind(order)
        .bind(authority)
        .bind(token.change.kind().as_str())
        .bind(token.kdh.to_der())
        .bind(token.change.new_kdh().map(IssuerAndSerial::to_der))
        .bind(token.state.as_str())
        .bind(token.nonce.as_deref())
        .bind(token.sha256.as_deref())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// A token that was prepared exists.
    ///
    /// # Errors
    /// It is not one that was prepared and is still to be issued.
    pub(crate) async fn issue_binding_token(
        &mut self,
        id: &str,
        sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE binding_tokens SET state = 'ISSUED', token_sha256 = $2, changed_at = $3
                 WHERE id = $1 AND state = 'PREPARED'",
            )
            .bind(id.to_owned())
            .bind(&sha256[..])
            .bind(self.now.clone()),
            "token state",
        )
        .await
    }

    /// Moves a token on; `false` if it is not in the state that it shall leave.
    pub(crate) async fn set_binding_token_state(
        &mut self,
        id: &str,
        from: BindingTokenState,
        to: BindingTokenState,
    ) -> Result<bool, StoreError> {
        let moved = sqlx::query(
            "UPDATE binding_tokens SET state = $3, changed_at = $4 WHERE id = $1 AND state = $2",
        )
        .bind(id)
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(moved.rows_affected() == 1)
    }

    /// Gives up a token that was not made, and its nonce; `false` if it stands otherwise by now.
    pub(crate) async fn abandon_binding_token(
        &mut self,
        device: &DeviceSerial,
        id: &str,
        nonce: &[u8],
    ) -> Result<bool, StoreError> {
        let (prepared, abandoned) = (BindingTokenState::Prepared, BindingTokenState::Abandoned);
        if !self
            .set_binding_token_state(id, prepared, abandoned)
            .await?
        {
            return Ok(false);
        }
        self.give_back_nonce(device, nonce).await?;
        Ok(true)
    }

    /// The token with this digest that was made for a device.
    pub(crate) async fn binding_token_by_digest(
        &mut self,
        device: &DeviceSerial,
        sha256: &[u8],
    ) -> Result<Option<BindingToken>, StoreError> {
        sqlx::query("SELECT * FROM binding_tokens WHERE token_sha256 = $1 AND device = $2")
            .bind(sha256)
            .bind(device.as_str())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// The token of a request to the authority.
    pub(crate) async fn authority_token(
        &mut self,
        request: &str,
    ) -> Result<Option<BindingToken>, StoreError> {
        sqlx::query("SELECT * FROM binding_tokens WHERE authority = $1")
            .bind(request)
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Whether there is a token for a device that left, or may leave, and that it has not acknowledged.
    pub(crate) async fn has_binding_tokens(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM binding_tokens WHERE device = $1 AND state = 'ISSUED') AS found",
        )
        .bind(device.as_str())
        .fetch_one(self.connection().await?)
        .await?;
        flag(&found, "found")
    }

    /// Tokens that were not made, or not yet.
    pub(crate) async fn unfinished_binding_tokens(
        &mut self,
    ) -> Result<Vec<BindingToken>, StoreError> {
        sqlx::query("SELECT * FROM binding_tokens WHERE state = 'PREPARED'")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read)
            .collect()
    }
}

fn read(row: &Row) -> Result<BindingToken, StoreError> {
    let damaged = || StoreError::Damaged("unbind or rebind token");
    let device: String = row.try_get("device")?;
    let kind: String = row.try_get("kind")?;
    let state: String = row.try_get("state")?;
    let (order, authority) = (row.try_get("order_number")?, row.try_get("authority")?);
    Ok(BindingToken {
        id: row.try_get("id")?,
        device: DeviceSerial::parse(&device).map_err(|_| damaged())?,
        made_for: match (order, authority) {
            (Some(number), None) => MadeFor::Order(number),
            (None, Some(id)) => MadeFor::Authority(id),
            _ => return Err(damaged()),
        },
        change: BindingChange::of_parts(&kind, kdh_id(row, "new_kdh")?).ok_or_else(damaged)?,
        kdh: kdh_id(row, "kdh")?.ok_or_else(damaged)?,
        state: BindingTokenState::parse(&state).ok_or_else(damaged)?,
        nonce: row.try_get("nonce")?,
        sha256: row.try_get("token_sha256")?,
    })
}
