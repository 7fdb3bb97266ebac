//! What the commands do. One call each, or as many as a list has pages.

mod approval;
mod audit;
mod authority;
mod bdk;
mod certificate;
mod confirm;
mod delivery;
mod device;
mod group;
mod import;
mod kdh;
mod key;
mod profile;
mod refused;
mod rollout;
mod storage;
mod target;
mod token;
mod watched;

pub(crate) use token::run_on_file as run_on_token_file;

use std::process::ExitCode;

use crate::{
    cli::{AuthorityCommand, Command, DeviceCommand, ImportCommand, TokenCommand},
    device_file,
    failure::Failure,
    report::Report,
    session::Session,
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
        Command::Device(DeviceCommand::Group { serials, from, .. }) => {
            group::serials(serials, from.as_deref()).map(drop)
        }
        Command::Profile(command) => profile::prepare(command),
        Command::Rollout(command) => rollout::prepare(command),
        Command::Import(command) => import::read_files(command),
        Command::Target(command) => target::prepare(command),
        _ => Ok(()),
    }
}

/// Does what the command says. What is to be done and cannot be has an answer, and an exit code of its own.
pub(crate) async fn run(
    command: Command,
    mut session: Session,
) -> Result<(Report, ExitCode), Failure> {
    let client = &mut session.administration;
    let report = match command {
        Command::Profile(command) => return profile::run(command, client).await,
        Command::Storage(command) => return storage::run(command, session.channel).await,
        Command::Device(command) => device::run(command, client).await,
        Command::Authority(command) => authority::run(command, client).await,
        Command::Key(command) => key::run(command, session).await,
        Command::Bdk(command) => bdk::run(command, session.channel).await,
        Command::Rollout(command) => rollout::run(command, session.channel).await,
        Command::Import(command) => import::run(command, client).await,
        Command::Kdh(command) => kdh::run(command, client).await,
        Command::Target(command) => target::run(command, session.channel).await,
        Command::Approval(command) => approval::run(command, session.channel).await,
        Command::Delivery(command) => delivery::run(command, client).await,
        Command::Audit(command) => audit::run(command, client).await,
        Command::Token(command) => token::run(command, client).await,
    };
    Ok((report?, ExitCode::SUCCESS))
}
