//! Failures as people and programs read them: what happened, the host's reason, what to do next.

use std::fmt;

use hsm::HsmError;
use kdh_proto::{Reason, ReasonedStatus};
use serde_json::{Value, json};
use token_tls::{ConnectError, TlsError};
use tonic::{Code, Status};

/// A command that did not do what it should. Never holds a secret.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) exit_code: u8,
    message: String,
    reason: Option<Reason>,
    correlation_id: Option<String>,
    next: Option<&'static str>,
}

impl Failure {
    /// It was tried, and failed or was refused.
    pub(crate) fn failed(message: impl fmt::Display, next: Option<&'static str>) -> Self {
        Self {
            exit_code: 1,
            message: message.to_string(),
            reason: None,
            correlation_id: None,
            next,
        }
    }

    /// It was not tried: the command line or the configuration is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            exit_code: 2,
            ..Self::failed(message, None)
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "reason": self.reason.map(Reason::as_str),
            "correlation_id": self.correlation_id,
            "next": self.next,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kdhctl: {}", self.message)?;
        if let Some(reason) = self.reason {
            write!(f, "\n  reason:         {}", reason.as_str())?;
        }
        if let Some(id) = &self.correlation_id {
            write!(f, "\n  correlation id: {id}")?;
        }
        if let Some(next) = self.next {
            write!(f, "\n  what to do:     {next}")?;
        }
        Ok(())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = status.reason();
        let message = match status.message() {
            "" => format!("the host answered {:?}", status.code()),
            message => message.to_owned(),
        };
        let next = match reason {
            // The host has said what to do.
            _ if message.contains("kdhctl ") => None,
            Some(reason) => advice(reason),
            None => advice_on_code(status.code()),
        };
        Self {
            reason,
            correlation_id: status.correlation_id(),
            ..Self::failed(message, next)
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        // Each says itself what to look at.
        match error {
            ConnectError::Address(_) => Self::usage(format!("address: {error}")),
            ConnectError::ServerName(_) => Self::usage(format!("server-name: {error}")),
            _ => Self::failed(error, None),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::failed(
            error,
            Some("look whether \"certificate\" and [token] key-label name a pair"),
        )
    }
}

impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        let next = match error {
            HsmError::PinIncorrect { .. } => Some(
                "make sure of the PIN before you try again: every wrong try brings the token \
                 closer to locking",
            ),
            HsmError::PinLocked { .. } => Some("have the token's security officer set a new PIN"),
            HsmError::ModuleNotLoaded { .. } => Some("look at [token] module"),
            HsmError::TokenNotFound { .. } => {
                Some("look whether the token is there and [token] label is right")
            }
            HsmError::TokenNotUnique { .. } => Some("name the token's [token] serial as well"),
            HsmError::KeyNotFound { .. } => Some("look at [token] key-label"),
            _ => None,
        };
        Self::failed(error, next)
    }
}

