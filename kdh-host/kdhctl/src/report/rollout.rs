//! Rollouts.

use kdh_proto::v1::{
    Rollout, RolloutKey, RolloutSlotPlan, RolloutTarget, RolloutWave, StartRolloutResponse,
    rollout_target::Target,
};
use serde_json::{Value, json};

use super::{Report, all, counted, dash, fields, table, terminals::Terminals};

/// The waves of a rollout together.
pub(crate) fn rollout_sum(rollout: &Rollout) -> RolloutWave {
    let mut sum = RolloutWave::default();
    for wave in &rollout.waves {
        sum.devices += wave.devices;
        sum.made += wave.made;
        sum.offered += wave.offered;
        sum.confirmed += wave.confirmed;
        sum.failed += wave.failed;
        sum.void += wave.void;
        sum.skipped += wave.skipped;
    }
    sum
}

/// What it would do.
pub(crate) fn rollout_plan(planned: &StartRolloutResponse) -> Report {
    Report {
        json: plan_json(planned),
        text: plan_text(planned),
    }
}

/// It has begun.
pub(crate) fn rollout_started(started: &StartRolloutResponse) -> Report {
    let rollout = started.rollout.clone().unwrap_or_default();
    let number = rollout.number;
    Report {
        json: rollout_json(&rollout),
        text: format!(
            "{}\n\nRollout {number} has begun. Next: kdhctl rollout watch {number}",
            plan_text(started)
        ),
    }
}

fn plan_text(planned: &StartRolloutResponse) -> String {
    let rollout = planned.rollout.clone().unwrap_or_default();
    let plan = planned.plan.clone().unwrap_or_default();
    let target = target_text(rollout.target.as_ref());
    let skips = plan.skips.iter();
    let skips = skips.map(|skips| format!("\n  {} skipped: {}", skips.devices, skips.why));
    let mut text = format!("{target}: {}", counted(plan.devices, "terminal"));
    text.extend(skips);
    let rows = plan.slots.iter().map(|slot| {
        [
            slot.slot.clone(),
            format!("{}, version {}", slot.profile, slot.profile_version),
            slot.source.clone(),
            slot.devices.to_string(),
            slot.confirmed.to_string(),
            slot.pending.to_string(),
        ]
    });
    let header = [
        "SLOT",
        "PROFILE",
        "SOURCE",
        "NEW KEYS",
        "NOW CONFIRMED",
        "NOW PENDING",
    ];
    text += "\n\n";
    text += &table(header, rows);
    text += "\n\nNOW CONFIRMED: so many of them hold a key, which stays good until the new one is confirmed.\n\
             NOW PENDING: so many have one that is not confirmed yet, which is withdrawn.\n\n";
    text += &waves_text(&rollout);
    text
}

fn waves_text(rollout: &Rollout) -> String {
    let waves = match rollout.wave_devices {
        0 => "All in one wave".to_owned(),
        devices => format!(
            "Waves of {}; the next one begins when {}% of the keys are confirmed",
            counted(devices, "terminal"),
            rollout.proceed_at
        ),
    };
    match rollout.stop_after {
        None => format!("{waves}."),
        Some(limit) => format!(
            "{waves}. It pauses when a wrong check value is reported by more than {}.",
            counted(limit, "terminal")
        ),
    }
}

fn plan_json(planned: &StartRolloutResponse) -> Value {
    let plan = planned.plan.clone().unwrap_or_default();
    let skips = plan.skips.iter();
    let skips: Vec<_> = skips
        .map(|skips| json!({"why": skips.why, "devices": skips.devices}))
        .collect();
    json!({
        "devices": plan.devices,
        "skips": skips,
        "slots": all(&plan.slots, slot_json),
        "wave_devices": planned.rollout.as_ref().map(|rollout| rollout.wave_devices),
    })
}

fn slot_json(slot: &RolloutSlotPlan) -> Value {
    json!({
        "slot": slot.slot,
        "profile": slot.profile,
        "profile_version": slot.profile_version,
        "source": slot.source,
        "devices": slot.devices,
        "confirmed": slot.confirmed,
        "pending": slot.pending,
    })
}

