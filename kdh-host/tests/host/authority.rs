//! What `CA_KRD` signs for terminals whose KDH is lost: who asks, who approves, and that it is made once.

use std::fs;

use hsm_modules::{SOFTHSM, WHOLE};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        ApproveAuthorityRequestRequest, AskAuthorityRequest, AuthorityRequest,
        ExportAuthorityTokenRequest, FetchAuthorityTokenRequest, IssueActivationCodeRequest,
        ListAuthorityRequestsRequest, RejectAuthorityRequestRequest, ResumeDeviceRequest,
        SuspendDeviceRequest, administration_client::AdministrationClient,
        fetch_authority_token_response::Token,
    },
};
use tonic::{Status, transport::Channel};
use tr34::{CaRebindToken, CaUnbindToken, Profile};

use crate::{
    bindings::{Scene, of, play, play_by, play_with_postgres, reason},
    credential::Forward,
    forger::{forge, put_back},
    world,
};

const SERIAL: &str = "SN-1";
const PROFILE: Profile = Profile::X9_2019;

type Operator = AdministrationClient<Channel>;

/// A request about SN-1, by the files of the certificates.
fn asking(scene: &Scene<'_>, kdh: &str, to: Option<&str>) -> AskAuthorityRequest {
    let der = |name: &str| scene.world.certificate(name).der().to_vec();
    AskAuthorityRequest {
        serial_number: SERIAL.to_owned(),
        kdh: der(kdh),
        new_kdh: to.map(der).unwrap_or_default(),
        why: "the HSM burnt down".to_owned(),
    }
}

async fn ask(
    scene: &Scene<'_>,
    operator: &mut Operator,
    kdh: &str,
    to: Option<&str>,
) -> Result<AuthorityRequest, Status> {
    let asked = operator.ask_authority(asking(scene, kdh, to)).await?;
    Ok(asked.into_inner())
}

async fn approve(operator: &mut Operator, id: &str) -> Result<AuthorityRequest, Status> {
    let approve = ApproveAuthorityRequestRequest { id: id.to_owned() };
    let approved = operator.approve_authority_request(approve).await?;
    Ok(approved.into_inner())
}

async fn reject(operator: &mut Operator, id: &str) -> Result<AuthorityRequest, Status> {
    let reject = RejectAuthorityRequestRequest { id: id.to_owned() };
    let rejected = operator.reject_authority_request(reject).await?;
    Ok(rejected.into_inner())
}

async fn export(operator: &mut Operator, id: &str) -> Result<Vec<u8>, Status> {
    let export = ExportAuthorityTokenRequest { id: id.to_owned() };
    let exported = operator.export_authority_token(export).await?;
    Ok(exported.into_inner().token)
}

async fn fetch(scene: &mut Scene<'_>) -> Result<Token, Status> {
    let fetch = FetchAuthorityTokenRequest {};
    let fetched = scene.terminal.client.fetch_authority_token(fetch).await?;
    Ok(fetched.into_inner().token.unwrap())
}

async fn states(operator: &mut Operator) -> Vec<String> {
    let list = ListAuthorityRequestsRequest::default();
    let listed = operator.list_authority_requests(list).await.unwrap();
    let requests = listed.into_inner().requests.into_iter();
    requests.map(|request| request.state).collect()
}

#[test]
fn two_operators_have_a_terminal_unbound_from_a_host_that_is_lost() {
    world::on(&WHOLE, |place| play(place, a_terminal_is_unbound));
}

#[test]
fn two_operators_have_a_terminal_unbound_from_a_host_that_is_lost_with_postgresql() {
    world::on(&[&SOFTHSM], |place| {
        play_with_postgres(place, a_terminal_is_unbound);
    });
}

