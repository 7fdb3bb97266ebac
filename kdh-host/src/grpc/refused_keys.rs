//! The operators' service for rows of keys that are not as the HSM has sealed them.

use kdh_proto::v1::{
    Approval, AskDiscardRequest, KeyRow, ListRefusedKeysRequest, ListRefusedKeysResponse,
    refused_keys_server::RefusedKeys,
};
use tonic::{Request, Response, Status};

use super::{approvals::message, end, operator};
use crate::{
    Host, administration as domain,
    config::OperatorRole::{Audit, Keys},
    names::DeviceSerial,
    refused_rows,
    store::KeyPlace,
};

/// Lists them, and asks that one is discarded.
pub(crate) struct RefusedKeysService(pub(crate) Host);

#[tonic::async_trait]
impl RefusedKeys for RefusedKeysService {
    async fn list_refused_keys(
        &self,
        request: Request<ListRefusedKeysRequest>,
    ) -> Result<Response<ListRefusedKeysResponse>, Status> {
        const CALL: &str = "ListRefusedKeys";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let request = request.into_inner();
            let device = match &*request.serial_number {
                "" => None,
                serial => Some(DeviceSerial::parse(serial)?),
            };
            let after = request.after.map(place).unwrap_or_default();
            let (refused, next) = refused_rows::look(&self.0, device.as_ref(), &after).await?;
            Ok(ListRefusedKeysResponse {
                refused: refused.into_iter().map(row_message).collect(),
                next: next.map(row_message),
            })
        };
        end(CALL, call.await)
    }

    async fn ask_discard(
        &self,
        request: Request<AskDiscardRequest>,
    ) -> Result<Response<Approval>, Status> {
        const CALL: &str = "AskDiscard";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let request = request.get_ref();
            let row = (&*request.serial_number, &*request.slot, request.key_version);
            let act = refused_rows::ask(&self.0, &operator, row, &request.why);
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }
}

fn place(row: KeyRow) -> KeyPlace {
    KeyPlace {
        device: row.serial_number,
        slot: row.slot,
        version: row.key_version,
    }
}

/// Where a row stands, as operators see it.
pub(super) fn row_message(place: KeyPlace) -> KeyRow {
    KeyRow {
        serial_number: place.device,
        slot: place.slot,
        key_version: place.version,
    }
}
