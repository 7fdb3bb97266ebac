//! A new KDH credential: terminals stay where they are, and are handed over as they call in.

use std::fs;

use hsm_modules::{Place, WHOLE};
use kdh_proto::{
    Reason,
    v1::{
        AskAuthorityRequest, BindRequest, ListKdhsRequest, RequestKeyRequest, RevokeDeviceRequest,
        binding_order::Kind,
    },
};
use sqlx::SqliteConnection;
use tr34::{
    KdhCredentialToken, KdhRebindToken, KdhUnbindToken, KeyToken, KrdNonce, Profile, RandomToken,
};

use crate::{
    bindings::{Scene, of, play, reason},
    world::{self, World},
};

const PROFILE: Profile = Profile::X9_2019;

/// The key of `kdh-next.pem`, and the credential before.
const BOTH: &str = "key-strength = \"warn\"\nkdh-key = \"kdh-signing-2\"\n\
    retiring-kdh = [{ certificate = \"kdh.pem\", key = \"kdh-signing\" }]\n";
/// The other way round.
const BACK: &str = "key-strength = \"warn\"\n\
    retiring-kdh = [{ certificate = \"kdh-next.pem\", key = \"kdh-signing-2\" }]\n";
const NEW_ALONE: &str = "key-strength = \"warn\"\nkdh-key = \"kdh-signing-2\"\n";

impl<'w> Scene<'w> {
    /// The host is stopped, and started with this KDH certificate and these lines.
    async fn restart(self, kdh: &str, lines: &str) -> Scene<'w> {
        self.host.stop().await;
        self.world.configure_with_kdh(kdh, lines);
        let host = self.world.serve().await;
        let enrolled = self.terminal.enrolled;
        let client = self.world.enrolled(&host, "SN-1", &enrolled).await;
        Scene {
            world: self.world,
            operator: self.world.operator(&host).await,
            terminal: crate::world::Bound { client, enrolled },
            host,
        }
    }

    /// Each KDH with its state and the number of its devices.
    async fn kdhs(&mut self) -> Vec<(String, u64)> {
        let listed = self.operator.list_kdhs(ListKdhsRequest {}).await.unwrap();
        let kdhs = listed.into_inner().kdhs.into_iter();
        kdhs.map(|kdh| (kdh.state, kdh.devices)).collect()
    }

    async fn key_token(&mut self, nonce: u8) -> KeyToken {
        let request = RequestKeyRequest {
            slot: "tmk".to_owned(),
            rt_krd: RandomToken::new(KrdNonce::from_bytes([nonce; 16])).to_der(),
        };
        let issued = self.terminal.client.request_key(request).await.unwrap();
        KeyToken::parse(PROFILE, &issued.into_inner().kt_kdh).unwrap()
    }

    async fn credential(&mut self) -> Vec<u8> {
        self.credential_token().await.certificate().to_vec()
    }

    async fn credential_token(&mut self) -> KdhCredentialToken {
        let bind = BindRequest {
            ct_krd: self.terminal.enrolled.ct_krd.clone(),
        };
        let bound = self.terminal.client.bind(bind).await.unwrap();
        KdhCredentialToken::parse(PROFILE, &bound.into_inner().ct_kdh).unwrap()
    }
}

fn states(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let expected = expected.iter();
    expected
        .map(|(state, devices)| ((*state).to_owned(), *devices))
        .collect()
}

async fn retirements(database: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM audit WHERE action = 'kdh.retired' AND outcome = 'ok'")
        .fetch_one(database)
        .await
        .unwrap()
}