async fn a_terminal_is_unbound(mut scene: Scene<'_>) {
    let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
    let nothing = Some(Reason::NoAuthorityToken);
    assert_eq!(reason(fetch(&mut scene).await), nothing);
    let asked = ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
    assert_eq!((&*asked.state, &*asked.kind), ("ASKED", "UNBIND"));
    assert_eq!((&*asked.asked_by, &*asked.decided_by), ("bob", ""));
    assert_eq!(reason(fetch(&mut scene).await), nothing, "one operator");

    let signed = approve(&mut cleo, &asked.id).await.unwrap();
    assert_eq!((&*signed.state, &*signed.decided_by), ("SIGNED", "cleo"));
    assert_eq!(scene.device().await, of("BOUND", ""), "it has not left");

    let Token::UbtCa(token) = fetch(&mut scene).await.unwrap() else {
        panic!("a rebind token");
    };
    let read = CaUnbindToken::parse(PROFILE, &token).unwrap();
    scene.verify(read.signed_by(), "ca-krd.pem");
    assert_eq!(read.krd(), &scene.krd());
    let kdh = scene.world.certificate("kdh.pem");
    assert_eq!(read.kdh(), &kdh.issuer_and_serial().unwrap());
    assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));

    // The same one, however often and to whomever.
    assert_eq!(
        fetch(&mut scene).await.unwrap(),
        Token::UbtCa(token.clone())
    );
    assert_eq!(export(&mut bob, &asked.id).await.unwrap(), token);

    scene.acknowledge(&scene.statement(&token)).await.unwrap();
    assert_eq!(scene.device().await, of("UNBOUND", "DESTROYED"));
    assert_eq!(reason(fetch(&mut scene).await), nothing);
    scene.bind().await.unwrap();
    // A copy of what was obeyed ends nothing.
    assert_eq!(export(&mut cleo, &asked.id).await.unwrap(), token);
    assert_eq!(scene.device().await, of("BOUND", ""));

    let again = ask(&scene, &mut cleo, "kdh.pem", None).await;
    assert_eq!(reason(again), Some(Reason::AlreadyExists));
    let otherwise = ask(&scene, &mut cleo, "kdh.pem", Some("kdh-two.pem")).await;
    assert_eq!(reason(otherwise), Some(Reason::AlreadyExists));
    let records = "SELECT action || ' ' || actor FROM audit WHERE action LIKE 'authority.%'
            ORDER BY sequence";
    let records = scene.answers(records).await;
    let expected = [
        "authority.asked operator:bob",
        "authority.approved operator:cleo",
        "authority.signed operator:cleo",
        "authority.fetched device:SN-1",
        "authority.fetched device:SN-1",
        "authority.fetched operator:bob",
        "authority.fetched operator:cleo",
    ];
    assert_eq!(records, expected);
    scene.host.stop().await;
}

#[test]
fn a_terminal_of_a_lost_host_goes_over_to_another_one_or_to_this_one() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            // A KDH that this host never was: nothing ends here.
            let asked = ask(&scene, &mut bob, "kdh-three.pem", Some("kdh.pem")).await;
            let asked = asked.unwrap();
            approve(&mut cleo, &asked.id).await.unwrap();
            let Token::RbtCa(token) = fetch(&mut scene).await.unwrap() else {
                panic!("an unbind token");
            };
            assert_eq!(scene.device().await, of("BOUND", ""));
            let mut said = scene.rebind_statement(&token, "kdh.pem");
            let three = scene.world.certificate("kdh-three.pem");
            said.previous_kdh = three.issuer_and_serial().unwrap().to_der();
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));

            let asked = ask(&scene, &mut bob, "kdh.pem", Some("kdh-two.pem")).await;
            approve(&mut cleo, &asked.unwrap().id).await.unwrap();
            let Token::RbtCa(token) = fetch(&mut scene).await.unwrap() else {
                panic!("an unbind token");
            };
            let read = CaRebindToken::parse(PROFILE, &token).unwrap();
            scene.verify(read.signed_by(), "ca-krd.pem");
            let two = scene.world.certificate("kdh-two.pem");
            assert_eq!(read.new_kdh_certificate(), two.der());
            assert_eq!(scene.device().await, of("REBOUND", "HANDED_OVER"));
            let said = scene.rebind_statement(&token, "kdh-two.pem");
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(scene.device().await, of("REBOUND", "HANDED_OVER"));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_is_saved_from_a_host_whose_own_credential_was_revoked() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let list = |name: &str| scene.world.path(name);
            fs::copy(list("crl-ca-kdh.revoked"), list("crl-ca-kdh.der")).unwrap();
            let asked = ask(&scene, &mut bob, "kdh.pem", Some("kdh-two.pem")).await;
            approve(&mut cleo, &asked.unwrap().id).await.unwrap();
            assert!(matches!(fetch(&mut scene).await, Ok(Token::RbtCa(_))));
            scene.host.stop().await;
        });
    });
}

