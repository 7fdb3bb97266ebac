//! Keys in TR-34 tokens of another host: whose, for whom, how fresh, and each once.

use std::fs;

use hsm_modules::{KRYOPTIC, KRYOPTIC_BARE, NSS, SOFTHSM, TestModule};
use kdh_host::{Clock as _, StartError, SystemClock};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        AskKeyImportRequest, ListKeyImportsRequest, MakeImportNonceRequest,
        wrapped_key::{Form, KeyToken},
    },
};
use sqlx::{Connection as _, SqliteConnection};
use time::Duration;
use tonic::Status;
use tr34::KrdNonce;

use crate::{
    credential::Jumping,
    key_imports::{keys, reject, states},
    key_senders::{HEADER, Made, PAIR, SENDER, Stage, configured, play, world},
    world::{self, World},
};

/// The modules that open tokens inside, and those of them that keep nonces.
static OPENING: [&TestModule; 3] = [&KRYOPTIC, &KRYOPTIC_BARE, &NSS];
static KEEPING: [&TestModule; 2] = [&KRYOPTIC, &KRYOPTIC_BARE];

/// By signing time, with the list in a file too.
const BY_TIME: &str = ", signed-within-hours = 24";
const BY_TIME_AND_FILE: &str = ", signed-within-hours = 24, crl = \"switch-ca.crl\"";

const NO_NONCE: &str = "no nonce of import pair import-krd waits for a token; each is good for one: make one with \
     kdhctl import nonce, and have the sender answer it";
const OTHER_NONCE: &str =
    "the token answers another nonce than the last that was made: have the sender answer that one";
const REVOKED: &str =
    "the sender's certificate: the certificate was revoked: ask the sender for its present one";

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Reason, String) {
    let status = outcome.unwrap_err();
    (status.reason().unwrap(), status.message().to_owned())
}

fn invalid(cause: &str) -> (Reason, String) {
    (Reason::RequestInvalid, cause.to_owned())
}

async fn database(world: &World<'_>) -> SqliteConnection {
    let path = world.path("host.db");
    SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap()
}

async fn execute(world: &World<'_>, statement: &'static str) {
    let mut database = database(world).await;
    sqlx::query(statement).execute(&mut database).await.unwrap();
}

#[test]
fn the_key_of_a_token_that_answers_a_nonce_is_brought_in_once() {
    world::on(&KEEPING, |place| {
        play(place, "", SystemClock, async |mut stage| {
            let nonce = stage.make_nonce().await;
            let token = stage.sender.token(&Made::answering(nonce.clone()));
            let asked = stage.ask("one", token.clone()).await.unwrap();
            assert_eq!((&*asked.form, &*asked.sender), ("tr34", SENDER));
            assert_eq!((&*asked.under, &*asked.state), (PAIR, "ASKED"));
            let done = stage.approve(&asked).await.unwrap();
            assert_eq!((&*done.state, &*done.decided_by), ("IMPORTED", "bob"));
            assert_eq!(keys(&mut stage.ada).await, ["kn.one"]);

            // Neither the token nor another one that answers this nonce.
            assert_eq!(refusal(stage.ask("two", token).await), invalid(NO_NONCE));
            let other = stage.sender.token(&Made::answering(nonce));
            assert_eq!(refusal(stage.ask("two", other).await), invalid(NO_NONCE));

            let records = "SELECT action || ' ' || actor || ' ' || coalesce(json_extract(detail, '$.sender'), '-')
                FROM audit WHERE action LIKE 'key-import.%' ORDER BY sequence";
            let records: Vec<String> = sqlx::query_scalar(records)
                .fetch_all(&mut database(stage.world).await)
                .await
                .unwrap();
            let expected = [
                "key-import.nonce-made operator:ada switch",
                "key-import.asked operator:ada -",
                "key-import.approved operator:bob -",
                "key-import.done operator:bob -",
            ];
            assert_eq!(records, expected);
            stage.host.stop().await;
        });
    });
}