#[test]
fn a_fleet_is_handed_over_as_it_calls_in() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRING", 1)])
            );

            // Until it has gone over, everything is as before: it takes nothing from the new one.
            let token = scene.key_token(1).await;
            scene.verify(token.signed_by(), "kdh.pem");
            let old = scene.world.certificate("kdh.pem");
            assert!(scene.credential().await == old.der());
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRING", 1)])
            );

            let order = scene.list().await.unwrap().order.unwrap();
            assert_eq!(order.kind(), Kind::Rebind);
            let rbt_kdh = scene.request_rebind(2).await.unwrap();
            let read = KdhRebindToken::parse(PROFILE, &rbt_kdh).unwrap();
            scene.verify(read.signed_by(), "kdh.pem");
            let new = scene.world.certificate("kdh-next.pem");
            assert!(read.new_kdh_certificate() == new.der());
            assert_eq!(read.krd(), &scene.krd());
            // The answer may have been lost.
            assert_eq!(scene.device().await, of("BOUND", ""));
            scene.request_rebind(3).await.unwrap();

            let statement = scene.rebind_statement(&rbt_kdh, "kdh-next.pem");
            scene.acknowledge(&statement).await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 1), ("RETIRED", 0)])
            );
            assert_eq!(retirements(scene.database().await.connection()).await, 1);

            assert!(scene.list().await.unwrap().order.is_none());
            assert!(scene.list().await.unwrap().assignments[0].confirmed);
            let token = scene.key_token(4).await;
            scene.verify(token.signed_by(), "kdh-next.pem");
            assert!(scene.credential().await == new.der());
            let nothing = Some(Reason::NotOrdered);
            assert_eq!(reason(scene.request_rebind(5).await), nothing);

            // The old one is taken out of the configuration, and nobody misses it.
            let mut scene = scene.restart("kdh-next.pem", NEW_ALONE).await;
            assert_eq!(scene.kdhs().await, states(&[("PRESENT", 1)]));
            scene.key_token(6).await;
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_that_comes_now_is_bound_to_the_new_credential() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            let world = scene.world;
            world.bound(&scene.host, &mut scene.operator, "SN-2").await;
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 1), ("RETIRING", 1)])
            );
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_whose_kdh_is_gone_gets_nothing_from_another_one() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", NEW_ALONE).await;
            assert_eq!(scene.kdhs().await, states(&[("PRESENT", 0), ("ABSENT", 1)]));
            let not_bound = Some(Reason::NotBound);
            assert_eq!(reason(scene.request_key(1).await), not_bound);
            let not_ordered = Some(Reason::NotOrdered);
            assert_eq!(reason(scene.request_rebind(2).await), not_ordered);
            assert_eq!(reason(scene.request_unbind(3).await), not_ordered);
            scene.order_unbind().await.unwrap();
            assert_eq!(reason(scene.request_unbind(4).await), not_bound);
            scene.host.stop().await;
        });
    });
}

/// A credential that was revoked hands nobody over: terminals would not believe it.
#[test]
fn a_revoked_credential_signs_nothing_any_more() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            let list = |name: &str| scene.world.path(name);
            fs::copy(list("crl-ca-kdh.revoked"), list("crl-ca-kdh.der")).unwrap();
            let not_bound = Some(Reason::NotBound);
            assert_eq!(reason(scene.request_rebind(1).await), not_bound);
            assert_eq!(reason(scene.request_key(2).await), not_bound);
            // It gets the list that says so, and is not bound to the KDH that comes with it.
            let new = scene.world.certificate("kdh-next.pem");
            assert!(scene.credential().await == new.der());
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRING", 1)])
            );
            scene.host.stop().await;
        });
    });
}

/// Whoever got a token may not have it: its KDH is needed as long as it has not said that it left.
#[test]
fn a_credential_is_not_retired_before_its_last_terminal_has_left() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            scene.order_rebind("kdh-two.pem").await.unwrap();
            let token = scene.request_rebind(1).await.unwrap();
            assert_eq!(scene.device().await, of("REBOUND", "HANDED_OVER"));
            let at_the_old_one = states(&[("PRESENT", 0), ("RETIRING", 1)]);
            assert_eq!(scene.kdhs().await, at_the_old_one);
            let said = scene.rebind_statement(&token, "kdh-two.pem");
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRED", 0)])
            );
            assert_eq!(retirements(scene.database().await.connection()).await, 1);
            scene.host.stop().await;
        });
    });
}

#[test]
fn the_last_terminal_of_a_credential_may_also_be_revoked() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            // Also one that bound before it was put down to which KDH.
            sqlx::query("UPDATE devices SET bound_kdh = NULL")
                .execute(scene.database().await.connection())
                .await
                .unwrap();
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRING", 1)])
            );
            let revoke = RevokeDeviceRequest {
                serial_number: "SN-1".to_owned(),
                why: "never calls again".to_owned(),
            };
            scene.operator.revoke_device(revoke).await.unwrap();
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 0), ("RETIRED", 0)])
            );
            assert_eq!(retirements(scene.database().await.connection()).await, 1);
            scene.host.stop().await;
        });
    });
}

/// A list that names its KDH has to reach the terminal somehow, and a token of `CA_KRD` needs a fresh one.
#[test]
fn a_terminal_of_a_revoked_credential_gets_the_list_and_stays_where_it_is() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            let list = |name: &str| scene.world.path(name);
            fs::copy(list("crl-ca-kdh.revoked"), list("crl-ca-kdh.der")).unwrap();
            let token = scene.credential_token().await;
            let next = scene.world.certificate("kdh-next.pem");
            assert_eq!(token.certificate(), next.der());
            assert_eq!(token.crl(), fs::read(list("crl-ca-kdh.der")).unwrap());
            // It takes no other KDH by this way.
            let at_the_old_one = states(&[("PRESENT", 0), ("RETIRING", 1)]);
            assert_eq!(scene.kdhs().await, at_the_old_one);
            assert_eq!(reason(scene.request_key(1).await), Some(Reason::NotBound));
            scene.host.stop().await;
        });
    });
}

