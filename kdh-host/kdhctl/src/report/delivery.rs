//! Deliveries of keys.

use kdh_proto::v1::Delivery;
use serde_json::{Value, json};

use super::{Report, all, dash, table};

pub(crate) fn deliveries(deliveries: &[Delivery]) -> Report {
    let rows = deliveries.iter().map(|delivery| {
        [
            delivery.id.clone(),
            delivery.serial_number.clone(),
            delivery.slot.clone(),
            delivery.key_version.to_string(),
            dash(&delivery.key_name),
            delivery.state.clone(),
            delivery.created_at.clone(),
            dash(&delivery.changed_at),
        ]
    });
    let header = [
        "ID", "DEVICE", "SLOT", "VERSION", "KEY", "STATE", "CREATED", "CHANGED",
    ];
    Report {
        json: json!({"deliveries": all(deliveries, delivery_json)}),
        text: table(header, rows),
    }
}

fn delivery_json(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "serial_number": delivery.serial_number,
        "slot": delivery.slot,
        "key_version": delivery.key_version,
        "key_name": delivery.key_name,
        "state": delivery.state,
        "created_at": delivery.created_at,
        "changed_at": delivery.changed_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery() {
        let delivery = Delivery {
            id: "d-1".to_owned(),
            serial_number: "SN-1001".to_owned(),
            slot: "tmk".to_owned(),
            key_version: 2,
            key_name: "acq-tmk-2026".to_owned(),
            state: "CONFIRMED".to_owned(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: "2026-01-01T00:00:01Z".to_owned(),
        };
        let json = json!({
            "id": "d-1",
            "serial_number": "SN-1001",
            "slot": "tmk",
            "key_version": 2,
            "key_name": "acq-tmk-2026",
            "state": "CONFIRMED",
            "created_at": "2026-01-01T00:00:00Z",
            "changed_at": "2026-01-01T00:00:01Z",
        });
        assert_eq!(deliveries(&[delivery]).json, json!({"deliveries": [json]}));
    }
}
