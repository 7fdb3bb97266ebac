//! Records as a file: the same ones make the same file.

use kdh_proto::{
    Reason,
    v1::{self, MakeFileRequest},
};

use super::{OpenTarget, record, require_target, sending};
use crate::{Host, HostError, administration::Operator, error::refused};

/// Records in a file.
const MAX_RECORDS: u32 = 10_000;
/// Records that are read at once.
const BATCH: u32 = 64;

/// A file on its way.
pub(crate) struct File {
    host: Host,
    open: OpenTarget,
    next: u64,
    to: u64,
}

impl File {
    /// Begins one: says what is in it. From here on its records have left.
    ///
    /// # Errors
    /// [`Reason::WrongState`]: a switch fetches this target's records itself, or the first one is not kept any more.
    /// [`Reason::NotFound`]: there are none. [`Reason::RequestInvalid`]: one before them has not left.
    pub(crate) async fn begin(
        host: &Host,
        operator: &Operator,
        request: &MakeFileRequest,
    ) -> Result<(v1::FileHeader, Self), HostError> {
        let open = require_target(host, &request.name).await?;
        sending::require_files(&open)?;
        let mut tx = host.store().read(host.now()).await?;
        let marks = tx.export_marks(open.id()).await?;
        let line = tx.export_line(open.id()).await?;
        let from = match request.from {
            0 => marks.acknowledged + 1,
            from => from,
        };
        sending::require_kept(&open, marks, from)?;
        let limit = match request.limit {
            0 => MAX_RECORDS,
            limit => limit.min(MAX_RECORDS),
        };
        let to = match request.to {
            0 => line.made,
            to => to,
        };
        let to = to.min(from.saturating_add(u64::from(limit) - 1));
        if to > line.made || from > to {
            let cause = format!(
                "there are no records from {from} to {to} for {}: the last one that is made is {}",
                open.target.name, line.made
            );
            return Err(refused(Reason::NotFound, cause));
        }
        let macs = tx.export_macs(open.id(), from, to).await?;
        drop(tx);
        let mut header = record::file_header(&open.target, open.id(), (from, to), &macs);
        if header.count != to - from + 1 {
            return Err(HostError::Internal(format!(
                "records for {} are missing between {from} and {to}",
                open.target.name
            )));
        }
        let target = open.target.clone();
        let shared = host.in_hsm(move |keys| keys.export_target(&target)).await?;
        let bytes = vec![record::file_bytes(&header)];
        let macs = host.keys().export_macs(&shared, bytes).await?;
        header.mac = macs.iter().flat_map(|mac| *mac.as_bytes()).collect();
        sending::note_sent(host, &open, &operator.actor(), from, to).await?;
        let file = Self {
            host: host.clone(),
            open,
            next: from,
            to,
        };
        Ok((header, file))
    }

    /// The next records in it; none behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Vec<v1::ExportRecord>, HostError> {
        if self.next > self.to {
            return Ok(Vec::new());
        }
        let left = u32::try_from(self.to - self.next + 1).unwrap_or(u32::MAX);
        let records = sending::fetch(&self.host, &self.open, self.next, left.min(BATCH)).await?;
        match records.last() {
            Some(last) => self.next = last.position + 1,
            None => {
                return Err(HostError::Internal(format!(
                    "record {} for {} is in line again",
                    self.next, self.open.target.name
                )));
            }
        }
        Ok(records)
    }
}
