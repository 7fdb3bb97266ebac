//! What a switch does: every record is on disk before it is acknowledged.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    time::Duration,
};

use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{ExportRecord, ReceiveFrom, ReceiveRequest, receive_request::Request as Said},
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming};

use super::Client;
use crate::{
    export_file,
    failure::Failure,
    report::{self, Report},
};

/// Records that are acknowledged at once.
const BATCH: usize = 64;
/// How long is waited for more of them.
const MORE: Duration = Duration::from_millis(20);
/// Before a connection is made again.
const PAUSE: Duration = Duration::from_secs(1);
/// So often in vain.
const TRIES: u32 = 60;

/// How far it has come.
struct Received {
    out: File,
    /// The next record, if it is known.
    next: Option<u64>,
    last: u64,
    records: u64,
    wanted: Option<u64>,
}

impl Received {
    fn is_enough(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.records >= wanted)
    }

    fn room(&self) -> usize {
        let left = self.wanted.map(|wanted| wanted - self.records);
        left.and_then(|left| usize::try_from(left).ok())
            .unwrap_or(BATCH)
            .min(BATCH)
    }

    fn keep(&mut self, batch: &[ExportRecord]) -> Result<(), Failure> {
        let mut text = String::new();
        for record in batch {
            if self.next.is_some_and(|next| next != record.position) {
                let gap = format!(
                    "record {} came instead of {}",
                    record.position,
                    self.next.unwrap_or_default()
                );
                return Err(Failure::failed(gap, Some("look at the host's log")));
            }
            text += &export_file::record_line(record)?;
            self.next = Some(record.position + 1);
            self.last = record.position;
            self.records += 1;
        }
        let written = self.out.write_all(text.as_bytes());
        let kept = written.and_then(|()| self.out.sync_data());
        kept.map_err(|error| Failure::failed(format!("--out: {error}"), None))
    }
}

pub(super) async fn run(
    client: &mut Client,
    name: &str,
    out: &Path,
    from: Option<u64>,
    count: Option<u64>,
) -> Result<Report, Failure> {
    let opened = OpenOptions::new().append(true).create(true).open(out);
    let file =
        opened.map_err(|error| Failure::usage(format!("--out {}: {error}", out.display())))?;
    let mut received = Received {
        out: file,
        next: from,
        last: 0,
        records: 0,
        wanted: count,
    };
    let mut in_vain = 0;
    while !received.is_enough() {
        let before = received.records;
        match connected(client, name, &mut received).await? {
            None => {}
            Some(status) if in_vain >= TRIES => return Err(status.into()),
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
        in_vain = if received.records > before {
            0
        } else {
            in_vain + 1
        };
    }
    Ok(report::received(name, received.records, received.last, out))
}

/// As long as the connection lasts. Says how it ended, if it is worth another try.
async fn connected(
    client: &mut Client,
    name: &str,
    received: &mut Received,
) -> Result<Option<Status>, Failure> {
    let (said, mut saying) = mpsc::channel(2);
    let say = |said: &mpsc::Sender<ReceiveRequest>, request| {
        let request = Some(request);
        // If it is not heard, the connection is at its end, which is found below.
        said.try_send(ReceiveRequest { request }).ok();
    };
    let from = ReceiveFrom {
        name: name.to_owned(),
        position: received.next.unwrap_or_default(),
    };
    say(&said, Said::From(from));
    let saying = futures_util::stream::poll_fn(move |context| saying.poll_recv(context));
    let mut records = match client.receive(saying).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return worth_another_try(status).map(Some),
    };
    while !received.is_enough() {
        let batch = match batch(&mut records, received.room()).await {
            Ok(batch) => batch,
            Err(status) => return worth_another_try(status).map(Some),
        };
        if batch.is_empty() {
            return Ok(Some(Status::unavailable(
                "the host has ended the connection",
            )));
        }
        received.keep(&batch)?;
        let acknowledged = Said::Acknowledged(received.last);
        let heard = said.send(ReceiveRequest {
            request: Some(acknowledged),
        });
        if heard.await.is_err() {
            return Ok(Some(Status::unavailable(
                "the host has ended the connection",
            )));
        }
    }
    // What is acknowledged is acknowledged when the host has ended the call in its turn.
    drop(said);
    while let Ok(Some(_)) = records.message().await {}
    Ok(None)
}

/// The next records: as many as come at once. None at the end.
async fn batch(
    records: &mut Streaming<ExportRecord>,
    room: usize,
) -> Result<Vec<ExportRecord>, Status> {
    let mut batch: Vec<_> = records.message().await?.into_iter().collect();
    while !batch.is_empty() && batch.len() < room {
        match timeout(MORE, records.message()).await {
            Ok(Ok(Some(record))) => batch.push(record),
            // Whatever it is, it is there the next time.
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    Ok(batch)
}

/// Whether the host may be back soon, rather than that it has refused.
fn worth_another_try(status: Status) -> Result<Status, Failure> {
    match status.reason() {
        // Not the host's own words.
        None if status.code() != Code::Unimplemented => Ok(status),
        // It takes a minute at most until the host notices that the connection before is gone.
        Some(Reason::AlreadyExists) => Ok(status),
        _ => Err(status.into()),
    }
}
