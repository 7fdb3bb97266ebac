use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `ErrorInfo.domain` under which the reasons stand.
const DOMAIN: &str = "kdh.v1";
/// The `ErrorInfo.metadata` key of the correlation id.
const CORRELATION_ID: &str = "correlation-id";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)+) => {
        /// Why a call was refused: stable, and all that a caller learns.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            /// Every reason, in the order of the protocol document.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire, in logs and in the audit trail.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The gRPC code that goes with it.
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)+ }
            }
        }
    };
}

reasons! {
    /// Unknown serial, wrong, used or expired code, locked device, wrong state:
    /// one answer, so that nobody can probe for serial numbers.
    EnrollmentRefused = "ENROLLMENT_REFUSED", PermissionDenied;
    /// The request does not parse or does not prove possession of its key.
    CsrInvalid = "CSR_INVALID", InvalidArgument;
    /// The key is of a kind or size that the host does not certify.
    KeyTooWeak = "KEY_TOO_WEAK", InvalidArgument;
    /// The public key is already known, under this or another device.
    KeyInUse = "KEY_IN_USE", InvalidArgument;
    /// The message speaks for another device than the TLS certificate, or there is none.
    IdentityMismatch = "IDENTITY_MISMATCH", PermissionDenied;
    /// A certificate does not verify, is outside its validity, listed, or of the wrong role.
    CredentialRejected = "CREDENTIAL_REJECTED", PermissionDenied;
    /// The device was revoked.
    DeviceRevoked = "DEVICE_REVOKED", PermissionDenied;
    /// The device is set apart until an operator has looked at it.
    DeviceQuarantined = "DEVICE_QUARANTINED", PermissionDenied;
    /// The device was suspended by an operator.
    DeviceSuspended = "DEVICE_SUSPENDED", PermissionDenied;
    /// The device has to call Bind first.
    NotBound = "NOT_BOUND", FailedPrecondition;
    /// This device has used this nonce before.
    NonceReused = "NONCE_REUSED", FailedPrecondition;
    /// The nonce has not the length that the terminal's profile says: 16 bytes in the default one.
    NonceInvalid = "NONCE_INVALID", InvalidArgument;
    /// Nothing is assigned to this slot.
    NoKeyAssigned = "NO_KEY_ASSIGNED", NotFound;
    /// The key is older than the device's key profile lets it be; it gets the next one when an operator or the host
    /// has made it.
    KeyExpired = "KEY_EXPIRED", FailedPrecondition;
    /// No operator has ordered this of the device, or what is ordered cannot be done now.
    NotOrdered = "NOT_ORDERED", FailedPrecondition;
    /// Nothing is signed for the device by the authority over terminals.
    NoAuthorityToken = "NO_AUTHORITY_TOKEN", NotFound;
    /// This device got no token with the named digest.
    TokenUnknown = "TOKEN_UNKNOWN", NotFound;
    /// The named delivery is not this device's, or not open any more.
    DeliveryUnknown = "DELIVERY_UNKNOWN", NotFound;
    /// The receipt does not verify or does not fit the delivery or the token.
    ReceiptInvalid = "RECEIPT_INVALID", InvalidArgument;
    /// The terminal loaded something else than what was sent.
    KcvMismatch = "KCV_MISMATCH", FailedPrecondition;
    /// Does not parse, is too long, or has trailing bytes.
    TokenMalformed = "TOKEN_MALFORMED", InvalidArgument;
    /// Too many calls; retry after the stated delay.
    RateLimited = "RATE_LIMITED", ResourceExhausted;
    /// The host is at its limit; retry after the stated delay.
    Overloaded = "OVERLOADED", ResourceExhausted;
    /// The HSM does not answer. Safe to retry: nothing was consumed.
    HsmUnavailable = "HSM_UNAVAILABLE", Unavailable;
    /// The database does not answer. Safe to retry: nothing was consumed.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable;
    /// The operator has no role that allows this.
    RoleMissing = "ROLE_MISSING", PermissionDenied;
    /// It takes two operators, and this one has asked for it.
    SameOperator = "SAME_OPERATOR", PermissionDenied;
    /// An administrative request is not acceptable as it stands; the message says why.
    RequestInvalid = "REQUEST_INVALID", InvalidArgument;
    /// The named device, key or delivery does not exist.
    NotFound = "NOT_FOUND", NotFound;
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists;
    /// Not possible in the present state; the message says which.
    WrongState = "WRONG_STATE", FailedPrecondition;
    /// The HSM lacks a mechanism that this needs; the message names it.
    HsmUnsupported = "HSM_UNSUPPORTED", FailedPrecondition;
    /// Ours: a fault that the log explains under the correlation id.
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// The status for this reason. `message` is empty towards terminals.
    pub fn into_status(
        self,
        message: &str,
        correlation_id: &str,
        retry_after: Option<Duration>,
    ) -> Status {
        let mut details = ErrorDetails::new();
        let metadata = [(CORRELATION_ID.to_owned(), correlation_id.to_owned())];
        details.set_error_info(self.as_str(), DOMAIN, metadata);
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        let message = if message.is_empty() {
            self.as_str()
        } else {
            message
        };
        Status::with_error_details(self.code(), message, details)
    }
}

/// Reads back what [`Reason::into_status`] put into a status.
pub trait ReasonedStatus {
    /// The reason, where the status carries a known one of ours.
    fn reason(&self) -> Option<Reason>;
    /// The correlation id, where there is one.
    fn correlation_id(&self) -> Option<String>;
    /// When the caller may try again, where the status says so.
    fn retry_after(&self) -> Option<Duration>;
}

impl ReasonedStatus for Status {
    fn reason(&self) -> Option<Reason> {
        let info = self.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        Reason::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == info.reason)
    }

    fn correlation_id(&self) -> Option<String> {
        self.get_details_error_info()?
            .metadata
            .get(CORRELATION_ID)
            .cloned()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.get_details_retry_info()?.retry_delay
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_survives_the_wire() {
        for &reason in Reason::ALL {
            let status = reason.into_status("", "id-1", Some(Duration::from_secs(2)));
            assert_eq!(status.code(), reason.code());
            assert_eq!(status.reason(), Some(reason));
            assert_eq!(status.correlation_id().as_deref(), Some("id-1"));
            assert_eq!(status.retry_after(), Some(Duration::from_secs(2)));
            assert_eq!(
                status.message(),
                reason.as_str(),
                "a terminal learns no more than this"
            );
        }
    }

    #[test]
    fn reasons_are_distinct_words() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn what_is_not_ours_has_no_reason() {
        let foreign = |reason: &str, domain: &str| {
            let mut details = ErrorDetails::new();
            details.set_error_info(reason, domain, std::collections::HashMap::new());
            Status::with_error_details(Code::Internal, "", details)
        };
        let cases = [
            ("no details", Status::internal("NOT_BOUND")),
            ("another domain", foreign("NOT_BOUND", "example.org")),
            ("an unknown word", foreign("NOT_A_REASON", DOMAIN)),
            ("another case", foreign("not_bound", DOMAIN)),
        ];
        for (case, status) in cases {
            assert_eq!(status.reason(), None, "{case}");
        }
    }
}
