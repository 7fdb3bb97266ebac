//! The operators' service for rollouts.

use kdh_proto::v1::{
    ListRolloutKeysRequest, ListRolloutKeysResponse, ListRolloutsRequest, ListRolloutsResponse,
    MoveRolloutRequest, Rollout, RolloutDevices, RolloutPlan, RolloutSkips, RolloutSlotPlan,
    RolloutTarget, RolloutWave, ShowRolloutRequest, StartRolloutRequest, StartRolloutResponse,
    rollout_target::Target, rollouts_server::Rollouts,
};
use tonic::{Request, Response, Status};

use super::{end, operator};
use crate::{
    Host, HostError, administration as domain,
    config::OperatorRole::{Audit, Keys},
    rollout::{self, Counts, Order, Plan, SlotPlan, Standing},
    store::{self, Reach, Wave},
};

/// Starts, watches, pauses, resumes, stops and reports rollouts.
pub(crate) struct RolloutsService(pub(crate) Host);

#[tonic::async_trait]
impl Rollouts for RolloutsService {
    async fn start_rollout(
        &self,
        request: Request<StartRolloutRequest>,
    ) -> Result<Response<StartRolloutResponse>, Status> {
        const CALL: &str = "StartRollout";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = rollout::start(&self.0, &operator, request.get_ref());
            let (rollout, plan) = domain::on_record(&self.0, &operator, CALL, act).await?;
            let standing = Standing {
                rollout,
                devices: plan.devices,
                waves: Vec::new(),
                waiting: false,
            };
            Ok(StartRolloutResponse {
                rollout: Some(message(standing)),
                plan: Some(plan_message(plan)),
            })
        };
        end(CALL, call.await)
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Result<Response<ListRolloutsResponse>, Status> {
        const CALL: &str = "ListRollouts";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let request = request.get_ref();
            let rollouts = rollout::list(&self.0, request.before, request.limit).await?;
            Ok(ListRolloutsResponse {
                rollouts: rollouts
                    .into_iter()
                    .map(|row| row.map_or_else(refused, message))
                    .collect(),
                alarms: self.0.alarms().raised(),
            })
        };
        end(CALL, call.await)
    }

    async fn show_rollout(
        &self,
        request: Request<ShowRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        const CALL: &str = "ShowRollout";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            Ok(message(
                rollout::show(&self.0, request.get_ref().number).await?,
            ))
        };
        end(CALL, call.await)
    }

    async fn list_rollout_keys(
        &self,
        request: Request<ListRolloutKeysRequest>,
    ) -> Result<Response<ListRolloutKeysResponse>, Status> {
        const CALL: &str = "ListRolloutKeys";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let found = rollout::keys(&self.0, request.get_ref()).await?;
            let (last_device, last_slot) = found.ask_behind.unwrap_or_default();
            Ok(ListRolloutKeysResponse {
                keys: found.keys,
                last_device,
                last_slot,
            })
        };
        end(CALL, call.await)
    }

    async fn pause_rollout(
        &self,
        request: Request<MoveRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        self.order("PauseRollout", &request, Order::Pause).await
    }

    async fn resume_rollout(
        &self,
        request: Request<MoveRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        self.order("ResumeRollout", &request, Order::Resume).await
    }

    async fn stop_rollout(
        &self,
        request: Request<MoveRolloutRequest>,
    ) -> Result<Response<Rollout>, Status> {
        self.order("StopRollout", &request, Order::Stop).await
    }
}

impl RolloutsService {
    async fn order(
        &self,
        call: &'static str,
        request: &Request<MoveRolloutRequest>,
        order: Order,
    ) -> Result<Response<Rollout>, Status> {
        let outcome = async {
            let operator = operator(&self.0, request, call, &[Keys]).await?;
            let MoveRolloutRequest { number, why } = request.get_ref();
            let act = rollout::order(&self.0, &operator, *number, order, why);
            let standing = domain::on_record(&self.0, &operator, call, act).await?;
            Ok::<_, HostError>(message(standing))
        };
        end(call, outcome.await)
    }
}

/// One that is not as the HSM has sealed it: what it says may be anybody's.
fn refused(number: i64) -> Rollout {
    Rollout {
        number: u32::try_from(number).unwrap_or_default(),
        state: "REFUSED".to_owned(),
        ..Rollout::default()
    }
}

fn message(standing: Standing) -> Rollout {
    let rollout = standing.rollout;
    Rollout {
        number: rollout.number,
        kind: rollout.kind.as_str().to_owned(),
        target: target(&rollout),
        slots: rollout.slots.iter().map(ToString::to_string).collect(),
        wave_devices: rollout.waves.devices,
        proceed_at: rollout.waves.proceed_at,
        stop_after: rollout.waves.stop_after,
        state: rollout.state.as_str().to_owned(),
        state_why: rollout.state_why,
        started_by: rollout.started_by,
        why: rollout.why,
        created_at: rollout.created_at,
        changed_at: rollout.changed_at,
        devices: standing.devices,
        done: standing.waves.iter().map(|(wave, _)| wave.devices).sum(),
        waves: standing.waves.iter().map(wave_message).collect(),
        waiting: standing.waiting,
    }
}

fn target(rollout: &store::Rollout) -> Option<RolloutTarget> {
    let target = match &rollout.reach {
        Reach::Model(name) => Target::Model(name.to_string()),
        Reach::Group(name) => Target::Group(name.to_string()),
        Reach::Devices(devices) => Target::Devices(RolloutDevices {
            serial_numbers: devices.iter().map(ToString::to_string).collect(),
        }),
        Reach::Any => return None,
    };
    Some(RolloutTarget {
        target: Some(target),
    })
}

const fn wave_message((wave, counts): &(Wave, Counts)) -> RolloutWave {
    RolloutWave {
        number: wave.number,
        devices: wave.devices,
        made: wave.made,
        offered: counts.offered,
        confirmed: counts.confirmed,
        failed: counts.failed,
        void: counts.void,
        skipped: wave.skipped,
    }
}

fn plan_message(plan: Plan) -> RolloutPlan {
    let skips = plan.skips.into_iter().map(|(why, devices)| RolloutSkips {
        why: why.to_owned(),
        devices,
    });
    RolloutPlan {
        devices: plan.devices,
        skips: skips.collect(),
        slots: plan.slots.into_iter().map(slot_message).collect(),
    }
}

fn slot_message(slot: SlotPlan) -> RolloutSlotPlan {
    RolloutSlotPlan {
        slot: slot.slot.to_string(),
        profile: slot.profile,
        profile_version: slot.profile_version,
        source: slot.source.to_owned(),
        devices: slot.devices,
        confirmed: slot.confirmed,
        pending: slot.pending,
    }
}
