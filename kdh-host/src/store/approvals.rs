//! What takes two operators, as one asks for it and another one decides.

use sqlx::Row as _;

use super::{
    Row, StoreError, Tx,
    few_rows::FewRows,
    keys::read_seal,
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::{
    names::beginning,
    state::{ApprovalState, ApprovedAct},
};

const WHAT: &str = "approval";

/// Something that takes two operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) id: String,
    pub(crate) act: ApprovedAct,
    /// What it is about, as text that the act understands.
    pub(crate) subject: String,
    pub(crate) state: ApprovalState,
    pub(crate) asked_by: String,
    pub(crate) why: String,
    pub(crate) decided_by: Option<String>,
    /// How far the act has come, as text that it understands; none if it has not begun.
    pub(crate) progress: Option<String>,
    /// Which operator withdrew it, and why.
    pub(crate) ended_by: Option<String>,
    pub(crate) ended_why: Option<String>,
    pub(crate) expires_at: String,
    pub(crate) created_at: String,
    pub(crate) changed_at: String,
}

/// A row as it was read; its id alone if the host cannot have written it.
pub(crate) type ApprovalRow = Result<Sealed<Approval>, String>;

impl Approval {
    /// Where it stands: that it has expired is written down only when somebody asks anew.
    pub(crate) fn state_at(&self, now: &str) -> ApprovalState {
        match self.state {
            ApprovalState::Asked if self.expires_at.as_str() < now => ApprovalState::Expired,
            state => state,
        }
    }

    /// Which row it is, by its id, for people.
    pub(crate) fn title_of(id: &str) -> String {
        format!("approval {}", beginning(id))
    }
}

impl SealedRow for Approval {
    const TABLE: &'static str = "approvals";

    fn columns(&self, columns: &mut Columns) {
        columns.text(&self.id);
        columns.text(self.act.as_str());
        columns.text(&self.subject);
        columns.text(self.state.as_str());
        columns.text(&self.asked_by);
        columns.text(&self.why);
        columns.optional_text(self.decided_by.as_deref());
        columns.optional_text(self.progress.as_deref());
        columns.optional_text(self.ended_by.as_deref());
        columns.optional_text(self.ended_why.as_deref());
        columns.text(&self.expires_at);
        columns.text(&self.created_at);
        columns.text(&self.changed_at);
    }

    fn title(&self) -> String {
        Self::title_of(&self.id)
    }
}

impl Tx {
    /// Adds one; `false` if one of the same is open already.
    pub(crate) async fn insert_approval(
        &mut self,
        approval: &Sealed<Approval>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO approvals (id, act, subject, state, asked_by, why, decided_by, progress, ended_by,
                 ended_why, expires_at, created_at, changed_at, storage_key, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING",
        );
        let inserted = bound(statement, approval)
            .execute(self.connection().await?)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts a row in the place of what it was; `false` if it is something else by now.
    pub(crate) async fn replace_approval(
        &mut self,
        old: &Sealed<Approval>,
        new: &Sealed<Approval>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "UPDATE approvals SET act = $2, subject = $3, state = $4, asked_by = $5, why = $6, decided_by = $7,
                 progress = $8, ended_by = $9, ended_why = $10, expires_at = $11, created_at = $12,
                 changed_at = $13, storage_key = $14, mac = $15
             WHERE id = $1 AND mac = $16",
        );
        let replaced = bound(statement, new)
            .bind(old.seal().map(Seal::mac_bytes))
            .execute(self.connection().await?)
            .await?;
        Ok(replaced.rows_affected() == 1)
    }

