//! Calls to the host.

use std::{fmt, future::Future, time::Duration};

use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{
        AcknowledgeBindingRequest, BindRequest, ConfirmRequest, EnrollRequest, EnrollResponse,
        FetchAuthorityTokenRequest, ListAssignmentsRequest, ListAssignmentsResponse, Receipt,
        RequestKeyRequest, RequestKeyResponse, RequestRebindRequest, RequestUnbindRequest,
        fetch_authority_token_response::Token as AuthorityToken,
        key_distribution_client::KeyDistributionClient,
    },
};
use token_tls::{TlsIdentity, client_config, connect};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{Config, KrdError};

/// The longest answer that is read: a few tokens.
const MAX_ANSWER_LEN: usize = 4 * tr34::MAX_TOKEN_LEN;

/// A call that failed.
#[derive(Debug)]
pub struct CallError {
    call: &'static str,
    failure: Failure,
}

#[derive(Debug)]
enum Failure {
    Refused {
        reason: Reason,
        correlation_id: Option<String>,
    },
    Timeout(Duration),
    Other(Box<Status>),
}

impl CallError {
    fn new(call: &'static str, status: Status) -> Self {
        let failure = match status.reason() {
            Some(reason) => Failure::Refused {
                reason,
                correlation_id: status.correlation_id(),
            },
            None => Failure::Other(Box::new(status)),
        };
        Self { call, failure }
    }

    /// The host's reason, if it gave one.
    pub const fn reason(&self) -> Option<Reason> {
        match &self.failure {
            Failure::Refused { reason, .. } => Some(*reason),
            Failure::Timeout(_) | Failure::Other(_) => None,
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.call)?;
        match &self.failure {
            Failure::Refused {
                reason,
                correlation_id,
            } => {
                f.write_str(advice(*reason))?;
                match correlation_id {
                    Some(id) => write!(f, " (the host's log has it under {id})"),
                    None => Ok(()),
                }
            }
            Failure::Timeout(limit) => {
                write!(f, "no answer within {} seconds; try again", limit.as_secs())
            }
            Failure::Other(status) if status.code() == Code::Unavailable => {
                write!(
                    f,
                    "the host cannot be reached; try again ({})",
                    status.message()
                )
            }
            Failure::Other(status) => {
                write!(
                    f,
                    "the host answered {:?}: {}",
                    status.code(),
                    status.message()
                )
            }
        }
    }
}

/// What a reason means for whoever stands before the terminal, and what to do next.
const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::EnrollmentRefused => {
            "the host does not enrol this terminal; check the serial number and the activation \
             code, or ask an operator for a new code"
        }
        Reason::CsrInvalid => "the host takes the certificate request for damaged",
        Reason::KeyTooWeak => {
            "the host demands a longer RSA key; set rsa-bits, and start with a fresh token"
        }
        Reason::KeyInUse => {
            "the host knows this key already, under this or another device; start with a fresh \
             token"
        }
        Reason::IdentityMismatch => {
            "the certificate of this connection is not this terminal's, or was not accepted"
        }
        Reason::CredentialRejected => {
            "the host does not accept this terminal's certificate: expired, revoked, or by another \
             CA"
        }
        Reason::DeviceRevoked => "this terminal was revoked for good",
        Reason::DeviceQuarantined => {
            "this terminal is set apart after a wrong check value; an operator has to look at it"
        }
        Reason::DeviceSuspended => "this terminal was suspended by an operator",
        Reason::NotBound => "the terminal has to bind first: run \"krd bind\"",
        Reason::NonceReused | Reason::NonceInvalid => {
            "the host does not accept the nonce; run the command again for a fresh one"
        }
        Reason::NoKeyAssigned => {
            "the host has no key for this slot; after a new enrolment an operator has to assign it anew"
        }
        Reason::KeyExpired => {
            "the host's key for this slot is too old; an operator has to give this terminal a new one"
        }
        Reason::NotOrdered => "no operator has ordered this, or it cannot be done now",
        Reason::NoAuthorityToken => "nothing is signed for this terminal",
        Reason::TokenUnknown => "the host knows of no such token for this terminal",
        Reason::DeliveryUnknown => {
            "the host has no such delivery open any more; run \"krd load\" again"
        }
        Reason::ReceiptInvalid => "the host does not accept the receipt",
        Reason::KcvMismatch => {
            "the check value is not what the host expected; an operator has to look at it"
        }
        Reason::TokenMalformed => "the host cannot read the message",
        Reason::RateLimited | Reason::Overloaded => "the host has too much to do; try again later",
        Reason::HsmUnavailable | Reason::StoreUnavailable => {
            "the host cannot serve at the moment; nothing was consumed, try again later"
        }
        Reason::RoleMissing
        | Reason::SameOperator
        | Reason::RequestInvalid
        | Reason::NotFound
        | Reason::AlreadyExists
        | Reason::WrongState
        | Reason::HsmUnsupported
        | Reason::Internal => "the host could not do it; ask an operator",
    }
}

