//! What takes two operators: put in force, withdrawn, and edited behind the host's back.

use hsm_modules::SOFTHSM;
use kdh_proto::{Reason, v1::Approval};

use crate::{
    database::Database,
    keeper::{Keeper, OBSTACLE, agree_on_rotation, keepers, reason},
    world::{self, Running, World},
};

/// The host, two operators who may decide, one who may not, and somebody at the database.
struct Scene {
    host: Running,
    ada: Keeper,
    bob: Keeper,
    cleo: Keeper,
    database: Database,
}

impl Scene {
    async fn set(world: &World<'_>) -> Self {
        let host = world.serve().await;
        let [ada, bob, cleo] = keepers(world, &host).await;
        Self {
            ada,
            bob,
            cleo,
            database: Database::open(world).await,
            host,
        }
    }

    /// Approved by bob, and not begun.
    async fn approved(&mut self) -> Approval {
        agree_on_rotation(&mut self.ada, &mut self.bob).await
    }

    /// Takes a copy of a row, and of the audit trail.
    async fn keep(&mut self, copy: &str) {
        for table in ["approvals", "audit"] {
            let copy = format!("{copy}_{table}");
            self.database.keep(table, &copy).await;
        }
    }

    /// Puts the row back as it was then.
    async fn put_back(&mut self, copy: &str, id: &str) {
        let gone = format!("DELETE FROM approvals WHERE id = '{id}'");
        self.database.edit(&gone).await;
        let back =
            format!("INSERT INTO approvals SELECT * FROM {copy}_approvals WHERE id = '{id}'");
        self.database.edit(&back).await;
    }

    async fn records(&mut self, of: &str) -> Vec<String> {
        let records = format!(
            "SELECT action FROM audit WHERE action LIKE 'approval.%' AND detail LIKE '%{of}%' ORDER BY sequence"
        );
        self.database.column(&records).await
    }

    /// State, and what is wrong with it.
    async fn listed(&mut self, id: &str) -> (String, String) {
        let listed = self.ada.list().await.unwrap();
        let one = listed.into_iter().find(|one| one.id == id).unwrap();
        (one.state, one.fault)
    }
}

fn put_back(newest: &str) -> String {
    format!(
        "it is not what the audit trail says of it ({newest}): its row was put back behind the host's back"
    )
}

#[test]
fn what_is_in_force_is_withdrawn_once_and_stays_so_whatever_row_comes_back() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            let mut scene = Scene::set(world).await;
            scene.database.edit(OBSTACLE).await;

            // Who may end what.
            let asked = scene.ada.ask().await.unwrap();
            let id = &*asked.id;
            scene.keep("asked").await;
            let asked_only = scene.ada.withdraw(id, "no").await;
            assert_eq!(reason(asked_only), Reason::WrongState, "nobody has approved it");
            scene.bob.approve(id).await.unwrap();
            scene.keep("approved").await;
            assert_eq!(reason(scene.ada.withdraw("00000000", "no").await), Reason::NotFound);
            assert_eq!(reason(scene.ada.withdraw(id, "").await), Reason::RequestInvalid);
            assert_eq!(reason(scene.cleo.withdraw(id, "no").await), Reason::RoleMissing);
            assert_eq!(reason(scene.ada.ask().await), Reason::AlreadyExists, "one is open");
            // What is in force is not ended by the row from when it was to be decided.
            scene.put_back("asked", id).await;
            let refused = scene.bob.reject(id).await.unwrap_err();
            assert!(refused.message().contains(&put_back("APPROVED")), "{refused}");
            // How far a rotation has come its row alone says: without it none is ended.
            scene.database.edit("DELETE FROM approvals").await;
            let gone = scene.ada.withdraw(id, "not this month").await.unwrap_err();
            let says = format!("approval {id} is not as the audit trail has it");
            assert!(gone.message().starts_with(&says), "{gone}");
            let back = "INSERT INTO approvals SELECT * FROM approved_approvals";
            scene.database.edit(back).await;
            let withdrawn = scene.ada.withdraw(id, "not this month").await.unwrap();
            let parts = (&*withdrawn.state, &*withdrawn.decided_by, &*withdrawn.ended_by);
            assert_eq!(parts, ("WITHDRAWN", "bob", "ada"));
            assert_eq!(withdrawn.ended_why, "not this month");
            assert_eq!(reason(scene.ada.withdraw(id, "no").await), Reason::WrongState);
            assert_eq!(reason(scene.bob.approve(id).await), Reason::WrongState);

            // The row from when it was in force, which the HSM has sealed.
            scene.put_back("approved", id).await;
            for _ in 0..2 {
                assert_eq!(scene.ada.show().await.rotation, None);
                assert_eq!(scene.listed(id).await, ("APPROVED".to_owned(), put_back("WITHDRAWN")));
            }
            let records = ["asked", "approved", "refused", "withdrawn", "refused"].map(|what| format!("approval.{what}"));
            assert_eq!(scene.records(id).await, records, "named once");
            // From when it was to be decided.
            scene.put_back("asked", id).await;
            let refused = scene.bob.approve(id).await.unwrap_err();
            assert!(refused.message().contains(&put_back("WITHDRAWN")), "{refused}");
            // Without the records that say otherwise.
            let trail = "DELETE FROM audit WHERE sequence > (SELECT MAX(sequence) FROM approved_audit)";
            scene.keep("whole").await;
            scene.database.edit(trail).await;
            scene.put_back("approved", id).await;
            assert_eq!(scene.ada.show().await.rotation, None);
            let records = "INSERT INTO audit SELECT * FROM whole_audit WHERE sequence NOT IN (SELECT sequence FROM audit)";
            scene.database.edit(records).await;

            // It stands in the way of the next one, and is put away.
            assert_eq!(reason(scene.ada.ask().await), Reason::AlreadyExists);
            let away = scene.bob.withdraw(id, "forged").await.unwrap();
            assert_eq!((&*away.state, &*away.ended_by), ("WITHDRAWN", "bob"));
            assert_eq!(scene.listed(id).await, ("WITHDRAWN".to_owned(), String::new()));

            // A host that starts knows it from the trail.
            scene.put_back("approved", id).await;
            scene.database.edit("DELETE FROM keys").await;
            scene.host.stop().await;
            let mut scene = Scene::set(world).await;
            assert_eq!(scene.ada.show().await.rotation, None);
            assert_eq!(scene.listed(id).await, ("APPROVED".to_owned(), put_back("WITHDRAWN")));
            assert_eq!(scene.records(id).await.len(), 6, "not named again");
            scene.ada.withdraw(id, "forged").await.unwrap();
            let next = scene.approved().await;
            scene.ada.until(|shown| shown.rotation.is_none()).await;
            assert_eq!(scene.listed(&next.id).await, ("ENDED".to_owned(), String::new()));
            scene.host.stop().await;
        });
    });
}

