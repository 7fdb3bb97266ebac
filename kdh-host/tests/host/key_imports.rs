//! Keys that arrived encrypted: who asks, who approves, and that it is the key that was announced.

use hsm::{Kcv, KcvMethod, KeyName, KeyWrap, SumId, Token, WrappedKey};
use hsm_modules::{KRYOPTIC, SOFTHSM, WHOLE, makers::key_wrap};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        ApproveKeyImportRequest, AskKeyImportRequest, AssignKeyRequest, KeyCheckValue, KeyImport,
        ListKeyImportsRequest, ListKeysRequest, RegisterKeyRequest, RejectKeyImportRequest,
        RequestKeyRequest, WrappedKey as WrappedKeyMessage,
        administration_client::AdministrationClient,
        key_check_value::Method,
        wrapped_key::{Form, KeyBlock, OaepHash, UnderTransportKey, UnderZmk},
    },
};
use sha2::{Digest as _, Sha256};
use tonic::{Status, transport::Channel};
use tr34::{KeyKind, KrdNonce, RandomToken};

use crate::{
    bindings::{Scene, play, play_with_postgres, reason},
    credential::Jumping,
    database::Database,
    forger::{forge, put_back},
    world::{self, KEY, MASTER_KEY_KCV, World, ZMK, assign_master_key, open},
};

/// The key that arrives.
const ARRIVED: [u8; 16] = [0x5A; 16];

/// As OpenSSL computes it of [`ARRIVED`].
const ARRIVED_KCV: [u8; 3] = [0xAC, 0x7E, 0xEB];

pub(crate) type Operator = AdministrationClient<Channel>;

fn under_zmk(key: Vec<u8>) -> Form {
    Form::UnderZmk(UnderZmk {
        zmk: ZMK.to_owned(),
        key,
        padded: false,
    })
}

pub(crate) fn asking(form: Form) -> AskKeyImportRequest {
    AskKeyImportRequest {
        name: "arrived".to_owned(),
        kind: "AES-128".to_owned(),
        header: "D0000K0AB00E0000".to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: ARRIVED_KCV.to_vec(),
        }),
        wrapped: Some(WrappedKeyMessage { form: Some(form) }),
        why: "the acquirer's new key".to_owned(),
    }
}

/// Rightly.
pub(crate) fn right() -> AskKeyImportRequest {
    asking(under_zmk(key_wrap(&KEY, &ARRIVED, false)))
}

pub(crate) async fn ask(
    operator: &mut Operator,
    request: AskKeyImportRequest,
) -> Result<KeyImport, Status> {
    Ok(operator.ask_key_import(request).await?.into_inner())
}

pub(crate) async fn approve(operator: &mut Operator, id: &str) -> Result<KeyImport, Status> {
    let approve = ApproveKeyImportRequest { id: id.to_owned() };
    Ok(operator.approve_key_import(approve).await?.into_inner())
}

pub(crate) async fn reject(operator: &mut Operator, id: &str) -> Result<KeyImport, Status> {
    let reject = RejectKeyImportRequest { id: id.to_owned() };
    Ok(operator.reject_key_import(reject).await?.into_inner())
}

pub(crate) async fn states(operator: &mut Operator) -> Vec<String> {
    let list = ListKeyImportsRequest::default();
    let listed = operator.list_key_imports(list).await.unwrap();
    let imports = listed.into_inner().imports.into_iter();
    imports.map(|import| import.state).collect()
}

pub(crate) async fn keys(operator: &mut Operator) -> Vec<String> {
    let listed = operator.list_keys(ListKeysRequest {}).await.unwrap();
    let keys = listed.into_inner().keys.into_iter();
    keys.map(|key| key.hsm_label).collect()
}

/// Has a key token made with the key in the slot `new`.
async fn deliver(scene: &mut Scene<'_>) {
    let assign = AssignKeyRequest {
        serial_number: "SN-1".to_owned(),
        slot: "new".to_owned(),
        key_name: "arrived".to_owned(),
        encryption_key_sha256: String::new(),
    };
    scene.operator.assign_key(assign).await.unwrap();
    let request = RequestKeyRequest {
        slot: "new".to_owned(),
        rt_krd: RandomToken::new(KrdNonce::from_bytes([7; 16])).to_der(),
    };
    let issued = scene.terminal.client.request_key(request).await.unwrap();
    let kcv = issued.into_inner().kcv.unwrap();
    assert_eq!(kcv.value, ARRIVED_KCV);
}

