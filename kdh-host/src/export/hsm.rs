//! A target's keys in the HSM, and what is done with them.

use hsm::{
    ExportForm, ExportTarget, ExportedKey, HsmError, Kcv, KeyExport, KeyRole, KnSource, Mac,
};
use kdh_proto::Reason;

use super::{OpenTarget, Target, target::SharedKey};
use crate::{
    Host, HostError,
    error::refused,
    keys::HostKeys,
    store::{DeviceKey, Sealed},
};

impl OpenTarget {
    /// Its keys in the HSM, which are still those that were agreed on. They are looked up for each round of records that
    /// are made, and for each file or call in which records leave: a key that was exchanged is noticed by the next one. A
    /// token that was away and has come back with another key takes no part anyway.
    ///
    /// # Errors
    /// As [`HostKeys::verify_export`].
    pub(super) async fn keys(&self, host: &Host) -> Result<ExportTarget, HostError> {
        let target = self.target.clone();
        host.in_hsm(move |keys| keys.export_target(&target)).await
    }
}

impl HostKeys {
    /// Whether keys can go to a target: the HSM has its keys, with the check values that were agreed on, and can do
    /// its form.
    ///
    /// # Errors
    /// [`HsmError::KcvMismatch`]: a key is another one. [`HsmError::Unsupported`], naming what is missing.
    pub(crate) fn verify_export(&self, target: &Target) -> Result<(), HostError> {
        let found = self.export_target(target)?;
        Ok(self.kdh_tokens().verify_export(found.form())?)
    }

    /// A target's keys, which are still those that were agreed on.
    ///
    /// # Errors
    /// As [`Self::verify_export`].
    fn export_target(&self, target: &Target) -> Result<ExportTarget, HostError> {
        // Before the HSM is asked, which is to know what is demanded of other keys as long as it was.
        let role = |key: &SharedKey| KeyRole::of_secret(&key.name);
        let form = ExportForm::of(role(&target.under), role(&target.mac))?;
        if form != target.form {
            let (label, wanted) = (target.under.name.label(), target.form);
            let cause = format!("{label} is a key for {form}, not for {wanted}");
            return Err(refused(Reason::RequestInvalid, cause));
        }
        let tokens = self.kdh_tokens();
        let find = |key: &SharedKey| tokens.agreed_key(role(key), &key.name, key.kind, &key.kcv);
        Ok(ExportTarget::new(
            &find(&target.under)?,
            &find(&target.mac)?,
        )?)
    }

    /// A device's key as the HSM is to export it, with the row that it has to verify before.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`](crate::store::StoreError::NotSealed): the row has no seal, or is not what is known
    /// of its key.
    pub(super) fn export_of(&self, key: &Sealed<DeviceKey>) -> Result<KeyExport, HostError> {
        let row = key.unproven();
        let kn = self.source(key)?;
        Ok(KeyExport {
            // Whose it is, whatever the device's own header says of that.
            optional: match &kn {
                KnSource::Derived(key) => vec![key.optional_block()],
                KnSource::InToken(_) | KnSource::Stored(_) => Vec::new(),
            },
            kn,
            record: Some(self.record_of(key)?),
            header: row.header.clone(),
            kcv_len: row.kcv.value().len(),
        })
    }

    /// Has the HSM wrap keys for a target.
    pub(super) async fn export(
        &self,
        target: &ExportTarget,
        keys: Vec<KeyExport>,
        record: impl Fn(usize, &Kcv, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Vec<ExportedKey>, HsmError> {
        let exported = self.kdh_tokens().export(target, keys, record);
        self.in_time(exported).await
    }

    /// The MACs by a target's key.
    pub(super) async fn export_macs(
        &self,
        target: &ExportTarget,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Mac>, HsmError> {
        let macs = self.kdh_tokens().export_macs(target, records);
        self.in_time(macs).await
    }
}
