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
            Ok(report::approvals(&list(&mut client, page.limit).await?))
        }
        ApprovalCommand::Show { id } => {
            let approvals = list(&mut client, None).await?;
            let found = approvals.iter().find(|approval| approval.id == id);
            let found = found.ok_or_else(|| {
                let unknown = format!("there is no approval {id}");
                Failure::failed(unknown, Some("see kdhctl approval list"))
            })?;
            Ok(report::approval(found))
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

/// Newest first.
async fn list(
    client: &mut ApprovalsClient<Channel>,
    limit: Option<u32>,
) -> Result<Vec<Approval>, Failure> {
    let approvals = fetch_all(limit, async |last: Option<&Approval>, limit| {
        let message = ListApprovalsRequest {
            before: last.map_or_else(String::new, |last| last.id.clone()),
            limit,
        };
        let page = client.list_approvals(request(message)).await?;
        Ok(page.into_inner().approvals)
    });
    Ok(approvals.await?)
}
