//! Unbinding and rebinding: what operators order, what terminals get for it and say about it, and what the
//! host believes in between.

use std::fs;

use hsm_modules::{Place, SOFTHSM, WHOLE};
use kdh_host::{Clock, SystemClock};
use kdh_proto::{
    BINDING_CONTEXT, RECEIPT_CONTEXT, Reason, ReasonedStatus as _,
    v1::{
        AcknowledgeBindingRequest, Assignment, BindRequest, BindingStatement, CancelOrderRequest,
        ConfirmRequest, DestroyedKey, Device, KeyCheckValue, ListAssignmentsRequest,
        ListAssignmentsResponse, OrderRebindRequest, OrderUnbindRequest, Receipt, ReceiptStatement,
        RequestKeyRequest, RequestRebindRequest, RequestUnbindRequest, ShowDeviceRequest,
        SuspendDeviceRequest, administration_client::AdministrationClient, binding_order::Kind,
        key_check_value::Method,
    },
};
use pki::Certificate;
use private_postgres::Postgres;
use sha2::{Digest as _, Sha256};
use tonic::{Status, transport::Channel};
use tr34::{
    IssuerAndSerial, KdhRebindToken, KdhUnbindToken, KrdCredentialToken, KrdNonce, Profile,
    RandomToken, SignerPart,
};

use crate::{
    credential::Jumping,
    database::Database,
    forger::{forge, put_back},
    world::{self, Bound, MASTER_KEY_KCV, Running, World, assign_master_key},
};

const SERIAL: &str = "SN-1";
const PROFILE: Profile = Profile::X9_2019;

/// A host with one terminal, `SN-1`, that is bound and holds a key.
pub(crate) struct Scene<'w> {
    pub(crate) world: &'w World<'w>,
    pub(crate) host: Running,
    pub(crate) operator: AdministrationClient<Channel>,
    pub(crate) terminal: Bound,
}

