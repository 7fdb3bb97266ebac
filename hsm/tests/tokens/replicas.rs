//! Tokens that hold the same keys, one of which is not there when it is opened.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use hsm::{
    Failure, FoundKey, Health, HsmError, KeyName, KeyPairKind, KeyRole, Module, Pin, SealRequest,
    Token, TokenConfig, TokenGroup,
};
use hsm_modules::{Place, faults::Faults};
use tr34::{KeyKind, OaepHash};

use crate::{
    combining::{combine, component},
    common::{USER_PIN, faulty, new_token_of, pin, with_faults},
    sealing::{frame, frame_with_serial, request},
    software,
};

const KIND: KeyKind = KeyKind::Aes128;
const HASH: OaepHash = OaepHash::Sha1;

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(2);

fn kn() -> KeyName {
    KeyName::new("kn.acquirer").unwrap()
}

fn kdh_signing() -> KeyName {
    KeyName::new("kdh-signing").unwrap()
}

/// The tokens `one` and `two` behind the module with faults.
struct Lab {
    module: Module,
    faults: Faults,
}

impl Lab {
    /// With the same master key in both.
    fn new(place: &Place) -> Self {
        let lab = Self::without_keys(place);
        for label in ["one", "two"] {
            lab.bring_key(label, 0);
        }
        lab
    }

    fn without_keys(place: &Place) -> Self {
        let (module, faults) = faulty(place);
        for label in ["one", "two"] {
            new_token_of(&module, label);
        }
        Self { module, faults }
    }

    /// The master key with this number of all that are called the same.
    fn bring_key(&self, label: &str, number: usize) {
        let components = [component(KIND, number), component(KIND, 10)];
        combine(&self.present(label), KIND, &kn(), &components);
    }

    fn present(&self, label: &str) -> Token {
        let config = TokenConfig::new(label);
        self.module.open(&config, &pin(USER_PIN)).unwrap()
    }

    fn awaited(&self, label: &str) -> Token {
        self.try_await(label, &pin(USER_PIN)).unwrap()
    }

    fn try_await(&self, label: &str, pin: &Pin) -> Result<Token, HsmError> {
        self.module.open_or_await(&TokenConfig::new(label), pin)
    }

    /// Both, the second one away; what a host asks of them was asked.
    fn without_two(&mut self) -> (TokenGroup, Token) {
        self.tell("remove two");
        let two = self.awaited("two");
        assert!(matches!(two.health(), Health::Lost { .. }));
        let group = TokenGroup::new(self.awaited("one"), vec![two.clone()]);
        require_all(&group);
        (group, two)
    }

    fn tell(&mut self, command: &str) {
        self.faults.tell(command).unwrap();
    }

    fn count(&mut self, function: &str) -> u64 {
        self.faults.count(function).unwrap()
    }
}

/// What a host asks for at its start.
fn require_all(group: &TokenGroup) {
    group.self_test(HASH).unwrap();
    require_key(group, &find(group));
}

fn find(group: &TokenGroup) -> FoundKey {
    group.secret_key(KeyRole::TransportKey, &kn()).unwrap()
}

fn with_request<T>(act: impl FnOnce(&SealRequest<'_>) -> T) -> T {
    let recipient = software::public_half(&software::recipient());
    act(&request(KIND, &frame(KIND), &recipient, HASH))
}

fn require_key(group: &TokenGroup, found: &FoundKey) {
    with_request(|request| group.require_from_now_on(found, request));
}

fn seal(group: &TokenGroup) -> Result<(), HsmError> {
    let key = find(group);
    with_request(|request| group.seal(key.key(), request)).map(drop)
}

/// Changes of a token's health from now on.
pub(crate) struct News<'t>(&'t Token, Receiver<()>);

impl<'t> News<'t> {
    pub(crate) fn of(token: &'t Token) -> Self {
        let (news, changes) = channel();
        // Nobody may listen any more.
        token.watch(move || news.send(()).unwrap_or_default());
        Self(token, changes)
    }

    fn wait_for(&self, wanted: impl Fn(&Health) -> bool) -> Health {
        loop {
            let health = self.0.health();
            if wanted(&health) {
                return health;
            }
            self.1.recv_timeout(LONG).unwrap();
        }
    }

