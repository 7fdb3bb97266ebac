//! Why a device or a slot gets no key, in the words that operators and the audit trail read.

use crate::{HostError, state::DeviceState, store::StoreError};

/// Neither its group nor its model carries a profile.
pub(super) const NO_PROFILE: &str = "NO_PROFILE";
/// The profile has none of the slots.
pub(super) const NO_SLOT: &str = "NO_SLOT";
/// The slot's row is not as the HSM has sealed it.
pub(super) const ROW_CHANGED: &str = "ROW_CHANGED";
/// The slot has had as many versions as there can be.
pub(super) const NO_VERSION: &str = "NO_VERSION";
/// The database says something else of the device than the audit trail: its model, its group or its certificate.
pub(super) const NOT_RECORDED: &str = "NOT_RECORDED";

/// A device that is left alone as it stands now: the state.
pub(super) const fn by_state(state: DeviceState) -> Option<&'static str> {
    if state.is_left_alone() {
        Some(state.as_str())
    } else {
        None
    }
}

/// What is wrong with a slot, if that is why it gets no key: others get theirs.
pub(super) const fn by_row(error: &HostError) -> Option<&'static str> {
    match error {
        HostError::Store(StoreError::NotSealed(_)) => Some(ROW_CHANGED),
        HostError::Store(StoreError::NoNextVersion(_)) => Some(NO_VERSION),
        _ => None,
    }
}
