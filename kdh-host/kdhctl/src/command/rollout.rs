//! Rollouts.

use std::time::Duration;

use kdh_proto::v1::{
    ListRolloutKeysRequest, ListRolloutsRequest, MoveRolloutRequest, Rollout, RolloutDevices,
    RolloutTarget, RolloutWaves, ShowRolloutRequest, StartRolloutRequest, rollout_target::Target,
    rollout_waves::Size, rollouts_client::RolloutsClient,
};
use tonic::transport::Channel;

use super::{confirm, group, watched::Watched};
use crate::{
    cli::{Change, Order, RolloutCommand, Wave},
    failure::Failure,
    pages::{fetch_all, fetch_on},
    report::{self, Report},
    session::request,
};

/// What can be asked or checked before the host is called.
pub(super) fn prepare(command: &RolloutCommand) -> Result<(), Failure> {
    let RolloutCommand::Start { target, change, .. } = command else {
        return Ok(());
    };
    group::serials(&target.devices, target.from.as_deref())?;
    if change.dry_run || change.yes {
        return Ok(());
    }
    confirm::require_terminal("what a rollout does is shown first")
}

pub(super) async fn run(command: RolloutCommand, channel: Channel) -> Result<Report, Failure> {
    let mut client = RolloutsClient::new(channel);
    match command {
        RolloutCommand::Start {
            target,
            slots,
            waves,
            change,
        } => {
            let devices = group::serials(&target.devices, target.from.as_deref())?;
            let named = target.model.map(Target::Model);
            let named = named.or(target.group.map(Target::Group));
            let devices = Target::Devices(RolloutDevices {
                serial_numbers: devices,
            });
            let waves = RolloutWaves {
                size: waves.wave.map(|wave| match wave {
                    Wave::Devices(devices) => Size::Devices(devices),
                    Wave::Percent(percent) => Size::Percent(percent),
                }),
                proceed_at: waves.wave.map_or(0, |_| waves.proceed_at),
                stop_after: waves.stop_after,
            };
            let message = StartRolloutRequest {
                target: Some(RolloutTarget {
                    target: Some(named.unwrap_or(devices)),
                }),
                slots,
                waves: Some(waves),
                why: change.why.clone().unwrap_or_default(),
                dry_run: true,
            };
            start(&mut client, message, &change).await
        }
        RolloutCommand::List { page } => {
            let mut alarms = 0;
            let rollouts = fetch_all(page.limit, async |last: Option<&Rollout>, limit| {
                let message = ListRolloutsRequest {
                    before: last.map_or(0, |last| last.number),
                    limit,
                };
                let page = client.list_rollouts(request(message)).await?;
                let page = page.into_inner();
                alarms = page.alarms;
                Ok(page.rollouts)
            });
            let rollouts = rollouts.await?;
            Ok(report::rollouts(&rollouts, alarms))
        }
        RolloutCommand::Show(rollout) => {
            Ok(report::rollout(&fetch(&mut client, rollout.number).await?))
        }
        RolloutCommand::Watch {
            rollout,
            confirmed,
            seconds,
        } => {
            let pause = Duration::from_secs(seconds);
            watch(&mut client, rollout.number, confirmed, pause).await
        }
        RolloutCommand::Pause(order) => {
            let moved = client.pause_rollout(request(ordered(order)));
            Ok(report::rollout(moved.await?.get_ref()))
        }
        RolloutCommand::Resume(order) => {
            let moved = client.resume_rollout(request(ordered(order)));
            Ok(report::rollout(moved.await?.get_ref()))
        }
        RolloutCommand::Stop(order) => {
            let moved = client.stop_rollout(request(ordered(order)));
            Ok(report::rollout(moved.await?.get_ref()))
        }
        RolloutCommand::Report {
            rollout,
            troubled,
            page,
        } => report(&mut client, rollout.number, troubled, page.limit).await,
    }
}

fn ordered(order: Order) -> MoveRolloutRequest {
    MoveRolloutRequest {
        number: order.rollout.number,
        why: order.why,
    }
}

/// As far as the host has looked: a device and a slot.
type Looked = (String, String);

async fn report(
    client: &mut RolloutsClient<Channel>,
    number: u32,
    troubled: bool,
    limit: Option<u32>,
) -> Result<Report, Failure> {
    let shown = fetch(client, number).await?;
    let keys = fetch_on(limit, async |looked: Looked, limit| {
        let (after_device, after_slot) = looked;
        let message = ListRolloutKeysRequest {
            number,
            after_device,
            after_slot,
            limit,
            troubled,
        };
        let page = client.list_rollout_keys(request(message)).await?;
        let page = page.into_inner();
        let looked = (page.last_device, page.last_slot);
        let further = (looked != Looked::default()).then_some(looked);
        Ok((page.keys, further))
    });
    Ok(report::rollout_report(&shown, &keys.await?))
}

async fn start(
    client: &mut RolloutsClient<Channel>,
    message: StartRolloutRequest,
    change: &Change,
) -> Result<Report, Failure> {
    let planned = client.start_rollout(request(message.clone())).await?;
    let shown = report::rollout_plan(planned.get_ref());
    if change.dry_run {
        return Ok(shown);
    }
    if !change.yes {
        confirm::by_yes(&shown.text)?;
    }
    let message = StartRolloutRequest {
        dry_run: false,
        ..message
    };
    let started = client.start_rollout(request(message)).await?;
    Ok(report::rollout_started(started.get_ref()))
}

async fn fetch(client: &mut RolloutsClient<Channel>, number: u32) -> Result<Rollout, Failure> {
    let shown = client.show_rollout(request(ShowRolloutRequest { number }));
    Ok(shown.await?.into_inner())
}

/// Asks again and again until it comes no further.
async fn watch(
    client: &mut RolloutsClient<Channel>,
    number: u32,
    until_confirmed: bool,
    pause: Duration,
) -> Result<Report, Failure> {
    let mut watched = Watched::with_rate("terminals");
    loop {
        let rollout = fetch(client, number).await?;
        let sum = report::rollout_sum(&rollout);
        let wave = rollout.waves.first().map_or(0, |wave| wave.number);
        let waiting = if rollout.waiting { ", waiting" } else { "" };
        watched.say(format!(
            "wave {wave}{waiting}: {} made, {} confirmed, {} failed",
            report::counted(sum.made, "key"),
            sum.confirmed,
            sum.failed
        ));
        // Of one that goes by what is due, nobody has counted them.
        let all = Some(rollout.devices).filter(|all| *all > 0);
        watched.show(rollout.done, all);
        let open = sum.made.saturating_sub(sum.confirmed + sum.void);
        let over = match &*rollout.state {
            "RUNNING" => false,
            "DONE" => !until_confirmed || open == 0,
            _ => true,
        };
        if over {
            watched.end();
            return Ok(report::rollout(&rollout));
        }
        tokio::time::sleep(pause).await;
    }
}
