//! Events that a verifier judges; [`super::story`] knows the others.

use super::line::Line;

pub(super) const BEGAN: &str = "began";
pub(super) const CONFIRMED: &str = "confirmed";
/// Signs the step before.
pub(super) const SIGNED: &str = "signed";
pub(super) const TOKEN_OPENED: &str = "token-opened";
pub(super) const AUDIT_CREDENTIAL: &str = "audit-credential";
/// Which sitting it is, where there are several.
pub(super) const SITTING: &str = "sitting";
pub(super) const COMPONENT_ENTERED: &str = "component-entered";
pub(super) const COMPONENT_SHOWN: &str = "component-shown";
pub(super) const IMPORT_COMPONENTS: &str = "import-components";
pub(super) const GIVE_OUT_COMPONENTS: &str = "give-out-components";
/// The act that goes on at the next sitting, as far as it came.
pub(super) const SITTING_ENDED: &str = "sitting-ended";
pub(super) const FINISHED: &str = "finished";
pub(super) const FAILED: &str = "failed";
/// Ends a sitting that another one follows.
pub(super) const CONTINUED: &str = "to-be-continued";
/// The seal, behind whatever else was the end.
pub(super) const SEALED: &str = "sealed";

/// Whether it is a step that somebody took.
pub(super) fn is_somebodys(line: &Line) -> bool {
    line.event == CONFIRMED || is_of_a_component(&line.event)
}

/// Whether somebody knows a component by it.
pub(super) fn is_of_a_component(event: &str) -> bool {
    matches!(event, COMPONENT_ENTERED | COMPONENT_SHOWN)
}
