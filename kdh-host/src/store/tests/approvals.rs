//! What takes two operators, and what the audit trail says of it.

use super::*;
use crate::state::{ApprovalState, ApprovedAct};

on_both!(
"current_thread":
    an_approval_is_open_once_and_replaced_as_what_it_was,
    what_is_asked_for_is_not_in_force_and_counts_until_it_expires,
    an_approval_is_what_the_trail_says_last,
    the_start_misses_what_is_in_force,
);

pub(super) fn asked(id: &str, subject: &str) -> Approval {
    Approval {
        id: id.to_owned(),
        act: ApprovedAct::StorageRotation,
        subject: subject.to_owned(),
        state: ApprovalState::Asked,
        asked_by: "ada".to_owned(),
        why: "yearly".to_owned(),
        decided_by: None,
        progress: None,
        ended_by: None,
        ended_why: None,
        expires_at: "2026-01-02T12:00:00Z".to_owned(),
        created_at: time_text(NOW).unwrap(),
        changed_at: time_text(NOW).unwrap(),
    }
}

fn moved_to(approval: &Approval, state: ApprovalState) -> Approval {
    Approval {
        state,
        decided_by: Some("bob".to_owned()),
        ..approval.clone()
    }
}

/// With its record.
async fn put(tx: &mut Tx, old: Option<&Approval>, new: &Approval) {
    let done = match old {
        None => tx.insert_approval(&sealed(new.clone())).await,
        Some(old) => {
            let (old, new) = (sealed(old.clone()), sealed(new.clone()));
            tx.replace_approval(&old, &new).await
        }
    };
    assert!(done.unwrap());
    tx.record_approval(&Actor::Host, new, &[]).await.unwrap();
}

async fn an_approval_is_open_once_and_replaced_as_what_it_was(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    let first = asked("a", "2");
    put(&mut tx, None, &first).await;
    for taken in [asked("a", "3"), asked("b", "2")] {
        assert!(!tx.insert_approval(&sealed(taken)).await.unwrap());
    }
    let full = Approval {
        progress: Some("BEGUN".to_owned()),
        ended_by: Some("cleo".to_owned()),
        ended_why: Some(String::new()),
        ..moved_to(&first, ApprovalState::Withdrawn)
    };
    put(&mut tx, Some(&first), &full).await;
    assert_eq!(tx.approval("a").await.unwrap(), Some(sealed(full.clone())));
    let (old, new) = (sealed(first.clone()), sealed(full));
    let again = tx.replace_approval(&old, &new).await.unwrap();
    assert!(!again, "it is not that any more");
    // Nothing of the same is open now.
    put(&mut tx, None, &asked("b", "2")).await;
    tx.commit().await.unwrap();
}

async fn what_is_asked_for_is_not_in_force_and_counts_until_it_expires(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    let act = ApprovedAct::ExportTarget;
    let export = |id, expires_at: &str| Approval {
        act,
        expires_at: expires_at.to_owned(),
        ..asked(id, id)
    };
    let later = "2100-01-01T00:00:00Z";
    let bobs = Approval {
        asked_by: "bob".to_owned(),
        ..export("d", later)
    };
    let approved = moved_to(&export("e", later), ApprovalState::Approved);
    for row in [
        asked("a", "1"),
        export("b", later),
        export("c", "2000-01-01T00:00:00Z"),
        bobs,
        approved.clone(),
    ] {
        put(&mut tx, None, &row).await;
    }
    tx.commit().await.unwrap();
    // Nobody has asked for these.
    for forged in [
        "INSERT INTO approvals (id, act, subject, state, asked_by, why, expires_at, created_at, changed_at, storage_key, mac)
         SELECT 'f', act, 'f', state, asked_by, why, expires_at, created_at, changed_at, storage_key, mac FROM approvals
         WHERE id = 'b'",
        "INSERT INTO approvals (id, act, subject, state, asked_by, why, expires_at, created_at, changed_at, storage_key, mac)
         SELECT 'g', act, 'g', state, 'cleo', why, expires_at, created_at, changed_at, storage_key, mac FROM approvals
         WHERE id = 'b'",
    ] {
        database.tamper(forged).await;
    }
    let mut tx = database.tx().await;
    let in_force = tx.readable_approvals_in_force(act).await.unwrap();
    assert_eq!(in_force, [sealed(approved)]);
    for (by, expected) in [("ada", 1), ("bob", 1), ("cleo", 0)] {
        assert_eq!(tx.undecided_approvals(act, by).await.unwrap(), expected);
    }
}

