//! The host's KDH credentials.

use kdh_proto::v1::Kdh;
use serde_json::json;

use super::{Report, all, dash, table};

pub(crate) fn kdhs(kdhs: &[Kdh]) -> Report {
    let rows = kdhs.iter().map(|kdh| {
        [
            kdh.serial.clone(),
            dash(&kdh.name),
            kdh.state.clone(),
            kdh.devices.to_string(),
            dash(&kdh.not_after),
        ]
    });
    let json = |kdh: &Kdh| {
        json!({
            "serial": kdh.serial,
            "name": kdh.name,
            "state": kdh.state,
            "devices": kdh.devices,
            "not_after": kdh.not_after,
        })
    };
    Report {
        json: json!({"kdhs": all(kdhs, json)}),
        text: table(["SERIAL", "NAME", "STATE", "DEVICES", "HOLDS UNTIL"], rows),
    }
}
