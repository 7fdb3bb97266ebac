//! The self-test: a throw-away key is sealed as a real one would be, and opened inside of the HSM.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use pki::PublicKey;
use subtle::ConstantTimeEq;
use tr34::{ContentCipher, IssuerAndSerial, Kbh, KeyBlockFrame, KeyKind, OaepHash};
use zeroize::Zeroizing;

use crate::{
    HsmError, KeyName, KeyRole, SealRequest, SealedKeyBlock, SecretKey, SelfTestReport,
    error::CallResult,
    inspect::key_type,
    keys::RSA_EXPONENT,
    seal::{Plan, choose, oaep},
    secret::SecretTemplate,
    template::{Lives, OPENING_KEY, PUBLIC_HALF, TRANSPORT_KEY, TRIAL_RECIPIENT_KEY},
    worker::{Ephemeral, Worker},
};

const RSA_BITS: usize = 2048;

/// A key of each length that every way of sealing offers.
const KINDS: [KeyKind; 3] = [KeyKind::Aes128, KeyKind::Aes256, KeyKind::Tdea2];

/// DER of the name `CN=self-test`.
const ISSUER: [u8; 22] = *b"\x30\x14\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09self-test";

pub(crate) fn run(worker: &Worker, hash: OaepHash) -> Result<SelfTestReport, HsmError> {
    let way = choose(&worker.place)?;
    let session = &worker.session;
    let recipient = Recipient::generate(session)?;
    for kind in KINDS {
        round_trip(worker, &recipient, kind, hash).map_err(|error| match error {
            lost @ HsmError::Unavailable { .. } => lost,
            error => HsmError::SelfTest {
                what: format!("{kind} by OAEP with {hash:?}: {error}"),
            },
        })?;
    }
    Ok(SelfTestReport {
        way,
        oaep: hash,
        key_lengths: KINDS.map(KeyKind::key_len).into(),
    })
}

/// A throw-away RSA pair.
struct Recipient<'s> {
    private: Ephemeral<'s>,
    public_key: PublicKey,
}

impl<'s> Recipient<'s> {
    fn generate(session: &'s Session) -> Result<Self, HsmError> {
        let operation = "self-test: generate a recipient";
        let mut public = PUBLIC_HALF.attributes(Lives::InSession);
        public.push(Attribute::ModulusBits(
            RSA_BITS.try_into().during(operation)?,
        ));
        public.push(Attribute::PublicExponent(RSA_EXPONENT.into()));
        let private = TRIAL_RECIPIENT_KEY.attributes(Lives::InSession);
        let (public, private) = session
            .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
            .during(operation)?;
        let _public = Ephemeral::new(session, public);
        let private = Ephemeral::new(session, private);
        // RSA's public numbers are the private object's own: the name is for messages only.
        let public_key = crate::inspect::public_key(session, private.handle(), &name()?)?;
        Ok(Self {
            private,
            public_key,
        })
    }

    fn open(
        &self,
        session: &Session,
        sealed: &SealedKeyBlock,
        hash: OaepHash,
    ) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let mut template = OPENING_KEY.attributes_with_class(Lives::InSession);
        template.push(Attribute::KeyType(KeyType::AES));
        let ke = session
            .unwrap_key(
                &oaep(hash),
                self.private.handle(),
                &sealed.encrypted_key,
                &template,
            )
            .during("self-test: unwrap Ke")?;
        let ke = Ephemeral::new(session, ke);
        session
            .decrypt(
                &Mechanism::AesCbcPad(sealed.iv),
                ke.handle(),
                &sealed.ciphertext,
            )
            .map(Zeroizing::new)
            .during("self-test: decrypt")
    }
}

fn round_trip(
    worker: &Worker,
    recipient: &Recipient<'_>,
    kind: KeyKind,
    hash: OaepHash,
) -> Result<(), HsmError> {
    let session = &worker.session;
    let frame = frame(kind)?;
    // A key whose value is known; it protects nothing.
    let mut value = Zeroizing::new(vec![0; kind.key_len()]);
    session
        .generate_random_slice(&mut value)
        .during("self-test: random")?;
    let kn = Ephemeral::new(session, create(session, kind, &value)?);

    let key = SecretKey::new(name()?, KeyRole::TransportKey, kind);
    let request = SealRequest {
        frame: &frame,
        recipient: &recipient.public_key,
        cipher: ContentCipher::for_key(kind),
        oaep: hash,
    };
    let sealed = Plan::new(&worker.place, &key, &request)?.seal(session, kn.handle())?;

    let block = recipient.open(session, &sealed, hash)?;
    let expected = Zeroizing::new([frame.prefix(), &value[..], frame.suffix()].concat());
    if bool::from(block.ct_eq(&expected)) {
        Ok(())
    } else {
        Err(HsmError::BadAnswer {
            operation: "self-test: open",
            what: "another key block than the sealed one".to_owned(),
        })
    }
}

fn create(session: &Session, kind: KeyKind, value: &[u8]) -> Result<ObjectHandle, HsmError> {
    let mut template = TRANSPORT_KEY.attributes(Lives::InSession);
    template.push(Attribute::Class(ObjectClass::SECRET_KEY));
    template.push(Attribute::KeyType(key_type(kind)));
    let template = SecretTemplate::new(template, value);
    session
        .create_object(template.as_slice())
        .during("self-test: create a key")
}

/// A frame in which the key falls on a block boundary: of 16 lengths of the serial number in a row
/// one makes it so.
fn frame(kind: KeyKind) -> Result<KeyBlockFrame, HsmError> {
    let header = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => "D0000K0TB00E0000",
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => "D0000K0AB00E0000",
    };
    let failed = |what: String| HsmError::SelfTest { what };
    let header = Kbh::parse(header.as_bytes()).map_err(|error| failed(error.to_string()))?;
    for serial_len in 1..=20 {
        let kdh = IssuerAndSerial::new(&ISSUER, &[1; 20][..serial_len])
            .map_err(|error| failed(error.to_string()))?;
        let frame = KeyBlockFrame::new(&kdh, &header, kind.key_len());
        if frame.prefix().len().is_multiple_of(16) {
            return Ok(frame);
        }
    }
    Err(failed("no serial number aligns the key block".to_owned()))
}

fn name() -> Result<KeyName, HsmError> {
    Ok(KeyName::new("self-test")?)
}