    pub(crate) async fn approval(
        &mut self,
        id: &str,
    ) -> Result<Option<Sealed<Approval>>, StoreError> {
        sqlx::query("SELECT * FROM approvals WHERE id = $1")
            .bind(id)
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read)
            .transpose()
    }

    /// Those of a kind that are asked for, expired or not, or in force.
    pub(crate) async fn open_approvals(
        &mut self,
        act: ApprovedAct,
    ) -> Result<Vec<Sealed<Approval>>, StoreError> {
        let rows = self.open_approval_rows(act).await?;
        rows.iter().map(read).collect()
    }

    /// The same, without those that the host cannot have written.
    pub(crate) async fn readable_open_approvals(
        &mut self,
        act: ApprovedAct,
    ) -> Result<Vec<Sealed<Approval>>, StoreError> {
        let rows = self.open_approval_rows(act).await?;
        Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
    }

    /// Those that are in force alone, without those that the host cannot have written.
    pub(crate) async fn readable_approvals_in_force(
        &mut self,
        act: ApprovedAct,
    ) -> Result<Vec<Sealed<Approval>>, StoreError> {
        let rows = sqlx::query(
            // The index is of both states.
            "SELECT * FROM approvals WHERE act = $1 AND state IN ('ASKED', 'APPROVED') AND state = 'APPROVED'
             ORDER BY sequence",
        )
        .bind(act.as_str())
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
    }

    async fn open_approval_rows(&mut self, act: ApprovedAct) -> Result<Vec<Row>, StoreError> {
        Ok(sqlx::query(
            "SELECT * FROM approvals WHERE act = $1 AND state IN ('ASKED', 'APPROVED') ORDER BY sequence",
        )
        .bind(act.as_str())
        .fetch_all(self.connection().await?)
        .await?)
    }

    /// Those of a kind whose subjects begin so, newest first, older than a given one if one is given. No character of
    /// the beginning means something to LIKE.
    pub(crate) async fn approvals_of(
        &mut self,
        act: ApprovedAct,
        begins: &str,
        before: &str,
        limit: i64,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals WHERE act = $1 AND subject LIKE $2 AND ($3 = '' OR
                 sequence < (SELECT sequence FROM approvals WHERE id = $3))
             ORDER BY sequence DESC LIMIT $4",
        )
        .bind(act.as_str())
        .bind(format!("{begins}%"))
        .bind(before)
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read_or_id).collect())
    }

    /// All, newest first, older than a given one if one is given.
    pub(crate) async fn approvals(
        &mut self,
        before: &str,
        limit: i64,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals WHERE ($1 = '' OR
                 sequence < (SELECT sequence FROM approvals WHERE id = $1))
             ORDER BY sequence DESC LIMIT $2",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(self.connection().await?)
        .await?;
        Ok(rows.iter().map(read_or_id).collect())
    }
}

impl FewRows for Approval {
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError> {
        read(row)
    }

    async fn reseal(tx: &mut Tx, old: &Sealed<Self>, new: &Sealed<Self>) -> Result<(), StoreError> {
        tx.replace_approval(old, new).await.map(drop)
    }
}

fn id(row: &Row) -> String {
    row.try_get("id").unwrap_or_default()
}

/// A row that the host could have written.
fn read(row: &Row) -> Result<Sealed<Approval>, StoreError> {
    parse(row).map_err(|_| StoreError::NotSealed(Approval::title_of(&id(row))))
}

/// The same; its id alone of one that it could not.
fn read_or_id(row: &Row) -> ApprovalRow {
    read(row).map_err(|_| id(row))
}

fn parse(row: &Row) -> Result<Sealed<Approval>, StoreError> {
    let damaged = || StoreError::Damaged(WHAT);
    let text = |column: &str| row.try_get::<String, _>(column);
    let approval = Approval {
        id: text("id")?,
        act: ApprovedAct::parse(&text("act")?).ok_or_else(damaged)?,
        subject: text("subject")?,
        state: ApprovalState::parse(&text("state")?).ok_or_else(damaged)?,
        asked_by: text("asked_by")?,
        why: text("why")?,
        decided_by: row.try_get("decided_by")?,
        progress: row.try_get("progress")?,
        ended_by: row.try_get("ended_by")?,
        ended_why: row.try_get("ended_why")?,
        expires_at: text("expires_at")?,
        created_at: text("created_at")?,
        changed_at: text("changed_at")?,
    };
    Ok(Sealed::new(approval, read_seal(row)?))
}