/// What is edited, and how.
const EDITS: [(&str, &str); 11] = [
    ("subject", "'1'"),
    ("asked_by", "'bob'"),
    ("why", "'monthly'"),
    ("decided_by", "'bob'"),
    ("progress", "'BEGUN'"),
    ("ended_by", "'bob'"),
    ("ended_why", "'later'"),
    ("expires_at", "'2099-01-01T00:00:00Z'"),
    ("created_at", "'2020-01-01T00:00:00Z'"),
    ("changed_at", "'2020-01-01T00:00:00Z'"),
    ("mac", "zeroblob(16)"),
];

#[test]
fn a_row_that_was_edited_approves_nothing_and_what_is_in_force_is_there_at_the_start() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            let mut scene = Scene::set(world).await;
            let asked = scene.ada.ask().await.unwrap();
            let id = &*asked.id;
            scene.keep("asked").await;
            for (column, value) in EDITS {
                let forge = format!("UPDATE approvals SET {column} = {value}");
                scene.database.edit(&forge).await;
                assert_eq!(reason(scene.bob.approve(id).await), Reason::WrongState, "{column}");
                let last = "SELECT detail FROM audit ORDER BY sequence DESC LIMIT 1";
                let last: String = scene.database.value(last).await;
                let cause = format!("approval {id} is not as the HSM has sealed it");
                assert!(last.contains(&cause), "{column}: {last}");
                scene.put_back("asked", id).await;
            }

            scene.database.edit(OBSTACLE).await;
            scene.bob.approve(id).await.unwrap();
            scene.keep("approved").await;
            scene.database.edit("DELETE FROM keys").await;
            scene.host.stop().await;
            let lacks = format!("approval {id} is in force, and its row in the database is not what the audit trail says");
            for edited in [
                "DELETE FROM approvals",
                "UPDATE approvals SET state = 'ASKED'",
                "UPDATE approvals SET decided_by = 'cleo'",
            ] {
                scene.database.edit(edited).await;
                let refused = world.host().await.map(drop).unwrap_err().to_string();
                assert!(refused.contains(&lacks), "{edited}: {refused}");
                scene.database.put_back("approvals", "approved_approvals").await;
            }
            let mut scene = Scene::set(world).await;
            scene.ada.until(|shown| shown.rotation.is_none()).await;
            assert_eq!(scene.listed(id).await, ("ENDED".to_owned(), String::new()));
            scene.host.stop().await;
        });
    });
}