/// A connection to the host.
pub(crate) struct Host {
    client: KeyDistributionClient<Channel>,
    limit: Duration,
}

impl Host {
    /// Connects: with `identity` for everything but Enroll.
    pub(crate) async fn connect(
        config: &Config,
        identity: Option<&TlsIdentity>,
    ) -> Result<Self, KrdError> {
        let tls = client_config(identity, std::slice::from_ref(&config.trust.ops))?;
        let limit = config.connect_timeout;
        let channel = connect(&config.host, &config.server_name, tls, limit).await?;
        Ok(Self {
            client: KeyDistributionClient::new(channel).max_decoding_message_size(MAX_ANSWER_LEN),
            limit: config.call_timeout,
        })
    }

    pub(crate) async fn enroll(
        &mut self,
        request: EnrollRequest,
    ) -> Result<EnrollResponse, CallError> {
        answer("Enroll", self.limit, self.client.enroll(request)).await
    }

    /// Returns `CT_KDH`.
    pub(crate) async fn bind(&mut self, ct_krd: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let request = BindRequest { ct_krd };
        let response = answer("Bind", self.limit, self.client.bind(request)).await?;
        Ok(response.ct_kdh)
    }

    pub(crate) async fn list_assignments(&mut self) -> Result<ListAssignmentsResponse, CallError> {
        let call = self.client.list_assignments(ListAssignmentsRequest {});
        answer("ListAssignments", self.limit, call).await
    }

    pub(crate) async fn request_key(
        &mut self,
        slot: String,
        rt_krd: Vec<u8>,
    ) -> Result<RequestKeyResponse, CallError> {
        let request = RequestKeyRequest { slot, rt_krd };
        answer("RequestKey", self.limit, self.client.request_key(request)).await
    }

    pub(crate) async fn confirm(&mut self, receipt: Receipt) -> Result<(), CallError> {
        let request = ConfirmRequest {
            receipt: Some(receipt),
        };
        answer("Confirm", self.limit, self.client.confirm(request)).await?;
        Ok(())
    }

    /// Returns `UBT_KDH`.
    pub(crate) async fn request_unbind(&mut self, rt_krd: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let call = self.client.request_unbind(RequestUnbindRequest { rt_krd });
        let response = answer("RequestUnbind", self.limit, call).await?;
        Ok(response.ubt_kdh)
    }

    /// Returns `RBT_KDH`.
    pub(crate) async fn request_rebind(&mut self, rt_krd: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let call = self.client.request_rebind(RequestRebindRequest { rt_krd });
        let response = answer("RequestRebind", self.limit, call).await?;
        Ok(response.rbt_kdh)
    }

    /// Returns `UBT_CA` or `RBT_CA`.
    pub(crate) async fn fetch_authority_token(&mut self) -> Result<AuthorityToken, KrdError> {
        let name = "FetchAuthorityToken";
        let call = self
            .client
            .fetch_authority_token(FetchAuthorityTokenRequest {});
        let response = answer(name, self.limit, call).await?;
        response.token.ok_or_else(|| KrdError::BadAnswer {
            call: name,
            what: "no token".to_owned(),
        })
    }

    pub(crate) async fn acknowledge_binding(&mut self, receipt: Receipt) -> Result<(), CallError> {
        let request = AcknowledgeBindingRequest {
            receipt: Some(receipt),
        };
        let call = self.client.acknowledge_binding(request);
        answer("AcknowledgeBinding", self.limit, call).await?;
        Ok(())
    }
}

async fn answer<T>(
    call: &'static str,
    limit: Duration,
    pending: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, pending).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::new(call, status)),
        Err(_) => Err(CallError {
            call,
            failure: Failure::Timeout(limit),
        }),
    }
}