#[test]
fn what_cannot_be_signed_is_not_asked_for() {
    type Spoil = fn(&mut AskAuthorityRequest);
    let cases: [(&str, Reason, Spoil); 8] = [
        ("no device", Reason::RequestInvalid, |it| {
            it.serial_number.clear();
        }),
        ("an unknown device", Reason::NotFound, |it| {
            it.serial_number = "SN-9".to_owned();
        }),
        ("a device without keys", Reason::WrongState, |it| {
            it.serial_number = "SN-2".to_owned();
        }),
        ("no reason", Reason::RequestInvalid, |it| it.why.clear()),
        ("no lost KDH", Reason::RequestInvalid, |it| it.kdh.clear()),
        ("a lost KDH and more", Reason::RequestInvalid, |it| {
            it.kdh.push(0);
        }),
        (
            "no certificate of the lost KDH",
            Reason::RequestInvalid,
            |it| {
                it.kdh = b"kdh".to_vec();
            },
        ),
        (
            "no certificate of the new KDH",
            Reason::RequestInvalid,
            |it| {
                it.new_kdh = b"kdh".to_vec();
            },
        ),
    ];
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.world.added(&mut scene.operator, "SN-2").await;
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let invalid = Reason::RequestInvalid;
            for (kdh, to) in [
                ("kdh-foreign.pem", None),
                ("krd-by-ca-kdh.pem", None),
                ("ca-kdh.pem", None),
                ("host-tls.pem", None),
                ("kdh.pem", Some("kdh.pem")),
                ("kdh-two.pem", Some("kdh-two.pem")),
                ("kdh.pem", Some("kdh-listed.pem")),
                ("kdh.pem", Some("kdh-expired.pem")),
                ("kdh.pem", Some("kdh-foreign.pem")),
                ("kdh.pem", Some("krd-by-ca-kdh.pem")),
                ("kdh.pem", Some("ca-kdh.pem")),
            ] {
                let refused = ask(&scene, &mut bob, kdh, to).await;
                assert_eq!(reason(refused), Some(invalid), "{kdh} {to:?}");
            }
            for (case, expected, spoil) in cases {
                let mut request = asking(&scene, "kdh.pem", None);
                spoil(&mut request);
                let refused = bob.ask_authority(request).await;
                assert_eq!(reason(refused), Some(expected), "{case}");
            }
            let suspend = SuspendDeviceRequest {
                serial_number: SERIAL.to_owned(),
                why: "lost".to_owned(),
            };
            scene.operator.suspend_device(suspend).await.unwrap();
            let refused = ask(&scene, &mut bob, "kdh.pem", None).await;
            assert_eq!(reason(refused), Some(Reason::WrongState));
            assert!(states(&mut bob).await.is_empty());
            let resume = ResumeDeviceRequest {
                serial_number: SERIAL.to_owned(),
                why: "found".to_owned(),
            };
            scene.operator.resume_device(resume).await.unwrap();
            // A KDH that is lost may well be listed, or have expired.
            for kdh in ["kdh-listed.pem", "kdh-expired.pem"] {
                ask(&scene, &mut bob, kdh, None).await.unwrap();
            }
            scene.host.stop().await;
        });
    });
}

