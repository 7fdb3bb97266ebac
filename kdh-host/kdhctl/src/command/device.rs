//! Terminals.

use kdh_proto::v1::{
    AddDeviceRequest, Device, IssueActivationCodeRequest, ListDevicesRequest, ResumeDeviceRequest,
    RevokeDeviceRequest, ShowDeviceRequest, SuspendDeviceRequest,
};

use crate::{
    cli::{DeviceCommand, Move},
    failure::Failure,
    pages::fetch_all,
    report::{self, Report},
    session::{Client, request},
};

pub(super) async fn run(command: DeviceCommand, client: &mut Client) -> Result<Report, Failure> {
    let device = match command {
        DeviceCommand::Add { serial, model } => {
            let message = AddDeviceRequest {
                serial_number: serial,
                model,
            };
            client.add_device(request(message)).await?
        }
        DeviceCommand::Suspend(Move { serial, why }) => {
            let message = SuspendDeviceRequest {
                serial_number: serial,
                why,
            };
            client.suspend_device(request(message)).await?
        }
        DeviceCommand::Resume(Move { serial, why }) => {
            let message = ResumeDeviceRequest {
                serial_number: serial,
                why,
            };
            client.resume_device(request(message)).await?
        }
        DeviceCommand::Revoke { device, .. } => {
            let message = RevokeDeviceRequest {
                serial_number: device.serial,
                why: device.why,
            };
            client.revoke_device(request(message)).await?
        }
        DeviceCommand::List { state, page } => {
            return list(client, state.unwrap_or_default(), page.limit).await;
        }
        DeviceCommand::Show { serial } => {
            let message = ShowDeviceRequest {
                serial_number: serial,
            };
            let details = client.show_device(request(message)).await?;
            return Ok(report::device_details(details.get_ref()));
        }
        DeviceCommand::Code { serial } => {
            let message = IssueActivationCodeRequest {
                serial_number: serial.clone(),
            };
            let code = client.issue_activation_code(request(message)).await?;
            return Ok(report::activation_code(&serial, code.get_ref()));
        }
    };
    Ok(report::device(device.get_ref()))
}

async fn list(client: &mut Client, state: String, limit: Option<u32>) -> Result<Report, Failure> {
    let devices = fetch_all(limit, async |last: Option<&Device>, limit| {
        let message = ListDevicesRequest {
            state: state.to_uppercase(),
            after: last.map_or_else(String::new, |last| last.serial_number.clone()),
            limit,
        };
        let page = client.list_devices(request(message)).await?;
        Ok(page.into_inner().devices)
    });
    Ok(report::devices(&devices.await?))
}
