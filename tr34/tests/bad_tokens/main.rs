//! Every way in which a token may be bad, and what is said of it: one good token with one thing changed,
//! and the whole text of the refusal.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod change;
mod credential_tokens;
mod enveloped_data;
mod identity;
mod key_block;
mod key_token;
mod limits;
mod orders;
mod random_token;

use std::{collections::HashSet, fmt};

use change::Change;
use good_tokens::{Kind, Maker, tree::Node};
use tr34::Profile;

/// A bad token.
struct Case {
    kind: Kind,
    profile: Profile,
    name: &'static str,
    change: Change,
    /// What its refusal says.
    refusal: &'static str,
}

/// A table of bad tokens, one a line: what is bad, the change to the good token of a kind and profile, the
/// refusal.
macro_rules! bad_tokens {
    ($($kind:ident in $profile:ident { $($name:literal: $change:expr => $refusal:literal;)* })*) => {
        pub(crate) fn cases() -> Vec<crate::Case> {
            vec![$($(crate::Case {
                kind: good_tokens::Kind::$kind,
                profile: tr34::Profile::$profile,
                name: $name,
                change: $change,
                refusal: $refusal,
            }),*),*]
        }
    };
}
use bad_tokens;

impl Case {
    fn token(&self) -> Vec<u8> {
        let mut token = Node::parse(&Maker::default().token(self.kind, self.profile));
        (self.change)(&mut token);
        token.to_der()
    }
}

fn all() -> Vec<Case> {
    [
        random_token::cases(),
        credential_tokens::cases(),
        key_token::cases(),
        orders::cases(),
        enveloped_data::cases(),
        key_block::cases(),
        identity::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.kind, self.profile, self.name)
    }
}

#[test]
fn each_is_refused_for_its_reason() {
    let mut wrong = Vec::new();
    for case in all() {
        let said = match case.kind.read_and_write(case.profile, &case.token()) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        if said != case.refusal {
            wrong.push(format!("{case} => {said}"));
        }
    }
    assert!(wrong.is_empty(), "refused otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn a_token_without_a_change_is_the_good_one() {
    for profile in Profile::ALL {
        for kind in Kind::ALL {
            let good = Maker::default().token(kind, profile);
            assert_eq!(Node::parse(&good).to_der(), good, "{kind} of {profile}");
        }
    }
}

#[test]
fn there_are_many_and_none_twice() {
    let (mut names, mut tokens) = (HashSet::new(), HashSet::new());
    let all = all();
    for case in &all {
        assert!(names.insert(case.to_string()), "{case}");
        let token = (case.kind, case.profile, case.token());
        assert!(tokens.insert(token), "{case}, under two names");
    }
    assert!(all.len() >= 150, "{}", all.len());
    for kind in Kind::ALL {
        assert!(all.iter().any(|case| case.kind == kind), "{kind}");
    }
    for profile in Profile::ALL {
        assert!(all.iter().any(|case| case.profile == profile), "{profile}");
    }
}
