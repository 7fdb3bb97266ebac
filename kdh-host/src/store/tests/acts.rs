//! Acts on which somebody has to decide yet, as the trail has them.

use serde_json::Value;

use super::*;

on_both!("current_thread":
    what_is_open_is_what_the_trail_says,
    a_device_has_one_open_order_whatever_number_is_said,
    nothing_is_open_that_is_in_doubt,
);

/// A record of such an act.
struct Said {
    actor: Actor,
    action: &'static str,
    device: Option<DeviceSerial>,
    detail: Value,
}

impl Said {
    fn new(operator: &str, action: &'static str, detail: Value) -> Self {
        Self {
            actor: Actor::Operator(operator.to_owned()),
            action,
            device: None,
            detail,
        }
    }

    fn of(self, serial: &str) -> Self {
        Self {
            device: Some(device(serial)),
            ..self
        }
    }

    fn entry(&self) -> AuditEntry<'_> {
        AuditEntry {
            action: self.action,
            device: self.device.as_ref(),
            detail: self.detail.clone(),
            ..entry(&self.actor)
        }
    }
}

async fn recorded(database: &Database, said: &[&Said]) -> Tx {
    let mut tx = database.tx().await;
    for said in said {
        tx.record(said.entry()).await.unwrap();
    }
    tx
}

async fn say(database: &Database, said: &[&Said]) {
    recorded(database, said).await.commit().await.unwrap();
}

async fn restart(database: Database) -> Database {
    let database = database.restarted().await;
    verify(&database.store).await.unwrap().unwrap();
    database
}

/// What opens an act, and what closes it.
fn acts() -> Vec<(Said, Vec<Said>)> {
    let order = || json!({"order": 7, "why": "moved"});
    let request = || json!({"request": "ab12", "why": "lost"});
    let import = || json!({"import": "cd34", "signed-sha256": "77"});
    let said = |action, detail| Said::new("bob", action, detail);
    let close = |actions: &[&'static str], detail: Value| {
        let close = |action: &&'static str| said(*action, detail.clone());
        actions.iter().map(close).collect()
    };
    let ends_of_orders = ["device.order-cancelled", "binding.acknowledged"];
    vec![
        (
            said("device.unbind-ordered", order()),
            close(&ends_of_orders, order()),
        ),
        (
            said("device.rebind-ordered", order()),
            close(&ends_of_orders, order()),
        ),
        (
            said("authority.asked", request()),
            close(
                &[
                    "authority.signed",
                    "authority.rejected",
                    "authority.expired",
                ],
                request(),
            ),
        ),
        (
            said("key-import.asked", import()),
            close(
                &[
                    "key-import.done",
                    "key-import.rejected",
                    "key-import.expired",
                ],
                import(),
            ),
        ),
    ]
}

async fn what_is_open_is_what_the_trail_says(on: Dialect) {
    let mut database = Database::new(on).await;
    for (asked, ends) in acts() {
        let is_open = |database: &Database, said: &Said| database.store.is_open(&said.entry());
        for end in &ends {
            assert!(!is_open(&database, &asked), "{}", asked.action);
            say(&database, &[&asked]).await;
            assert!(is_open(&database, &asked), "{}", asked.action);
            database = restart(database).await;
            assert!(is_open(&database, &asked), "{}", asked.action);
            // By somebody else, of another device, of another id, in other words, or another act.
            let mut others = Vec::new();
            for (field, value) in asked.detail.as_object().unwrap() {
                let mut detail = asked.detail.clone();
                detail[field] = json!(format!("{value}1"));
                others.push(Said::new("bob", asked.action, detail));
            }
            others.push(Said::new("eve", asked.action, asked.detail.clone()));
            others.push(Said::new("bob", end.action, asked.detail.clone()));
            others.push(Said {
                device: Some(device("A")),
                ..Said::new("bob", asked.action, asked.detail.clone())
            });
            for other in others {
                assert!(!is_open(&database, &other), "{:?}", other.entry());
            }
            // What is not about it closes nothing.
            for action in ["device.moved", "authority.released", "key-import.released"] {
                say(
                    &database,
                    &[&Said::new("bob", action, asked.detail.clone())],
                )
                .await;
            }
            let of_another = json!({"order": 7, "request": "ab13", "import": "cd35"});
            let of_another = Said::new("bob", end.action, of_another).of("A");
            say(&database, &[&of_another]).await;
            assert!(is_open(&database, &asked), "{}", asked.action);
            // Nor does it come or go behind the host's back.
            database
                .tamper("CREATE TABLE kept AS SELECT * FROM audit")
                .await;
            database.tamper("DELETE FROM audit").await;
            assert!(is_open(&database, &asked), "{}", asked.action);
            database
                .tamper("INSERT INTO audit SELECT * FROM kept")
                .await;
            say(&database, &[end]).await;
            assert!(!is_open(&database, &asked), "{}", end.action);
            database.tamper("DELETE FROM kept").await;
            database
                .tamper("INSERT INTO kept SELECT * FROM audit")
                .await;
            let hide = "DELETE FROM audit WHERE sequence = (SELECT MAX(sequence) FROM audit)";
            database.tamper(hide).await;
            assert!(!is_open(&database, &asked), "{}", end.action);
            database.tamper("DELETE FROM audit").await;
            database
                .tamper("INSERT INTO audit SELECT * FROM kept")
                .await;
            database.tamper("DROP TABLE kept").await;
            database = restart(database).await;
            assert!(!is_open(&database, &asked), "{}", end.action);
        }
    }
    // The host's own orders need no operator.
    let own = Said {
        actor: Actor::Host,
        ..Said::new("", "device.rebind-ordered", json!({"order": 9}))
    };
    say(&database, &[&own]).await;
    assert!(!database.store.is_open(&own.entry()));
    // What came in a token is known by what its sender has signed.
    assert!(database.store.was_imported("77") && !database.store.was_imported("78"));
    // An import's key, only if the host has said so.
    let left = |database: &Database| database.store.may_have_left_its_key("cd34");
    let released = json!({"import": "cd34", "may-have-left-its-key": "cd34"});
    assert!(!left(&database));
    say(
        &database,
        &[&Said::new("", "key-import.released", released)],
    )
    .await;
    assert!(left(&database));
    assert!(left(&restart(database).await));
}

