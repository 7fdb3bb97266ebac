//! What the commands do. One call each, or as many as a list has pages.

mod audit;
mod confirm;
mod delivery;
mod device;
mod key;

use crate::{
    cli::{Command, DeviceCommand},
    failure::Failure,
    report::Report,
    session::Client,
};

/// A command with everything that can be asked or checked before the host is called.
pub(crate) fn prepare(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Device(DeviceCommand::Revoke { device, yes: false }) => {
            confirm::by_serial(&device.serial)
        }
        _ => Ok(()),
    }
}

/// Does what the command says.
pub(crate) async fn run(command: Command, client: &mut Client) -> Result<Report, Failure> {
    match command {
        Command::Device(command) => device::run(command, client).await,
        Command::Key(command) => key::run(command, client).await,
        Command::Delivery(command) => delivery::run(command, client).await,
        Command::Audit(command) => audit::run(command, client).await,
    }
}
