//! What terminals call.

use kdh_proto::v1::{
    AcknowledgeBindingRequest, AcknowledgeBindingResponse, Assignment, BindRequest, BindResponse,
    BindingOrder, ConfirmRequest, ConfirmResponse, EnrollRequest, EnrollResponse,
    FetchAuthorityTokenRequest, FetchAuthorityTokenResponse, ListAssignmentsRequest,
    ListAssignmentsResponse, RequestKeyRequest, RequestKeyResponse, RequestRebindRequest,
    RequestRebindResponse, RequestUnbindRequest, RequestUnbindResponse, binding_order::Kind,
    fetch_authority_token_response::Token, key_distribution_server::KeyDistribution,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Audience, peer, status, to_the_end};
use crate::{
    Host, HostError, authority,
    binding::{self, AuthenticatedDevice},
    delivery::{self, kcv_message},
    enrolment, mirror, orders,
    stages::Laps,
    state::EndOfBinding,
    store,
};

/// The terminals' service.
pub(crate) struct KeyDistributionService(pub(crate) Host);

impl KeyDistributionService {
    async fn device(&self, peer: Option<Vec<u8>>) -> Result<AuthenticatedDevice, HostError> {
        binding::authenticate(&self.0, peer.as_deref()).await
    }

    /// An unbind or rebind token for a terminal's nonce.
    async fn binding_token(
        &self,
        kind: EndOfBinding,
        peer: Option<Vec<u8>>,
        rt_krd: Vec<u8>,
    ) -> Result<Vec<u8>, HostError> {
        let host = self.0.clone();
        let call = async move {
            let device = binding::authenticate(&host, peer.as_deref()).await?;
            orders::request(&host, &device, kind, &rt_krd).await
        };
        to_the_end(&self.0.limits().deliveries, call).await
    }
}

fn end<T>(call: &'static str, outcome: Result<T, HostError>) -> Result<Response<T>, Status> {
    outcome
        .map(Response::new)
        .map_err(|error| status(call, Audience::Terminal, &error))
}

