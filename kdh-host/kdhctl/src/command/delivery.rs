//! Deliveries of keys.

use kdh_proto::v1::{Delivery, ListDeliveriesRequest};

use crate::{
    cli::DeliveryCommand,
    failure::Failure,
    pages::fetch_all,
    report::{self, Report},
    session::{Client, request},
};

pub(super) async fn run(command: DeliveryCommand, client: &mut Client) -> Result<Report, Failure> {
    let DeliveryCommand::List { device, page } = command;
    let serial_number = device.unwrap_or_default();
    let deliveries = fetch_all(page.limit, async |last: Option<&Delivery>, limit| {
        let message = ListDeliveriesRequest {
            serial_number: serial_number.clone(),
            before: last.map_or_else(String::new, |last| last.id.clone()),
            limit,
        };
        let page = client.list_deliveries(request(message)).await?;
        Ok(page.into_inner().deliveries)
    });
    Ok(report::deliveries(&deliveries.await?))
}