/// Plays a scene.
pub(crate) fn play(place: &Place, scene: impl AsyncFnOnce(Scene<'_>)) {
    play_by(place, SystemClock, scene);
}

/// Plays a scene by another clock than the system's.
pub(crate) fn play_by(
    place: &Place,
    clock: impl Clock + 'static,
    scene: impl AsyncFnOnce(Scene<'_>),
) {
    let world = World::new(place.folder());
    world.configure("key-strength = \"warn\"\n");
    play_in(&world, clock, scene);
}

/// Plays a scene with a database of PostgreSQL's.
pub(crate) fn play_with_postgres(place: &Place, scene: impl AsyncFnOnce(Scene<'_>)) {
    let world = World::new(place.folder());
    world.configure("key-strength = \"warn\"\n");
    world.use_postgres();
    play_in(&world, SystemClock, scene);
}

fn play_in(world: &World<'_>, clock: impl Clock + 'static, scene: impl AsyncFnOnce(Scene<'_>)) {
    world.play(async |world| {
        let host = world.serve_by(clock).await;
        let mut operator = world.operator(&host).await;
        let terminal = world.bound(&host, &mut operator, SERIAL).await;
        assign_master_key(&mut operator, SERIAL).await;
        let mut played = Scene {
            world,
            host,
            operator,
            terminal,
        };
        played.load_key(0).await;
        scene(played).await;
    });
}

fn rt_krd(nonce: u8) -> Vec<u8> {
    RandomToken::new(KrdNonce::from_bytes([nonce; 16])).to_der()
}

pub(crate) fn reason<T>(outcome: Result<T, Status>) -> Option<Reason> {
    outcome.err().and_then(|status| status.reason())
}

impl Scene<'_> {
    async fn load_key(&mut self, nonce: u8) {
        let request = RequestKeyRequest {
            slot: "tmk".to_owned(),
            rt_krd: rt_krd(nonce),
        };
        let issued = self.terminal.client.request_key(request).await.unwrap();
        let receipt = self.receipt_for_key(&issued.into_inner());
        let confirm = ConfirmRequest {
            receipt: Some(receipt),
        };
        self.terminal.client.confirm(confirm).await.unwrap();
    }

    fn receipt_for_key(&self, issued: &kdh_proto::v1::RequestKeyResponse) -> Receipt {
        let statement = ReceiptStatement {
            context: RECEIPT_CONTEXT.to_owned(),
            serial_number: SERIAL.to_owned(),
            delivery_id: issued.delivery_id.clone(),
            slot: "tmk".to_owned(),
            key_version: issued.key_version,
            header: "D0000K0AB00E0000".to_owned(),
            kcv: Some(KeyCheckValue {
                method: Method::AesCmac.into(),
                value: MASTER_KEY_KCV.to_vec(),
            }),
            kt_kdh_sha256: Sha256::digest(&issued.kt_kdh).to_vec(),
        };
        self.world.receipt(SERIAL, &statement)
    }

    pub(crate) async fn order_unbind(&mut self) -> Result<Device, Status> {
        let order = OrderUnbindRequest {
            serial_number: SERIAL.to_owned(),
            why: "repair".to_owned(),
        };
        Ok(self.operator.order_unbind(order).await?.into_inner())
    }

    pub(crate) async fn order_rebind(&mut self, to: &str) -> Result<Device, Status> {
        let order = OrderRebindRequest {
            serial_number: SERIAL.to_owned(),
            new_kdh: self.world.certificate(to).der().to_vec(),
            why: "sold".to_owned(),
        };
        Ok(self.operator.order_rebind(order).await?.into_inner())
    }

    async fn cancel(&mut self) -> Result<Device, Status> {
        let cancel = CancelOrderRequest {
            serial_number: SERIAL.to_owned(),
        };
        Ok(self.operator.cancel_order(cancel).await?.into_inner())
    }

    pub(crate) async fn request_unbind(&mut self, nonce: u8) -> Result<Vec<u8>, Status> {
        let request = RequestUnbindRequest {
            rt_krd: rt_krd(nonce),
        };
        let answer = self.terminal.client.request_unbind(request).await?;
        Ok(answer.into_inner().ubt_kdh)
    }

    pub(crate) async fn request_rebind(&mut self, nonce: u8) -> Result<Vec<u8>, Status> {
        let request = RequestRebindRequest {
            rt_krd: rt_krd(nonce),
        };
        let answer = self.terminal.client.request_rebind(request).await?;
        Ok(answer.into_inner().rbt_kdh)
    }

    pub(crate) async fn request_key(&mut self, nonce: u8) -> Result<(), Status> {
        let request = RequestKeyRequest {
            slot: "tmk".to_owned(),
            rt_krd: rt_krd(nonce),
        };
        self.terminal.client.request_key(request).await.map(drop)
    }

    pub(crate) async fn list(&mut self) -> Result<ListAssignmentsResponse, Status> {
        let list = ListAssignmentsRequest {};
        let listed = self.terminal.client.list_assignments(list).await?;
        Ok(listed.into_inner())
    }

    pub(crate) async fn bind(&mut self) -> Result<(), Status> {
        let bind = BindRequest {
            ct_krd: self.terminal.enrolled.ct_krd.clone(),
        };
        self.terminal.client.bind(bind).await.map(drop)
    }

    /// State, and what became of the keys.
    pub(crate) async fn device(&mut self) -> (String, String) {
        let show = ShowDeviceRequest {
            serial_number: SERIAL.to_owned(),
        };
        let shown = self.operator.show_device(show).await.unwrap();
        let device = shown.into_inner().device.unwrap();
        (device.state, device.keys)
    }

    /// What the terminal says about a token of the KDH `kdh.pem`.
    pub(crate) fn statement(&self, token: &[u8]) -> BindingStatement {
        BindingStatement {
            context: BINDING_CONTEXT.to_owned(),
            serial_number: SERIAL.to_owned(),
            token_sha256: Sha256::digest(token).to_vec(),
            previous_kdh: id_of(&self.world.certificate("kdh.pem")).to_der(),
            kdh: Vec::new(),
            destroyed_keys: vec![DestroyedKey {
                slot: "tmk".to_owned(),
                key_version: 1,
            }],
        }
    }

    /// What it says when it has gone over to the KDH of a file.
    pub(crate) fn rebind_statement(&self, token: &[u8], to: &str) -> BindingStatement {
        BindingStatement {
            kdh: id_of(&self.world.certificate(to)).to_der(),
            destroyed_keys: Vec::new(),
            ..self.statement(token)
        }
    }

    pub(crate) async fn acknowledge(&mut self, statement: &BindingStatement) -> Result<(), Status> {
        let receipt = self.world.receipt(SERIAL, statement);
        self.acknowledge_by(receipt).await
    }

    async fn acknowledge_by(&mut self, receipt: Receipt) -> Result<(), Status> {
        let acknowledge = AcknowledgeBindingRequest {
            receipt: Some(receipt),
        };
        let answer = self.terminal.client.acknowledge_binding(acknowledge);
        answer.await.map(drop)
    }

    /// What a question about the audit trail is answered, row by row.
    pub(crate) async fn answers(&self, question: &'static str) -> Vec<String> {
        if let Some(database) = self.world.postgres() {
            let answer = Postgres::shared().sql(database, question).unwrap();
            return answer.lines().map(ToOwned::to_owned).collect();
        }
        self.database().await.column(question).await
    }

    pub(crate) async fn database(&self) -> Database {
        Database::open(self.world).await
    }

    /// The actions on record about the binding, with their outcomes.
    async fn recorded(&self) -> Vec<String> {
        self.database()
            .await
            .column(
                "SELECT action || ' ' || outcome FROM audit WHERE action LIKE 'binding.%' OR
                 action LIKE 'device.%-ordered' OR action LIKE 'device.order-%' ORDER BY sequence",
            )
            .await
    }

    /// How tokens name the terminal.
    pub(crate) fn krd(&self) -> IssuerAndSerial {
        let token = KrdCredentialToken::parse(PROFILE, &self.terminal.enrolled.ct_krd).unwrap();
        IssuerAndSerial::of_certificate(token.certificate()).unwrap()
    }

    /// Whether the certificate of a file signed a token.
    pub(crate) fn verify(&self, by: &SignerPart, signer: &str) {
        let certificate = self.world.certificate(signer);
        assert_eq!(by.signer(), &id_of(&certificate));
        let key = certificate.public_key();
        key.verify(by.signed_bytes(), by.signature()).unwrap();
    }
}

fn id_of(certificate: &Certificate) -> IssuerAndSerial {
    certificate.issuer_and_serial().unwrap()
}

pub(crate) fn of(state: &str, keys: &str) -> (String, String) {
    (state.to_owned(), keys.to_owned())
}

fn confirmed(listed: &ListAssignmentsResponse) -> Vec<bool> {
    let confirmed = |assignment: &Assignment| assignment.confirmed;
    listed.assignments.iter().map(confirmed).collect()
}

#[test]
fn a_terminal_is_unbound_and_lives_again_without_its_keys() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            assert_eq!(confirmed(&scene.list().await.unwrap()), [true]);
            scene.order_unbind().await.unwrap();
            let listed = scene.list().await.unwrap();
            assert_eq!(listed.order.unwrap().kind(), Kind::Unbind);
            assert_eq!(listed.assignments.len(), 1, "it may still go on");
            assert_eq!(scene.device().await, of("BOUND", ""));

            let token = scene.request_unbind(1).await.unwrap();
            let read = KdhUnbindToken::parse(PROFILE, &token).unwrap();
            scene.verify(read.signed_by(), "kdh.pem");
            assert_eq!(read.krd(), &scene.krd());
            assert_eq!(read.nonce(), &KrdNonce::from_bytes([1; 16]));
            let crl = fs::read(scene.world.path("crl-ca-kdh.der")).unwrap();
            assert_eq!(read.crl(), Some(&crl[..]));
            assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));

            // Nothing is delivered any more; but the answer may have been lost.
            let nothing = Some(Reason::NotBound);
            assert_eq!(reason(scene.request_key(2).await), nothing);
            let listed = scene.list().await.unwrap();
            assert!(listed.assignments.is_empty() && listed.order.is_some());
            let again = scene.request_unbind(3).await.unwrap();
            assert_ne!(again, token);

            scene.acknowledge(&scene.statement(&again)).await.unwrap();
            assert_eq!(scene.device().await, of("UNBOUND", "DESTROYED"));
            assert_eq!(reason(scene.list().await), nothing);
            let not_ordered = Some(Reason::NotOrdered);
            assert_eq!(reason(scene.request_unbind(4).await), not_ordered);

            scene.bind().await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));
            let listed = scene.list().await.unwrap();
            assert_eq!(confirmed(&listed), [false], "its key was destroyed");
            assert!(listed.order.is_none());
            scene.load_key(5).await;
            assert_eq!(confirmed(&scene.list().await.unwrap()), [true]);

            let expected = [
                "device.unbind-ordered ok",
                "binding.intent ok",
                "binding.issued ok",
                "binding.intent ok",
                "binding.issued ok",
                "binding.acknowledged ok",
                "binding.request NOT_ORDERED",
            ];
            assert_eq!(scene.recorded().await, expected);
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_is_handed_over_to_another_host() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_rebind("kdh-two.pem").await.unwrap();
            let order = scene.list().await.unwrap().order;
            assert_eq!(order.unwrap().kind(), Kind::Rebind);
            let other_kind = scene.request_unbind(1).await;
            assert_eq!(reason(other_kind), Some(Reason::NotOrdered));

            let token = scene.request_rebind(1).await.unwrap();
            let read = KdhRebindToken::parse(PROFILE, &token).unwrap();
            scene.verify(read.signed_by(), "kdh.pem");
            assert_eq!(read.krd(), &scene.krd());
            let two = scene.world.certificate("kdh-two.pem");
            assert_eq!(read.new_kdh_certificate(), two.der());
            assert_eq!(scene.device().await, of("REBOUND", "HANDED_OVER"));
            assert_eq!(reason(scene.request_key(2).await), Some(Reason::NotBound));

            let said = scene.rebind_statement(&token, "kdh-two.pem");
            scene.acknowledge(&said).await.unwrap();
            assert_eq!(scene.device().await, of("REBOUND", "HANDED_OVER"));
            assert_eq!(reason(scene.list().await), Some(Reason::NotBound));

            // Back one day, it holds what the other host gave it.
            scene.bind().await.unwrap();
            assert_eq!(confirmed(&scene.list().await.unwrap()), [false]);
            scene.host.stop().await;
        });
    });
}

