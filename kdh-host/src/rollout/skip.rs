//! Why a device or a slot gets no key, in the words that operators and the audit trail read.

use crate::state::DeviceState;

/// Neither its group nor its model carries a profile.
pub(super) const NO_PROFILE: &str = "NO_PROFILE";
/// The profile has none of the slots.
pub(super) const NO_SLOT: &str = "NO_SLOT";
/// The slot's row is not as the HSM has sealed it.
pub(super) const ROW_CHANGED: &str = "ROW_CHANGED";
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