    pub(crate) fn is_back(&self) {
        self.wait_for(Health::is_ready);
    }

    /// That it was tried, and why it is not back.
    pub(crate) fn stays_lost(&self, why: &str) {
        self.wait_for(|health| match health {
            Health::Lost { reason } => reason.contains(why),
            other => panic!("{other}"),
        });
    }
}

#[test]
fn one_that_is_away_passes_all_that_is_asked_at_a_start_before_it_takes_part() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let (group, two) = lab.without_two();
        assert!(group.health().is_ready());
        assert_eq!(two.info(), None);
        seal(&group).unwrap();

        let news = News::of(&two);
        let (pairs, copies) = (lab.count("C_GenerateKeyPair"), lab.count("C_CopyObject"));
        lab.tell("insert two");
        news.is_back();
        assert_eq!(lab.count("C_GenerateKeyPair"), pairs + 1, "self-test");
        assert!(lab.count("C_CopyObject") > copies, "check value");
        assert_eq!(two.info().unwrap().label, "two");

        // Alone.
        lab.tell("remove one");
        for _ in 0..4 {
            seal(&group).unwrap();
        }
    });
}

#[test]
fn the_first_one_may_be_the_one_that_is_away() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        lab.tell("remove one");
        let one = lab.awaited("one");
        let group = TokenGroup::new(one.clone(), vec![lab.awaited("two")]);
        require_all(&group);
        for _ in 0..2 {
            seal(&group).unwrap();
        }
        let news = News::of(&one);
        lab.tell("insert one");
        news.is_back();
        lab.tell("remove two");
        seal(&group).unwrap();
    });
}

#[test]
fn a_device_that_fails_is_taken_for_away() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        // CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_GENERAL_ERROR,
        // CKR_FUNCTION_FAILED.
        for code in ["0x30", "0x32", "0xE0", "0x5", "0x6"] {
            lab.tell(&format!("fail-token two {code}"));
            let two = lab.awaited("two");
            assert!(matches!(two.health(), Health::Lost { .. }), "{code}");
            let news = News::of(&two);
            lab.tell("heal-token two");
            news.is_back();
        }
    });
}

#[test]
fn a_module_that_does_not_answer_is_waited_for_until_the_deadline() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let mut config = TokenConfig::new("two");
        config.deadline = Duration::from_secs(1);
        lab.tell("hang C_OpenSession 1");
        let two = lab.module.open_or_await(&config, &pin(USER_PIN)).unwrap();
        let news = News::of(&two);
        match two.health() {
            Health::Lost { reason } => assert!(reason.contains("deadline"), "{reason}"),
            other => panic!("{other}"),
        }
        lab.tell("release");
        news.is_back();
    });
}

#[test]
fn what_somebody_has_to_put_right_is_no_absence_and_the_pin_is_tried_once() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let before = lab.count("C_Login");
        let refused = lab.try_await("two", &pin("4321"));
        assert!(
            matches!(&refused, Err(HsmError::PinIncorrect { token }) if token == "two"),
            "{refused:?}"
        );
        assert_eq!(lab.count("C_Login"), before + 1);

        // CKR_PIN_LOCKED; and what may have been a try: CKR_PIN_EXPIRED, CKR_GENERAL_ERROR, and one that
        // only its vendor knows.
        for code in ["0xA4", "0xA3", "0x5", "0x80000001"] {
            let before = lab.count("C_Login");
            lab.tell(&format!("fail C_Login {code} 1"));
            lab.try_await("two", &pin(USER_PIN)).unwrap_err();
            assert_eq!(lab.count("C_Login"), before + 1, "{code}");
        }
        // CKR_SESSION_COUNT: too few for the workers.
        lab.tell("fail C_OpenSession 0xB1 3");
        lab.try_await("two", &pin(USER_PIN)).unwrap_err();

        let two = lab.awaited("two");
        assert!(two.health().is_ready());
        let again = lab.try_await("two", &pin(USER_PIN));
        assert!(
            matches!(again, Err(HsmError::TokenInUse { .. })),
            "{again:?}"
        );
    });
}