#[test]
fn an_order_that_cannot_be_obeyed_is_not_given() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let world = scene.world;
            world.added(&mut scene.operator, "SN-2").await;
            let unbind = |serial: &str, why: &str| OrderUnbindRequest {
                serial_number: serial.to_owned(),
                why: why.to_owned(),
            };
            let long = "x".repeat(201);
            for (serial, why, expected) in [
                ("SN-9", "repair", Reason::NotFound),
                ("SN-2", "repair", Reason::WrongState),
                ("sn 1", "repair", Reason::RequestInvalid),
                ("", "repair", Reason::RequestInvalid),
                (SERIAL, "", Reason::RequestInvalid),
                (SERIAL, "a\nb", Reason::RequestInvalid),
                (SERIAL, &long, Reason::RequestInvalid),
            ] {
                let refused = scene.operator.order_unbind(unbind(serial, why)).await;
                assert_eq!(reason(refused), Some(expected), "{serial:?} {why:?}");
            }
            for file in [
                "kdh.pem",
                "kdh-listed.pem",
                "kdh-expired.pem",
                "kdh-foreign.pem",
                "krd-by-ca-kdh.pem",
                "ca-kdh.pem",
                "host-tls.pem",
            ] {
                let refused = scene.order_rebind(file).await;
                assert_eq!(reason(refused), Some(Reason::RequestInvalid), "{file}");
            }
            for new_kdh in [&[][..], b"x", &vec![0x30; 40_000]] {
                let order = OrderRebindRequest {
                    serial_number: SERIAL.to_owned(),
                    new_kdh: new_kdh.to_vec(),
                    why: "sold".to_owned(),
                };
                let refused = scene.operator.order_rebind(order).await;
                assert_eq!(reason(refused), Some(Reason::RequestInvalid));
            }
            let [mut bob, _] = world.recoverers(&scene.host).await;
            let refused = bob.order_unbind(unbind(SERIAL, "repair")).await;
            assert_eq!(reason(refused), Some(Reason::RoleMissing));
            assert_eq!(reason(scene.cancel().await), Some(Reason::NotFound));
            assert!(scene.list().await.unwrap().order.is_none());

            scene.order_unbind().await.unwrap();
            let taken = Some(Reason::AlreadyExists);
            assert_eq!(reason(scene.order_unbind().await), taken);
            assert_eq!(reason(scene.order_rebind("kdh-two.pem").await), taken);
            let cancel = CancelOrderRequest {
                serial_number: SERIAL.to_owned(),
            };
            let refused = bob.cancel_order(cancel).await;
            assert_eq!(reason(refused), Some(Reason::RoleMissing));
            scene.cancel().await.unwrap();
            scene.order_rebind("kdh-two.pem").await.unwrap();
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_request_that_is_not_due_gets_no_token() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let not_ordered = Some(Reason::NotOrdered);
            assert_eq!(reason(scene.request_unbind(1).await), not_ordered);
            assert_eq!(reason(scene.request_rebind(1).await), not_ordered);
            scene.order_unbind().await.unwrap();
            let good = rt_krd(1);
            let long = [&good[..], &[0]].concat();
            for (case, rt_krd, expected) in [
                ("nothing", &[][..], Reason::TokenMalformed),
                ("something else", b"nonce", Reason::TokenMalformed),
                ("cut off", &good[..good.len() - 1], Reason::TokenMalformed),
                ("trailing bytes", &long, Reason::TokenMalformed),
            ] {
                let rt_krd = rt_krd.to_vec();
                let request = RequestUnbindRequest { rt_krd };
                let refused = scene.terminal.client.request_unbind(request).await;
                assert_eq!(reason(refused), Some(expected), "{case}");
            }
            // The nonce of a key.
            let used = scene.request_unbind(0).await;
            assert_eq!(reason(used), Some(Reason::NonceReused));
            let mut stranger = scene.world.terminal(&scene.host).await;
            let nobody = Some(Reason::IdentityMismatch);
            let rt_krd = good.clone();
            let unbind = stranger.request_unbind(RequestUnbindRequest { rt_krd });
            assert_eq!(reason(unbind.await), nobody);
            let rebind = stranger.request_rebind(RequestRebindRequest { rt_krd: good });
            assert_eq!(reason(rebind.await), nobody);
            let word = stranger.acknowledge_binding(AcknowledgeBindingRequest::default());
            assert_eq!(reason(word.await), nobody);
            assert_eq!(scene.device().await, of("BOUND", ""));

            scene.cancel().await.unwrap();
            assert_eq!(reason(scene.request_unbind(1).await), not_ordered);
            scene.order_unbind().await.unwrap();
            let suspend = SuspendDeviceRequest {
                serial_number: SERIAL.to_owned(),
                why: "lost".to_owned(),
            };
            scene.operator.suspend_device(suspend).await.unwrap();
            let refused = scene.request_unbind(1).await;
            assert_eq!(reason(refused), Some(Reason::DeviceSuspended));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_host_that_was_revoked_since_gets_no_terminal() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_rebind("kdh-two.pem").await.unwrap();
            let list = |name: &str| scene.world.path(name);
            fs::copy(list("crl-ca-kdh.other-revoked"), list("crl-ca-kdh.der")).unwrap();
            let refused = scene.request_rebind(1).await;
            assert_eq!(reason(refused), Some(Reason::NotOrdered));
            assert_eq!(scene.device().await, of("BOUND", ""));
            // Its nonce was given back, and the operator can order something else.
            scene.cancel().await.unwrap();
            scene.order_rebind("kdh-three.pem").await.unwrap();
            scene.request_rebind(1).await.unwrap();
            let expected = [
                "device.rebind-ordered ok",
                "binding.intent ok",
                "binding.abandoned NOT_ORDERED",
                "device.order-cancelled ok",
                "device.rebind-ordered ok",
                "binding.intent ok",
                "binding.issued ok",
            ];
            assert_eq!(scene.recorded().await, expected);
            scene.host.stop().await;
        });
    });
}