pub(crate) fn rollouts(rollouts: &[Rollout], alarms: u64) -> Report {
    let rows = rollouts.iter().map(|rollout| {
        let sum = rollout_sum(rollout);
        [
            rollout.number.to_string(),
            rollout.kind.clone(),
            target_text(rollout.target.as_ref()),
            rollout.state.clone(),
            rollout.waves.len().to_string(),
            rollout.done.to_string(),
            sum.made.to_string(),
            sum.skipped.to_string(),
            rollout.started_by.clone(),
            rollout.why.clone(),
            rollout.created_at.clone(),
        ]
    });
    let header = [
        "NUMBER",
        "KIND",
        "TARGET",
        "STATE",
        "WAVES",
        "TERMINALS",
        "KEYS MADE",
        "SKIPPED",
        "BY",
        "WHY",
        "STARTED",
    ];
    let mut text = table(header, rows);
    if alarms > 0 {
        let raised = format!(
            "\n\nThe host has raised {} since it was started: look for alarm. in the audit trail (kdhctl audit list).",
            counted(alarms, "alarm")
        );
        text += &raised;
    }
    Report {
        json: json!({"rollouts": all(rollouts, rollout_json), "alarms": alarms}),
        text,
    }
}

pub(crate) fn rollout(rollout: &Rollout) -> Report {
    Report {
        json: rollout_json(rollout),
        text: rollout_text(rollout),
    }
}

fn rollout_text(rollout: &Rollout) -> String {
    let slots = match rollout.slots.join(", ") {
        slots if slots.is_empty() => "all of the profiles".to_owned(),
        slots => slots,
    };
    let done = match rollout.devices {
        0 => rollout.done.to_string(),
        devices => format!("{} of {devices}", rollout.done),
    };
    let state = match (rollout.waiting, &*rollout.state_why) {
        (true, _) => format!("{}, waiting for confirmations", rollout.state),
        (false, "") => rollout.state.clone(),
        (false, why) => format!("{}: {why}", rollout.state),
    };
    let mut text = fields(&[
        ("Rollout", &rollout.number.to_string()),
        ("Kind", &rollout.kind),
        ("Target", &target_text(rollout.target.as_ref())),
        ("Slots", &slots),
        ("State", &state),
        ("Terminals", &done),
        ("Started by", &rollout.started_by),
        ("Why", &rollout.why),
        ("Started", &rollout.created_at),
        ("Changed", &rollout.changed_at),
    ]);
    text += "\n\n";
    text += &waves_text(rollout);
    let rows = rollout.waves.iter().map(|wave| {
        [
            wave.number.to_string(),
            wave.devices.to_string(),
            wave.made.to_string(),
            wave.offered.to_string(),
            wave.confirmed.to_string(),
            wave.failed.to_string(),
            wave.void.to_string(),
            wave.skipped.to_string(),
        ]
    });
    let header = [
        "WAVE",
        "TERMINALS",
        "KEYS MADE",
        "OFFERED",
        "CONFIRMED",
        "FAILED",
        "VOID",
        "SKIPPED",
    ];
    text += "\n\n";
    text += &table(header, rows);
    let number = rollout.number;
    let next = match &*rollout.state {
        "RUNNING" => format!("kdhctl rollout watch {number}"),
        "PAUSED" => format!(
            "kdhctl rollout report {number} --troubled, then kdhctl rollout resume {number} or stop {number}"
        ),
        _ => return text,
    };
    text + &format!("\n\nNext: {next}")
}

/// With what became of each terminal.
pub(crate) fn rollout_report(rollout: &Rollout, keys: &[RolloutKey]) -> Report {
    let rows = keys.iter().map(|key| {
        [
            key.serial_number.clone(),
            dash(&key.slot),
            match key.version {
                0 => dash(""),
                version => version.to_string(),
            },
            key.state.clone(),
            dash(&key.why),
        ]
    });
    let header = ["TERMINAL", "SLOT", "VERSION", "STATE", "WHY"];
    Report {
        json: json!({"rollout": rollout_json(rollout), "keys": all(keys, key_json)}),
        text: format!("{}\n\n{}", rollout_text(rollout), table(header, rows)),
    }
}