#[test]
fn two_operators_bring_a_key_in_and_terminals_get_it() {
    world::on(&WHOLE, |place| play(place, a_key_is_brought_in));
}

#[test]
fn two_operators_bring_a_key_in_and_terminals_get_it_with_postgresql() {
    world::on(&[&SOFTHSM], |place| {
        play_with_postgres(place, a_key_is_brought_in);
    });
}

async fn a_key_is_brought_in(mut scene: Scene<'_>) {
    let [mut bob, _] = scene.world.recoverers(&scene.host).await;
    let ada = &mut scene.operator.clone();
    let asked = ask(ada, right()).await.unwrap();
    assert_eq!((&*asked.state, &*asked.asked_by), ("ASKED", "ada"));
    assert_eq!((&*asked.form, &*asked.under), ("zmk+key-wrap", ZMK));
    assert_eq!(keys(ada).await, ["kn.test"], "one operator");

    let done = approve(&mut bob, &asked.id).await.unwrap();
    assert_eq!((&*done.state, &*done.decided_by), ("IMPORTED", "bob"));
    assert_eq!(done.sha256, asked.sha256);
    assert_eq!(
        done.sha256,
        hex::encode(Sha256::digest(key_wrap(&KEY, &ARRIVED, false)))
    );
    assert_eq!(keys(ada).await, ["kn.arrived", "kn.test"]);
    deliver(&mut scene).await;

    // What is done is done once.
    let again = Some(Reason::WrongState);
    assert_eq!(reason(approve(&mut bob, &asked.id).await), again);
    assert_eq!(reason(reject(&mut bob, &asked.id).await), again);
    let taken = Some(Reason::AlreadyExists);
    assert_eq!(reason(ask(ada, right()).await), taken);
    let records = "SELECT action || ' ' || actor FROM audit
                WHERE action LIKE 'key-import.%' OR action = 'key.registered' AND detail LIKE '%kn.arrived%'
                ORDER BY sequence";
    let records = scene.answers(records).await;
    let expected = [
        "key-import.asked operator:ada",
        "key-import.approved operator:bob",
        "key-import.done operator:bob",
        "key.registered operator:bob",
    ];
    assert_eq!(records, expected);
    scene.host.stop().await;
}

/// A ceremony that is started again destroys what a note is of: nothing that the host serves.
#[test]
fn no_key_that_is_registered_or_imported_is_one_that_a_killed_ceremony_was_making() {
    world::on(&[&SOFTHSM, &KRYOPTIC], |place| {
        let killed = SumId::new([7; 32], 1);
        let note = |token: &Token, key: &str| {
            let noted = token.note_unfinished(&KeyName::new(key).unwrap(), &killed);
            assert!(noted.unwrap());
        };
        let world = World::with_kdh_token(place.folder(), |kdh| {
            note(kdh, "kn.test");
            note(kdh, "kn.arrived");
        });
        world.configure("key-strength = \"warn\"\n");
        world.play(async |world| {
            let host = world.serve().await;
            let mut ada = world.operator(&host).await;
            let [mut bob, _] = world.recoverers(&host).await;
            world.bound(&host, &mut ada, "SN-1").await;
            assign_master_key(&mut ada, "SN-1").await;
            let asked = ask(&mut ada, right()).await.unwrap();
            approve(&mut bob, &asked.id).await.unwrap();
            host.stop().await;
        });
        assert_eq!(open("kdh").list_records("making.").unwrap(), [""; 0]);
    });
}

const NO_KCV: &str =
    "a key check value of 3 to 5 bytes is needed, with its method: give what the sender announced";
const NOTHING: &str = "there is no wrapped key: send it in one of the forms";
const OTHER_LENGTH: &str = "the wrapped key has 25 bytes, and one of the kind AES-128 has 24: have it sent again, or \
                            correct the kind";

type Spoil = fn(&mut AskKeyImportRequest);

