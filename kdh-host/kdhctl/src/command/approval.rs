//! What takes two operators.

use kdh_proto::v1::{
    Approval, ApproveRequest, ListApprovalsRequest, RejectRequest, WithdrawRequest,
    approvals_client::ApprovalsClient,
};
use tonic::transport::Channel;

use crate::{
    cli::ApprovalCommand,
    failure::Failure,
    pages::fetch_all,
    report::{self, Report},
    session::request,
};

pub(super) async fn run(command: ApprovalCommand, channel: Channel) -> Result<Report, Failure> {
    let mut client = ApprovalsClient::new(channel);
    match command {
        ApprovalCommand::List { page } => {
            let approvals = fetch_all(page.limit, async |last: Option<&Approval>, limit| {
                let message = ListApprovalsRequest {
                    before: last.map_or_else(String::new, |last| last.id.clone()),
                    limit,
                };
                let page = client.list_approvals(request(message)).await?;
                Ok(page.into_inner().approvals)
            });
            Ok(report::approvals(&approvals.await?))
        }
        ApprovalCommand::Approve { id } => {
            let approved = client.approve(request(ApproveRequest { id })).await?;
            Ok(report::approval(approved.get_ref()))
        }
        ApprovalCommand::Reject { id } => {
            let rejected = client.reject(request(RejectRequest { id })).await?;
            Ok(report::approval(rejected.get_ref()))
        }
        ApprovalCommand::Withdraw { id, why } => {
            let withdrawn = client
                .withdraw(request(WithdrawRequest { id, why }))
                .await?;
            Ok(report::approval(withdrawn.get_ref()))
        }
    }
}
