//! The highest CRL number seen of each issuer: an older list is not accepted again, whatever
//! happens to its file.

use pki::{Certificate, CrlNumber};
use sha2::{Digest, Sha256};

use super::{StoreError, Tx};

impl Tx {
    pub(crate) async fn crl_number(
        &mut self,
        issuer: &Certificate,
    ) -> Result<Option<CrlNumber>, StoreError> {
        let number: Option<i64> =
            sqlx::query_scalar("SELECT number FROM crl_numbers WHERE issuer_sha256 = $1")
                .bind(issuer_id(issuer))
                .fetch_optional(self.connection().await?)
                .await?;
        number
            .map(|number| u64::try_from(number).map(CrlNumber))
            .transpose()
            .map_err(|_| StoreError::Damaged("CRL number"))
    }

    /// Remembers a number; `false` if a higher one was seen.
    pub(crate) async fn raise_crl_number(
        &mut self,
        issuer: &Certificate,
        number: CrlNumber,
    ) -> Result<bool, StoreError> {
        let number = i64::try_from(number.0).map_err(|_| StoreError::Damaged("CRL number"))?;
        let raised = sqlx::query(
            "INSERT INTO crl_numbers (issuer_sha256, number) VALUES ($1, $2)
             ON CONFLICT (issuer_sha256) DO UPDATE SET number = excluded.number
             WHERE crl_numbers.number <= excluded.number",
        )
        .bind(issuer_id(issuer))
        .bind(number)
        .execute(self.connection().await?)
        .await?;
        Ok(raised.rows_affected() == 1)
    }
}

/// A CA that gets a new certificate keeps its name and its numbers.
fn issuer_id(issuer: &Certificate) -> Vec<u8> {
    Sha256::digest(issuer.subject().der()).to_vec()
}