#[test]
fn a_pin_that_is_refused_when_it_comes_is_not_tried_again() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        lab.tell("remove two");
        let two = lab.try_await("two", &pin("4321")).unwrap();
        let group = TokenGroup::new(lab.awaited("one"), vec![two.clone()]);
        let news = News::of(&two);
        let before = lab.count("C_Login");
        lab.tell("insert two");
        let failed = news.wait_for(|health| matches!(health, Health::Failed(_)));
        assert_eq!(
            failed,
            Health::Failed(Failure::PinRefused {
                token: "two".to_owned()
            })
        );
        assert_eq!(lab.count("C_Login"), before + 1);
        assert!(group.health().is_ready());
        seal(&group).unwrap();
        assert_eq!(lab.count("C_Login"), before + 1);
    });
}

#[test]
fn one_that_comes_with_another_master_key_stays_lost() {
    with_faults(|place| {
        let mut lab = Lab::without_keys(place);
        lab.bring_key("one", 0);
        lab.bring_key("two", 1);
        let (group, two) = lab.without_two();
        let news = News::of(&two);
        lab.tell("insert two");
        news.stays_lost("key kn.acquirer is another one in token two");
        seal(&group).unwrap();
    });
}

#[test]
fn one_that_comes_without_the_key_stays_lost() {
    with_faults(|place| {
        let mut lab = Lab::without_keys(place);
        lab.bring_key("one", 0);
        let (group, two) = lab.without_two();
        let news = News::of(&two);
        lab.tell("insert two");
        news.stays_lost("no key is called kn.acquirer");
        seal(&group).unwrap();
    });
}

#[test]
fn one_that_comes_with_another_pair_stays_lost() {
    with_faults(|place| {
        let mut lab = Lab::without_keys(place);
        for label in ["one", "two"] {
            let kind = KeyPairKind::Rsa { bits: 2048 };
            let made =
                lab.present(label)
                    .generate_key_pair(KeyRole::KdhSigning, &kdh_signing(), kind);
            made.unwrap();
        }
        lab.tell("remove two");
        let two = lab.awaited("two");
        let group = TokenGroup::new(lab.awaited("one"), vec![two.clone()]);
        group
            .signing_key(KeyRole::KdhSigning, &kdh_signing())
            .unwrap();
        let news = News::of(&two);
        lab.tell("insert two");
        news.stays_lost("key kdh-signing is another one in token two");
    });
}

#[test]
fn one_that_cannot_seal_as_the_others_do_stays_lost() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let (group, two) = lab.without_two();
        let recipient = software::public_half(&software::recipient());
        let unaligned = frame_with_serial(KIND, 8);
        let unaligned = request(KIND, &unaligned, &recipient, HASH);
        group.require_from_now_on(&find(&group), &unaligned);
        let news = News::of(&two);
        lab.tell("insert two");
        if place.module().can.unaligned {
            news.is_back();
        } else {
            news.stays_lost("sealing a key at offset");
        }
    });
}

#[test]
fn one_that_fails_the_self_test_stays_lost_until_it_passes() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let (group, two) = lab.without_two();
        let news = News::of(&two);
        // CKR_MECHANISM_INVALID: as if RSA-OAEP were switched off.
        lab.tell("fail C_WrapKey 0x70 1 forever");
        lab.tell("insert two");
        news.stays_lost("the self-test failed");
        lab.tell("clear");
        news.is_back();
        seal(&group).unwrap();
    });
}

#[test]
fn what_becomes_known_while_one_comes_back_is_asked_of_it_too() {
    with_faults(|place| {
        let mut lab = Lab::without_keys(place);
        lab.bring_key("one", 0);
        lab.tell("remove two");
        let two = lab.awaited("two");
        let group = TokenGroup::new(lab.awaited("one"), vec![two.clone()]);
        group.self_test(HASH).unwrap();
        let news = News::of(&two);
        // Logged in, and in the middle of the self-test.
        lab.tell("hang C_GenerateKeyPair 1");
        lab.tell("insert two");
        lab.tell("wait-hanging 1");
        require_key(&group, &find(&group));
        lab.tell("release");
        news.stays_lost("no key is called kn.acquirer");
    });
}