async fn an_approval_is_what_the_trail_says_last(on: Dialect) {
    let mut database = Database::new(on).await;
    let first = asked("a", "2");
    let approved = moved_to(&first, ApprovalState::Approved);
    let ended = moved_to(&first, ApprovalState::Ended);
    let fault = |database: &Database, row| database.store.fault_of_approval(row);
    assert_eq!(
        fault(&database, &first).unwrap(),
        "the audit trail has nothing of it"
    );
    let mut tx = database.tx().await;
    put(&mut tx, None, &first).await;
    assert!(fault(&database, &first).is_some(), "it is not committed");
    tx.commit().await.unwrap();
    assert_eq!(fault(&database, &first), None);

    let mut tx = database.tx().await;
    put(&mut tx, Some(&first), &approved).await;
    drop(tx);
    assert!(fault(&database, &approved).is_some(), "it was given up");
    assert_eq!(fault(&database, &first), None);

    for (old, new) in [(&first, &approved), (&approved, &ended)] {
        let mut tx = database.tx().await;
        put(&mut tx, Some(old), new).await;
        tx.commit().await.unwrap();
        assert_eq!(fault(&database, new), None);
        let was = fault(&database, old).unwrap();
        assert!(was.contains(new.state.as_str()), "{was}");
        assert_eq!(database.store.is_approval_over("a"), new == &ended);
    }
    assert!(!database.store.is_approval_over("b"), "nobody knows it");
    let other = Approval {
        why: "monthly".to_owned(),
        ..ended.clone()
    };
    assert!(fault(&database, &other).is_some());

    // It is named once, after a start too.
    let mut tx = database.tx().await;
    assert!(tx.refuse_approval(&approved).await.unwrap());
    tx.commit().await.unwrap();
    database = database.restarted().await;
    verify(&database.store).await.unwrap().unwrap();
    assert_eq!(fault(&database, &ended), None);
    assert!(fault(&database, &approved).is_some());
    let mut tx = database.tx().await;
    assert!(!tx.refuse_approval(&approved).await.unwrap());
    assert!(tx.refuse_approval(&first).await.unwrap(), "another row");
}

async fn the_start_misses_what_is_in_force(on: Dialect) {
    for (what, statement) in [
        ("it is gone", "DELETE FROM approvals"),
        (
            "it is as it was",
            "UPDATE approvals SET state = 'ASKED', decided_by = NULL",
        ),
        (
            "somebody else approved it",
            "UPDATE approvals SET decided_by = 'cleo'",
        ),
        ("it has begun", "UPDATE approvals SET progress = 'BEGUN'"),
    ] {
        let database = Database::new(on).await;
        let first = asked("a", "2");
        let mut tx = database.tx().await;
        put(&mut tx, None, &first).await;
        put(
            &mut tx,
            Some(&first),
            &moved_to(&first, ApprovalState::Approved),
        )
        .await;
        tx.commit().await.unwrap();
        assert_eq!(verify(&database.store).await.unwrap(), Ok(2));
        database.tamper(statement).await;
        let found = verify(&database.store).await.unwrap().unwrap_err();
        assert!(
            found.contains("approval a is in force, and its row"),
            "{what}: {found}"
        );
    }
}
