//! Which sitting of a ceremony is due, and what stands in its way.

use std::collections::BTreeMap;

use hsm::{Kcv, StoredSumSummary, SumId, Token};
use time::OffsetDateTime;

use crate::{
    CeremonyError, Plan,
    plan::{Act, ComponentsPlan},
    tokens::Opened,
};

/// The sum of an act.
pub(crate) fn sum_id(plan: &Plan, act: u32) -> SumId {
    SumId::new(plan.digest_bytes(), act)
}

/// The sitting that is due: the first component that is not in its sum says so. Refuses a plan whose key
/// another plan has begun.
pub(crate) fn due(plan: &Plan, opened: &BTreeMap<String, Opened>) -> Result<u32, CeremonyError> {
    let mut due = 1;
    for (act, number) in plan.acts.iter().zip(1..) {
        let id = sum_id(plan, number);
        for place in act.makes_keys() {
            let Some(Opened { token, .. }) = opened.get(&place.token) else {
                continue;
            };
            for sum in token.stored_sums()? {
                if is_over(token, &sum, plan.now)? {
                    continue;
                }
                match act {
                    Act::ImportComponents(import) if sum.id == id => {
                        let next = import.components.get(sum.components.len());
                        due = next.map_or(import.sittings(), |next| next.sitting);
                    }
                    Act::ImportComponents(import) if is_of_key(&sum, import) => {
                        return Err(other_plan(&sum));
                    }
                    _ if sum.target.name == place.key => return Err(other_plan(&sum)),
                    _ => {}
                }
            }
        }
    }
    Ok(due)
}

/// Whether a sum is not used any more, and goes before the acts begin.
fn is_over(
    token: &Token,
    sum: &StoredSumSummary,
    now: OffsetDateTime,
) -> Result<bool, CeremonyError> {
    if sum.is_expired(now) || !sum.is_spent() {
        return Ok(sum.is_expired(now));
    }
    let label = sum.target.name.label();
    Ok(!token.list_keys()?.iter().any(|key| key.label == label))
}

/// Whether a sum may have become its key, in a sitting that was stopped before it said so.
pub(crate) fn may_be_made(sums: &[StoredSumSummary], id: &SumId) -> bool {
    sums.iter().any(|sum| sum.id == *id && sum.tries > 0)
}

fn is_of_key(sum: &StoredSumSummary, import: &ComponentsPlan) -> bool {
    let start = |kcv: &Kcv| kcv.value()[..Kcv::LEN].to_vec();
    let same_value = start(&sum.target.kcv) == start(&import.kcv);
    sum.target.name == import.place.key || (sum.target.kind == import.kind && same_value)
}

fn other_plan(sum: &StoredSumSummary) -> CeremonyError {
    CeremonyError::OtherPlan {
        key: sum.target.name.label().to_owned(),
        plan: hex::encode(sum.id.plan()),
        act: sum.id.act(),
        components: sum.components.len(),
    }
}