/// What an operator can do about a reason. `None` where the message says it all.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::RoleMissing => Some(
            "have your name listed with this role under [[operators]] in the host's configuration",
        ),
        Reason::IdentityMismatch | Reason::CredentialRejected => Some(
            "look whether your certificate is current, an operator's, and issued by the host's \
             CA_OPS",
        ),
        Reason::NotFound => Some(
            "see what there is with the list commands, and the HSM's keys with \"kdh-ceremony hsm check\"; names are \
             case-sensitive",
        ),
        Reason::AlreadyExists => Some(
            "choose another name, or go on with what is there: \"kdhctl device show\" shows an open \
             order, which \"kdhctl device cancel-order\" takes back, and \"kdhctl authority list\" requests",
        ),
        Reason::WrongState => Some(
            "see how it stands: kdhctl device show (a terminal), key refused (rows of keys), target show (an export \
             target), rollout show, profile show, approval list, import list, or authority list",
        ),
        Reason::NotBound => Some(
            "see with \"kdhctl device show\" how it stands; it is bound with \"krd bind\" at the terminal",
        ),
        Reason::KeyExpired => Some(
            "give the terminal a new one with \"kdhctl key assign --by-profile\", or many with \"kdhctl rollout \
             start\"",
        ),
        Reason::NoKeyAssigned => Some("assign a key to this slot with \"kdhctl key assign\""),
        Reason::KcvMismatch => Some(
            "compare with the ceremony's record, or with the sender: this is another key, or the check \
             value is mistyped or of another method",
        ),
        Reason::HsmUnsupported => Some(
            "use a key that this HSM can seal, or another HSM; for an import, agree on another form with the \
             sender (docs/key-import.md)",
        ),
        Reason::RateLimited | Reason::Overloaded => Some("try again in a moment"),
        Reason::HsmUnavailable | Reason::StoreUnavailable => {
            Some("try again: nothing was changed. If it stays, look at the host's log")
        }
        Reason::SameOperator => Some("have another operator with the same role approve it"),
        Reason::Internal => Some("look for the correlation id in the host's log"),
        // The first says in its message what is wrong; the others are answers to terminals.
        Reason::RequestInvalid
        | Reason::EnrollmentRefused
        | Reason::CsrInvalid
        | Reason::KeyTooWeak
        | Reason::KeyInUse
        | Reason::DeviceRevoked
        | Reason::DeviceQuarantined
        | Reason::DeviceSuspended
        | Reason::NonceReused
        | Reason::NonceInvalid
        | Reason::NotOrdered
        | Reason::NoAuthorityToken
        | Reason::TokenUnknown
        | Reason::DeliveryUnknown
        | Reason::ReceiptInvalid
        | Reason::TokenMalformed => None,
    }
}

/// For a status that is not the host's own words.
fn advice_on_code(code: Code) -> Option<&'static str> {
    match code {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
            Some("look whether the host is running; look what was done before you try again")
        }
        Code::Unimplemented => Some(
            "look whether \"address\" is the administration listener, and the host as new as \
             kdhctl",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_reason_correlation_id_and_next_step() {
        let status =
            Reason::RoleMissing.into_status("ada: AddDevice takes the role fleet", "id-1", None);
        let failure = Failure::from(status);
        assert_eq!(failure.exit_code, 1);
        let text = failure.to_string();
        for part in ["the role fleet", "ROLE_MISSING", "id-1", "[[operators]]"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let next = advice(Reason::RoleMissing);
        assert_eq!(
            failure.to_json(),
            json!({"error": {
                "message": "ada: AddDevice takes the role fleet",
                "reason": "ROLE_MISSING",
                "correlation_id": "id-1",
                "next": next,
            }})
        );
    }

    #[test]
    fn what_is_not_the_hosts_own_has_no_reason() {
        let failure = Failure::from(Status::unavailable("tcp connect error"));
        assert_eq!(failure.exit_code, 1);
        assert!(failure.to_string().contains("is running"));
        let json = failure.to_json();
        assert_eq!(json["error"]["reason"], Value::Null);
        assert_eq!(json["error"]["correlation_id"], Value::Null);
        let silent = Failure::from(Status::new(Code::Unknown, ""));
        assert_eq!(silent.to_string(), "kdhctl: the host answered Unknown");
    }

    #[test]
    fn faults_in_usage_have_their_own_exit_code() {
        assert_eq!(Failure::usage("no such file").exit_code, 2);
        let address = ConnectError::Address("kdh.example".to_owned());
        let failure = Failure::from(address);
        assert_eq!(failure.exit_code, 2);
        assert!(failure.to_string().contains("host:port"), "{failure}");
        let address = "kdh.example:7444".to_owned();
        assert_eq!(
            Failure::from(ConnectError::NoAnswer { address }).exit_code,
            1
        );
        let token = "operator".to_owned();
        assert_eq!(Failure::from(HsmError::PinLocked { token }).exit_code, 1);
    }
}
