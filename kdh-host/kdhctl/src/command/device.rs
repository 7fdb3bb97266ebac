//! Terminals.

use std::path::Path;

use kdh_proto::v1::{
    AddDeviceRequest, AdmitDeviceRequest, AskAuthorityRequest, CancelOrderRequest, Device,
    ExportDeviceRequest, IssueActivationCodeRequest, ListDevicesRequest, OrderRebindRequest,
    OrderUnbindRequest, ResumeDeviceRequest, RevokeDeviceRequest, ShowDeviceRequest,
    SuspendDeviceRequest,
};

use super::{certificate, group};

use crate::{
    cli::{DeviceCommand, Move},
    device_file,
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
            let added = client.add_device(request(message)).await?;
            return Ok(report::added_device(added.get_ref()));
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
        DeviceCommand::Unbind(Move { serial, why }) => {
            let message = OrderUnbindRequest {
                serial_number: serial,
                why,
            };
            let device = client.order_unbind(request(message)).await?;
            return Ok(report::ordered(device.get_ref()));
        }
        DeviceCommand::Rebind { device, to } => {
            let message = OrderRebindRequest {
                serial_number: device.serial,
                new_kdh: certificate::kdh("--to", &to)?,
                why: device.why,
            };
            let device = client.order_rebind(request(message)).await?;
            return Ok(report::ordered(device.get_ref()));
        }
        DeviceCommand::Export { serial, out } => return export(client, serial, &out).await,
        DeviceCommand::Admit { from } => {
            let message = AdmitDeviceRequest {
                device: Some(device_file::read(&from)?),
            };
            let device = client.admit_device(request(message)).await?;
            return Ok(report::admitted(device.get_ref()));
        }
        DeviceCommand::CancelOrder { serial } => {
            let message = CancelOrderRequest {
                serial_number: serial,
            };
            client.cancel_order(request(message)).await?
        }
        DeviceCommand::CaUnbind { device, kdh } => return ask(client, device, &kdh, None).await,
        DeviceCommand::CaRebind { device, kdh, to } => {
            return ask(client, device, &kdh, Some(&to)).await;
        }
        DeviceCommand::List { state, group, page } => {
            let (state, group) = (state.unwrap_or_default(), group.unwrap_or_default());
            return list(client, &state, &group, page.limit).await;
        }
        DeviceCommand::Show { serial } => {
            let message = ShowDeviceRequest {
                serial_number: serial,
            };
            let details = client.show_device(request(message)).await?;
            return Ok(report::device_details(details.get_ref()));
        }
        DeviceCommand::Group {
            serials,
            from,
            to,
            why,
        } => return group::set(&serials, from.as_deref(), to, why, client).await,
        DeviceCommand::Groups => return group::list(client).await,
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

async fn export(client: &mut Client, serial: String, out: &Path) -> Result<Report, Failure> {
    let message = ExportDeviceRequest {
        serial_number: serial,
    };
    let exported = client.export_device(request(message)).await?;
    device_file::write_new(out, exported.get_ref())?;
    Ok(report::exported_device(exported.get_ref(), out))
}

/// Asks for a token by `CA_KRD`.
async fn ask(
    client: &mut Client,
    device: Move,
    kdh: &Path,
    to: Option<&Path>,
) -> Result<Report, Failure> {
    let new_kdh = to.map(|to| certificate::kdh("--to", to)).transpose()?;
    let message = AskAuthorityRequest {
        serial_number: device.serial,
        kdh: certificate::kdh("--kdh", kdh)?,
        new_kdh: new_kdh.unwrap_or_default(),
        why: device.why,
    };
    let asked = client.ask_authority(request(message)).await?;
    Ok(report::authority_request(asked.get_ref()))
}

async fn list(
    client: &mut Client,
    state: &str,
    group: &str,
    limit: Option<u32>,
) -> Result<Report, Failure> {
    let devices = fetch_all(limit, async |last: Option<&Device>, limit| {
        let message = ListDevicesRequest {
            state: state.to_uppercase(),
            group: group.to_owned(),
            after: last.map_or_else(String::new, |last| last.serial_number.clone()),
            limit,
        };
        let page = client.list_devices(request(message)).await?;
        Ok(page.into_inner().devices)
    });
    Ok(report::devices(&devices.await?))
}