/// An order to go over to another KDH, which somebody has written into the database.
const FORGED: &str = "INSERT INTO binding_orders
    (device, kind, new_kdh, state, ordered_by, why, created_at, changed_at)
    VALUES ('SN-1', 'REBIND', $1, 'OPEN', $2, 'sold', '2026', '2026')";

#[test]
fn an_order_that_nobody_gave_is_not_obeyed() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let [two, three] =
                ["kdh-two.pem", "kdh-three.pem"].map(|file| scene.world.certificate(file));
            let mut database = scene.database().await;
            for (by, expected) in [("ada", Reason::Internal), ("", Reason::NotOrdered)] {
                let forged = sqlx::query(FORGED).bind(two.der()).bind(by);
                forged.execute(database.connection()).await.unwrap();
                let refused = scene.request_rebind(1).await;
                assert_eq!(reason(refused), Some(expected), "{by:?}");
                let gone = sqlx::query("DELETE FROM binding_orders");
                // A token that was not made refers to it.
                let abandoned = sqlx::query("DELETE FROM binding_tokens");
                abandoned.execute(database.connection()).await.unwrap();
                gone.execute(database.connection()).await.unwrap();
            }
            scene.order_rebind("kdh-two.pem").await.unwrap();
            let changed = sqlx::query("UPDATE binding_orders SET new_kdh = $1").bind(three.der());
            changed.execute(database.connection()).await.unwrap();
            let refused = scene.request_rebind(2).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            assert_eq!(scene.device().await, of("BOUND", ""));
            let as_it_was = sqlx::query("UPDATE binding_orders SET new_kdh = $1").bind(two.der());
            as_it_was.execute(database.connection()).await.unwrap();
            scene.request_rebind(2).await.unwrap();
            scene.host.stop().await;
        });
    });
}

