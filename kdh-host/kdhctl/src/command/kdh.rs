//! The host's KDH credentials.

use std::{
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use kdh_proto::v1::{Kdh, ListKdhsRequest};

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

/// Asks again and again until no terminal is left to be handed over. On standard error there is a bar where
/// somebody sees it, and otherwise a line for each step forward.
async fn watch(client: &mut Client, pause: Duration) -> Result<Report, Failure> {
    let mut kdhs = fetch(client).await?;
    let seen = io::stderr().is_terminal();
    let bar = if seen { bar() } else { ProgressBar::hidden() };
    let (mut most, mut before) = (0, None);
    loop {
        let left = left(&kdhs);
        // More may be found to be bound to it than were when it began.
        most = most.max(left);
        bar.set_length(most);
        bar.set_position(most - left);
        if !seen && before != Some(left) {
            let done = most - left;
            let _ = writeln!(io::stderr(), "{done} of {most} terminals handed over");
        }
        if left == 0 {
            break;
        }
        before = Some(left);
        tokio::time::sleep(pause).await;
        kdhs = fetch(client).await?;
    }
    bar.finish_and_clear();
    Ok(report::kdhs(&kdhs))
}

/// Terminals that are to be handed over.
fn left(kdhs: &[Kdh]) -> u64 {
    let retiring = kdhs.iter().filter(|kdh| kdh.state == "RETIRING");
    retiring.map(|kdh| kdh.devices).sum()
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {pos} of {len} terminals handed over, {elapsed} so far",
    );
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
