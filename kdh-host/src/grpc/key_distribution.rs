//! What terminals call.

use kdh_proto::v1::{
    Assignment, BindRequest, BindResponse, ConfirmRequest, ConfirmResponse, EnrollRequest,
    EnrollResponse, ListAssignmentsRequest, ListAssignmentsResponse, RequestKeyRequest,
    RequestKeyResponse, key_distribution_server::KeyDistribution,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Audience, peer, status, to_the_end};
use crate::{
    Host, HostError, binding,
    binding::AuthenticatedDevice,
    delivery::{self, kcv_message},
    enrolment,
    stages::Laps,
    store,
};

/// The terminals' service.
pub(crate) struct KeyDistributionService(pub(crate) Host);

impl KeyDistributionService {
    async fn device(&self, peer: Option<Vec<u8>>) -> Result<AuthenticatedDevice, HostError> {
        binding::authenticate(&self.0, peer.as_deref()).await
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
            let assignments = delivery::assignments(&self.0, &device).await?;
            let assignments = assignments.iter().map(assignment_message).collect();
            Ok(ListAssignmentsResponse { assignments })
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
}

/// An assignment as both services show it.
pub(super) fn assignment_message(assignment: &store::Assignment) -> Assignment {
    Assignment {
        slot: assignment.slot.to_string(),
        key_version: assignment.version,
        header: assignment.key.header.to_string(),
        kcv: Some(kcv_message(&assignment.key.kcv)),
        confirmed: assignment.confirmed,
    }
}
