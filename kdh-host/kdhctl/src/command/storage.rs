//! The storage keys.

use std::{process::ExitCode, time::Duration};

use kdh_proto::v1::{
    AskRotationRequest, ShowStorageRequest, ShowStorageResponse,
    key_storage_client::KeyStorageClient,
};
use tonic::transport::Channel;

use super::watched::Watched;
use crate::{
    cli::StorageCommand,
    failure::Failure,
    report::{self, Report},
    session::request,
};

pub(super) async fn run(
    command: StorageCommand,
    channel: Channel,
) -> Result<(Report, ExitCode), Failure> {
    let mut client = KeyStorageClient::new(channel);
    let report = match command {
        StorageCommand::Watch { seconds } => {
            let storage = watch(&mut client, Duration::from_secs(seconds)).await?;
            let code = ExitCode::from(u8::from(is_stuck(&storage)));
            return Ok((report::storage(&storage), code));
        }
        StorageCommand::Status => report::storage(&fetch(&mut client).await?),
        StorageCommand::Rotate { why } => {
            let asked = client.ask_rotation(request(AskRotationRequest { why }));
            report::approval(asked.await?.get_ref())
        }
    };
    Ok((report, ExitCode::SUCCESS))
}

async fn fetch(client: &mut KeyStorageClient<Channel>) -> Result<ShowStorageResponse, Failure> {
    let storage = client.show_storage(request(ShowStorageRequest {})).await?;
    Ok(storage.into_inner())
}

/// Asks again and again until no rotation is under way, or nothing more of it is or can be moved.
async fn watch(
    client: &mut KeyStorageClient<Channel>,
    pause: Duration,
) -> Result<ShowStorageResponse, Failure> {
    let mut watched = Watched::new("keys under the new pair");
    // If nothing ever does, what is reported at the end says so.
    let mut began = false;
    loop {
        let storage = fetch(client).await?;
        let left = left(&storage);
        let under_way = storage
            .rotation
            .as_ref()
            .is_some_and(|rotation| rotation.state == "APPROVED");
        began |= under_way || left > 0;
        if began {
            let all = storage.pairs.iter().map(|pair| pair.rows).sum();
            watched.show(all - left, Some(all));
        }
        let is_kept = !storage.destroyed_at.is_empty();
        if !under_way || is_kept || is_stuck(&storage) {
            watched.end();
            return Ok(storage);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether nothing more can be moved before somebody mends it.
fn is_stuck(storage: &ShowStorageResponse) -> bool {
    storage.refused_rows > 0 && left(storage) == storage.refused_rows
}

/// Keys that are to be moved.
fn left(storage: &ShowStorageResponse) -> u64 {
    let retiring = storage.pairs.iter().filter(|pair| pair.state == "RETIRING");
    retiring.map(|pair| pair.rows).sum()
}