/// Nor is one that says between two looks that it is the host's own.
#[test]
fn an_order_that_turns_into_the_hosts_own_is_not_obeyed() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut scene| {
            let two = scene.world.certificate("kdh-two.pem");
            let mut database = scene.database().await;
            let turns = "CREATE TRIGGER turns AFTER INSERT ON nonces
                         BEGIN UPDATE binding_orders SET ordered_by = ''; END";
            let stays =
                "CREATE TRIGGER stays BEFORE UPDATE ON binding_orders WHEN NEW.state = 'CANCELLED'
                         BEGIN SELECT RAISE(IGNORE); END";
            for (nonce, tricks, orders, expected) in [
                (1, &[turns][..], &["ada"][..], Reason::NotOrdered),
                (2, &[turns, stays], &["ada"], Reason::Internal),
                (
                    3,
                    &["DROP INDEX one_open_order"],
                    &["", ""],
                    Reason::NotOrdered,
                ),
                (4, &[turns], &["ada", "ada"], Reason::NotOrdered),
            ] {
                for trick in tricks {
                    database.execute(trick).await;
                }
                for by in orders {
                    let forged = sqlx::query(FORGED).bind(two.der()).bind(*by);
                    forged.execute(database.connection()).await.unwrap();
                }
                let refused = scene.request_rebind(nonce).await;
                assert_eq!(reason(refused), Some(expected), "{nonce}");
                assert_eq!(scene.device().await, of("BOUND", ""), "{nonce}");
                for trigger in ["turns", "stays"] {
                    let gone = format!("DROP TRIGGER IF EXISTS {trigger}");
                    database.execute(&gone).await;
                }
                for table in ["binding_tokens", "binding_orders"] {
                    database.execute(&format!("DELETE FROM {table}")).await;
                }
            }
            scene.host.stop().await;
        });
    });
}

/// Whoever writes to the database orders nothing, and brings no order back.
#[test]
fn an_order_that_is_forged_in_the_trail_or_put_back_is_not_obeyed() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut scene| {
            let mut database = scene.database().await;
            let forged = "INSERT INTO binding_orders
                (number, device, kind, new_kdh, state, ordered_by, why, created_at, changed_at)
                VALUES (7, 'SN-1', 'UNBIND', NULL, 'OPEN', 'ada', 'mine', '2026', '2026')";
            database.edit(forged).await;
            forge(&mut database, "device.unbind-ordered", |record| {
                "operator:ada".clone_into(&mut record.actor);
                "device.unbind-ordered".clone_into(&mut record.action);
                SERIAL.clone_into(&mut record.device);
                r#"{"new-kdh":null,"order":7,"why":"mine"}"#.clone_into(&mut record.detail);
            })
            .await;
            let refused = scene.request_unbind(1).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            put_back(&mut database).await;
            for table in ["binding_tokens", "binding_orders"] {
                database.edit(&format!("DELETE FROM {table}")).await;
            }

            let open = "UPDATE binding_orders SET state = 'OPEN'";
            scene.order_unbind().await.unwrap();
            scene.cancel().await.unwrap();
            database.edit(open).await;
            let refused = scene.request_unbind(2).await;
            assert_eq!(reason(refused), Some(Reason::Internal), "cancelled");
            database.edit("DELETE FROM binding_tokens").await;
            database.edit("DELETE FROM binding_orders").await;
            scene.order_unbind().await.unwrap();
            let token = scene.request_unbind(3).await.unwrap();
            scene.acknowledge(&scene.statement(&token)).await.unwrap();
            scene.bind().await.unwrap();
            database.edit(open).await;
            let refused = scene.request_unbind(4).await;
            assert_eq!(reason(refused), Some(Reason::Internal), "done");
            assert_eq!(scene.device().await, of("BOUND", ""));
            scene.host.stop().await;
        });
    });
}