/// The number stands in rows that others can change.
async fn a_device_has_one_open_order_whatever_number_is_said(on: Dialect) {
    let mut database = Database::new(on).await;
    let said = |action, detail| Said::new("bob", action, detail).of("A");
    let order = |number: u8| json!({"order": number, "why": "moved"});
    let asked = said("device.rebind-ordered", order(7));
    let own = Said {
        actor: Actor::Host,
        ..said("device.rebind-ordered", order(8))
    };
    let by_device = |detail| Said {
        actor: Actor::Device(device("A")),
        ..said("binding.acknowledged", detail)
    };
    // Of a token of `CA_KRD`; of another device.
    let others = [
        by_device(json!({"token": "t", "order": null})),
        said("device.order-cancelled", order(7)).of("B"),
        said("device.unbind-ordered", order(7)).of("B"),
    ];
    let others = Vec::from_iter(&others);
    for end in [
        said("device.order-cancelled", order(8)),
        // As it is said of an order whose row is not there.
        said("device.order-cancelled", json!({"row": "not open"})),
        by_device(json!({"token": "t", "order": 8})),
        // As earlier hosts said it.
        by_device(json!({"token": "t"})),
        said("device.unbind-ordered", order(8)),
        own,
    ] {
        say(&database, &[&asked]).await;
        say(&database, &others).await;
        assert!(database.store.is_open(&asked.entry()), "{:?}", end.entry());
        assert!(database.store.may_have_open_order(&device("A")));
        say(&database, &[&end]).await;
        for restarted in [false, true] {
            if restarted {
                database = restart(database).await;
            }
            let is_open = database.store.is_open(&asked.entry());
            assert!(!is_open, "{:?}", end.entry());
            // Another order takes its place.
            let another = end.action == "device.unbind-ordered";
            let may_be = database.store.may_have_open_order(&device("A"));
            assert_eq!(may_be, another, "{:?}", end.entry());
        }
    }
    // Which tokens are of `CA_KRD`, the trail says.
    let signed = json!({"request": "ab12", "token-sha256": "99"});
    assert!(!database.store.was_signed_by_authority("99"));
    say(&database, &[&said("authority.signed", signed)]).await;
    assert!(database.store.was_signed_by_authority("99"));
    database = restart(database).await;
    assert!(database.store.was_signed_by_authority("99"));
    assert!(!database.store.was_signed_by_authority("98"));
    // So it does of tokens that a device has obeyed, whoever made them.
    for (digest, order) in [("55", json!(null)), ("56", json!(8))] {
        assert!(!database.store.was_acknowledged(digest));
        let obeyed = json!({"token": "t", "token-sha256": digest, "order": order});
        say(&database, &[&by_device(obeyed)]).await;
        assert!(database.store.was_acknowledged(digest));
        database = restart(database).await;
        assert!(database.store.was_acknowledged(digest));
    }
}

async fn nothing_is_open_that_is_in_doubt(on: Dialect) {
    for is_there in [false, true] {
        for (asked, ends) in acts() {
            let database = Database::new(on).await;
            let store = &database.store;
            let next = async || {
                // Reads where the trail ends.
                drop(database.tx().await);
                say(&database, &[&Said::new("ada", "test.done", json!({}))]).await;
            };
            next().await;
            leave_in_doubt(recorded(&database, &[&asked]).await, is_there).await;
            assert!(!store.is_open(&asked.entry()), "{}", asked.action);
            next().await;
            assert_eq!(store.is_open(&asked.entry()), is_there, "{}", asked.action);
            if !is_there {
                say(&database, &[&asked]).await;
            }
            for end in &ends {
                assert!(store.is_open(&asked.entry()), "{}", end.action);
                leave_in_doubt(recorded(&database, &[end]).await, is_there).await;
                assert!(!store.is_open(&asked.entry()), "{}", end.action);
                let imports = end.action == "key-import.done";
                assert_eq!(store.was_imported("77"), imports, "{}", end.action);
                next().await;
                assert_eq!(store.is_open(&asked.entry()), !is_there, "{}", end.action);
                assert_eq!(store.was_imported("77"), imports && is_there);
                if is_there {
                    break;
                }
            }
            let released = json!({"may-have-left-its-key": "cd34"});
            let released = Said::new("", "key-import.released", released);
            leave_in_doubt(recorded(&database, &[&released]).await, is_there).await;
            assert!(!store.may_have_left_its_key("cd34"));
            next().await;
            assert_eq!(store.may_have_left_its_key("cd34"), is_there);
        }
    }
}
