//! An operator who has to do with storage keys, and what takes two.

use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        Approval, ApproveRequest, AskRotationRequest, ListApprovalsRequest, RejectRequest,
        ShowStorageRequest, ShowStorageResponse, WithdrawRequest,
        approvals_client::ApprovalsClient, key_storage_client::KeyStorageClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::world::{self, Running, World};

/// A row that is under the pair of a rotation to come, which keeps it from beginning.
pub(crate) const OBSTACLE: &str = "INSERT INTO keys VALUES ('none', 'none', 'D0000K0AB00E0000', 'AES-128', 'AES_CMAC', \
                        '000000', '2026-01-01T00:00:00Z', 2, NULL)";

/// Ada and bob, who may decide, and cleo, who may not.
pub(crate) async fn keepers(world: &World<'_>, host: &Running) -> [Keeper; 3] {
    [
        Keeper::new(world, host, 0).await,
        Keeper::new(world, host, 1).await,
        Keeper::new(world, host, 2).await,
    ]
}

/// Two of them want a new pair of storage keys.
pub(crate) async fn agree_on_rotation(asking: &mut Keeper, approving: &mut Keeper) -> Approval {
    let asked = asking.ask().await.unwrap();
    approving.approve(&asked.id).await.unwrap()
}

/// An operator who has to do with storage keys.
pub(crate) struct Keeper {
    pub(crate) storage: KeyStorageClient<Channel>,
    pub(crate) approvals: ApprovalsClient<Channel>,
}

impl Keeper {
    pub(crate) async fn new(world: &World<'_>, host: &Running, operator: usize) -> Self {
        let channel = world.operators_channel(host, operator).await;
        Self {
            storage: KeyStorageClient::new(channel.clone()),
            approvals: ApprovalsClient::new(channel),
        }
    }

    pub(crate) async fn ask(&mut self) -> Result<Approval, Status> {
        let ask = AskRotationRequest {
            why: "yearly".to_owned(),
        };
        Ok(self.storage.ask_rotation(ask).await?.into_inner())
    }

    pub(crate) async fn approve(&mut self, id: &str) -> Result<Approval, Status> {
        let id = id.to_owned();
        Ok(self
            .approvals
            .approve(ApproveRequest { id })
            .await?
            .into_inner())
    }

    pub(crate) async fn reject(&mut self, id: &str) -> Result<Approval, Status> {
        let id = id.to_owned();
        Ok(self
            .approvals
            .reject(RejectRequest { id })
            .await?
            .into_inner())
    }

    pub(crate) async fn withdraw(&mut self, id: &str, why: &str) -> Result<Approval, Status> {
        let withdraw = WithdrawRequest {
            id: id.to_owned(),
            why: why.to_owned(),
        };
        Ok(self.approvals.withdraw(withdraw).await?.into_inner())
    }

    /// All of them, newest first.
    pub(crate) async fn list(&mut self) -> Result<Vec<Approval>, Status> {
        let list = ListApprovalsRequest::default();
        let listed = self.approvals.list_approvals(list).await?;
        Ok(listed.into_inner().approvals)
    }

    pub(crate) async fn show(&mut self) -> ShowStorageResponse {
        let shown = self.storage.show_storage(ShowStorageRequest {}).await;
        shown.unwrap().into_inner()
    }

    /// Number, state and rows of each pair, once it is so.
    pub(crate) async fn until(
        &mut self,
        is: impl Fn(&ShowStorageResponse) -> bool,
    ) -> Vec<(u32, String, u64)> {
        let shown = world::until(async || Some(self.show().await).filter(&is)).await;
        let pairs = shown.pairs.into_iter();
        pairs
            .map(|pair| (pair.number, pair.state, pair.rows))
            .collect()
    }
}

pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Reason {
    outcome.unwrap_err().reason().unwrap()
}