/// Nor does an order come back whose number was changed when it was cancelled or obeyed, or that was away then.
#[test]
fn an_order_is_over_whatever_number_its_row_had_meanwhile() {
    const OPEN: &str = "UPDATE binding_orders SET state = 'OPEN' WHERE number = 1";
    const RENUMBER: &str = "UPDATE binding_orders SET number = 70 WHERE number = 1";
    const BACK: &str = "UPDATE binding_orders SET number = 1, state = 'OPEN' WHERE number = 70";
    const ANOTHER: &str = "INSERT INTO binding_orders
        SELECT 70, device, kind, new_kdh, 'DONE', ordered_by, why, created_at, changed_at FROM binding_orders";
    const OF_ANOTHER: &str = "UPDATE binding_tokens SET order_number = 70";
    const OF_CA_KRD: &str = "UPDATE binding_tokens SET order_number = NULL, authority = 'none'";
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut scene| {
            let mut database = scene.database().await;
            database.execute("PRAGMA foreign_keys = OFF").await;
            let mut nonces = 1..;
            let mut nonce = || nonces.next().unwrap();
            for case in [
                "cancelled",
                "cancelled while it was hidden",
                "obeyed",
                "obeyed already by its row",
                "replaced",
            ] {
                for table in ["binding_tokens", "binding_orders"] {
                    database.execute(&format!("DELETE FROM {table}")).await;
                }
                scene.order_unbind().await.unwrap();
                match case {
                    "cancelled" => {
                        database.edit(RENUMBER).await;
                        scene.cancel().await.unwrap();
                        database.edit(BACK).await;
                    }
                    "cancelled while it was hidden" => {
                        database
                            .edit("UPDATE binding_orders SET state = 'DONE'")
                            .await;
                        scene.cancel().await.unwrap();
                        let again = scene.cancel().await;
                        assert_eq!(reason(again), Some(Reason::NotFound));
                        database.edit(OPEN).await;
                    }
                    "obeyed already by its row" => {
                        let token = scene.request_unbind(nonce()).await.unwrap();
                        database
                            .edit("UPDATE binding_tokens SET state = 'OBEYED'")
                            .await;
                        let statement = scene.statement(&token);
                        for _ in 0..2 {
                            scene.acknowledge(&statement).await.unwrap();
                        }
                        scene.bind().await.unwrap();
                        database.execute(OPEN).await;
                    }
                    "obeyed" => {
                        let token = scene.request_unbind(nonce()).await.unwrap();
                        let statement = scene.statement(&token);
                        // Only what `CA_KRD` has signed was made for no order.
                        database.edit(OF_CA_KRD).await;
                        let refused = scene.acknowledge(&statement).await;
                        assert_eq!(reason(refused), Some(Reason::Internal));
                        database
                            .edit("UPDATE binding_tokens SET authority = NULL")
                            .await;
                        database.edit(ANOTHER).await;
                        database.edit(OF_ANOTHER).await;
                        scene.acknowledge(&statement).await.unwrap();
                        scene.bind().await.unwrap();
                        database.execute(OPEN).await;
                    }
                    _ => {
                        database.keep("binding_orders", "kept").await;
                        database.edit("DELETE FROM binding_orders").await;
                        database.edit("INSERT INTO binding_orders SELECT 90, device, kind, new_kdh, 'DONE',
                            ordered_by, why, created_at, changed_at FROM kept").await;
                        scene.order_unbind().await.unwrap();
                        let token = scene.request_unbind(nonce()).await.unwrap();
                        scene.acknowledge(&scene.statement(&token)).await.unwrap();
                        scene.bind().await.unwrap();
                        database.put_back("binding_orders", "kept").await;
                    }
                }
                let refused = scene.request_unbind(nonce()).await;
                assert_eq!(reason(refused), Some(Reason::Internal), "{case}");
                assert_eq!(scene.device().await, of("BOUND", ""), "{case}");
            }
            scene.host.stop().await;
        });
    });
}

