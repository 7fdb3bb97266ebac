//! Another host that sends keys, with a CA of its own, and the host that trusts it.

use std::{fs, path::Path, sync::OnceLock};

use hsm::{KeyName, KeyPairKind, KeyRole, SealRequest, SecretKey, SigningKey, Token};
use hsm_modules::Place;
use kdh_host::{Clock, SystemClock};
use kdh_proto::v1::{KeyImport, MakeImportNonceRequest, wrapped_key};
use pki::{Certificate, PublicKey, Role, Signer as _};
use time::OffsetDateTime;
use tonic::Status;
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, Kbh, KeyBlockFrame, KeyKind, KeyToken, KrdNonce,
    OaepHash, Profile, RandomToken, SigningTime,
};

use crate::{
    key_imports::{Operator, asking},
    world::{Ca, MASTER_KEY_KCV, RSA, Running, World, bring_key, pair, serial, subject},
};

/// As the host's configuration calls it.
pub(crate) const SENDER: &str = "switch";
pub(crate) const PAIR: &str = "import-krd";
pub(crate) const HEADER: &str = "D0000K0AB00E0000";
const PROFILE: Profile = Profile::X9_2019;
/// Of the key that is sent, in the other host's HSM.
const SENT: &str = "kn.sent";

/// The other host.
pub(crate) struct Sender {
    ca: Ca,
    /// Its KDH key and certificate.
    kdh: (Certificate, SigningKey),
    /// Another KDH of the same CA.
    other_kdh: (Certificate, SigningKey),
    /// Our pair as a receiver, and another receiver.
    pub(crate) receivers: [Certificate; 2],
    hsm: Token,
    key: SecretKey,
}

/// How a token is made; one thing may be wrong.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) freshness: Freshness,
    /// In the token, outside of what is encrypted; and inside.
    pub(crate) headers: [&'static str; 2],
    /// The number of the revocation list in it.
    pub(crate) list: u64,
    /// Whether that revokes the sender.
    pub(crate) revoked: bool,
    pub(crate) by_other: bool,
    pub(crate) to_other: bool,
    pub(crate) at: OffsetDateTime,
}

impl Made {
    /// Signed now.
    pub(crate) fn now() -> Self {
        Self::at(SystemClock.now())
    }

    pub(crate) fn at(at: OffsetDateTime) -> Self {
        Self {
            freshness: Freshness::SigningTime(signing_time(at)),
            headers: [HEADER; 2],
            list: 1,
            revoked: false,
            by_other: false,
            to_other: false,
            at,
        }
    }

    /// In answer to a nonce.
    pub(crate) fn answering(nonce: KrdNonce) -> Self {
        Self {
            freshness: Freshness::Nonce(nonce),
            ..Self::now()
        }
    }
}

fn signing_time(at: OffsetDateTime) -> SigningTime {
    SigningTime::from_unix_seconds(at.unix_timestamp().try_into().unwrap()).unwrap()
}

impl Sender {
    fn new(world: &World<'_>, receiver: &PublicKey) -> Self {
        let hsm = world.other_token().clone();
        let root_key = pair(&hsm, KeyRole::RootCa, "switch-root", RSA);
        let name = "CN=Switch Root,O=Switch,C=DE".parse().unwrap();
        let root = subject(Role::RootCa, name, &root_key);
        let root = Ca {
            certificate: pki::issue_root(&root_key, &root).unwrap(),
            key: root_key,
        };
        let ca_key = pair(&hsm, KeyRole::IssuingCa, "switch-ca", RSA);
        let name = "CN=Peer CA for key distribution,O=Peer,C=DE"
            .parse()
            .unwrap();
        let ca = Ca {
            certificate: root.certify(&subject(Role::SubCa, name, &ca_key)),
            key: ca_key,
        };
        let name = world.certificate("ca-kdh.pem").subject().clone();
        let namesake = root.certify(&subject(Role::SubCa, name, &ca.key));
        fs::write(world.path("namesake-ca.pem"), namesake.to_pem()).unwrap();
        let kdh = |label: &str| {
            let key = pair(&hsm, KeyRole::KdhSigning, label, RSA);
            let mut subject = ca.subject(Role::Kdh, label, &key);
            // So that modules seal its keys that need them aligned.
            let len = pki::aligned_serial_length(ca.certificate.subject(), &[16], &[16], 16);
            subject.serial = serial(len.unwrap());
            (ca.certify(&subject), key)
        };
        let (kdh, other_kdh) = (kdh("switch-kdh"), kdh("switch-2"));
        let own = |name: &str, public_key: &PublicKey| {
            let mut subject = ca.subject(Role::Krd, name, &kdh.1);
            subject.public_key = public_key.clone();
            ca.certify(&subject)
        };
        let receivers = [
            own("our host", receiver),
            own("another host", other_kdh.1.public_key()),
        ];
        bring_key(&hsm, SENT);
        let name = KeyName::new(SENT).unwrap();
        let key = hsm.secret_key(KeyRole::TransportKey, &name).unwrap();
        let sender = Self {
            ca,
            kdh,
            other_kdh,
            receivers,
            hsm,
            key,
        };
        for (file, certificate) in [
            ("switch-ca.pem", &sender.ca.certificate),
            ("switch-kdh.pem", &sender.kdh.0),
            ("switch-2.pem", &sender.other_kdh.0),
            ("import-krd.pem", &sender.receivers[0]),
            ("other-krd.pem", &sender.receivers[1]),
        ] {
            fs::write(world.path(file), certificate.to_pem()).unwrap();
        }
        sender.publish(world, 1, false);
        sender
    }

