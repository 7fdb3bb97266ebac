//! What the commands do. One call each, or as many as a list has pages.

mod audit;
mod authority;
mod certificate;
mod confirm;
mod delivery;
mod device;
mod import;
mod kdh;
mod key;
mod token;

pub(crate) use token::run_on_file as run_on_token_file;

use crate::{
    cli::{AuthorityCommand, Command, DeviceCommand, ImportCommand, TokenCommand},
    device_file,
    failure::Failure,
    report::Report,
    session::Client,
    token_file,
};

/// A command with everything that can be asked or checked before the host is called.
pub(crate) fn prepare(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Device(DeviceCommand::Revoke { device, yes: false }) => {
            confirm::by_serial(&device.serial)
        }
        Command::Device(DeviceCommand::Rebind { to, .. }) => certificate::kdh("--to", to).map(drop),
        Command::Device(DeviceCommand::CaUnbind { kdh, .. }) => {
            certificate::kdh("--kdh", kdh).map(drop)
        }
        Command::Device(DeviceCommand::CaRebind { kdh, to, .. }) => {
            certificate::kdh("--kdh", kdh)?;
            certificate::kdh("--to", to).map(drop)
        }
        Command::Device(DeviceCommand::Admit { from }) => device_file::read(from).map(drop),
        Command::Device(DeviceCommand::Export { out, .. })
        | Command::Import(ImportCommand::Nonce { out, .. })
        | Command::Authority(AuthorityCommand::Fetch { out, .. })
        | Command::Token(TokenCommand::OnePass { out, .. }) => token_file::require_new(out),
        Command::Import(command) => import::read_files(command),
        _ => Ok(()),
    }
}

/// Does what the command says.
pub(crate) async fn run(command: Command, client: &mut Client) -> Result<Report, Failure> {
    match command {
        Command::Device(command) => device::run(command, client).await,
        Command::Authority(command) => authority::run(command, client).await,
        Command::Key(command) => key::run(command, client).await,
        Command::Import(command) => import::run(command, client).await,
        Command::Kdh(command) => kdh::run(command, client).await,
        Command::Delivery(command) => delivery::run(command, client).await,
        Command::Audit(command) => audit::run(command, client).await,
        Command::Token(command) => token::run(command, client).await,
    }
}