/// Nor is it left open by the rows when the device has obeyed an earlier one.
#[test]
fn an_order_that_was_given_when_an_earlier_one_was_obeyed_is_given_anew() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut scene| {
            scene.order_unbind().await.unwrap();
            let token = scene.request_unbind(1).await.unwrap();
            scene.cancel().await.unwrap();
            scene.bind().await.unwrap();
            scene.order_rebind("kdh-two.pem").await.unwrap();
            scene.acknowledge(&scene.statement(&token)).await.unwrap();
            let newest = "SELECT action || ' ' || actor || ' ' || detail FROM audit ORDER BY sequence DESC LIMIT 1";
            assert_eq!(
                scene.answers(newest).await,
                [r#"device.order-cancelled host {"kind":"REBIND","order":2}"#]
            );
            scene.bind().await.unwrap();
            let refused = scene.request_rebind(2).await;
            assert_eq!(reason(refused), Some(Reason::NotOrdered));
            scene.order_rebind("kdh-two.pem").await.unwrap();
            scene.request_rebind(3).await.unwrap();
            scene.host.stop().await;
        });
    });
}

#[test]
fn an_order_that_was_cancelled_too_late_may_be_obeyed() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_unbind().await.unwrap();
            let token = scene.request_unbind(1).await.unwrap();
            let cancelled = scene.cancel().await.unwrap();
            assert_eq!(cancelled.state, "UNBOUND");
            assert_eq!(reason(scene.list().await), Some(Reason::NotBound));
            // It has not, and has bound again; or so it looked.
            scene.bind().await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));
            assert_eq!(confirmed(&scene.list().await.unwrap()), [false]);
            scene.acknowledge(&scene.statement(&token)).await.unwrap();
            assert_eq!(scene.device().await, of("UNBOUND", "DESTROYED"));
            scene.host.stop().await;
        });
    });
}