#[test]
fn one_that_came_back_between_a_search_and_its_result_is_asked_before_it_goes_on() {
    with_faults(|place| {
        let mut lab = Lab::without_keys(place);
        lab.bring_key("one", 0);
        lab.tell("remove two");
        let two = lab.awaited("two");
        let group = TokenGroup::new(lab.awaited("one"), vec![two.clone()]);
        let found = find(&group);
        let news = News::of(&two);
        lab.tell("insert two");
        news.is_back();
        require_key(&group, &found);
        assert!(!two.health().is_ready());
        news.stays_lost("no key is called kn.acquirer");
        assert!(group.health().is_ready());
    });
}

#[test]
fn if_none_is_there_nothing_is_found() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        lab.tell("remove one");
        lab.tell("remove two");
        let group = TokenGroup::new(lab.awaited("one"), vec![lab.awaited("two")]);
        assert!(matches!(group.health(), Health::Lost { .. }));
        let unavailable = |error: HsmError| {
            assert!(error.is_retryable(), "{error}");
            assert!(error.to_string().contains("no token is called"), "{error}");
        };
        unavailable(group.self_test(HASH).unwrap_err());
        unavailable(group.secret_key(KeyRole::TransportKey, &kn()).unwrap_err());
        unavailable(
            group
                .signing_key(KeyRole::KdhSigning, &kdh_signing())
                .unwrap_err(),
        );
    });
}

#[test]
fn a_login_that_never_returns_is_not_waited_for_without_end() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let mut config = TokenConfig::new("one");
        config.deadline = Duration::from_secs(1);
        config.longest_try = Duration::from_secs(1);
        let one = lab.module.open(&config, &pin(USER_PIN)).unwrap();
        let news = News::of(&one);
        let logins = lab.count("C_Login");
        lab.tell("hang C_Login 1");
        lab.tell("lose-sessions one");
        // Not by random bytes, which NSS gives to sessions that it closed.
        one.list_keys().unwrap_err();
        lab.tell("wait-hanging 1");
        let failed = news.wait_for(|health| matches!(health, Health::Failed(_)));
        let token = "one".to_owned();
        assert_eq!(failed, Health::Failed(Failure::Stuck { token, calls: 1 }));
        assert_eq!(lab.count("C_Login"), logins + 1, "the PIN is tried once");
        // Not released: the module would be inside of its login while the process ends and takes it apart.
    });
}

#[test]
fn a_token_without_a_session_to_spare_is_not_taken_for_lost() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let mut config = TokenConfig::new("one");
        config.probe_after = Some(Duration::from_millis(1));
        let one = lab.module.open(&config, &pin(USER_PIN)).unwrap();
        // CKR_SESSION_COUNT.
        lab.tell("fail C_OpenSession 0xB1 1 forever");
        let asked = lab.count("C_OpenSession");
        while lab.count("C_OpenSession") < asked + 2 {
            std::thread::yield_now();
        }
        assert!(one.health().is_ready());
        one.random(8).unwrap();
    });
}

#[test]
fn what_only_a_new_process_is_rid_of_counts_more_than_a_wrong_pin() {
    with_faults(|place| {
        let mut lab = Lab::new(place);
        let mut config = TokenConfig::new("one");
        config.deadline = Duration::from_secs(1);
        config.max_stuck = 0;
        let one = lab.module.open(&config, &pin(USER_PIN)).unwrap();
        let two = lab.present("two");
        let (stuck, refused) = (News::of(&one), News::of(&two));
        lab.tell("hang C_GenerateRandom 1");
        one.random(8).unwrap_err();
        let stuck = stuck.wait_for(|health| matches!(health, Health::Failed(_)));
        // CKR_PIN_INCORRECT.
        lab.tell("fail C_Login 0xA0 1 forever");
        lab.tell("remove two");
        lab.tell("insert two");
        two.list_keys().unwrap_err();
        refused.wait_for(|health| matches!(health, Health::Failed(_)));
        for (first, second) in [(&one, &two), (&two, &one)] {
            let group = TokenGroup::new(first.clone(), vec![second.clone()]);
            assert_eq!(group.health(), stuck);
        }
        // Not released, as above.
    });
}
