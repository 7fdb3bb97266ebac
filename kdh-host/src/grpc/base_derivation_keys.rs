//! The operators' service for BDKs.

use kdh_proto::v1::{
    Bdk, KeySet, ListBdksRequest, ListBdksResponse, RegisterBdkRequest,
    base_derivation_keys_server::BaseDerivationKeys,
};
use tonic::{Request, Response, Status};

use super::{end, operator};
use crate::{
    Host, administration as domain,
    bdks::{self, Registration},
    config::OperatorRole::{Audit, Keys},
    delivery::{kcv_message, parse_kcv},
    store::{GivenOut, StoredBdk},
};

/// Registers BDKs, and lists what was given out of them.
pub(crate) struct BaseDerivationKeysService(pub(crate) Host);

#[tonic::async_trait]
impl BaseDerivationKeys for BaseDerivationKeysService {
    async fn register_bdk(
        &self,
        request: Request<RegisterBdkRequest>,
    ) -> Result<Response<Bdk>, Status> {
        const CALL: &str = "RegisterBdk";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let request = request.get_ref();
            let registration = Registration {
                name: &request.name,
                kind: &request.kind,
                kcv: parse_kcv(request.kcv.as_ref()),
            };
            let act = bdks::register(&self.0, &operator, registration);
            let bdk = domain::on_record(&self.0, &operator, CALL, act).await?;
            Ok(message(&bdk, &[]))
        };
        end(CALL, call.await)
    }

    async fn list_bdks(
        &self,
        request: Request<ListBdksRequest>,
    ) -> Result<Response<ListBdksResponse>, Status> {
        const CALL: &str = "ListBdks";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let known = bdks::list(&self.0).await?;
            let mut listed = ListBdksResponse::default();
            for bdk in known.bdks {
                match bdk {
                    Ok(bdk) => listed.bdks.push(message(&bdk, &known.given_out)),
                    Err(name) => listed.refused.push(name),
                }
            }
            Ok(listed)
        };
        end(CALL, call.await)
    }
}

/// A BDK, with what was given out of it and of others.
fn message(bdk: &StoredBdk, given_out: &[GivenOut]) -> Bdk {
    let of_it = given_out.iter();
    let of_it = of_it.filter(|given_out| given_out.key_set.bdk == bdk.name);
    Bdk {
        name: bdk.name.to_string(),
        kind: bdk.kind.name().to_owned(),
        kcv: Some(kcv_message(&bdk.kcv)),
        created_at: bdk.created_at.clone(),
        key_sets: of_it
            .map(|given_out| KeySet {
                id: given_out.key_set.id.to_vec(),
                last_derivation_id: given_out.last,
                keys: given_out.keys,
            })
            .collect(),
    }
}