#[test]
fn an_acknowledgement_that_does_not_fit_changes_nothing() {
    type Spoil = fn(&mut BindingStatement);
    let cases: [(&str, Reason, Spoil); 12] = [
        ("no context", Reason::ReceiptInvalid, |it| {
            it.context.clear();
        }),
        ("another context", Reason::ReceiptInvalid, |it| {
            it.context = RECEIPT_CONTEXT.to_owned();
        }),
        ("another device", Reason::ReceiptInvalid, |it| {
            it.serial_number = "SN-2".to_owned();
        }),
        ("no token", Reason::TokenUnknown, |it| {
            it.token_sha256.clear();
        }),
        ("an unknown token", Reason::TokenUnknown, |it| {
            it.token_sha256[0] ^= 1;
        }),
        ("no KDH", Reason::ReceiptInvalid, |it| {
            it.previous_kdh.clear();
        }),
        ("another KDH", Reason::ReceiptInvalid, |it| {
            *it.previous_kdh.last_mut().unwrap() ^= 1;
        }),
        ("bound to somebody", Reason::ReceiptInvalid, |it| {
            it.kdh = it.previous_kdh.clone();
        }),
        ("a key in no slot", Reason::ReceiptInvalid, |it| {
            it.destroyed_keys[0].slot.clear();
        }),
        (
            "a key in an impossible slot",
            Reason::ReceiptInvalid,
            |it| {
                it.destroyed_keys[0].slot = "TMK".to_owned();
            },
        ),
        (
            "a bad key behind a good one",
            Reason::ReceiptInvalid,
            |it| {
                it.destroyed_keys.push(DestroyedKey::default());
            },
        ),
        (
            "more keys than there are slots",
            Reason::ReceiptInvalid,
            |it| {
                it.destroyed_keys = vec![it.destroyed_keys[0].clone(); 257];
            },
        ),
    ];
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_unbind().await.unwrap();
            let token = scene.request_unbind(1).await.unwrap();
            let good = scene.statement(&token);
            for (case, expected, spoil) in cases {
                let mut statement = good.clone();
                spoil(&mut statement);
                let refused = scene.acknowledge(&statement).await;
                assert_eq!(reason(refused), Some(expected), "{case}");
            }
            assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));
            assert!(scene.list().await.unwrap().order.is_some());

            for _ in 0..2 {
                scene.acknowledge(&good).await.unwrap();
                assert_eq!(scene.device().await, of("UNBOUND", "DESTROYED"));
            }
            let recorded = scene.recorded().await;
            let acknowledged = |record: &&String| *record == "binding.acknowledged ok";
            assert_eq!(recorded.iter().filter(acknowledged).count(), 1);
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_speaks_for_itself_alone() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_unbind().await.unwrap();
            let token = scene.request_unbind(1).await.unwrap();
            let good = scene.statement(&token);
            let signed = scene.world.receipt(SERIAL, &good);
            let invalid = Some(Reason::ReceiptInvalid);
            for (case, receipt) in [
                ("nothing", Receipt::default()),
                (
                    "no signature",
                    Receipt {
                        signature: Vec::new(),
                        ..signed.clone()
                    },
                ),
                (
                    "another statement",
                    Receipt {
                        statement: [&signed.statement[..], &[0x08, 0x01]].concat(),
                        ..signed.clone()
                    },
                ),
                (
                    "no statement",
                    Receipt {
                        statement: b"obeyed".to_vec(),
                        ..signed
                    },
                ),
            ] {
                assert_eq!(
                    reason(scene.acknowledge_by(receipt).await),
                    invalid,
                    "{case}"
                );
            }
            // Another terminal's word, and key, count for nothing here.
            let other = scene.world.bound(&scene.host, &mut scene.operator, "SN-2");
            let mut other = other.await;
            let theirs = BindingStatement {
                serial_number: "SN-2".to_owned(),
                ..good.clone()
            };
            let theirs = AcknowledgeBindingRequest {
                receipt: Some(scene.world.receipt("SN-2", &theirs)),
            };
            let refused = other.client.acknowledge_binding(theirs).await;
            assert_eq!(reason(refused), Some(Reason::TokenUnknown));
            let forged = scene.world.receipt("SN-2", &good);
            assert_eq!(reason(scene.acknowledge_by(forged).await), invalid);

            assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_rebinding_is_acknowledged_with_the_host_that_takes_over_and_with_no_keys() {
    type Spoil = fn(&mut BindingStatement);
    let cases: [(&str, Spoil); 4] = [
        ("unbound", |it| it.kdh.clear()),
        ("where it was", |it| it.kdh = it.previous_kdh.clone()),
        ("from there to here", |it| {
            std::mem::swap(&mut it.kdh, &mut it.previous_kdh);
        }),
        ("without its keys", |it| {
            it.destroyed_keys.push(DestroyedKey {
                slot: "tmk".to_owned(),
                key_version: 1,
            });
        }),
    ];
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_rebind("kdh-two.pem").await.unwrap();
            let token = scene.request_rebind(1).await.unwrap();
            let good = scene.rebind_statement(&token, "kdh-two.pem");
            for (case, spoil) in cases {
                let mut statement = good.clone();
                spoil(&mut statement);
                let refused = scene.acknowledge(&statement).await;
                assert_eq!(reason(refused), Some(Reason::ReceiptInvalid), "{case}");
            }
            let elsewhere = scene.rebind_statement(&token, "kdh-three.pem");
            let refused = scene.acknowledge(&elsewhere).await;
            assert_eq!(reason(refused), Some(Reason::ReceiptInvalid));
            assert!(scene.list().await.unwrap().order.is_some());
            scene.acknowledge(&good).await.unwrap();
            assert_eq!(reason(scene.list().await), Some(Reason::NotBound));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_token_that_is_withheld_ends_no_binding() {
    let clock = Jumping::never();
    world::on(&WHOLE, |place| {
        play_by(place, clock.clone(), async |mut scene| {
            let mut nonces = 1..;
            let mut nonce = || nonces.next().unwrap();
            // The host has other things to look at the clock for, now and then.
            let mut looks = usize::MAX;
            for _ in 0..3 {
                scene.order_unbind().await.unwrap();
                let before = clock.asked();
                let token = scene.request_unbind(nonce()).await.unwrap();
                looks = looks.min(clock.asked() - before);
                scene.acknowledge(&scene.statement(&token)).await.unwrap();
                scene.bind().await.unwrap();
            }
            scene.order_unbind().await.unwrap();
            for look in 1..=looks {
                clock.jump_at(clock.asked() + look);
                let refused = scene.request_unbind(nonce()).await;
                clock.jump_at(usize::MAX);
                let expected = Some(Reason::CredentialRejected);
                assert_eq!(reason(refused), expected, "{look} of {looks}");
                assert_eq!(scene.device().await, of("BOUND", ""), "{look} of {looks}");
            }
            let withheld = "binding.withheld CREDENTIAL_REJECTED".to_owned();
            assert!(scene.recorded().await.contains(&withheld));
            scene.request_unbind(nonce()).await.unwrap();
            assert_eq!(scene.device().await, of("UNBOUND", "ASSUMED_DESTROYED"));
            scene.host.stop().await;
        });
    });
}

#[test]
fn an_enrolment_ends_a_binding_and_no_order() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            scene.order_unbind().await.unwrap();
            scene.request_unbind(1).await.unwrap();
            let code = kdh_proto::v1::IssueActivationCodeRequest {
                serial_number: SERIAL.to_owned(),
            };
            let code = scene.operator.issue_activation_code(code).await.unwrap();
            // Other keys, which lie under another name in the terminals' token.
            let mut enrollment = scene.world.enrollment("SN-2", &code.into_inner().code);
            enrollment.serial_number = SERIAL.to_owned();
            let mut stranger = scene.world.terminal(&scene.host).await;
            stranger.enroll(enrollment).await.unwrap();
            assert_eq!(scene.device().await, of("ENROLLED", "ASSUMED_DESTROYED"));
            let open = "SELECT count(*) FROM binding_orders WHERE state = 'OPEN'";
            let open: i64 = sqlx::query_scalar(open)
                .fetch_one(scene.database().await.connection())
                .await
                .unwrap();
            assert_eq!(open, 1);
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_host_that_did_not_know_bindings_learns_them_when_it_starts() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let mut database = scene.database().await;
            sqlx::query("UPDATE devices SET bound_kdh = NULL")
                .execute(database.connection())
                .await
                .unwrap();
            let world = scene.world;
            scene.host.stop().await;
            scene.host = world.serve().await;
            let kdh: Vec<u8> = sqlx::query_scalar("SELECT bound_kdh FROM devices")
                .fetch_one(database.connection())
                .await
                .unwrap();
            let own = id_of(&world.certificate("kdh.pem")).to_der();
            assert_eq!(kdh, own);
            scene.host.stop().await;
        });
    });
}