fn key_json(key: &RolloutKey) -> Value {
    json!({
        "serial_number": key.serial_number,
        "slot": key.slot,
        "version": key.version,
        "state": key.state,
        "why": key.why,
    })
}

fn target_text(target: Option<&RolloutTarget>) -> String {
    match target.and_then(|target| target.target.as_ref()) {
        Some(Target::Model(name)) => Terminals::OfModel(name).to_string(),
        Some(Target::Group(name)) => Terminals::InGroup(name).to_string(),
        Some(Target::Devices(devices)) => match &*devices.serial_numbers {
            [one] => one.clone(),
            all => counted(all.len(), "named terminal"),
        },
        None => "whichever it is due for".to_owned(),
    }
}

fn target_json(target: Option<&RolloutTarget>) -> Value {
    match target.and_then(|target| target.target.as_ref()) {
        Some(Target::Model(name)) => Terminals::OfModel(name).json(),
        Some(Target::Group(name)) => Terminals::InGroup(name).json(),
        Some(Target::Devices(devices)) => json!({"devices": devices.serial_numbers}),
        None => Value::Null,
    }
}

fn rollout_json(rollout: &Rollout) -> Value {
    json!({
        "number": rollout.number,
        "kind": rollout.kind,
        "target": target_json(rollout.target.as_ref()),
        "slots": rollout.slots,
        "wave_devices": rollout.wave_devices,
        "proceed_at": rollout.proceed_at,
        "stop_after": rollout.stop_after,
        "state": rollout.state,
        "state_why": rollout.state_why,
        "started_by": rollout.started_by,
        "why": rollout.why,
        "created_at": rollout.created_at,
        "changed_at": rollout.changed_at,
        "devices": rollout.devices,
        "done": rollout.done,
        "waiting": rollout.waiting,
        "waves": all(&rollout.waves, wave_json),
    })
}

fn wave_json(wave: &RolloutWave) -> Value {
    json!({
        "number": wave.number,
        "devices": wave.devices,
        "made": wave.made,
        "offered": wave.offered,
        "confirmed": wave.confirmed,
        "failed": wave.failed,
        "void": wave.void,
        "skipped": wave.skipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_that_paused_is_seen_with_what_to_do() {
        let wave = |number, confirmed, failed| RolloutWave {
            number,
            devices: 10,
            made: 9,
            offered: 8,
            confirmed,
            failed,
            void: 0,
            skipped: 1,
        };
        let shown = Rollout {
            number: 7,
            target: Some(RolloutTarget {
                target: Some(Target::Model("Model X".to_owned())),
            }),
            wave_devices: 10,
            proceed_at: 95,
            stop_after: Some(2),
            state: "PAUSED".to_owned(),
            state_why: "3 devices have reported a wrong check value, more than 2".to_owned(),
            devices: 40,
            done: 20,
            waves: vec![wave(2, 4, 3), wave(1, 9, 0)],
            ..Rollout::default()
        };
        let key = RolloutKey {
            serial_number: "SN-1".to_owned(),
            state: "SKIPPED".to_owned(),
            why: "REVOKED".to_owned(),
            ..RolloutKey::default()
        };
        let report = rollout_report(&shown, &[key]);
        for part in [
            "PAUSED: 3 devices have reported a wrong check value, more than 2",
            "20 of 40",
            "model Model X",
            "Waves of 10 terminals; the next one begins when 95% of the keys are confirmed. It pauses when a wrong check \
             value is reported by more than 2 terminals.",
            "kdhctl rollout resume 7",
            "SN-1",
            "REVOKED",
        ] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
        assert_eq!(report.json["rollout"]["waves"][0]["failed"], 3);
        assert_eq!(report.json["keys"][0]["why"], "REVOKED");
        let sum = rollout_sum(&shown);
        assert_eq!((sum.made, sum.confirmed, sum.failed), (18, 13, 3));
    }
}