/// What is wrong, and what the operator is told.
static INVALID: [(&str, Spoil, &str); 23] = [
    (
        "no name",
        |it| it.name.clear(),
        "\"\" is no key name: 1 to 64 of a-z, 0-9 and '-'",
    ),
    (
        "a name that is none",
        |it| it.name = "New Key".into(),
        "\"New Key\" is no key name: 1 to 64 of a-z, 0-9 and '-'",
    ),
    (
        "no kind",
        |it| it.kind.clear(),
        "\"\" is no kind of key: name one of TDEA-2KEY, TDEA-3KEY, AES-128, AES-192, AES-256",
    ),
    (
        "an unknown kind",
        |it| it.kind = "AES-512".into(),
        "\"AES-512\" is no kind of key: name one of TDEA-2KEY, TDEA-3KEY, AES-128, AES-192, AES-256",
    ),
    (
        "another kind",
        |it| it.kind = "AES-256".into(),
        "the wrapped key has 24 bytes, and one of the kind AES-256 has 40: have it sent again, or correct the kind",
    ),
    (
        "no header",
        |it| it.header.clear(),
        "key block header has 0 characters, not 16",
    ),
    (
        "a header of another kind",
        |it| it.header = "D0000P0TE00E0000".into(),
        "the announced header says algorithm TDEA, which is not that of a key of the kind AES-128: correct one of them",
    ),
    (
        "a header that forbids it",
        |it| it.header = "D0000K0AB00N0000".into(),
        "the header says that the key is not exportable (N), and a master key is sent to terminals: have it sent with E or S",
    ),
    ("no check value", |it| it.kcv = None, NO_KCV),
    (
        "a short check value",
        |it| it.kcv.as_mut().unwrap().value.truncate(2),
        NO_KCV,
    ),
    (
        "a long check value",
        |it| it.kcv.as_mut().unwrap().value = vec![0; 6],
        NO_KCV,
    ),
    (
        "a check value of no method",
        |it| it.kcv.as_mut().unwrap().method = 0,
        NO_KCV,
    ),
    (
        "no reason",
        |it| it.why.clear(),
        "\"\" is no reason: 1 to 200 printable characters",
    ),
    ("nothing wrapped", |it| it.wrapped = None, NOTHING),
    (
        "no form",
        |it| it.wrapped = Some(WrappedKeyMessage { form: None }),
        NOTHING,
    ),
    (
        "a wrapped key of another length",
        |it| wrap(it, under_zmk(vec![0; 25])),
        OTHER_LENGTH,
    ),
    (
        "no label",
        |it| wrap(it, under("")),
        "\"\" is not a label: 1 to 32 of a-z 0-9 . _ : - are",
    ),
    (
        "a master key for a ZMK",
        |it| wrap(it, under("kn.test")),
        "kn.test is not the label of a ZMK: name one that begins with \"zmk.\"",
    ),
    (
        "no hash",
        |it| {
            let mut sent = under_transport_key();
            sent.oaep_hash = OaepHash::Unspecified.into();
            wrap(it, Form::UnderTransportKey(sent));
        },
        "the hash in RSA-OAEP is not said: it is SHA256 or SHA1",
    ),
    (
        "a key under a transport key of another length",
        |it| {
            let mut sent = under_transport_key();
            sent.key.push(0);
            wrap(it, Form::UnderTransportKey(sent));
        },
        OTHER_LENGTH,
    ),
    (
        "no key block",
        |it| wrap(it, block("kbpk.switch", "D0016K0AB00E0000")),
        "the key block has 16 characters, which is too short for one",
    ),
    (
        "a key block with another header",
        |it| wrap(it, block("kbpk.switch", &BLOCK.replacen("K0", "P0", 1))),
        "the header says P0 of key usage, and K0 was announced: ask the sender which is right",
    ),
    (
        "a ZMK for a key block protection key",
        |it| wrap(it, block(ZMK, BLOCK)),
        "zmk.switch is not the label of a key block protection key: name one that begins with \"kbpk.\"",
    ),
];

#[test]
fn what_cannot_be_a_key_is_not_asked_for() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let ada = &mut scene.operator.clone();
            let mut unlike = Vec::new();
            for (case, spoil, expected) in INVALID {
                let mut request = right();
                spoil(&mut request);
                let refused = ask(ada, request).await.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::RequestInvalid), "{case}");
                if refused.message() != expected {
                    unlike.push(format!("{case}: {}", refused.message()));
                }
            }
            assert!(unlike.is_empty(), "{unlike:#?}");
            let mut taken = right();
            taken.name = "key".to_owned();
            let refused = ask(ada, taken).await.unwrap_err();
            let taken = (
                Some(Reason::AlreadyExists),
                "there is a key key already, kn.test in the HSM: choose another name",
            );
            assert_eq!((refused.reason(), refused.message()), taken);
            assert!(states(ada).await.is_empty());
            scene.host.stop().await;
        });
    });
}