    /// Puts a revocation list where the host reads it.
    pub(crate) fn publish(&self, world: &World<'_>, number: u64, revoked: bool) {
        fs::write(world.path("switch-ca.crl"), self.list(number, revoked)).unwrap();
    }

    fn list(&self, number: u64, revoked: bool) -> Vec<u8> {
        let listed = [self.kdh.0.serial().clone()];
        self.ca.crl(number, if revoked { &listed } else { &[] })
    }

    pub(crate) fn token(&self, made: &Made) -> Vec<u8> {
        let [outside, inside] = made.headers.map(|header| header.parse::<Kbh>().unwrap());
        let (certificate, key) = if made.by_other {
            &self.other_kdh
        } else {
            &self.kdh
        };
        let recipient = &self.receivers[usize::from(made.to_other)];
        let kdh = certificate.issuer_and_serial().unwrap();
        let frame = KeyBlockFrame::new(PROFILE, &kdh, &inside, KeyKind::Aes128.key_len());
        let request = SealRequest {
            frame: &frame,
            recipient: recipient.public_key(),
            cipher: ContentCipher::for_key(KeyKind::Aes128),
            oaep: OaepHash::Sha256,
        };
        let sealed = self.hsm.seal(&self.key, &request).unwrap();
        let enveloped = EnvelopedKeyBlock::new(
            recipient.issuer_and_serial().unwrap(),
            OaepHash::Sha256,
            sealed.encrypted_key,
            sealed.encryption,
            sealed.ciphertext,
        );
        let draft = KeyToken::draft(
            PROFILE,
            &enveloped.unwrap(),
            &outside,
            &made.freshness,
            signing_time(made.at),
            &kdh,
            &self.list(made.list, made.revoked),
        )
        .unwrap();
        let signature = key.sign(draft.to_be_signed()).unwrap();
        draft.into_token(&signature).unwrap()
    }
}

/// A host that knows the sender, and two operators.
pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World<'w>,
    pub(crate) sender: &'w Sender,
    pub(crate) host: Running,
    pub(crate) ada: Operator,
    pub(crate) bob: Operator,
}

/// The pair is made as the kdh token is; the sender's things come after it.
pub(crate) fn world(directory: &Path) -> (World<'_>, Sender) {
    let public_key = OnceLock::new();
    let world = World::with_kdh_token(directory, |kdh| {
        let name = KeyName::new(PAIR).unwrap();
        let kind = KeyPairKind::Rsa { bits: 3072 };
        let made = kdh.generate_key_pair(KeyRole::ImportPair, &name, kind);
        public_key.set(made.unwrap()).unwrap();
    });
    let sender = Sender::new(&world, public_key.get().unwrap());
    (world, sender)
}

/// The lines of the sender in the host's configuration, with more fields.
pub(crate) fn configured(more: &str) -> String {
    format!(
        "key-strength = \"warn\"\nkey-senders = [{{ name = \"{SENDER}\", certificate = \"switch-kdh.pem\", \
         ca = \"switch-ca.pem\", pair = \"{PAIR}\", receiver = \"import-krd.pem\"{more} }}]\n"
    )
}

/// Plays with a sender that has these fields more in the host's configuration.
pub(crate) fn play(
    place: &Place,
    more: &str,
    clock: impl Clock + 'static,
    scene: impl AsyncFnOnce(Stage<'_>),
) {
    let (world, sender) = world(place.folder());
    world.configure(&configured(more));
    world.play(async |world| {
        let host = world.serve_by(clock).await;
        let ada = world.operator(&host).await;
        let [bob, _] = world.recoverers(&host).await;
        let stage = Stage {
            world,
            sender: &sender,
            host,
            ada,
            bob,
        };
        scene(stage).await;
    });
}

impl Stage<'_> {
    /// The host once more, by another configuration of the sender.
    pub(crate) async fn again(self, lines: &str) -> Self {
        self.host.stop().await;
        self.world.configure(lines);
        let host = self.world.serve().await;
        let ada = self.world.operator(&host).await;
        let [bob, _] = self.world.recoverers(&host).await;
        Self {
            host,
            ada,
            bob,
            ..self
        }
    }

    pub(crate) async fn make_nonce(&mut self) -> KrdNonce {
        let sender = SENDER.to_owned();
        let made = self
            .ada
            .make_import_nonce(MakeImportNonceRequest { sender })
            .await;
        let made = made.unwrap().into_inner();
        let token = RandomToken::parse(PROFILE, &made.rt_krd).unwrap();
        assert_eq!(token.nonce().as_bytes(), made.nonce);
        token.nonce().clone()
    }

    /// Ada asks for a key by this name.
    pub(crate) async fn ask(&mut self, name: &str, token: Vec<u8>) -> Result<KeyImport, Status> {
        let mut request = asking(wrapped_key::Form::KeyToken(wrapped_key::KeyToken {
            sender: SENDER.to_owned(),
            token,
        }));
        request.name = name.to_owned();
        request.kcv.as_mut().unwrap().value = MASTER_KEY_KCV.to_vec();
        crate::key_imports::ask(&mut self.ada, request).await
    }

    /// Bob approves.
    pub(crate) async fn approve(&mut self, import: &KeyImport) -> Result<KeyImport, Status> {
        crate::key_imports::approve(&mut self.bob, &import.id).await
    }
}
