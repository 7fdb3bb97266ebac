//! A new pair of storage keys in the place of the present one.

use hsm_modules::{SOFTHSM, WHOLE};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        Approval, ApproveRequest, AskRotationRequest, ListApprovalsRequest, RejectRequest,
        ShowStorageRequest, ShowStorageResponse, approvals_client::ApprovalsClient,
        key_storage_client::KeyStorageClient,
    },
};
use sqlx::SqliteConnection;
use tonic::{Status, transport::Channel};

use crate::{
    device_keys::{Stage, database, edit, execute},
    world::{self, Running, World, assign_master_key, open},
};

/// An operator who has to do with storage keys.
struct Keeper {
    storage: KeyStorageClient<Channel>,
    approvals: ApprovalsClient<Channel>,
}

impl Keeper {
    async fn new(world: &World<'_>, host: &Running, operator: usize) -> Self {
        let channel = world.operators_channel(host, operator).await;
        Self {
            storage: KeyStorageClient::new(channel.clone()),
            approvals: ApprovalsClient::new(channel),
        }
    }

    async fn ask(&mut self) -> Result<Approval, Status> {
        let ask = AskRotationRequest {
            why: "yearly".to_owned(),
        };
        Ok(self.storage.ask_rotation(ask).await?.into_inner())
    }

    async fn approve(&mut self, id: &str) -> Result<Approval, Status> {
        let id = id.to_owned();
        Ok(self
            .approvals
            .approve(ApproveRequest { id })
            .await?
            .into_inner())
    }

    async fn reject(&mut self, id: &str) -> Result<Approval, Status> {
        let id = id.to_owned();
        Ok(self
            .approvals
            .reject(RejectRequest { id })
            .await?
            .into_inner())
    }

    async fn show(&mut self) -> ShowStorageResponse {
        let shown = self.storage.show_storage(ShowStorageRequest {}).await;
        shown.unwrap().into_inner()
    }

    /// Number, state and rows of each pair, once it is so.
    async fn until(
        &mut self,
        is: impl Fn(&ShowStorageResponse) -> bool,
    ) -> Vec<(u32, String, u64)> {
        loop {
            let shown = self.show().await;
            if is(&shown) {
                let pairs = shown.pairs.into_iter();
                return pairs
                    .map(|pair| (pair.number, pair.state, pair.rows))
                    .collect();
            }
            tokio::task::yield_now().await;
        }
    }
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Reason {
    outcome.unwrap_err().reason().unwrap()
}

fn pair(number: u32, state: &str, rows: u64) -> (u32, String, u64) {
    (number, state.to_owned(), rows)
}

/// How many of the first device's keys are under each pair.
async fn numbers(database: &mut SqliteConnection) -> Vec<(String, i64)> {
    sqlx::query_as(
        "SELECT 'device ' || storage_key, COUNT(*) FROM device_keys GROUP BY storage_key
         UNION ALL SELECT 'registered ' || storage_key, COUNT(*) FROM keys GROUP BY storage_key",
    )
    .fetch_all(database)
    .await
    .unwrap()
}

#[test]
fn what_two_operators_want_moves_every_key_and_destroys_the_old_pair() {
    world::on(&WHOLE, |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let mut ada = Keeper::new(&world, &stage.host, 0).await;
            let mut bob = Keeper::new(&world, &stage.host, 1).await;
            let mut cleo = Keeper::new(&world, &stage.host, 2).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            let before = stage.assign(0).await;
            let issued = stage.request(0).await.unwrap();
            stage.confirm(0, &issued).await.unwrap();
            stage.assign(0).await;

            // One asks, and nobody else may.
            assert_eq!(reason(cleo.ask().await), Reason::RoleMissing);
            let first = ada.ask().await.unwrap();
            assert_eq!(
                (&*first.act, &*first.subject, &*first.state),
                ("STORAGE_ROTATION", "2", "ASKED")
            );
            assert_eq!(reason(bob.ask().await), Reason::AlreadyExists);
            assert_eq!(reason(ada.approve(&first.id).await), Reason::SameOperator);
            assert_eq!(reason(cleo.approve(&first.id).await), Reason::RoleMissing);
            assert_eq!(reason(bob.approve("00000000").await), Reason::NotFound);
            assert_eq!(ada.reject(&first.id).await.unwrap().state, "REJECTED");
            assert_eq!(reason(bob.approve(&first.id).await), Reason::WrongState);
            let pairs = ada.until(|_| true).await;
            assert_eq!(
                pairs,
                [pair(1, "PRESENT", 5)],
                "three of devices, one registered, and the approval"
            );

            let asked = ada.ask().await.unwrap();
            assert_eq!(bob.approve(&asked.id).await.unwrap().state, "APPROVED");
            let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
            assert_eq!(ada.until(over).await, [pair(2, "PRESENT", 6)]);
            let list = ListApprovalsRequest::default();
            let list = ada
                .approvals
                .list_approvals(list)
                .await
                .unwrap()
                .into_inner()
                .approvals;
            let list: Vec<_> = list
                .iter()
                .map(|one| (&*one.state, &*one.decided_by))
                .collect();
            assert_eq!(list, [("ENDED", "bob"), ("REJECTED", "ada")]);
            let mut database = database(&world).await;
            let moved = [("device 2".to_owned(), 3), ("registered 2".to_owned(), 1)];
            assert_eq!(numbers(&mut database).await, moved);

            // What was kept is what it was.
            let loaded = stage.request(0).await.unwrap();
            assert_ne!(loaded.kcv, before.kcv, "the version behind it");
            stage.confirm(0, &loaded).await.unwrap();
            stage.request(1).await.unwrap();
            let records: Vec<String> = sqlx::query_scalar(
                "SELECT action FROM audit WHERE action LIKE 'storage.%' ORDER BY sequence",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            assert_eq!(
                records,
                ["storage.began", "storage.destroyed", "storage.rotated"]
            );
            stage.host.stop().await;
            world.serve().await.stop().await;
            let labels = open("kdh").list_keys().unwrap();
            let mut labels: Vec<_> = labels
                .iter()
                .map(|key| &*key.label)
                .filter(|label| label.starts_with("ks"))
                .collect();
            labels.sort_unstable();
            assert_eq!(labels, ["ksk.2", "ksm.2"]);
        });
    });
}

