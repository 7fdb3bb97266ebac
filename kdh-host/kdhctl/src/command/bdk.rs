//! BDKs.

use hsm::KcvMethod;
use kdh_proto::v1::{
    ListBdksRequest, RegisterBdkRequest, base_derivation_keys_client::BaseDerivationKeysClient,
};
use tonic::transport::Channel;

use super::key::kcv_message;
use crate::{
    cli::BdkCommand,
    failure::Failure,
    report::{self, Report},
    session::request,
};

pub(super) async fn run(command: BdkCommand, channel: Channel) -> Result<Report, Failure> {
    let mut client = BaseDerivationKeysClient::new(channel);
    match command {
        BdkCommand::Register { name, kind, kcv } => {
            let message = RegisterBdkRequest {
                name,
                kind: kind.name().to_owned(),
                kcv: Some(kcv_message(KcvMethod::for_key(kind), &kcv)?),
            };
            let bdk = client.register_bdk(request(message)).await?;
            Ok(report::bdk(bdk.get_ref()))
        }
        BdkCommand::List => {
            let bdks = client.list_bdks(request(ListBdksRequest {})).await?;
            Ok(report::bdks(bdks.get_ref()))
        }
    }
}