fn wrap(request: &mut AskKeyImportRequest, form: Form) {
    request.wrapped = Some(WrappedKeyMessage { form: Some(form) });
}

fn under(zmk: &str) -> Form {
    Form::UnderZmk(UnderZmk {
        zmk: zmk.to_owned(),
        key: vec![0; 24],
        padded: false,
    })
}

fn under_transport_key() -> UnderTransportKey {
    UnderTransportKey {
        pair: "import-pair".to_owned(),
        transport_key: vec![0; 384],
        oaep_hash: OaepHash::Sha256.into(),
        key: vec![0; 24],
        padded: false,
    }
}

/// As psec made it, under another key than any here.
const BLOCK: &str = "D0112K0AB00E0000C2EEFB4B455B95997E365125A4DE1AA742457F4E\
                     7C97EECE42299CCFAE7C2E70C57356CF82CD474C5270D57F5BDFBD1D";

fn block(protection_key: &str, block: &str) -> Form {
    Form::KeyBlock(KeyBlock {
        protection_key: protection_key.to_owned(),
        block: block.to_owned(),
    })
}

#[test]
fn what_is_not_the_announced_key_is_not_kept_and_stays_open() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            let wrapped = key_wrap(&KEY, &ARRIVED, false);
            let mut tampered = wrapped.clone();
            tampered[0] ^= 1;
            let mut other_kcv = right();
            other_kcv.kcv.as_mut().unwrap().value[0] ^= 1;
            let no_zmk = asking(Form::UnderZmk(UnderZmk {
                zmk: "zmk.none".to_owned(),
                key: wrapped,
                padded: false,
            }));
            let padded = asking(under_zmk(key_wrap(&KEY, &ARRIVED, true)));
            let other_zmk = asking(under_zmk(key_wrap(&[7; 16], &ARRIVED, false)));
            let does_not_open = "the wrapped key does not open under zmk.switch: compare that key's check value with \
                                 the sender, and whether it was wrapped as in RFC 3394";
            for (case, request, expected, message) in [
                (
                    "tampered with",
                    asking(under_zmk(tampered)),
                    Reason::RequestInvalid,
                    does_not_open,
                ),
                (
                    "another ZMK",
                    other_zmk,
                    Reason::RequestInvalid,
                    does_not_open,
                ),
                (
                    "another wrapping",
                    padded,
                    Reason::RequestInvalid,
                    does_not_open,
                ),
                (
                    "another key",
                    other_kcv,
                    Reason::KcvMismatch,
                    "the key does not have the check value AD7EEB",
                ),
                (
                    "no such ZMK",
                    no_zmk,
                    Reason::NotFound,
                    "no key is called zmk.none",
                ),
            ] {
                let asked = ask(ada, request).await.unwrap();
                let refused = approve(&mut bob, &asked.id).await.unwrap_err();
                let expected = (Some(expected), message);
                assert_eq!((refused.reason(), refused.message()), expected, "{case}");
                assert_eq!(keys(ada).await, ["kn.test"], "{case}");
                let open = Some(Reason::AlreadyExists);
                assert_eq!(reason(ask(ada, right()).await), open, "{case}");
                assert_eq!(reject(ada, &asked.id).await.unwrap().state, "REJECTED");
            }
            // None of them has left anything behind under this name.
            let asked = ask(ada, right()).await.unwrap();
            approve(&mut bob, &asked.id).await.unwrap();
            assert_eq!(
                states(ada).await,
                [
                    "IMPORTED", "REJECTED", "REJECTED", "REJECTED", "REJECTED", "REJECTED"
                ]
            );
            scene.host.stop().await;
        });
    });
}

#[test]
fn nobody_approves_alone_or_without_the_role_or_what_is_decided() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let [mut bob, mut cleo] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            let role = Some(Reason::RoleMissing);
            assert_eq!(reason(ask(&mut cleo, right()).await), role);
            let asked = ask(ada, right()).await.unwrap();
            let same = Some(Reason::SameOperator);
            assert_eq!(reason(approve(ada, &asked.id).await), same);
            assert_eq!(reason(approve(&mut cleo, &asked.id).await), role);
            assert_eq!(reason(reject(&mut cleo, &asked.id).await), role);
            let list = ListKeyImportsRequest::default();
            assert_eq!(reason(cleo.list_key_imports(list).await), role);
            for unknown in ["", "0", "x'; --", "ffffffff"] {
                let missing = Some(Reason::NotFound);
                assert_eq!(reason(approve(&mut bob, unknown).await), missing);
                assert_eq!(reason(reject(&mut bob, unknown).await), missing);
            }
            assert_eq!(reject(ada, &asked.id).await.unwrap().state, "REJECTED");
            let decided = Some(Reason::WrongState);
            assert_eq!(reason(approve(&mut bob, &asked.id).await), decided);
            assert_eq!(reason(reject(&mut bob, &asked.id).await), decided);
            scene.host.stop().await;
        });
    });
}