#[test]
fn a_row_that_was_edited_stays_and_keeps_the_old_pair() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let mut ada = Keeper::new(&world, &stage.host, 0).await;
            let mut bob = Keeper::new(&world, &stage.host, 1).await;
            stage.assign(0).await;
            stage.assign(1).await;
            let mut database = database(&world).await;
            execute(
                &mut database,
                "CREATE TABLE kept AS SELECT * FROM device_keys",
            )
            .await;
            edit(
                &mut database,
                "UPDATE device_keys SET header = 'D0000P0AB00E0000' WHERE device = 'SN-1'",
            )
            .await;
            let asked = ada.ask().await.unwrap();
            bob.approve(&asked.id).await.unwrap();
            let stuck = |shown: &ShowStorageResponse| {
                shown.refused_rows == 1 && shown.pairs.len() == 2 && shown.pairs[0].rows == 1
            };
            let pairs = ada.until(stuck).await;
            assert_eq!(pairs, [pair(1, "RETIRING", 1), pair(2, "PRESENT", 2)]);
            stage.request(1).await.unwrap();
            stage.request(0).await.unwrap_err();
            // It is asked for once.
            assert_eq!(reason(bob.ask().await), Reason::AlreadyExists);

            // Forged approvals of one's own approve nothing.
            stage.host.stop().await;
            edit(&mut database, "UPDATE approvals SET decided_by = 'cleo'").await;
            let refused = world.host().await.map(drop).unwrap_err().to_string();
            assert!(
                refused.contains("is not as the HSM has sealed it"),
                "{refused}"
            );
            edit(&mut database, "UPDATE approvals SET decided_by = 'bob'").await;

            // As it was, it is moved, by a host that takes up what another one left.
            edit(
                &mut database,
                "UPDATE device_keys SET header = (SELECT header FROM kept LIMIT 1)",
            )
            .await;
            let host = world.serve().await;
            let mut ada = Keeper::new(&world, &host, 0).await;
            let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
            assert_eq!(ada.until(over).await, [pair(2, "PRESENT", 3)]);
            host.stop().await;
        });
    });
}
