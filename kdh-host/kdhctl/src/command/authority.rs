//! What `CA_KRD` signs for terminals whose key distribution host is lost.

use kdh_proto::v1::{
    ApproveAuthorityRequestRequest, AuthorityRequest, ExportAuthorityTokenRequest,
    ListAuthorityRequestsRequest, RejectAuthorityRequestRequest,
};

use crate::{
    cli::AuthorityCommand,
    failure::Failure,
    pages::fetch_all,
    report::{self, Report},
    session::{Client, request},
    token_file,
};

pub(super) async fn run(command: AuthorityCommand, client: &mut Client) -> Result<Report, Failure> {
    match command {
        AuthorityCommand::List { page } => {
            let requests = fetch_all(
                page.limit,
                async |last: Option<&AuthorityRequest>, limit| {
                    let message = ListAuthorityRequestsRequest {
                        before: last.map_or_else(String::new, |last| last.id.clone()),
                        limit,
                    };
                    let page = client.list_authority_requests(request(message)).await?;
                    Ok(page.into_inner().requests)
                },
            );
            Ok(report::authority_requests(&requests.await?))
        }
        AuthorityCommand::Approve { id } => {
            let message = ApproveAuthorityRequestRequest { id };
            let approved = client.approve_authority_request(request(message)).await?;
            Ok(report::authority_request(approved.get_ref()))
        }
        AuthorityCommand::Reject { id } => {
            let message = RejectAuthorityRequestRequest { id };
            let rejected = client.reject_authority_request(request(message)).await?;
            Ok(report::authority_request(rejected.get_ref()))
        }
        AuthorityCommand::Fetch { id, out } => {
            let message = ExportAuthorityTokenRequest { id };
            let exported = client.export_authority_token(request(message)).await?;
            let exported = exported.into_inner();
            let again = "fetch it again into another file: it stays the same";
            token_file::write_new(&out, "", &exported.token, again)?;
            let request = exported.request.unwrap_or_default();
            Ok(report::exported_token(&request, &out))
        }
    }
}