#[test]
fn what_nobody_approved_in_time_is_not_done() {
    world::on(&[&SOFTHSM], |place| {
        let clock = Jumping::never();
        play(place, async |scene| {
            scene.host.stop().await;
            scene
                .world
                .configure("key-strength = \"warn\"\napproval-hours = 24\n");
            let host = scene.world.serve_by(clock.clone()).await;
            let mut ada = scene.world.operator(&host).await;
            let [mut bob, _] = scene.world.recoverers(&host).await;
            let asked = ask(&mut ada, right()).await.unwrap();
            clock.jump_at(0);
            let expired = format!("import {} is EXPIRED", asked.id);
            let expired = (Some(Reason::WrongState), &*expired);
            let refused = approve(&mut bob, &asked.id).await.unwrap_err();
            assert_eq!((refused.reason(), refused.message()), expired);
            let refused = reject(&mut ada, &asked.id).await.unwrap_err();
            assert_eq!((refused.reason(), refused.message()), expired);
            assert_eq!(states(&mut ada).await, ["EXPIRED"]);
            // The name is free again.
            ask(&mut ada, right()).await.unwrap();
            assert_eq!(states(&mut ada).await, ["ASKED", "EXPIRED"]);
            assert_eq!(keys(&mut ada).await, ["kn.test"]);
            host.stop().await;
        });
    });
}

/// As it is when the host was killed between the unwrapping and the commit: the HSM has a key, and the database
/// an approval.
async fn cut_off(world: &World<'_>, id: &str, value: &[u8], kcv: [u8; 3]) {
    bring_in(value, kcv);
    let mut database = Database::open(world).await;
    let approved = "UPDATE key_imports SET state = 'APPROVED', decided_by = 'bob' WHERE id = $1";
    let set = sqlx::query(approved)
        .bind(id)
        .execute(database.connection())
        .await;
    assert_eq!(set.unwrap().rows_affected(), 1);
}

/// Without the host.
fn bring_in(value: &[u8], kcv: [u8; 3]) {
    let import = hsm::KeyImport {
        wrapped: WrappedKey::Zmk {
            zmk: KeyName::new(ZMK).unwrap(),
            key: KeyWrap {
                padded: false,
                bytes: key_wrap(&KEY, value, false),
            },
        },
        kind: KeyKind::Aes128,
        kcv: Kcv::new(KcvMethod::AesCmac, &kcv).unwrap(),
        header: None,
    };
    let name = KeyName::new("kn.arrived").unwrap();
    let token = open("kdh");
    let _key = token.import_key(&import, &name).unwrap();
}

fn other_key() -> String {
    "a key called kn.arrived is in the HSM already: register it, or choose another name".to_owned()
}

#[test]
fn an_import_that_was_cut_off_is_open_again_and_its_key_is_taken_as_it_is() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let ada = &mut scene.operator.clone();
            let asked = ask(ada, right()).await.unwrap();
            scene.host.stop().await;
            cut_off(scene.world, &asked.id, &ARRIVED, ARRIVED_KCV).await;

            let host = scene.world.serve().await;
            let mut scene = Scene {
                operator: scene.world.operator(&host).await,
                host,
                ..scene
            };
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            assert_eq!(states(ada).await, ["ASKED"]);
            assert_eq!(keys(ada).await, ["kn.test"]);
            // It still takes two.
            let same = Some(Reason::SameOperator);
            assert_eq!(reason(approve(ada, &asked.id).await), same);
            let done = approve(&mut bob, &asked.id).await.unwrap();
            assert_eq!(done.state, "IMPORTED");
            assert_eq!(keys(ada).await, ["kn.arrived", "kn.test"]);
            let bound = scene
                .world
                .enrolled(&scene.host, "SN-1", &scene.terminal.enrolled);
            scene.terminal.client = bound.await;
            deliver(&mut scene).await;
            scene.host.stop().await;
        });
    });
}

