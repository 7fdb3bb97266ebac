//! Orders and tokens that change a binding.

use super::*;

on_both!(
"current_thread":
    a_device_has_one_open_order,
    an_unbind_token_goes_on_from_where_it_is_believed_to_be_or_not_at_all,
    for_a_certificate_and_a_kdh_the_authority_is_asked_once,
);

async fn a_device_has_one_open_order(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let (a, b) = (device("A"), device("B"));
    let mut tx = database.tx().await;
    let why = why();
    let order = |device, change| NewBindingOrder {
        device,
        change,
        by: "ada",
        why: &why,
    };
    let unbind = order(&a, BindingChange::Unbind);
    let rebind = order(&a, BindingChange::Rebind(&[0x30][..]));
    assert!(tx.open_order(&a).await.unwrap().is_none());
    let first = tx.insert_binding_order(&unbind).await.unwrap().unwrap();
    for taken in [&unbind, &rebind] {
        assert_eq!(tx.insert_binding_order(taken).await.unwrap(), None);
    }
    let others = order(&b, BindingChange::Unbind);
    assert!(tx.insert_binding_order(&others).await.unwrap().is_some());
    assert!(tx.close_order(first, OrderEnd::Cancelled).await.unwrap());
    assert!(!tx.close_order(first, OrderEnd::Done).await.unwrap());
    let second = tx.insert_binding_order(&rebind).await.unwrap().unwrap();
    let open = tx.open_order(&a).await.unwrap().unwrap();
    assert_eq!(open.number, second);
    assert_eq!(open.change, BindingChange::Rebind(vec![0x30]));
    assert!(tx.close_order(second, OrderEnd::Done).await.unwrap());
    assert!(tx.open_order(&a).await.unwrap().is_none());
    assert!(tx.open_order(&b).await.unwrap().is_some());
}

async fn an_unbind_token_goes_on_from_where_it_is_believed_to_be_or_not_at_all(on: Dialect) {
    use BindingTokenState::{Abandoned, Issued, Obeyed, Prepared};
    let database = Database::with_devices(on, &["A", "B"]).await;
    let (a, nonce) = (device("A"), nonce(1));
    let mut tx = database.tx().await;
    let why = why();
    let order = NewBindingOrder {
        device: &a,
        change: BindingChange::Unbind,
        by: "ada",
        why: &why,
    };
    let number = tx.insert_binding_order(&order).await.unwrap().unwrap();
    let token = |id: &str| BindingToken {
        id: id.to_owned(),
        device: device("A"),
        made_for: MadeFor::Order(number),
        change: BindingChange::Unbind,
        kdh: kdh(1),
        state: Prepared,
        nonce: Some(nonce.as_bytes().to_vec()),
        sha256: None,
    };
    assert!(claim(&mut tx, &a, &nonce).await);
    tx.insert_binding_token(&token("1")).await.unwrap();
    assert_eq!(tx.unfinished_binding_tokens().await.unwrap().len(), 1);
    for (id, from, to) in [("1", Issued, Obeyed), ("2", Prepared, Issued)] {
        assert!(!tx.set_binding_token_state(id, from, to).await.unwrap());
    }
    let given_up = tx.abandon_binding_token(&a, "1", nonce.as_bytes()).await;
    assert!(given_up.unwrap());
    assert!(claim(&mut tx, &a, &nonce).await, "it was given back");
    let again = tx.abandon_binding_token(&a, "1", nonce.as_bytes()).await;
    assert!(!again.unwrap());
    assert!(!claim(&mut tx, &a, &nonce).await, "and not once more");
    tx.issue_binding_token("1", &[1; 32]).await.unwrap_err();
    assert!(!tx.has_binding_tokens(&a).await.unwrap());

    tx.insert_binding_token(&token("2")).await.unwrap();
    tx.issue_binding_token("2", &[2; 32]).await.unwrap();
    tx.issue_binding_token("2", &[3; 32]).await.unwrap_err();
    let late = tx.abandon_binding_token(&a, "2", nonce.as_bytes()).await;
    assert!(!late.unwrap(), "it exists");
    assert!(tx.has_binding_tokens(&a).await.unwrap());
    let mut found = async |serial, digest: &[u8]| {
        let token = tx.binding_token_by_digest(&device(serial), digest).await;
        token.unwrap().map(|token| (token.id, token.state))
    };
    assert_eq!(found("A", &[2; 32]).await, Some(("2".to_owned(), Issued)));
    for (serial, digest) in [
        ("B", &[2; 32][..]),
        ("A", &[3; 32]),
        ("A", &[2; 31]),
        ("A", &[]),
    ] {
        assert_eq!(found(serial, digest).await, None, "{serial} {digest:?}");
    }
    assert!(
        tx.set_binding_token_state("2", Issued, Obeyed)
            .await
            .unwrap()
    );
    assert!(
        !tx.set_binding_token_state("2", Issued, Abandoned)
            .await
            .unwrap()
    );
    assert!(!tx.has_binding_tokens(&a).await.unwrap());
    assert!(tx.unfinished_binding_tokens().await.unwrap().is_empty());

    tx.insert_binding_token(&token("3")).await.unwrap();
    let same = tx.issue_binding_token("3", &[2; 32]).await;
    assert!(same.is_err(), "a digest names one token");
}

