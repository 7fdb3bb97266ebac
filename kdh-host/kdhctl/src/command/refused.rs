//! Rows of keys that are not as the HSM has sealed them.

use kdh_proto::v1::{
    AskDiscardRequest, KeyRow, ListRefusedKeysRequest, refused_keys_client::RefusedKeysClient,
};
use tonic::transport::Channel;

use crate::{
    failure::Failure,
    report::{self, Report},
    session::request,
};

/// Goes through the rows of a terminal, or through all.
pub(super) async fn list(device: Option<String>, channel: Channel) -> Result<Report, Failure> {
    let mut client = RefusedKeysClient::new(channel);
    let serial_number = device.unwrap_or_default();
    let (mut refused, mut after): (Vec<KeyRow>, _) = (Vec::new(), None);
    loop {
        let message = ListRefusedKeysRequest {
            serial_number: serial_number.clone(),
            after: after.clone(),
        };
        let page = client.list_refused_keys(request(message)).await?;
        let page = page.into_inner();
        refused.extend(page.refused);
        // Where no host puts a row, it does not go on.
        if page.next.is_none() || page.next == after {
            return Ok(report::refused_keys(&refused));
        }
        after = page.next;
    }
}

/// Asks that one is discarded.
pub(super) async fn discard(
    message: AskDiscardRequest,
    channel: Channel,
) -> Result<Report, Failure> {
    let mut client = RefusedKeysClient::new(channel);
    let asked = client.ask_discard(request(message)).await?;
    Ok(report::approval(asked.get_ref()))
}
