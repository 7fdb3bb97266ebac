//! Answers as people and programs read them: here what all of them share, and a file for each group of commands. The
//! JSON has the keys of the interface's messages and is stable; the text is not.

mod approval;
mod assignment;
mod audit;
mod authority;
mod bdks;
mod delivery;
mod device;
mod group;
mod import;
mod kdh;
mod key;
mod layout;
mod profile;
mod refused;
mod rollout;
mod storage;
mod target;
mod target_subject;
mod terminals;
mod token;

use std::fmt;

use kdh_proto::v1::KeyCheckValue;
use serde_json::{Value, json};

use self::layout::{pairs, table};
pub(crate) use self::{
    approval::{approval, approvals},
    assignment::assignment,
    audit::{audit_records, verified_audit_trail},
    authority::{authority_request, authority_requests, exported_token},
    bdks::{bdk, bdks},
    delivery::deliveries,
    device::{
        activation_code, added_device, admitted, device, device_details, devices, exported_device,
        ordered,
    },
    group::{grouped, groups},
    import::{import_nonce, key_import, key_imports},
    kdh::kdhs,
    key::{key, keys},
    profile::{
        is_refused, planned_profile, profile, profile_assigned, profile_put, profile_removed,
        profiles,
    },
    refused::refused_keys,
    rollout::{rollout, rollout_plan, rollout_report, rollout_started, rollout_sum, rollouts},
    storage::storage,
    target::{acknowledged, closed_target, exported_file, filled, received, target, targets},
    token::{checks, inspection, one_pass, one_pass_lines},
};

/// An answer in both forms.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) json: Value,
    pub(crate) text: String,
}

fn kcv_json(kcv: &KeyCheckValue) -> Value {
    json!({
        "method": kcv.method().as_str_name(),
        "value": hex::encode_upper(&kcv.value),
    })
}

pub(crate) fn all<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

fn fields(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    pairs(fields.map(|(name, value)| [(*name).to_owned(), dash(value)]))
}

/// The same, of values that were put together.
fn lines(lines: &[(&str, String)]) -> String {
    let lines = lines.iter().map(|(name, value)| (*name, &**value));
    fields(&lines.collect::<Vec<_>>())
}

/// A check value is never shown without its method.
fn kcv_text(kcv: Option<&KeyCheckValue>) -> String {
    kcv.map_or_else(
        || dash(""),
        |kcv| {
            let value = hex::encode_upper(&kcv.value);
            format!("{value} ({})", kcv.method().as_str_name())
        },
    )
}

pub(crate) fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// A number with what it counts.
pub(crate) fn counted<N: Copy + fmt::Display + From<u8> + PartialEq>(
    number: N,
    one: &str,
) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_one_or_several() {
        for (number, text) in [
            (0, "0 audit records"),
            (1, "1 audit record"),
            (2, "2 audit records"),
            (11, "11 audit records"),
            (u64::MAX, "18446744073709551615 audit records"),
        ] {
            assert_eq!(counted(number, "audit record"), text);
        }
    }
}