#[test]
fn what_was_left_of_an_import_that_comes_to_nothing_is_destroyed() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let ada = &mut scene.operator.clone();
            let asked = ask(ada, right()).await.unwrap();
            scene.host.stop().await;
            cut_off(scene.world, &asked.id, &ARRIVED, ARRIVED_KCV).await;
            let host = scene.world.serve().await;
            let mut ada = scene.world.operator(&host).await;
            let [mut bob, _] = scene.world.recoverers(&host).await;
            assert_eq!(reject(&mut ada, &asked.id).await.unwrap().state, "REJECTED");
            // The name is free in the HSM.
            let asked = ask(&mut ada, right()).await.unwrap();
            approve(&mut bob, &asked.id).await.unwrap();
            host.stop().await;
        });
    });
}

/// What an operator has registered since is in use.
#[test]
fn what_was_left_of_an_import_is_not_destroyed_once_it_is_registered() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let ada = &mut scene.operator.clone();
            let asked = ask(ada, right()).await.unwrap();
            scene.host.stop().await;
            cut_off(scene.world, &asked.id, &ARRIVED, ARRIVED_KCV).await;
            let host = scene.world.serve().await;
            let mut ada = scene.world.operator(&host).await;
            let [mut bob, _] = scene.world.recoverers(&host).await;
            let register = RegisterKeyRequest {
                name: "own-name".to_owned(),
                hsm_label: "kn.arrived".to_owned(),
                header: "D0000K0AB00E0000".to_owned(),
                kcv: right().kcv,
            };
            ada.register_key(register).await.unwrap();
            let taken =
                "there is a key own-name already, kn.arrived in the HSM: choose another name";
            let refused = approve(&mut bob, &asked.id).await.unwrap_err();
            assert_eq!(
                (refused.reason(), refused.message()),
                (Some(Reason::AlreadyExists), taken)
            );
            reject(&mut ada, &asked.id).await.unwrap();
            host.stop().await;
            let held = open("kdh").list_keys().unwrap();
            assert!(held.iter().any(|key| key.label == "kn.arrived"));
        });
    });
}

/// What did not open has left no key: the one that a ceremony brought in instead, the announced one, is not its own.
#[test]
fn a_key_that_came_after_a_failed_import_is_neither_taken_nor_destroyed() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            let mut changed = key_wrap(&KEY, &ARRIVED, false);
            changed[0] ^= 1;
            let asked = ask(ada, asking(under_zmk(changed))).await.unwrap();
            let failed = reason(approve(&mut bob, &asked.id).await);
            assert_eq!(failed, Some(Reason::RequestInvalid));
            scene.host.stop().await;

            bring_in(&ARRIVED, ARRIVED_KCV);
            let host = scene.world.serve().await;
            let mut ada = scene.world.operator(&host).await;
            let [mut bob, _] = scene.world.recoverers(&host).await;
            let exists = (Some(Reason::AlreadyExists), other_key());
            let refused = approve(&mut bob, &asked.id).await.unwrap_err();
            assert_eq!((refused.reason(), refused.message().to_owned()), exists);
            reject(&mut ada, &asked.id).await.unwrap();
            host.stop().await;
            let held = open("kdh").list_keys().unwrap();
            assert!(held.iter().any(|key| key.label == "kn.arrived"));
        });
    });
}

/// What somebody else has brought in under the name is left alone, and taken for nothing.
#[test]
fn another_key_of_the_name_in_the_hsm_is_neither_taken_nor_destroyed() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let ada = &mut scene.operator.clone();
            let asked = ask(ada, right()).await.unwrap();
            scene.host.stop().await;
            cut_off(scene.world, &asked.id, &KEY, MASTER_KEY_KCV).await;
            let host = scene.world.serve().await;
            let mut ada = scene.world.operator(&host).await;
            let [mut bob, _] = scene.world.recoverers(&host).await;
            let exists = (Some(Reason::AlreadyExists), other_key());
            let refused = approve(&mut bob, &asked.id).await.unwrap_err();
            assert_eq!((refused.reason(), refused.message().to_owned()), exists);
            reject(&mut ada, &asked.id).await.unwrap();

            // Nor is one that was there before an import was tried.
            let asked = ask(&mut ada, right()).await.unwrap();
            for _ in 0..2 {
                let refused = approve(&mut bob, &asked.id).await.unwrap_err();
                assert_eq!((refused.reason(), refused.message().to_owned()), exists);
            }
            assert_eq!(states(&mut ada).await, ["ASKED", "REJECTED"]);
            reject(&mut ada, &asked.id).await.unwrap();
            host.stop().await;
            let held = open("kdh").list_keys().unwrap();
            assert!(held.iter().any(|key| key.label == "kn.arrived"));
        });
    });
}