#[tonic::async_trait]
impl KeyDistribution for KeyDistributionService {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let begun = Instant::now();
        let host = self.0.clone();
        let call = async move {
            let request = request.into_inner();
            let request = enrolment::Request {
                serial: &request.serial_number,
                activation_code: &request.activation_code,
                encryption_csr: &request.encryption_csr,
                authentication_csr: &request.authentication_csr,
            };
            let enrolled = enrolment::enrol(&host, request).await?;
            Ok(EnrollResponse {
                ct_krd: enrolled.ct_krd,
                authentication_certificate: enrolled.authentication_certificate,
                chain: enrolled.chain,
            })
        };
        let outcome = to_the_end(&self.0.limits().enrolments, call).await;
        enrolment::hide_time(begun, &outcome).await;
        end("Enroll", outcome)
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let call = async {
            let device = self.device(peer(&request)).await?;
            let ct_kdh = binding::bind(&self.0, &device, &request.get_ref().ct_krd).await?;
            Ok(BindResponse { ct_kdh })
        };
        end("Bind", call.await)
    }

    async fn list_assignments(
        &self,
        request: Request<ListAssignmentsRequest>,
    ) -> Result<Response<ListAssignmentsResponse>, Status> {
        let call = async {
            let device = self.device(peer(&request)).await?;
            let to_do = delivery::to_do(&self.0, &device).await?;
            Ok(ListAssignmentsResponse {
                assignments: to_do.assignments.iter().map(assignment_message).collect(),
                order: to_do.order.map(order_message),
            })
        };
        end("ListAssignments", call.await)
    }

    async fn request_key(
        &self,
        request: Request<RequestKeyRequest>,
    ) -> Result<Response<RequestKeyResponse>, Status> {
        let host = self.0.clone();
        let call = async move {
            let mut laps = Laps::begin();
            let device = binding::authenticate(&host, peer(&request).as_deref()).await?;
            laps.end("1 identify");
            let request = request.get_ref();
            let (slot, rt_krd) = (&request.slot, &request.rt_krd);
            let issued = delivery::request_key(&host, &device, slot, rt_krd, laps).await?;
            Ok(RequestKeyResponse {
                kt_kdh: issued.kt_kdh,
                delivery_id: issued.delivery_id,
                key_version: issued.version,
                kcv: Some(kcv_message(&issued.kcv)),
            })
        };
        let outcome = to_the_end(&self.0.limits().deliveries, call).await;
        end("RequestKey", outcome)
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        let call = async {
            let device = self.device(peer(&request)).await?;
            let receipt = request.into_inner().receipt.unwrap_or_default();
            delivery::confirm(&self.0, &device, &receipt).await?;
            Ok(ConfirmResponse {})
        };
        end("Confirm", call.await)
    }

    async fn request_unbind(
        &self,
        request: Request<RequestUnbindRequest>,
    ) -> Result<Response<RequestUnbindResponse>, Status> {
        let (peer, rt_krd) = (peer(&request), request.into_inner().rt_krd);
        let token = self.binding_token(EndOfBinding::Unbind, peer, rt_krd);
        let outcome = token.await.map(|ubt_kdh| RequestUnbindResponse { ubt_kdh });
        end("RequestUnbind", outcome)
    }

    async fn request_rebind(
        &self,
        request: Request<RequestRebindRequest>,
    ) -> Result<Response<RequestRebindResponse>, Status> {
        let (peer, rt_krd) = (peer(&request), request.into_inner().rt_krd);
        let token = self.binding_token(EndOfBinding::Rebind, peer, rt_krd);
        let outcome = token.await.map(|rbt_kdh| RequestRebindResponse { rbt_kdh });
        end("RequestRebind", outcome)
    }

    async fn fetch_authority_token(
        &self,
        request: Request<FetchAuthorityTokenRequest>,
    ) -> Result<Response<FetchAuthorityTokenResponse>, Status> {
        let call = async {
            let device = self.device(peer(&request)).await?;
            let (kind, token) = authority::fetch_for(&self.0, &device).await?;
            let token = match kind {
                EndOfBinding::Unbind => Token::UbtCa(token),
                EndOfBinding::Rebind => Token::RbtCa(token),
            };
            Ok(FetchAuthorityTokenResponse { token: Some(token) })
        };
        end("FetchAuthorityToken", call.await)
    }

    async fn acknowledge_binding(
        &self,
        request: Request<AcknowledgeBindingRequest>,
    ) -> Result<Response<AcknowledgeBindingResponse>, Status> {
        let call = async {
            let device = self.device(peer(&request)).await?;
            let receipt = request.into_inner().receipt.unwrap_or_default();
            mirror::acknowledge(&self.0, &device, &receipt).await?;
            Ok(AcknowledgeBindingResponse {})
        };
        end("AcknowledgeBinding", call.await)
    }
}

fn order_message(order: EndOfBinding) -> BindingOrder {
    let kind = match order {
        EndOfBinding::Unbind => Kind::Unbind,
        EndOfBinding::Rebind => Kind::Rebind,
    };
    BindingOrder { kind: kind.into() }
}

/// An assignment as both services show it.
pub(super) fn assignment_message(assignment: &delivery::ProvenAssignment) -> Assignment {
    assignment_of_key(&assignment.key, assignment.confirmed)
}

/// The same, of a key alone.
pub(super) fn assignment_of_key(key: &store::DeviceKey, confirmed: bool) -> Assignment {
    let initial_key = key.source.initial_key();
    Assignment {
        slot: key.slot.to_string(),
        key_version: key.version,
        header: key.header.to_string(),
        kcv: Some(kcv_message(&key.kcv)),
        confirmed,
        initial_key_id: initial_key.map_or_else(Vec::new, |(_, id)| id.as_bytes().to_vec()),
    }
}
