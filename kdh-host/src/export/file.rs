//! Records as a file: the same ones make the same file.

use kdh_proto::{
    Reason,
    v1::{self, MakeFileRequest},
};

use super::{
    record, require_target,
    sending::{self, BATCH, Leaving},
};
use crate::{Host, HostError, administration::Operator, error::refused};

/// Records in a file.
const MAX_RECORDS: u32 = 10_000;

/// A file on its way.
pub(crate) struct File(Leaving);

impl File {
    /// Begins one: says what is in it.
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
        let shared = open.keys(host).await?;
        let mut tx = host.store().read(host.now()).await?;
        let leaving = Leaving::begin(host, &mut tx, (open, shared), operator, request.from).await?;
        let (open, from) = (&leaving.open, leaving.next);
        let line = tx.export_line(open.id()).await?;
        let limit = match request.limit {
            0 => MAX_RECORDS,
            limit => limit.min(MAX_RECORDS),
        };
        let to = match request.to {
            0 => line.made,
            to => to,
        };
        if from <= line.made && to < from {
            let cause = format!("there is nothing from record {from} to record {to}");
            return Err(refused(Reason::RequestInvalid, cause));
        }
        let to = to.min(from.saturating_add(u64::from(limit) - 1));
        if to > line.made || from > to {
            let cause = format!(
                "there is no record {} for {name} yet: the last one that is made is {}. Keys that terminals hold already \
                 come in line with kdhctl target fill {name}",
                from.max(line.made + 1),
                line.made,
                name = open.target.name
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
        let bytes = vec![record::file_bytes(&header)];
        let macs = host.keys().export_macs(&leaving.shared, bytes).await?;
        header.mac = macs.iter().flat_map(|mac| *mac.as_bytes()).collect();
        Ok((header, Self(leaving.up_to(to))))
    }

    /// The next records in it, which leave from here on; none behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Vec<v1::ExportRecord>, HostError> {
        let Self(leaving) = self;
        let records = leaving.some(BATCH).await?;
        if records.is_empty() && !leaving.is_over() {
            return Err(HostError::Internal(format!(
                "record {} for {} is in line again",
                leaving.next, leaving.open.target.name
            )));
        }
        Ok(records)
    }
}
