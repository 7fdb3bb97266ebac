//! What takes two operators: one asks for it, and another one approves.

use kdh_proto::Reason;

use crate::{HostError, administration::Operator, error::refused, host::random};

/// Bytes of randomness in a request's id: few, since operators type it, and enough that a typing error
/// names no other request.
const ID_LEN: usize = 4;

/// An id for a request.
pub(crate) fn new_id() -> Result<String, HostError> {
    Ok(hex::encode(random::<ID_LEN>()?))
}

/// Whoever approves is somebody else than who has asked.
pub(crate) fn require_another(asked_by: &str, operator: &Operator) -> Result<(), HostError> {
    if asked_by != operator.name() {
        return Ok(());
    }
    let cause = format!("{asked_by} has asked for it: another operator approves");
    Err(refused(Reason::SameOperator, cause))
}
