//! Keys that somebody exchanges under their names while the token runs.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::Session,
};
use hsm::{Health, KeyName, KeyPairKind, KeyRole, TokenGroup};
use pki::Signer as _;
use tr34::{KeyKind, OaepHash};

use crate::{
    common::{new_token, on_every_module},
    raw,
    sealing::{frame, import, import_raw, request, value},
    software,
};

const KIND: KeyKind = KeyKind::Aes128;
/// More than a token has sessions that may have seen the key.
const CALLS: usize = 8;

/// All objects of a name go.
fn destroy(session: &Session, name: &KeyName) {
    let objects: Vec<ObjectHandle> = session.find_objects(&raw::named(name)).unwrap();
    assert!(!objects.is_empty());
    for object in objects {
        session.destroy_object(object).unwrap();
    }
}

/// The token is out of service, for this reason.
fn assert_lost(group: &TokenGroup, why: &str) {
    match group.health() {
        Health::Lost { reason } => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other}"),
    }
}

#[test]
fn another_master_key_is_never_sealed() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let recipient = software::public_half(&software::recipient());
        let frame = frame(KIND);
        let request = request(KIND, &frame, &recipient, OaepHash::Sha1);
        import(&token, "kn.test", KIND, &value(KIND));
        let group = TokenGroup::from(token);
        let name = KeyName::new("kn.test").unwrap();
        let found = group.secret_key(KeyRole::TransportKey, &name).unwrap();
        group.require_from_now_on(&found, &request);
        group.seal(found.key(), &request).unwrap();

        let session = raw::session();
        destroy(&session, &name);
        import_raw(&name, KIND, &[0x42; 16], &[]);
        drop(session);
        for _ in 0..CALLS {
            group.seal(found.key(), &request).unwrap_err();
        }
        assert_lost(&group, "key kn.test is another one in token kdh");
    });
}

#[test]
fn another_private_key_signs_nothing() {
    on_every_module(|_| {
        let token = new_token("kdh");
        let name = KeyName::new("kdh-signing").unwrap();
        let kind = KeyPairKind::Rsa { bits: 2048 };
        token
            .generate_key_pair(KeyRole::KdhSigning, &name, kind)
            .unwrap();
        let group = TokenGroup::from(token);
        let key = group.signing_key(KeyRole::KdhSigning, &name).unwrap();
        key.sign(b"before").unwrap();

        let session = raw::session();
        destroy(&session, &name);
        let mut public = raw::named(&name);
        public.push(Attribute::ModulusBits(2048.into()));
        public.push(Attribute::PublicExponent(vec![1, 0, 1]));
        let private = raw::signing_attributes(&name);
        let made = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
        made.unwrap();
        drop(session);
        for _ in 0..CALLS {
            key.sign(b"after").unwrap_err();
        }
        assert_lost(&group, "key kdh-signing is another one in token kdh");
    });
}
