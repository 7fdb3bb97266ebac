//! Keys that arrived encrypted, as operators ask for them.

use hsm::Kcv;
use sqlx::Row as _;
use time::OffsetDateTime;
use tr34::{Kbh, KeyKind};

use super::{
    Row, StoreError, Tx,
    keys::{method_word, read_kcv},
    time_text,
};
use crate::{
    names::{KeyAlias, Why},
    state::KeyImportState,
};

const WHAT: &str = "key import";

/// An import to be made.
#[derive(Debug)]
pub(crate) struct NewKeyImport<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a KeyAlias,
    pub(crate) kind: KeyKind,
    pub(crate) header: &'a Kbh,
    pub(crate) kcv: &'a Kcv,
    /// `kdh.v1.WrappedKey`.
    pub(crate) wrapped: &'a [u8],
    /// Of a TR-34 token.
    pub(crate) signed_sha256: Option<&'a str>,
    /// The operator's name.
    pub(crate) by: &'a str,
    pub(crate) why: &'a Why,
    pub(crate) expires_at: OffsetDateTime,
}

/// An import.
#[derive(Clone, Debug)]
pub(crate) struct KeyImportRequest {
    pub(crate) id: String,
    pub(crate) name: KeyAlias,
    pub(crate) kind: KeyKind,
    pub(crate) header: Kbh,
    pub(crate) kcv: Kcv,
    pub(crate) wrapped: Vec<u8>,
    /// Of what the sender of a TR-34 token signed, hex.
    pub(crate) signed_sha256: Option<String>,
    state: KeyImportState,
    expired: bool,
    pub(crate) asked_by: String,
    pub(crate) why: String,
    pub(crate) decided_by: Option<String>,
    pub(crate) expires_at: String,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

impl KeyImportRequest {
    /// Where it stands: that it has expired is written down only when somebody asks anew.
    pub(crate) fn state_now(&self) -> KeyImportState {
        match self.state {
            KeyImportState::Asked if self.expired => KeyImportState::Expired,
            state => state,
        }
    }
}

impl Tx {
    /// Asks; `false` if an import under this name is open already.
    pub(crate) async fn insert_key_import(
        &mut self,
        import: &NewKeyImport<'_>,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO key_imports (id, name, kind, header, kcv_method, kcv, wrapped, state,
             asked_by, why, expires_at, created_at, changed_at, signed_sha256)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13) ON CONFLICT DO NOTHING",
        )
        .bind(import.id)
        .bind(import.name.as_str())
        .bind(import.kind.name())
        .bind(import.header.to_string())
        .bind(method_word(import.kcv.method()))
        .bind(import.kcv.to_string())
        .bind(import.wrapped)
        .bind(KeyImportState::Asked.as_str())
        .bind(import.by)
        .bind(import.why.as_str())
        .bind(time_text(import.expires_at)?)
        .bind(&self.now)
        .bind(import.signed_sha256)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts down which imports have expired. Returns their ids.
    pub(crate) async fn expire_key_imports(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "UPDATE key_imports SET state = 'EXPIRED', changed_at = $1
             WHERE state = 'ASKED' AND expires_at < $1 RETURNING id",
        )
        .bind(self.now.clone())
        .fetch_all(self.connection().await?)
        .await?)
    }

    pub(crate) async fn key_import(
        &mut self,
        id: &str,
    ) -> Result<Option<KeyImportRequest>, StoreError> {
        let row = sqlx::query("SELECT * FROM key_imports WHERE id = $1")
            .bind(id)
            .fetch_optional(self.connection().await?)
            .await?;
        row.as_ref().map(|row| read(row, &self.now)).transpose()
    }

    /// The import of the same TR-34 token that is open or done, if there is one besides: its id, the key's name and
    /// where it stands.
    pub(crate) async fn key_import_of_token(
        &mut self,
        signed_sha256: &str,
        except: Option<&str>,
    ) -> Result<Option<(String, String, KeyImportState)>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, state FROM key_imports WHERE signed_sha256 = $1 AND id IS DISTINCT FROM $2
             AND state IN ('ASKED', 'APPROVED', 'IMPORTED')",
        )
        .bind(signed_sha256)
        .bind(except)
        .fetch_optional(self.connection().await?)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let state: String = row.try_get("state")?;
        let state = KeyImportState::parse(&state).ok_or(StoreError::Damaged(WHAT))?;
        Ok(Some((row.try_get("id")?, row.try_get("name")?, state)))
    }

    /// Decides on an import, takes an approval back that led to no key, or puts down that the key is there.
    ///
    /// # Errors
    /// It is not in the state that it shall leave.
    pub(crate) async fn set_key_import_state(
        &mut self,
        id: &str,
        from: KeyImportState,
        to: KeyImportState,
        decided_by: Option<&str>,
    ) -> Result<(), StoreError> {
        self.exactly_one(
            sqlx::query(
                "UPDATE key_imports SET state = $3, decided_by = $4, changed_at = $5
                 WHERE id = $1 AND state = $2",
            )
            .bind(id.to_owned())
            .bind(from.as_str())
            .bind(to.as_str())
            .bind(decided_by.map(ToOwned::to_owned))
            .bind(self.now.clone()),
            WHAT,
        )
        .await
    }

    /// Imports, newest first, older than a given one if one is given.
    pub(crate) async fn key_imports(
        &mut self,
        before: &str,
        limit: i64,
    ) -> Result<Vec<KeyImportRequest>, StoreError> {
        sqlx::query(
            "SELECT * FROM key_imports WHERE ($1 = '' OR
                 sequence < (SELECT sequence FROM key_imports WHERE id = $1))
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

    /// Imports that are being done, or were to be.
    pub(crate) async fn unfinished_imports(&mut self) -> Result<Vec<KeyImportRequest>, StoreError> {
        sqlx::query("SELECT * FROM key_imports WHERE state = 'APPROVED'")
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(|row| read(row, &self.now))
            .collect()
    }
}

fn read(row: &Row, now: &str) -> Result<KeyImportRequest, StoreError> {
    let damaged = || StoreError::Damaged(WHAT);
    let name: String = row.try_get("name")?;
    let kind: String = row.try_get("kind")?;
    let header: String = row.try_get("header")?;
    let state: String = row.try_get("state")?;
    let expires_at: String = row.try_get("expires_at")?;
    Ok(KeyImportRequest {
        id: row.try_get("id")?,
        name: KeyAlias::parse(&name).map_err(|_| damaged())?,
        kind: KeyKind::from_name(&kind).ok_or_else(damaged)?,
        header: Kbh::parse_plain(header.as_bytes()).map_err(|_| damaged())?,
        kcv: read_kcv(row)?.ok_or_else(damaged)?,
        wrapped: row.try_get("wrapped")?,
        signed_sha256: row.try_get("signed_sha256")?,
        state: KeyImportState::parse(&state).ok_or_else(damaged)?,
        expired: expires_at.as_str() < now,
        asked_by: row.try_get("asked_by")?,
        why: row.try_get("why")?,
        decided_by: row.try_get("decided_by")?,
        expires_at,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}
