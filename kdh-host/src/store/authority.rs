//! What `CA_KRD` is asked to sign for terminals whose KDH is lost.

use sqlx::Row as _;
use time::OffsetDateTime;
use tr34::IssuerAndSerial;

use super::{Row, StoreError, Tx, kdh_id, time_text};
use crate::{
    names::{DeviceSerial, Why},
    state::{AuthorityState, BindingChange},
};

/// A request to be made.
#[derive(Debug)]
pub(crate) struct NewAuthorityRequest<'a> {
    pub(crate) id: &'a str,
    pub(crate) device: &'a DeviceSerial,
    /// Serial number of the encryption certificate that the token shall name.
    pub(crate) certificate: &'a str,
    /// With the new KDH's certificate, DER.
    pub(crate) change: BindingChange<&'a [u8]>,
    /// The KDH that is lost.
    pub(crate) kdh: &'a IssuerAndSerial,
    /// The operator's name.
    pub(crate) by: &'a str,
    pub(crate) why: &'a Why,
    pub(crate) expires_at: OffsetDateTime,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityRequest {
    pub(crate) id: String,
    pub(crate) device: DeviceSerial,
    pub(crate) certificate: String,
    pub(crate) change: BindingChange<Vec<u8>>,
    pub(crate) kdh: IssuerAndSerial,
    state: AuthorityState,
    expired: bool,
    pub(crate) asked_by: String,
    pub(crate) why: String,
    pub(crate) decided_by: Option<String>,
    pub(crate) expires_at: String,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

impl AuthorityRequest {
    /// Where it stands: that it has expired is written down only when somebody asks anew.
    pub(crate) fn state_now(&self) -> AuthorityState {
        match self.state {
            AuthorityState::Asked if self.expired => AuthorityState::Expired,
            state => state,
        }
    }
}

impl Tx {
    /// Asks; `false` if there is a request for this certificate and this KDH already that is open, or was
    /// signed.
    pub(crate) async fn insert_authority_request(
        &mut self,
        request: &NewAuthorityRequest<'_>,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO authority_requests (id, device, certificate, kind, kdh, new_kdh, state,
             asked_by, why, expires_at, created_at, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT DO NOTHING",
        )
        .bind(request.id)
        .bind(request.device.as_str())
        .bind(request.certificate)
        .bind(request.change.kind().as_str())
        .bind(request.kdh.to_der())
        .bind(request.change.new_kdh().copied())
        .bind(AuthorityState::Asked.as_str())
        .bind(request.by)
        .bind(request.why.as_str())
        .bind(time_text(request.expires_at)?)
        .bind(&self.now)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts down which requests for a device have expired. Returns their ids.
    pub(crate) async fn expire_authority_requests(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE authority_requests SET state = 'EXPIRED', changed_at = $2
             WHERE device = $1 AND state = 'ASKED' AND expires_at < $2 RETURNING id",
        )
        .bind(device.as_str())
        .bind(self.now.clone())
        .fetch_all(self.connection().await?)
        .await?)
    }

    pub(crate) async fn authority_request(
        &mut self,
        id: &str,
    ) -> Result<Option<AuthorityRequest>, StoreError> {
        let row = sqlx::query("SELECT * FROM authority_requests WHERE id = $1")
            .bind(id)
            .fetch_optional(self.connection().await?)
            .await?;
        row.as_ref().map(|row| read(row, &self.now)).transpose()
    }

    /// Decides on a request, or takes an approval back that led to no token.
    ///
    /// # Errors
    /// It is not in the state that it shall leave.
    pub(crate) async fn set_authority_state(
        &mut self,
        id: &str,
        from: AuthorityState,
        to: AuthorityState,
        decided_by: Option<&str>,
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE authority_requests SET state = $3, decided_by = $4, changed_at = $5
                 WHERE id = $1 AND state = $2",
            )
            .bind(id.to_owned())
            .bind(from.as_str())
            .bind(to.as_str())
            .bind(decided_by.map(ToOwned::to_owned))
            .bind(self.now.clone()),
            "request to the authority",
        )
        .await
    }

    /// Keeps the token of a request that was approved.
    ///
    /// # Errors
    /// The approval was taken back in the meantime.
    pub(crate) async fn put_authority_token(
        &mut self,
        id: &str,
        token: &[u8],
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE authority_requests SET state = 'SIGNED', token = $2, changed_at = $3
                 WHERE id = $1 AND state = 'APPROVED'",
            )
            .bind(id.to_owned())
            .bind(token.to_owned())
            .bind(self.now.clone()),
            "request to the authority",
        )
        .await
    }

    /// Requests, newest first, older than a given one if one is given.
    pub(crate) async fn authority_requests(
        &mut self,
        before: &str,
        limit: i64,
    ) -> Result<Vec<AuthorityRequest>, StoreError> {
        sqlx::query(
            "SELECT * FROM authority_requests WHERE ($1 = '' OR
                 sequence < (SELECT sequence FROM authority_requests WHERE id = $1))
             ORDER BY sequence DESC LIMIT $2",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(|row| read(row, &self.now))
        .collect()
    }

    /// The newest request for a device's present encryption certificate whose token exists and was not yet
    /// acknowledged.
    pub(crate) async fn pending_authority_request(
        &mut self,
        device: &DeviceSerial,
    ) -> Result<Option<AuthorityRequest>, StoreError> {
        let row = sqlx::query(
            "SELECT r.* FROM authority_requests r
             JOIN certificates c ON c.serial = r.certificate AND c.device = r.device
                 AND c.purpose = 'ENCRYPTION' AND c.state = 'CURRENT'
             JOIN binding_tokens t ON t.authority = r.id AND t.state = 'ISSUED'
             WHERE r.device = $1 AND r.state = 'SIGNED' ORDER BY r.sequence DESC LIMIT 1",
        )
        .bind(device.as_str())
        .fetch_optional(self.connection().await?)
        .await?;
        row.as_ref().map(|row| read(row, &self.now)).transpose()
    }

    /// Requests whose token is being signed, or was to be.
    pub(crate) async fn unfinished_approvals(
        &mut self,
    ) -> Result<Vec<AuthorityRequest>, StoreError> {
        sqlx::query("SELECT * FROM authority_requests WHERE state = 'APPROVED'")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| read(row, &self.now))
            .collect()
    }
}

fn read(row: &Row, now: &str) -> Result<AuthorityRequest, StoreError> {
    let damaged = || StoreError::Damaged("request to the authority");
    let device: String = row.try_get("device")?;
    let kind: String = row.try_get("kind")?;
    let state: String = row.try_get("state")?;
    let expires_at: String = row.try_get("expires_at")?;
    Ok(AuthorityRequest {
        id: row.try_get("id")?,
        device: DeviceSerial::parse(&device).map_err(|_| damaged())?,
        certificate: row.try_get("certificate")?,
        change: BindingChange::of_parts(&kind, row.try_get("new_kdh")?).ok_or_else(damaged)?,
        kdh: kdh_id(row, "kdh")?.ok_or_else(damaged)?,
        state: AuthorityState::parse(&state).ok_or_else(damaged)?,
        expired: expires_at.as_str() < now,
        asked_by: row.try_get("asked_by")?,
        why: row.try_get("why")?,
        decided_by: row.try_get("decided_by")?,
        expires_at,
        token: row.try_get("token")?,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}
