//! The operators' service for the storage keys.

use kdh_proto::v1::{
    Approval, AskRotationRequest, ShowStorageRequest, ShowStorageResponse, StoragePair,
    key_storage_server::KeyStorage,
};
use tonic::{Request, Response, Status};

use super::{approvals::message, end, operator};
use crate::{
    Host, administration as domain,
    config::OperatorRole::{Audit, Keys},
    storage,
    store::time_text,
};

/// Shows the pairs, and asks for a new one.
pub(crate) struct KeyStorageService(pub(crate) Host);

#[tonic::async_trait]
impl KeyStorage for KeyStorageService {
    async fn show_storage(
        &self,
        request: Request<ShowStorageRequest>,
    ) -> Result<Response<ShowStorageResponse>, Status> {
        const CALL: &str = "ShowStorage";
        let call = async {
            operator(&self.0, &request, CALL, &[Keys, Audit]).await?;
            let standing = storage::show(&self.0).await?;
            let [fault, next_try_at] = match standing.trouble {
                Some(trouble) => [trouble.fault, time_text(trouble.next_try)?],
                None => Default::default(),
            };
            let destroyed_at = standing.destroyed_at.map(time_text).transpose()?;
            let pairs = standing.pairs.into_iter().map(|pair| StoragePair {
                number: pair.number,
                state: pair.state.to_owned(),
                rows: pair.rows,
            });
            Ok(ShowStorageResponse {
                pairs: pairs.collect(),
                rotation: standing.rotation.map(message),
                refused_rows: u64::try_from(standing.refused_rows).unwrap_or(u64::MAX),
                destroyed_at: destroyed_at.unwrap_or_default(),
                fault,
                next_try_at,
            })
        };
        end(CALL, call.await)
    }

    async fn ask_rotation(
        &self,
        request: Request<AskRotationRequest>,
    ) -> Result<Response<Approval>, Status> {
        const CALL: &str = "AskRotation";
        let call = async {
            let operator = operator(&self.0, &request, CALL, &[Keys]).await?;
            let act = storage::ask(&self.0, &operator, &request.get_ref().why);
            Ok(message(
                domain::on_record(&self.0, &operator, CALL, act).await?,
            ))
        };
        end(CALL, call.await)
    }
}
