//! The binding's table: each token in each state.

use krd_client::{
    AuthenticToken, Binding, BindingRefusal, BindingState, Kdh, TokenDigest, Withdrawal,
};
use pki::Role;
use tr34::IssuerAndSerial;

use crate::world::{NOW, WORLD, days, id};

fn a() -> Kdh {
    Kdh::new(WORLD.kdh.clone()).unwrap()
}

fn b() -> Kdh {
    Kdh::new(WORLD.other_kdh.clone()).unwrap()
}

/// The name of A, and another certificate.
fn like_a() -> Kdh {
    let renewed = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
        subject.serial = WORLD.kdh.serial().clone();
        subject.validity = days(NOW, -1, 400);
    });
    let like_a = Kdh::new(renewed).unwrap();
    assert_eq!(like_a.id(), a().id());
    like_a
}

const OBEYED: TokenDigest = TokenDigest::from_bytes([1; 32]);
const NEW: TokenDigest = TokenDigest::from_bytes([2; 32]);

fn in_state(state: BindingState) -> Binding {
    Binding {
        state,
        withdrawals: Vec::new(),
    }
}

/// What `CA_KRD` took away from A, by the token [`OBEYED`].
fn withdrawn(state: BindingState) -> Binding {
    Binding {
        state,
        withdrawals: vec![Withdrawal {
            token: OBEYED,
            kdh: id(&WORLD.kdh),
        }],
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Stays,
    /// To this state, with nothing else changed.
    To(BindingState),
    /// To this state, and never back.
    Withdrawn(BindingState),
    Refused(BindingRefusal),
}

fn outcome(before: &Binding, token: &AuthenticToken<'_>) -> Outcome {
    match before.after(token) {
        Err(refusal) => Outcome::Refused(refusal),
        Ok(after) if after == *before => Outcome::Stays,
        Ok(after) if after.withdrawals == before.withdrawals => Outcome::To(after.state),
        Ok(after) => {
            assert_eq!(after.withdrawals.len(), before.withdrawals.len() + 1);
            let last = after.withdrawals.last().unwrap();
            assert_eq!(Ok(&last.kdh), before.kdh().map(Kdh::id));
            Outcome::Withdrawn(after.state)
        }
    }
}

#[test]
fn each_token_in_each_state() {
    use AuthenticToken::{CaRebind, CaUnbind, KdhCredential, KdhRebind, KdhUnbind, Key};
    use Outcome::{Refused, Stays, To, Withdrawn};

    let (a, b, like_a) = (a(), b(), like_a());
    let bound = |kdh: &Kdh| BindingState::Bound(kdh.clone());
    let unbinding = |from: &Kdh| BindingState::Unbinding {
        from: from.clone(),
        token: NEW,
    };
    let states = [
        in_state(BindingState::Unbound),
        in_state(bound(&a)),
        in_state(bound(&b)),
        in_state(unbinding(&a)),
        withdrawn(BindingState::Unbound),
        withdrawn(bound(&b)),
    ];
    let busy = || Refused(BindingRefusal::Unbinding);
    let not_bound = || Refused(BindingRefusal::NotBound);
    let other = || Refused(BindingRefusal::OtherKdh);
    let same = || Refused(BindingRefusal::SameKdh);
    let gone = || Refused(BindingRefusal::WithdrawnKdh);
    let again = || Refused(BindingRefusal::ObeyedBefore);

    let by_kdh = |signer| KdhUnbind { token: NEW, signer };
    let handed = |signer, new| KdhRebind { signer, new };
    let taken = |token, kdh: &'static _| CaUnbind { token, kdh };
    let given = |token, kdh: &'static _, new| CaRebind { token, kdh, new };
    let id_a: &'static _ = Box::leak(Box::new(id(&WORLD.kdh)));
    let id_b: &'static _ = Box::leak(Box::new(id(&WORLD.other_kdh)));

    #[rustfmt::skip]
    let rows: Vec<(&str, AuthenticToken<'_>, [Outcome; 6])> = vec![
        // unbound, bound to A, bound to B, unbinding from A, unbound and withdrawn from A, bound to B and
        // withdrawn from A
        ("CT_KDH of A", KdhCredential { kdh: &a },
            [To(bound(&a)), Stays, other(), busy(), gone(), other()]),
        ("CT_KDH of B", KdhCredential { kdh: &b },
            [To(bound(&b)), other(), Stays, busy(), To(bound(&b)), Stays]),
        ("CT_KDH of one with A's name", KdhCredential { kdh: &like_a },
            [To(bound(&like_a)), other(), other(), busy(), gone(), other()]),
        ("KT_KDH of A", Key { signer: &a },
            [not_bound(), Stays, other(), busy(), not_bound(), other()]),
        ("KT_KDH of B", Key { signer: &b },
            [not_bound(), other(), Stays, busy(), not_bound(), Stays]),
        ("KT_KDH of one with A's name", Key { signer: &like_a },
            [not_bound(), other(), other(), busy(), not_bound(), other()]),
        ("UBT_KDH of A", by_kdh(&a),
            [not_bound(), To(unbinding(&a)), other(), busy(), not_bound(), other()]),
        ("UBT_KDH of B", by_kdh(&b),
            [not_bound(), other(), To(unbinding(&b)), busy(), not_bound(), To(unbinding(&b))]),
        ("UBT_KDH of one with A's name", by_kdh(&like_a),
            [not_bound(), other(), other(), busy(), not_bound(), other()]),
        ("RBT_KDH of A to B", handed(&a, &b),
            [not_bound(), To(bound(&b)), other(), busy(), not_bound(), other()]),
        ("RBT_KDH of B to A", handed(&b, &a),
            [not_bound(), other(), To(bound(&a)), busy(), not_bound(), gone()]),
        ("RBT_KDH of A to A", handed(&a, &a),
            [not_bound(), same(), other(), busy(), not_bound(), other()]),
        ("RBT_KDH of A to one with A's name", handed(&a, &like_a),
            [not_bound(), same(), other(), busy(), not_bound(), other()]),
        ("UBT_CA from A", taken(NEW, id_a),
            [not_bound(), Withdrawn(unbinding(&a)), other(), busy(), not_bound(), other()]),
        ("UBT_CA from B", taken(NEW, id_b),
            [not_bound(), other(), Withdrawn(unbinding(&b)), busy(), not_bound(), Withdrawn(unbinding(&b))]),
        ("UBT_CA that was obeyed", taken(OBEYED, id_a),
            [not_bound(), Withdrawn(BindingState::Unbinding { from: a.clone(), token: OBEYED }), other(),
             busy(), again(), again()]),
        ("RBT_CA from A to B", given(NEW, id_a, &b),
            [not_bound(), Withdrawn(bound(&b)), other(), busy(), not_bound(), other()]),
        ("RBT_CA from B to A", given(NEW, id_b, &a),
            [not_bound(), other(), Withdrawn(bound(&a)), busy(), not_bound(), gone()]),
        ("RBT_CA from A to A", given(NEW, id_a, &a),
            [not_bound(), same(), other(), busy(), not_bound(), other()]),
        ("RBT_CA that was obeyed", given(OBEYED, id_a, &b),
            [not_bound(), Withdrawn(bound(&b)), other(), busy(), again(), again()]),
    ];
    for (case, token, expected) in rows {
        for (number, (state, expected)) in states.iter().zip(expected).enumerate() {
            assert_eq!(outcome(state, &token), expected, "{case} in state {number}");
        }
    }
}

#[test]
fn only_an_unbinding_ends_with_the_last_key() {
    let unbinding = withdrawn(BindingState::Unbinding {
        from: a(),
        token: OBEYED,
    });
    let unbound = withdrawn(BindingState::Unbound);
    assert_eq!(unbinding.after_destruction(), unbound);
    for state in [unbound, withdrawn(BindingState::Bound(b()))] {
        assert_eq!(state.after_destruction(), state);
    }
}

/// The same token of `CA_KRD` is obeyed once, even though the terminal was bound again in between.
#[test]
fn no_way_leads_back_to_a_lost_kdh() {
    let (a, b) = (a(), b());
    let a_id = id(&WORLD.kdh);
    let taken = AuthenticToken::CaUnbind {
        token: OBEYED,
        kdh: &a_id,
    };
    let start = in_state(BindingState::Bound(a.clone()));
    let unbound = start.after(&taken).unwrap().after_destruction();
    let to_a = AuthenticToken::KdhCredential { kdh: &a };
    assert_eq!(unbound.after(&to_a), Err(BindingRefusal::WithdrawnKdh));

    let to_b = AuthenticToken::KdhCredential { kdh: &b };
    let elsewhere = unbound.after(&to_b).unwrap();
    let back = AuthenticToken::KdhRebind {
        signer: &b,
        new: &a,
    };
    assert_eq!(elsewhere.after(&back), Err(BindingRefusal::WithdrawnKdh));
    assert_eq!(elsewhere.after(&taken), Err(BindingRefusal::ObeyedBefore));
}

/// None is obeyed that could not be remembered, and none is forgotten for it.
#[test]
fn a_full_list_of_withdrawals_refuses_more() {
    let issuer = WORLD.ca_kdh.certificate.subject().der();
    let withdrawal = |number: u8| Withdrawal {
        token: TokenDigest::from_bytes([100 + number; 32]),
        kdh: IssuerAndSerial::new(issuer, &[number; 16]).unwrap(),
    };
    let mut full = in_state(BindingState::Bound(a()));
    full.withdrawals = (1..32).map(withdrawal).collect();
    let a_id = id(&WORLD.kdh);
    let taken = AuthenticToken::CaUnbind {
        token: NEW,
        kdh: &a_id,
    };
    full.after(&taken).unwrap();
    full.withdrawals.push(withdrawal(32));
    assert_eq!(full.after(&taken), Err(BindingRefusal::TooManyWithdrawals));
    let (a, b) = (a(), b());
    let handed = AuthenticToken::KdhRebind {
        signer: &a,
        new: &b,
    };
    full.after(&handed).unwrap();
}

#[test]
fn each_refusal_has_a_word_of_its_own() {
    let mut words = [
        BindingRefusal::NotBound,
        BindingRefusal::OtherKdh,
        BindingRefusal::SameKdh,
        BindingRefusal::WithdrawnKdh,
        BindingRefusal::ObeyedBefore,
        BindingRefusal::TooManyWithdrawals,
        BindingRefusal::Unbinding,
    ]
    .map(BindingRefusal::reason);
    words.sort_unstable();
    assert!(words.array_windows().all(|[one, next]| one != next));
}