/// It would be handed over from there to the one that it was taken from, and that it never goes back to.
#[test]
fn no_authority_token_binds_to_a_credential_that_is_on_its_way_out() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let scene = scene.restart("kdh-next.pem", BOTH).await;
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let der = |name: &str| scene.world.certificate(name).der().to_vec();
            let mut asking = AskAuthorityRequest {
                serial_number: "SN-1".to_owned(),
                kdh: der("kdh-next.pem"),
                new_kdh: der("kdh.pem"),
                why: "mixed up".to_owned(),
            };
            let refused = bob.ask_authority(asking.clone()).await;
            assert!(refused.as_ref().unwrap_err().message().contains("retiring"));
            assert_eq!(reason(refused), Some(Reason::RequestInvalid));
            std::mem::swap(&mut asking.kdh, &mut asking.new_kdh);
            bob.ask_authority(asking).await.unwrap();
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_that_asks_for_the_list_waits_for_its_kdh() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", NEW_ALONE).await;
            scene.credential().await;
            assert_eq!(scene.kdhs().await, states(&[("PRESENT", 0), ("ABSENT", 1)]));
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            let order = scene.list().await.unwrap().order;
            assert_eq!(order.unwrap().kind(), Kind::Rebind);
            scene.host.stop().await;
        });
    });
}

/// The token that unbinds it may not have arrived: it takes the KDH that it is bound to, or any.
#[test]
fn a_terminal_that_may_still_be_bound_gets_its_own_kdh() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            scene.order_unbind().await.unwrap();
            scene.request_unbind(1).await.unwrap();
            assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));
            let old = scene.world.certificate("kdh.pem");
            assert!(scene.credential().await == old.der());
            let token = scene.request_unbind(2).await.unwrap();
            let read = KdhUnbindToken::parse(PROFILE, &token).unwrap();
            scene.verify(read.signed_by(), "kdh.pem");
            scene.acknowledge(&scene.statement(&token)).await.unwrap();
            let next = scene.world.certificate("kdh-next.pem");
            assert_eq!(scene.credential().await, next.der());
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_change_of_credential_can_be_taken_back() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let mut scene = scene.restart("kdh-next.pem", BOTH).await;
            let to_next = scene.request_rebind(1).await.unwrap();
            let mut scene = scene.restart("kdh.pem", BACK).await;
            // What the host wanted then is out of date.
            assert!(scene.list().await.unwrap().order.is_none());
            let not_ordered = Some(Reason::NotOrdered);
            assert_eq!(reason(scene.request_rebind(2).await), not_ordered);
            scene.key_token(3).await;

            // The token had arrived, though.
            let said = scene.rebind_statement(&to_next, "kdh-next.pem");
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));
            let at_next = states(&[("PRESENT", 0), ("RETIRING", 1)]);
            assert_eq!(scene.kdhs().await, at_next);
            let back = scene.request_rebind(4).await.unwrap();
            let read = KdhRebindToken::parse(PROFILE, &back).unwrap();
            scene.verify(read.signed_by(), "kdh-next.pem");
            let mut said = scene.rebind_statement(&back, "kdh.pem");
            let next = scene.world.certificate("kdh-next.pem");
            said.previous_kdh = next.issuer_and_serial().unwrap().to_der();
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(
                scene.kdhs().await,
                states(&[("PRESENT", 1), ("RETIRED", 0)])
            );
            let orders =
                "SELECT actor || ' ' || outcome FROM audit WHERE action = 'device.rebind-ordered'";
            let orders: Vec<String> = sqlx::query_scalar(orders)
                .fetch_all(scene.database().await.connection())
                .await
                .unwrap();
            assert_eq!(orders, ["host ok", "host ok"]);
            scene.host.stop().await;
        });
    });
}

#[test]
fn credentials_that_do_not_fit_together_are_named_at_the_start() {
    world::on(&WHOLE, |place: &Place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for (kdh, lines, fault) in [
            (
                "kdh-next.pem",
                "",
                "key kdh-signing is not the key of the certificate",
            ),
            (
                "kdh-next.pem",
                "kdh-key = \"kdh-signing-2\"\n\
                 retiring-kdh = [{ certificate = \"kdh.pem\", key = \"host-tls\" }]\n",
                "host-tls",
            ),
            (
                "kdh-next.pem",
                "kdh-key = \"kdh-signing-2\"\n\
                 retiring-kdh = [{ certificate = \"kdh-two.pem\", key = \"no-such-key\" }]\n",
                "no-such-key",
            ),
        ] {
            world.configure_with_kdh(kdh, lines);
            let error = runtime.block_on(world.host()).err().unwrap().to_string();
            assert!(error.contains(fault), "{error}");
        }
    });
}