#[test]
fn the_key_of_a_token_that_was_signed_lately_is_brought_in_once() {
    world::on(&OPENING, |place| {
        play(place, BY_TIME, SystemClock, async |mut stage| {
            let token = stage.sender.token(&Made::now());
            let asked = stage.ask("one", token.clone()).await.unwrap();
            let (open, imported) = (
                format!(
                    "the token is that of import {} of one, which is open: approve or reject that one first",
                    asked.id
                ),
                format!(
                    "the token was imported already, as one (import {}): have the sender make another one",
                    asked.id
                ),
            );
            let already = |cause: &str| (Reason::AlreadyExists, cause.to_owned());
            assert_eq!(
                refusal(stage.ask("two", token.clone()).await),
                already(&open)
            );
            stage.approve(&asked).await.unwrap();
            assert_eq!(
                refusal(stage.ask("two", token.clone()).await),
                already(&imported)
            );
            let mut with_list = Made::now();
            with_list.list = 2;
            let asked = stage
                .ask("two", stage.sender.token(&with_list))
                .await
                .unwrap();
            stage.approve(&asked).await.unwrap();
            assert_eq!(keys(&mut stage.ada).await, ["kn.one", "kn.two"]);

            // Who writes to the database does not make the host forget.
            let noted = "the token was imported already: have the sender make another one";
            let last = Made {
                list: 2,
                ..Made::now()
            };
            let last = stage.sender.token(&last);
            let asked = stage.ask("three", last.clone()).await.unwrap();
            stage.approve(&asked).await.unwrap();
            execute(stage.world, "DELETE FROM key_imports").await;
            let refused = refusal(stage.ask("four", last).await);
            assert_eq!(refused, already(noted));
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_token_that_does_not_fit_is_not_asked_for() {
    type Spoil = fn(&mut Made);
    let cases: [(&str, Spoil, &str); 8] = [
        (
            "another KDH of the same CA",
            |made| made.by_other = true,
            "the token names another signer than the sender's certificate: ask the sender for its present one",
        ),
        (
            "another receiver",
            |made| made.to_other = true,
            "the token is for another receiver than the certificate of import pair import-krd: have the \
             sender make it for that certificate",
        ),
        (
            "revoked by the list in it",
            |made| made.revoked = true,
            REVOKED,
        ),
        (
            "another header",
            |made| made.headers = ["D0000D0AB00E0000"; 2],
            "the header says D0 of key usage, and K0 was announced: ask the sender which is right",
        ),
        (
            "another mode",
            |made| made.headers = ["D0000K0AD00E0000"; 2],
            "the header says D of mode of use, and B was announced: ask the sender which is right",
        ),
        (
            "another exportability",
            |made| made.headers = ["D0000K0AB00S0000"; 2],
            "the header says S of exportability, and E was announced: ask the sender which is right",
        ),
        (
            "another algorithm",
            |made| made.headers = ["D0000K0TB00E0000"; 2],
            "the header says TDEA of algorithm, and AES was announced: ask the sender which is right",
        ),
        (
            "in answer to a nonce",
            |made| *made = Made::answering(KrdNonce::from_bytes([7; 16])),
            "the token answers a nonce: have freshness be known by it",
        ),
    ];
    world::on(&[&KRYOPTIC], |place| {
        play(place, BY_TIME, SystemClock, async |mut stage| {
            for (case, spoil, expected) in cases {
                let mut made = Made::now();
                spoil(&mut made);
                let refused = stage.ask("one", stage.sender.token(&made)).await;
                assert_eq!(refusal(refused), invalid(expected), "{case}");
            }
            let good = stage.sender.token(&Made::now());
            let signed = "the token's signature does not verify: it was changed, or is not the sender's; have it \
                          sent again";
            let mut changed = good.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert_eq!(refusal(stage.ask("one", changed).await), invalid(signed));
            for (case, token) in [
                ("nothing", Vec::new()),
                ("cut off", good[..good.len() - 1].to_vec()),
                ("longer", [&good[..], &[0]].concat()),
                ("text", b"not a token".to_vec()),
            ] {
                let (reason, message) = refusal(stage.ask("one", token).await);
                assert_eq!(reason, Reason::RequestInvalid, "{case}");
                let next = ": ask the sender for the token again, and for its profile";
                assert!(message.ends_with(next), "{case}: {message}");
            }
            for (case, at) in [
                ("too old", SystemClock.now() - Duration::hours(25)),
                ("of tomorrow", SystemClock.now() + Duration::hours(1)),
            ] {
                let refused = stage.ask("one", stage.sender.token(&Made::at(at))).await;
                let (reason, message) = refusal(refused);
                assert_eq!(reason, Reason::RequestInvalid, "{case}");
                let next = ", which is not within 24 hours: have it made again";
                assert!(message.ends_with(next), "{case}: {message}");
            }
            let request = AskKeyImportRequest {
                wrapped: Some(kdh_proto::v1::WrappedKey {
                    form: Some(Form::KeyToken(KeyToken {
                        sender: "acquirer".to_owned(),
                        token: good,
                    })),
                }),
                ..crate::key_imports::right()
            };
            let unknown = "the host knows no sender \"acquirer\": correct the name, or have it entered as one of \
                           [[key-senders]] in the host's configuration";
            let refused = crate::key_imports::ask(&mut stage.ada, request).await;
            assert_eq!(refusal(refused), (Reason::NotFound, unknown.to_owned()));
            assert!(states(&mut stage.ada).await.is_empty());
            assert!(keys(&mut stage.ada).await.is_empty());
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_nonce_is_answered_by_one_token_and_the_last_one_made_is_meant() {
    world::on(&[&KRYOPTIC], |place| {
        play(place, "", SystemClock, async |mut stage| {
            let unasked = Made::answering(KrdNonce::from_bytes([7; 16]));
            let unasked = stage.sender.token(&unasked);
            assert_eq!(
                refusal(stage.ask("one", unasked.clone()).await),
                invalid(NO_NONCE)
            );
            let first = stage.make_nonce().await;
            assert_eq!(
                refusal(stage.ask("one", unasked).await),
                invalid(OTHER_NONCE)
            );
            let one_pass = "the token answers no nonce: have the sender answer the one that was made, or accept a \
                            signing time";
            let refused = stage.ask("one", stage.sender.token(&Made::now())).await;
            assert_eq!(refusal(refused), invalid(one_pass));

            // Two tokens answer it, and two imports are asked for; one of them is done.
            let answer = || stage.sender.token(&Made::answering(first.clone()));
            let (one, two) = (answer(), answer());
            let one = stage.ask("one", one).await.unwrap();
            let two = stage.ask("two", two).await.unwrap();
            stage.approve(&two).await.unwrap();
            assert_eq!(refusal(stage.approve(&one).await), invalid(NO_NONCE));
            assert_eq!(keys(&mut stage.ada).await, ["kn.two"]);

            // A newer nonce takes the place of one that an import waits with.
            let second = stage.make_nonce().await;
            let token = stage.sender.token(&Made::answering(second));
            let three = stage.ask("three", token).await.unwrap();
            stage.make_nonce().await;
            assert_eq!(refusal(stage.approve(&three).await), invalid(OTHER_NONCE));
            assert_eq!(
                reject(&mut stage.bob, &one.id).await.unwrap().state,
                "REJECTED"
            );
            assert_eq!(
                states(&mut stage.ada).await,
                ["ASKED", "IMPORTED", "REJECTED"]
            );
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_nonce_is_made_for_a_known_sender_by_whom_may_and_where_it_is_waited_for() {
    world::on(&[&KRYOPTIC], |place| {
        play(place, BY_TIME, SystemClock, async |mut stage| {
            let request = |sender: &str| MakeImportNonceRequest {
                sender: sender.to_owned(),
            };
            let [_, mut cleo] = stage.world.recoverers(&stage.host).await;
            let refused = cleo.make_import_nonce(request(SENDER)).await;
            assert_eq!(refusal(refused).0, Reason::RoleMissing);
            let refused = stage.ada.make_import_nonce(request("acquirer")).await;
            let unknown = "the host knows no sender \"acquirer\": correct the name, or have it entered as one of \
                           [[key-senders]] in the host's configuration";
            assert_eq!(refusal(refused), (Reason::NotFound, unknown.to_owned()));
            let refused = stage.ada.make_import_nonce(request(SENDER)).await;
            let by_time = "tokens of switch are known as fresh by their signing time (signed-within-hours): have \
                           one made without a nonce";
            assert_eq!(refusal(refused), (Reason::WrongState, by_time.to_owned()));
            let made: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM audit WHERE action = 'key-import.nonce-made'",
            )
            .fetch_one(&mut database(stage.world).await)
            .await
            .unwrap();
            assert_eq!(made, 0);
            stage.host.stop().await;
        });
    });
}

#[test]
fn what_was_good_when_it_was_asked_for_has_to_be_good_when_it_is_approved() {
    world::on(&[&KRYOPTIC], |place| {
        let clock = Jumping::never();
        let late = clock.clone();
        play(place, BY_TIME_AND_FILE, clock, async |mut stage| {
            let ask = async |stage: &mut Stage<'_>, name: &str| {
                let token = stage.sender.token(&Made::now());
                stage.ask(name, token).await.unwrap()
            };
            // The sender's CA has revoked it since: by the file, or by the list in a token of somebody else's.
            let one = ask(&mut stage, "one").await;
            stage.sender.publish(stage.world, 3, true);
            assert_eq!(refusal(stage.approve(&one).await), invalid_older());
            let fresh = Made {
                list: 3,
                ..Made::now()
            };
            let refused = stage.ask("two", stage.sender.token(&fresh)).await;
            assert_eq!(refusal(refused), invalid(REVOKED));
            assert!(keys(&mut stage.ada).await.is_empty());
            assert_eq!(states(&mut stage.ada).await, ["ASKED"]);

            // Reinstated by a newer list; then the token has become old.
            stage.sender.publish(stage.world, 4, false);
            let fresh = Made {
                list: 4,
                ..Made::now()
            };
            let token = stage.sender.token(&fresh);
            let three = stage.ask("three", token).await.unwrap();
            late.jump_at(0);
            let (reason, message) = refusal(stage.approve(&three).await);
            assert_eq!(reason, Reason::RequestInvalid);
            let next = ", which is not within 24 hours: have it made again";
            assert!(message.ends_with(next), "{message}");
            assert!(keys(&mut stage.ada).await.is_empty());
            stage.host.stop().await;
        });
    });
}

fn invalid_older() -> (Reason, String) {
    invalid(
        "the revocation list of the sender's CA: the CRL has number 1, but number 3 was seen before: have it \
         sent with a current one",
    )
}

#[test]
fn the_configuration_is_asked_again_when_an_import_is_approved() {
    world::on(&[&KRYOPTIC], |place| {
        play(place, BY_TIME, SystemClock, async |mut stage| {
            let token = stage.sender.token(&Made::now());
            let asked = stage.ask("one", token).await.unwrap();

            // The sender was taken out.
            let mut stage = stage.again("key-strength = \"warn\"\n").await;
            let unknown = "the host knows no sender \"switch\": correct the name, or have it entered as one of \
                           [[key-senders]] in the host's configuration";
            let refused = refusal(stage.approve(&asked).await);
            assert_eq!(refused, (Reason::NotFound, unknown.to_owned()));
            let listed = stage
                .ada
                .list_key_imports(ListKeyImportsRequest::default())
                .await;
            let listed = listed.unwrap().into_inner().imports.remove(0);
            assert_eq!((&*listed.sender, &*listed.under), (SENDER, ""));

            // Another one has its name.
            let other = configured(BY_TIME).replace("\"switch-kdh.pem\"", "\"switch-2.pem\"");
            let mut stage = stage.again(&other).await;
            let signer = "the token names another signer than the sender's certificate: ask the sender for its \
                          present one";
            assert_eq!(refusal(stage.approve(&asked).await), invalid(signer));

            // It has to answer nonces now.
            let mut stage = stage.again(&configured("")).await;
            let one_pass = "the token answers no nonce: have the sender answer the one that was made, or accept a \
                            signing time";
            assert_eq!(refusal(stage.approve(&asked).await), invalid(one_pass));

            let mut stage = stage.again(&configured(BY_TIME)).await;
            stage.approve(&asked).await.unwrap();
            assert_eq!(keys(&mut stage.ada).await, ["kn.one"]);
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_token_whose_key_is_not_the_announced_one_is_not_kept_and_its_nonce_is_not_spent() {
    world::on(&[&KRYOPTIC], |place| {
        play(place, "", SystemClock, async |mut stage| {
            let nonce = stage.make_nonce().await;
            let made = Made::answering(nonce);
            let inside = Made {
                headers: [HEADER, "D0000D0AB00E0000"],
                ..made.clone()
            };
            let closed = stage.ask("one", stage.sender.token(&inside)).await.unwrap();
            let (reason, message) = refusal(stage.approve(&closed).await);
            assert_eq!(reason, Reason::RequestInvalid);
            assert!(
                message.starts_with(
                    "the key block of the token does not open under import pair import-krd"
                ),
                "{message}"
            );
            assert!(keys(&mut stage.ada).await.is_empty());
            reject(&mut stage.ada, &closed.id).await.unwrap();

            let good = stage.ask("one", stage.sender.token(&made)).await.unwrap();
            stage.approve(&good).await.unwrap();
            assert_eq!(keys(&mut stage.ada).await, ["kn.one"]);
            stage.host.stop().await;
        });
    });
}

#[test]
fn senders_that_cannot_be_trusted_or_received_stop_the_host() {
    type Break = fn(&World<'_>, &mut String);
    let cases: [(&str, Break, &str); 7] = [
        (
            "the certificate of another CA",
            |world, _| copy(world, "kdh.pem", "switch-kdh.pem"),
            "key-senders.switch.certificate: ",
        ),
        (
            "a receiver's certificate for a sender's",
            |world, _| copy(world, "import-krd.pem", "switch-kdh.pem"),
            "key-senders.switch.certificate: ",
        ),
        (
            "a sender's certificate for a receiver's",
            |world, _| copy(world, "switch-2.pem", "import-krd.pem"),
            "key-senders.switch.receiver: ",
        ),
        (
            "the certificate of another pair",
            |world, _| copy(world, "other-krd.pem", "import-krd.pem"),
            "key-senders.switch: kdh-token: the certificate does not belong to import pair import-krd: name the \
             certificate that was made for it",
        ),
        (
            "no such pair",
            |_, lines| *lines = lines.replace("\"import-krd\"", "\"import-none\""),
            "key-senders.switch: kdh-token: no key is called import-none",
        ),
        (
            "a list of another CA",
            |world, _| copy(world, "crl-ca-kdh.der", "switch-ca.crl"),
            "key-senders.switch.crl: ",
        ),
        (
            "no list",
            |world, _| fs::remove_file(world.path("switch-ca.crl")).unwrap(),
            "key-senders.switch.crl: ",
        ),
    ];
    world::on(&[&KRYOPTIC], |place| {
        let (world, sender) = world(place.folder());
        let files = ["switch-kdh.pem", "import-krd.pem", "switch-ca.crl"];
        let kept = files.map(|name| (name, fs::read(world.path(name)).unwrap()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for (case, break_it, expected) in cases {
            let mut lines = configured(", crl = \"switch-ca.crl\"");
            break_it(&world, &mut lines);
            world.configure(&lines);
            let StartError(starting) = runtime.block_on(world.host()).map(drop).unwrap_err();
            let StartError(checking) =
                kdh_host::check(&world.config(), SystemClock.now(), true).unwrap_err();
            // The check goes on to the HSM.
            assert!(checking.starts_with(&starting), "{case}: {checking:?}");
            let [fault] = &starting[..] else {
                panic!("{case}: {starting:?}");
            };
            assert!(fault.starts_with(expected), "{case}: {fault}");
            for (name, content) in &kept {
                fs::write(world.path(name), content).unwrap();
            }
        }
        // Its lists would be taken for those of the host's own CA.
        let own = fs::read(world.path("switch-ca.pem")).unwrap();
        copy(&world, "namesake-ca.pem", "switch-ca.pem");
        let StartError(faults) = runtime.block_on(world.host()).map(drop).unwrap_err();
        let namesake = "key-senders.switch.ca: it is called as certificates.ca-kdh is, and has another key: lists are \
                        told apart by their CA's name, so have one of them named otherwise";
        assert!(faults.iter().any(|fault| fault == namesake), "{faults:?}");
        fs::write(world.path("switch-ca.pem"), own).unwrap();
        // Time that has passed, and a revocation, concern this sender and nobody else.
        sender.publish(&world, 2, true);
        world.configure(&configured(", crl = \"switch-ca.crl\""));
        runtime.block_on(async { world.serve().await.stop().await });
    });
}

fn copy(world: &World<'_>, from: &str, to: &str) {
    fs::copy(world.path(from), world.path(to)).unwrap();
}

/// What the module cannot do is refused at start, naming the mechanism; and what keeps no data keeps no nonce.
#[test]
fn an_hsm_that_cannot_receive_tokens_stops_the_host() {
    world::on(&[&SOFTHSM, &NSS], |place| {
        let (world, _) = world(place.folder());
        world.configure(&configured(""));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let StartError(faults) = runtime.block_on(world.host()).map(drop).unwrap_err();
        let lacks = if place.module() == &NSS {
            "keeping a nonce is not possible with this module, which lacks private data objects"
        } else {
            "opening a key block under AES-128-CBC inside is not possible with this module, which lacks CKM_AES_CBC and \
             CKM_EXTRACT_KEY_FROM_KEY"
        };
        let expected = format!("key-senders.switch: kdh-token: {lacks}");
        assert_eq!(faults, [expected]);
    });
}
