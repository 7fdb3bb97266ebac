//! The host's KDH credentials.

use std::time::Duration;

use kdh_proto::v1::{Kdh, ListKdhsRequest};

use super::watched::Watched;
use crate::{
    cli::KdhCommand,
    failure::Failure,
    report::{self, Report},
    session::{Client, request},
};

pub(super) async fn run(command: KdhCommand, client: &mut Client) -> Result<Report, Failure> {
    match command {
        KdhCommand::List => Ok(report::kdhs(&fetch(client).await?)),
        KdhCommand::Watch { seconds } => watch(client, Duration::from_secs(seconds)).await,
    }
}

async fn fetch(client: &mut Client) -> Result<Vec<Kdh>, Failure> {
    let kdhs = client.list_kdhs(request(ListKdhsRequest {})).await?;
    Ok(kdhs.into_inner().kdhs)
}

/// Asks again and again until no terminal is left to be handed over.
async fn watch(client: &mut Client, pause: Duration) -> Result<Report, Failure> {
    let mut watched = Watched::new("terminals bound to the new KDH");
    loop {
        let kdhs = fetch(client).await?;
        let (left, all) = (left(&kdhs), kdhs.iter().map(|kdh| kdh.devices).sum());
        watched.show(all - left, Some(all));
        if left == 0 {
            watched.end();
            return Ok(report::kdhs(&kdhs));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Terminals that are to be handed over.
fn left(kdhs: &[Kdh]) -> u64 {
    let retiring = kdhs.iter().filter(|kdh| kdh.state == "RETIRING");
    retiring.map(|kdh| kdh.devices).sum()
}
