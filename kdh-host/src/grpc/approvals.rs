//! The operators' service for what takes two of them.

use kdh_proto::v1::{
    Approval, ApproveRequest, ListApprovalsRequest, ListApprovalsResponse, RejectRequest,
    WithdrawRequest, approvals_server::Approvals,
};
use tonic::{Request, Response, Status};

use super::{end, operator};
use crate::{
    Host, administration as domain,
    approvals::{self, Shown},
    config::OperatorRole::{Audit, Keys},
    store,
};

/// Lists, approves, rejects, withdraws.
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
                approvals: approvals
                    .into_iter()
                    .map(|listed| listed.map_or_else(refused, shown))
                    .collect(),
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

    async fn withdraw(
        &self,
        request: Request<WithdrawRequest>,
    ) -> Result<Response<Approval>, Status> {
        const CALL: &str = "Withdraw";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let WithdrawRequest { id, why } = request.get_ref();
            let act = approvals::withdraw(&self.0, &operator, id, why);
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }
}

fn shown(shown: Shown) -> Approval {
    Approval {
        fault: shown.fault.unwrap_or_default(),
        ..message(shown.approval)
    }
}

/// One that is not as the HSM has sealed it: what it says may be anybody's.
pub(super) fn refused(id: String) -> Approval {
    Approval {
        id,
        state: "REFUSED".to_owned(),
        ..Approval::default()
    }
}

/// An approval of which nothing is wrong.
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
        progress: approval.progress.unwrap_or_default(),
        ended_by: approval.ended_by.unwrap_or_default(),
        ended_why: approval.ended_why.unwrap_or_default(),
        fault: String::new(),
    }
}
