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
mod profile;
mod refused;
mod rollout;
mod storage;
mod target;
mod token;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use kdh_proto::v1::KeyCheckValue;
use serde_json::{Value, json};

pub(crate) use self::{
    approval::{approval, approvals},
    assignment::assignment,
    audit::{audit_records, verified_audit_trail},
    authority::{authority_request, authority_requests, exported_token},
    bdks::{bdk, bdks},
    delivery::deliveries,
    device::{
        activation_code, admitted, device, device_details, devices, exported_device, ordered,
    },
    group::{grouped, groups},
    import::{import_nonce, key_import, key_imports},
    kdh::kdhs,
    key::{key, keys},
    profile::{planned_profile, profile, profile_assigned, profile_put, profile_removed, profiles},
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

pub(crate) fn fields(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter();
    pairs(fields.map(|(name, value)| [(*name).to_owned(), dash(value)]))
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

/// As wide as the screen, where that says how wide it is.
fn fitted() -> Table {
    let mut table = Table::new();
    if table.width() != Some(0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Names with their values, one below the other.
pub(crate) fn pairs(rows: impl Iterator<Item = [String; 2]>) -> String {
    let mut table = fitted();
    table.load_style(TableStyle::new());
    table.add_rows(rows);
    table.trim_fmt()
}

pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = fitted();
    let line = LineStyle::none().fill('─');
    table.load_style(TableStyle::new().header_separator(line));
    table.set_header(header).add_rows(rows);
    table.trim_fmt()
}
