//! The operators' service for what takes two of them.

use kdh_proto::v1::{
    Approval, ApproveRequest, ListApprovalsRequest, ListApprovalsResponse, RejectRequest,
    approvals_server::Approvals,
};
use tonic::{Request, Response, Status};

use super::{end, operator};
use crate::{
    Host, administration as domain, approvals,
    config::OperatorRole::{Audit, Keys},
    store,
};

/// Lists, approves, rejects.
pub(crate) struct ApprovalsService(pub(crate) Host);

#[tonic::async_trait]
impl Approvals for ApprovalsService {
    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        const CALL: &str = "ListApprovals";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let request = request.get_ref();
            let approvals = approvals::list(&self.0, &request.before, request.limit).await?;
            Ok(ListApprovalsResponse {
                approvals: approvals.into_iter().map(message).collect(),
            })
        };
        end(CALL, call.await)
    }

    async fn approve(
        &self,
        request: Request<ApproveRequest>,
    ) -> Result<Response<Approval>, Status> {
        const CALL: &str = "Approve";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = approvals::approve(&self.0, &operator, &request.get_ref().id);
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }

    async fn reject(&self, request: Request<RejectRequest>) -> Result<Response<Approval>, Status> {
        const CALL: &str = "Reject";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = approvals::reject(&self.0, &operator, &request.get_ref().id);
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }
}

/// An approval as operators see it.
pub(super) fn message(approval: store::Approval) -> Approval {
    Approval {
        id: approval.id,
        act: approval.act.as_str().to_owned(),
        subject: approval.subject,
        state: approval.state.as_str().to_owned(),
        asked_by: approval.asked_by,
        why: approval.why,
        decided_by: approval.decided_by.unwrap_or_default(),
        created_at: approval.created_at,
        changed_at: approval.changed_at,
        expires_at: approval.expires_at,
    }
}