#[test]
fn nobody_approves_alone_or_what_is_decided() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            let asked = ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
            let same = approve(&mut bob, &asked.id).await;
            assert_eq!(reason(same), Some(Reason::SameOperator));
            let role = Some(Reason::RoleMissing);
            assert_eq!(reason(ask(&scene, ada, "kdh.pem", None).await), role);
            assert_eq!(reason(approve(ada, &asked.id).await), role);
            assert_eq!(reason(reject(ada, &asked.id).await), role);
            assert_eq!(reason(export(ada, &asked.id).await), role);
            for unknown in ["", "0", "00000000", "x'; --", &asked.id.to_uppercase()] {
                if unknown == asked.id {
                    continue;
                }
                let missing = Some(Reason::NotFound);
                assert_eq!(reason(approve(&mut cleo, unknown).await), missing);
                assert_eq!(reason(reject(&mut cleo, unknown).await), missing);
                assert_eq!(reason(export(&mut cleo, unknown).await), missing);
            }
            let early = export(&mut cleo, &asked.id).await;
            assert_eq!(reason(early), Some(Reason::WrongState));

            // One's own request can be withdrawn, and then asked for anew.
            let rejected = reject(&mut bob, &asked.id).await.unwrap();
            assert_eq!(
                (&*rejected.state, &*rejected.decided_by),
                ("REJECTED", "bob")
            );
            let decided = Some(Reason::WrongState);
            assert_eq!(reason(approve(&mut cleo, &asked.id).await), decided);
            assert_eq!(reason(reject(&mut cleo, &asked.id).await), decided);
            assert_eq!(reason(export(&mut cleo, &asked.id).await), decided);
            let anew = ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
            let taken = ask(&scene, &mut cleo, "kdh.pem", None).await;
            assert_eq!(reason(taken), Some(Reason::AlreadyExists));
            approve(&mut cleo, &anew.id).await.unwrap();
            assert_eq!(reason(approve(&mut cleo, &anew.id).await), decided);
            assert_eq!(reason(approve(&mut bob, &anew.id).await), decided);
            assert_eq!(reason(reject(&mut bob, &anew.id).await), decided);
            assert_eq!(states(ada).await, ["SIGNED", "REJECTED"]);
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_request_that_nobody_asked_for_is_not_signed() {
    let tampering = [
        "UPDATE authority_requests SET asked_by = 'eve'",
        "UPDATE authority_requests SET asked_by = 'cleo'",
        "UPDATE authority_requests SET why = 'because'",
        "UPDATE authority_requests SET kind = 'UNBIND', new_kdh = NULL",
        "UPDATE authority_requests SET new_kdh = x'3000'",
        "UPDATE authority_requests SET kdh = (SELECT bound_kdh FROM devices)",
        "UPDATE authority_requests SET certificate = (SELECT serial FROM certificates
             WHERE purpose = 'AUTHENTICATION')",
        "UPDATE authority_requests SET device = 'SN-2'",
        "UPDATE authority_requests SET expires_at = '9999-01-01T00:00:00Z'",
        "UPDATE authority_requests SET id = '00000000'",
    ];
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.world.added(&mut scene.operator, "SN-2").await;
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let mut database = scene.database().await;
            let mut execute = async |statement: &'static str| {
                sqlx::query(statement)
                    .execute(database.connection())
                    .await
                    .unwrap();
            };
            let (lost, new) = ("kdh-three.pem", Some("kdh-two.pem"));
            for statement in tampering {
                let asked = ask(&scene, &mut bob, lost, new).await.unwrap();
                execute(statement).await;
                let id = if statement.contains("SET id") {
                    "00000000"
                } else {
                    &asked.id
                };
                let refused = approve(&mut cleo, id).await;
                assert_eq!(reason(refused), Some(Reason::Internal), "{statement}");
                execute("DELETE FROM authority_requests").await;
            }
            // Nor does a record count that has no place in the trail: somebody may slip one in for a moment.
            for (planted, expected) in [
                ("-1", Reason::Internal),
                // Nor is anything done behind it, not even put down that it was refused.
                ("1000000", Reason::WrongState),
            ] {
                let asked = ask(&scene, &mut bob, lost, new).await.unwrap();
                execute("UPDATE authority_requests SET asked_by = 'eve'").await;
                let plant = format!(
                    "INSERT INTO audit SELECT {planted}, at, 'operator:eve', action, device, outcome,
                     replace(detail, '\"bob\"', '\"eve\"'), previous_hash, hash FROM audit
                     WHERE action = 'authority.asked' ORDER BY sequence DESC LIMIT 1"
                );
                execute(plant.leak()).await;
                let refused = approve(&mut cleo, &asked.id).await;
                assert_eq!(reason(refused), Some(expected), "{planted}");
                execute("DELETE FROM authority_requests").await;
                execute("DELETE FROM audit WHERE actor = 'operator:eve'").await;
            }
            // Not even one with hashes that fit, in the middle of the trail.
            let asked = ask(&scene, &mut bob, lost, new).await.unwrap();
            for _ in 0..2 {
                let alone = approve(&mut bob, &asked.id).await;
                assert_eq!(reason(alone), Some(Reason::SameOperator));
            }
            let mut database = scene.database().await;
            database
                .edit("UPDATE authority_requests SET asked_by = 'eve'")
                .await;
            forge(&mut database, "authority.asked", |record| {
                record.actor = record.actor.replace("bob", "eve");
                record.detail = record.detail.replace("bob", "eve");
            })
            .await;
            let refused = approve(&mut cleo, &asked.id).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            put_back(&mut database).await;
            database
                .edit("UPDATE authority_requests SET asked_by = 'bob'")
                .await;
            // What was decided stays so.
            reject(&mut bob, &asked.id).await.unwrap();
            database
                .edit("UPDATE authority_requests SET state = 'ASKED'")
                .await;
            let refused = approve(&mut cleo, &asked.id).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            database.edit("DELETE FROM authority_requests").await;
            let asked = ask(&scene, &mut bob, lost, new).await.unwrap();
            approve(&mut cleo, &asked.id).await.unwrap();
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_request_is_not_approved_when_it_is_out_of_date() {
    let clock = Forward::default();
    world::on(&WHOLE, |place| {
        play_by(place, clock.clone(), async |mut scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let asked = ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
            clock.put_to(73);
            assert_eq!(states(&mut bob).await, ["EXPIRED"]);
            let late = Some(Reason::WrongState);
            assert_eq!(reason(approve(&mut cleo, &asked.id).await), late);
            assert_eq!(reason(reject(&mut cleo, &asked.id).await), late);
            ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
            assert_eq!(states(&mut bob).await, ["ASKED", "EXPIRED"]);
            clock.put_to(0);

            let asked = ask(&scene, &mut bob, "kdh-three.pem", Some("kdh-two.pem")).await;
            let id = asked.unwrap().id;
            let list = |name: &str| scene.world.path(name);
            fs::copy(list("crl-ca-kdh.other-revoked"), list("crl-ca-kdh.der")).unwrap();
            let revoked = approve(&mut cleo, &id).await;
            assert_eq!(reason(revoked), Some(Reason::RequestInvalid));
            assert_eq!(states(&mut bob).await[0], "ASKED", "it was taken back");

            let asked = ask(&scene, &mut bob, "kdh-listed.pem", None).await.unwrap();
            let code = IssueActivationCodeRequest {
                serial_number: SERIAL.to_owned(),
            };
            let code = scene.operator.issue_activation_code(code).await.unwrap();
            let mut enrollment = scene.world.enrollment("SN-2", &code.into_inner().code);
            enrollment.serial_number = SERIAL.to_owned();
            let mut stranger = scene.world.terminal(&scene.host).await;
            stranger.enroll(enrollment).await.unwrap();
            let other_key = approve(&mut cleo, &asked.id).await;
            assert_eq!(reason(other_key), Some(Reason::WrongState));
            assert_eq!(
                reason(fetch(&mut scene).await),
                Some(Reason::CredentialRejected)
            );
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_device_that_is_stopped_fetches_nothing() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let asked = ask(&scene, &mut bob, "kdh.pem", None).await.unwrap();
            approve(&mut cleo, &asked.id).await.unwrap();
            let elsewhere = ask(&scene, &mut bob, "kdh-three.pem", None).await.unwrap();
            approve(&mut cleo, &elsewhere.id).await.unwrap();
            let suspend = SuspendDeviceRequest {
                serial_number: SERIAL.to_owned(),
                why: "lost".to_owned(),
            };
            scene.operator.suspend_device(suspend).await.unwrap();
            let stopped = fetch(&mut scene).await;
            assert_eq!(reason(stopped), Some(Reason::DeviceSuspended));
            // Nor is it brought to it, whichever KDH it is taken from.
            let exported = export(&mut bob, &asked.id).await;
            assert_eq!(reason(exported), Some(Reason::WrongState));
            let exported = export(&mut bob, &elsewhere.id).await;
            assert_eq!(reason(exported), Some(Reason::WrongState));
            let mut stranger = scene.world.terminal(&scene.host).await;
            let refused = stranger
                .fetch_authority_token(FetchAuthorityTokenRequest {})
                .await
                .unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::IdentityMismatch));
            scene.host.stop().await;
        });
    });
}