async fn for_a_certificate_and_a_kdh_the_authority_is_asked_once(on: Dialect) {
    use AuthorityState::{Approved, Asked, Rejected};
    let database = Database::with_devices(on, &["A"]).await;
    let a = device("A");
    let mut tx = database.tx().await;
    for number in [1, 2] {
        enrol(&mut tx, &a, number).await;
    }
    let (why, [one, two]) = (why(), [kdh(1), kdh(2)]);
    let certificates = [1, 2].map(|number| {
        let serial = SerialNumber::from_content(&[number; 8]).unwrap();
        serial.to_string()
    });
    let request = |id, certificate: usize, kdh| NewAuthorityRequest {
        id,
        device: &a,
        certificate: &certificates[certificate],
        change: BindingChange::Unbind,
        kdh,
        by: "bob",
        why: &why,
        expires_at: NOW,
    };
    let ask = async |tx: &mut Tx, request: NewAuthorityRequest<'_>| {
        tx.insert_authority_request(&request).await.unwrap()
    };
    assert!(ask(&mut tx, request("1", 0, &one)).await);
    assert!(!ask(&mut tx, request("2", 0, &one)).await, "it is open");
    assert!(
        !ask(&mut tx, request("1", 1, &one)).await,
        "the id is taken"
    );
    assert!(ask(&mut tx, request("3", 1, &one)).await);
    assert!(ask(&mut tx, request("4", 0, &two)).await);

    tx.set_authority_state("1", Asked, Rejected, Some("bob"))
        .await
        .unwrap();
    tx.set_authority_state("1", Asked, Approved, Some("cleo"))
        .await
        .unwrap_err();
    tx.put_authority_token("1", &[0x30]).await.unwrap_err();
    assert!(ask(&mut tx, request("5", 0, &one)).await, "it was rejected");
    tx.put_authority_token("5", &[0x30]).await.unwrap_err();
    tx.set_authority_state("5", Asked, Approved, Some("cleo"))
        .await
        .unwrap();
    assert_eq!(tx.unfinished_approvals().await.unwrap().len(), 1);
    tx.put_authority_token("5", &[0x30]).await.unwrap();
    tx.put_authority_token("5", &[0x31]).await.unwrap_err();
    tx.set_authority_state("5", Approved, Asked, None)
        .await
        .unwrap_err();
    assert!(tx.unfinished_approvals().await.unwrap().is_empty());
    tx.commit().await.unwrap();

    // Only what was never decided on expires.
    let later = NOW + Duration::SECOND;
    let mut tx = database.store.write(later).await.unwrap();
    assert!(
        !ask(&mut tx, request("6", 0, &two)).await,
        "still on record"
    );
    let expired = tx.expire_authority_requests(&a).await.unwrap();
    assert_eq!(expired, ["3", "4"]);
    assert!(tx.expire_authority_requests(&a).await.unwrap().is_empty());
    assert!(!ask(&mut tx, request("6", 0, &one)).await, "it was signed");
    assert!(ask(&mut tx, request("6", 0, &two)).await);
    let requests = tx.authority_requests("", 9).await.unwrap();
    let states: Vec<_> = requests
        .iter()
        .map(|found| (found.id.as_str(), found.state_now().as_str()))
        .collect();
    let expected = [
        ("6", "EXPIRED"),
        ("5", "SIGNED"),
        ("4", "EXPIRED"),
        ("3", "EXPIRED"),
        ("1", "REJECTED"),
    ];
    assert_eq!(states, expected);
    let page = tx.authority_requests("5", 1).await.unwrap();
    assert_eq!(page[0].id, "4");
}