/// Whoever writes to the database is not the first of the two, and says nothing else than the first did.
#[test]
fn an_import_that_the_trail_does_not_know_is_not_done() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |scene| {
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let ada = &mut scene.operator.clone();
            let asked = ask(ada, right()).await.unwrap();
            let mut other = asking(under_zmk(key_wrap(&KEY, &KEY, false)));
            other.name = "other".to_owned();
            ask(ada, other).await.unwrap();
            let edits = [
                "name = 'another'",
                "kind = 'AES-192'",
                "header = 'D0000K0AN00E0000'",
                "kcv = '000000'",
                "wrapped = wrapped || x'00'",
                "asked_by = 'eve'",
                "why = 'for me'",
                "kcv_method = 'TDEA_ECB'",
                "signed_sha256 = '00'",
                "expires_at = '2099-01-01T00:00:00Z'",
                // What another import brings, which is as good.
                "wrapped = (SELECT wrapped FROM key_imports WHERE name = 'other')",
            ];
            for edit in edits {
                let mut database = scene.database().await;
                let keep = "CREATE TABLE kept AS SELECT * FROM key_imports";
                sqlx::query(keep)
                    .execute(database.connection())
                    .await
                    .unwrap();
                let edited = format!("UPDATE key_imports SET {edit} WHERE name = 'arrived'");
                sqlx::query(sqlx::AssertSqlSafe(edited))
                    .execute(database.connection())
                    .await
                    .unwrap();
                let refused = approve(&mut bob, &asked.id).await;
                assert_eq!(reason(refused), Some(Reason::Internal), "{edit}");
                for back in [
                    "DELETE FROM key_imports",
                    "INSERT INTO key_imports SELECT * FROM kept",
                    "DROP TABLE kept",
                ] {
                    sqlx::query(back)
                        .execute(database.connection())
                        .await
                        .unwrap();
                }
            }
            let mut database = scene.database().await;
            let forged = "INSERT INTO key_imports SELECT 7, '07070707', 'forged', kind, header, kcv_method, kcv,
                wrapped, state, 'ada', why, decided_by, expires_at, created_at, changed_at,
                signed_sha256 FROM key_imports WHERE name = 'arrived'";
            sqlx::query(forged)
                .execute(database.connection())
                .await
                .unwrap();
            let refused = approve(&mut bob, "07070707").await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            assert_eq!(keys(ada).await, ["kn.test"]);
            approve(&mut bob, &asked.id).await.unwrap();

            // What is decided stays so.
            let mut again = right();
            again.name = "again".to_owned();
            let again = ask(ada, again).await.unwrap();
            reject(&mut bob, &again.id).await.unwrap();
            let open = "UPDATE key_imports SET state = 'ASKED' WHERE name = 'again'";
            sqlx::query(open)
                .execute(database.connection())
                .await
                .unwrap();
            for _ in 0..2 {
                let refused = approve(&mut bob, &again.id).await;
                assert_eq!(reason(refused), Some(Reason::Internal));
            }
            // Nor is it forgotten with its record, or asked for by one that has hashes that fit.
            forge(&mut database, "key-import.rejected", |record| {
                "key-import.approved".clone_into(&mut record.action);
            })
            .await;
            let refused = approve(&mut bob, &again.id).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            put_back(&mut database).await;
            let mine = "UPDATE key_imports SET asked_by = 'eve' WHERE name = 'again'";
            database.edit(mine).await;
            forge(&mut database, "key-import.asked", |record| {
                record.actor = record.actor.replace("ada", "eve");
                record.detail = record.detail.replace("ada", "eve");
            })
            .await;
            let refused = approve(&mut bob, &again.id).await;
            assert_eq!(reason(refused), Some(Reason::Internal));
            put_back(&mut database).await;
            assert_eq!(keys(ada).await, ["kn.arrived", "kn.test"]);
            scene.host.stop().await;
        });
    });
}
