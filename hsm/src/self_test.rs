//! The self-test: throw-away keys are sealed, opened and combined as real ones would be.

use std::fmt;

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, ObjectClass},
    session::Session,
};
use pki::PublicKey;
use subtle::ConstantTimeEq;
use tr34::{ContentCipher, IssuerAndSerial, Kbh, KeyBlockFrame, KeyKind, OaepHash};
use zeroize::Zeroizing;

use crate::{
    CombiningWay, HsmError, KeyName, KeyRole, Missing, OpeningWay, PassedWay, SealRequest,
    SealedKeyBlock, SealingWay, SecretKey, SelfTestReport, check_value, combine,
    error::CallResult,
    inspect::key_type,
    kcv::Kcv,
    keys::{RSA_EXPONENT, generate_aes},
    limit,
    open::{self, Encrypted, ExpectedKeyBlock, Means},
    seal::{self, Plan},
    secret::SecretTemplate,
    template::{
        Flag, LOADING_KEY, Lives, OPENING_KEY, PUBLIC_HALF, REBUILDING_KEY, SUMMING_KEY,
        TRANSPORT_KEY, TRIAL_RECIPIENT_KEY, Template,
    },
    token::self_test_failed,
    worker::{Ephemeral, Worker},
};

/// Of throw-away pairs.
pub(crate) const RSA_BITS: usize = 2048;

/// Every kind of key that there is.
pub(crate) const KINDS: [KeyKind; 5] = [
    KeyKind::Aes128,
    KeyKind::Aes192,
    KeyKind::Aes256,
    KeyKind::Tdea2,
    KeyKind::Tdea3,
];

/// The kinds without which a way is of no use.
const INDISPENSABLE: [KeyKind; 2] = [KeyKind::Aes128, KeyKind::Aes256];

/// DER of the name `CN=self-test`.
const ISSUER: [u8; 22] = *b"\x30\x14\x31\x12\x30\x10\x06\x03\x55\x04\x03\x0c\x09self-test";

/// For each hash, what became of the self-test with it.
pub(crate) type Sealing = Vec<(OaepHash, Result<SelfTestReport, Missing>)>;

/// Seals a key of each kind for a throw-away RSA key by each way and with each hash, opens it again,
/// and compares.
///
/// # Errors
/// The HSM is unavailable. What the token cannot do is in the answer.
pub(crate) fn sealing(worker: &Worker) -> Result<Sealing, HsmError> {
    let session = &worker.session;
    let generating = "making an RSA key";
    let recipient = match attempt(generating, generating, &[], || Recipient::generate(session))? {
        Ok(recipient) => recipient,
        Err(why_not) => {
            let missing = Missing(vec![why_not]);
            return Ok(HASHES.map(|hash| (hash, Err(missing.clone()))).into());
        }
    };
    HASHES
        .into_iter()
        .map(|hash| Ok((hash, sealing_with(worker, &recipient, hash)?)))
        .collect()
}

/// What passed with this hash.
///
/// # Errors
/// [`HsmError::SelfTest`]: nothing did.
pub(crate) fn passed(sealing: &Sealing, oaep: OaepHash) -> Result<&SelfTestReport, HsmError> {
    for (hash, outcome) in sealing {
        if *hash == oaep {
            return outcome.as_ref().map_err(self_test_failed);
        }
    }
    Err(self_test_failed(&Missing(Vec::new())))
}

/// The preferred one first.
const HASHES: [OaepHash; 2] = [OaepHash::Sha256, OaepHash::Sha1];

fn sealing_with(
    worker: &Worker,
    recipient: &Recipient<'_>,
    oaep: OaepHash,
) -> Result<Result<SelfTestReport, Missing>, HsmError> {
    let mut ways = Vec::new();
    let mut why_not = Vec::new();
    for way in seal::LADDER {
        let lacking = seal::missing(&worker.place, way);
        let trying = format!("{way} with {oaep:?}");
        match attempt(way, trying, &lacking, || {
            sealing_by(worker, recipient, way, oaep)
        })? {
            Ok(passed) => ways.push(passed),
            Err(reason) => why_not.push(reason),
        }
    }
    if ways.is_empty() {
        return Ok(Err(Missing(why_not)));
    }
    Ok(Ok(SelfTestReport { oaep, ways }))
}

fn sealing_by(
    worker: &Worker,
    recipient: &Recipient<'_>,
    way: SealingWay,
    oaep: OaepHash,
) -> Result<PassedWay, HsmError> {
    let mut passed = PassedWay {
        way,
        kinds: Vec::new(),
        refused: Vec::new(),
    };
    for kind in KINDS {
        match round_trip(worker, recipient, way, kind, oaep) {
            Ok(()) => passed.kinds.push(kind),
            // One that the module refuses is not offered. One that comes out as another is the end of
            // the way.
            Err(error @ (HsmError::Call { .. } | HsmError::Unsupported { .. }))
                if !INDISPENSABLE.contains(&kind) =>
            {
                passed.refused.push((kind, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(passed)
}

/// The ways of opening that bring a throw-away key out of its block, and no key out of another one.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn opening(worker: &Worker) -> Result<Result<Means, Missing>, HsmError> {
    let place = &worker.place;
    let mut means = Means {
        opening: Vec::new(),
        sealing: Vec::new(),
    };
    let mut why_not = Vec::new();
    for way in open::LADDER {
        let lacking = open::missing(place, way);
        if !lacking.is_empty() {
            why_not.push(needs(way, &lacking));
            continue;
        }
        for rebuilding in seal::LADDER {
            if !seal::missing_to_encrypt(place, rebuilding).is_empty() {
                continue;
            }
            let trying = format!("{way}, rebuilding by {rebuilding},");
            match attempt(way, trying, &[], || {
                opening_by(&worker.session, way, rebuilding)
            })? {
                Ok(()) => {
                    if !means.opening.contains(&way) {
                        means.opening.push(way);
                    }
                    if !means.sealing.contains(&rebuilding) {
                        means.sealing.push(rebuilding);
                    }
                }
                Err(reason) => why_not.push(reason),
            }
        }
    }
    Ok(if means.opening.is_empty() {
        Err(Missing(why_not))
    } else {
        Ok(means)
    })
}

fn opening_by(session: &Session, way: OpeningWay, rebuilding: SealingWay) -> Result<(), HsmError> {
    let means = Means {
        opening: vec![way],
        sealing: vec![rebuilding],
    };
    let failed = |what: &str| HsmError::SelfTest {
        what: what.to_owned(),
    };
    for kind in INDISPENSABLE {
        let cipher = ContentCipher::for_key(kind);
        let ke = generate_aes(session, &LOADING_KEY, cipher.key_len());
        let ke = ke.during("self-test: generate Ke")?;
        let value = random(session, kind)?;
        let kn = create(session, kind, &REBUILDING_KEY, rebuilding, &value)?;
        let frame = frame(kind)?;
        let mut iv = [0; 16];
        session
            .generate_random_slice(&mut iv)
            .during("self-test: random")?;
        let ciphertext = seal::encrypt(rebuilding, session, ke.handle(), iv, &frame, kn.handle())?;
        let block = Encrypted {
            cipher,
            iv,
            ciphertext: &ciphertext,
        };
        let open = |frame| {
            let expected = ExpectedKeyBlock { kind, frame };
            open::open_as(session, &means, ke.handle(), &block, &expected)
        };

        let opened = open(frame)?.ok_or_else(|| failed("a key block was taken for another"))?;
        let kcv = |key: &Ephemeral<'_>| check_value::of_copy(session, key.handle(), kind, Kcv::LEN);
        if kcv(&opened)? != kcv(&kn)? {
            return Err(failed("another key than the sealed one was opened"));
        }
        if open(other_frame(kind)?)?.is_some() {
            return Err(failed("a key block with another header was opened"));
        }
    }
    Ok(())
}

/// The first way of combining that makes the sum of throw-away components.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn combining(worker: &Worker) -> Result<Result<CombiningWay, Missing>, HsmError> {
    let mut why_not = Vec::new();
    for way in combine::LADDER {
        let lacking = combine::missing(&worker.place, way);
        match attempt(way, way, &lacking, || combining_by(&worker.session, way))? {
            Ok(()) => return Ok(Ok(way)),
            Err(reason) => why_not.push(reason),
        }
    }
    Ok(Err(Missing(why_not)))
}

fn combining_by(session: &Session, way: CombiningWay) -> Result<(), HsmError> {
    for kind in INDISPENSABLE {
        let components = [random(session, kind)?, random(session, kind)?];
        let mut sum = Zeroizing::new(components[0].to_vec());
        for (byte, other) in sum.iter_mut().zip(components[1].iter()) {
            *byte ^= other;
        }
        let whole = create(
            session,
            kind,
            check_value::template(kind),
            SealingWay::Splice,
            &sum,
        )?;
        let expected = check_value::of(&whole, session, kind, Kcv::LEN)?;
        let found = combine::trial(session, way, kind, &components)?;
        if found != expected {
            return Err(HsmError::KcvMismatch { expected, found });
        }
    }
    Ok(())
}

/// Whether a key that is limited to a mechanism is used with that one and no other.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn limiting(worker: &Worker) -> Result<Result<(), Missing>, HsmError> {
    let lacking = worker.place.lacks(&[
        (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN"),
        (MechanismType::AES_ECB, "CKM_AES_ECB"),
        (MechanismType::AES_CBC_PAD, "CKM_AES_CBC_PAD"),
    ]);
    let trial = || limiting_by(&worker.session);
    let outcome = attempt("limiting", "limiting", &lacking, trial)?;
    Ok(outcome.map_err(|why_not| Missing(vec![why_not])))
}

fn limiting_by(session: &Session) -> Result<(), HsmError> {
    let operation = "self-test: limit a key";
    let limit = Attribute::AllowedMechanisms(vec![MechanismType::AES_ECB]);
    let mut attributes = SUMMING_KEY.attributes(Lives::InSession);
    attributes.extend([Attribute::ValueLen(16.into()), limit.clone()]);
    let key = session.generate_key(&Mechanism::AesKeyGen, &attributes);
    let key = Ephemeral::new(session, key.during(operation)?);
    let allowed = session
        .get_attributes(key.handle(), &[limit.attribute_type()])
        .during(operation)?;
    let encrypt = |mechanism| session.encrypt(&mechanism, key.handle(), &[0; 16]);
    encrypt(Mechanism::AesEcb).during(operation)?;
    if allowed == [limit] && encrypt(Mechanism::AesCbcPad([0; 16])).is_err() {
        return Ok(());
    }
    Err(HsmError::SelfTest {
        what: "a limit of a key was taken, and not kept".to_owned(),
    })
}

/// A trial of a way for which the module lists everything but `lacking`; `trying` is the way with how it
/// is tried. Why it is not possible is in the answer.
///
/// # Errors
/// The HSM is unavailable, which says nothing of what it can do.
fn attempt<T>(
    way: impl fmt::Display,
    trying: impl fmt::Display,
    lacking: &[&str],
    trial: impl FnOnce() -> Result<T, HsmError>,
) -> Result<Result<T, String>, HsmError> {
    if !lacking.is_empty() {
        return Ok(Err(needs(way, lacking)));
    }
    match trial() {
        Ok(passed) => Ok(Ok(passed)),
        Err(lost @ HsmError::Unavailable { .. }) => Err(lost),
        Err(error) => Ok(Err(format!("{trying} failed: {error}"))),
    }
}

fn needs(way: impl fmt::Display, lacking: &[&str]) -> String {
    format!("{way} needs {}", lacking.join(" and "))
}

/// The private half of a throw-away RSA pair. RSA's public numbers are its own, so the other half goes.
pub(crate) fn generate_rsa<'s>(
    session: &'s Session,
    template: &Template,
) -> cryptoki::error::Result<Ephemeral<'s>> {
    let mut public = PUBLIC_HALF.attributes(Lives::InSession);
    public.push(Attribute::ModulusBits(RSA_BITS.try_into()?));
    public.push(Attribute::PublicExponent(RSA_EXPONENT.into()));
    let private = template.attributes(Lives::InSession);
    let mechanism = Mechanism::RsaPkcsKeyPairGen;
    let (public, private) = session.generate_key_pair(&mechanism, &public, &private)?;
    drop(Ephemeral::new(session, public));
    Ok(Ephemeral::new(session, private))
}

/// For whom throw-away keys are sealed.
pub(crate) struct Recipient<'s> {
    private: Ephemeral<'s>,
    public_key: PublicKey,
}

impl<'s> Recipient<'s> {
    pub(crate) fn generate(session: &'s Session) -> Result<Self, HsmError> {
        let private = generate_rsa(session, &TRIAL_RECIPIENT_KEY)
            .during("self-test: generate a recipient")?;
        // The name is for messages only.
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
        let encrypted_key = &sealed.encrypted_key;
        let private = self.private.handle();
        let ke = open::unwrap_ke(session, private, hash, encrypted_key, &OPENING_KEY)
            .during("self-test: unwrap Ke")?;
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

/// A throw-away Kn, and what it takes to seal it.
pub(crate) struct Trial<'s> {
    kn: Ephemeral<'s>,
    value: Zeroizing<Vec<u8>>,
    frame: KeyBlockFrame,
    plan: Plan,
}

impl<'s> Trial<'s> {
    pub(crate) fn new(
        session: &'s Session,
        recipient: &Recipient<'_>,
        way: SealingWay,
        kind: KeyKind,
        oaep: OaepHash,
    ) -> Result<Self, HsmError> {
        let frame = frame(kind)?;
        let value = random(session, kind)?;
        let kn = create(session, kind, &TRANSPORT_KEY, way, &value)?;
        let derives = way == SealingWay::Concatenate;
        let key = SecretKey::new(name()?, KeyRole::TransportKey, kind, derives);
        let request = SealRequest {
            frame: &frame,
            recipient: &recipient.public_key,
            cipher: ContentCipher::for_key(kind),
            oaep,
        };
        let plan = Plan::new(&[way], &key, &request)?;
        Ok(Self {
            kn,
            value,
            frame,
            plan,
        })
    }

    pub(crate) fn seal(&self, session: &Session) -> Result<SealedKeyBlock, HsmError> {
        self.plan.seal(session, self.kn.handle())
    }

    /// The key block as it should open.
    fn block(&self) -> Zeroizing<Vec<u8>> {
        let (prefix, suffix) = (self.frame.prefix(), self.frame.suffix());
        Zeroizing::new([prefix, &self.value[..], suffix].concat())
    }
}

fn round_trip(
    worker: &Worker,
    recipient: &Recipient<'_>,
    way: SealingWay,
    kind: KeyKind,
    oaep: OaepHash,
) -> Result<(), HsmError> {
    let session = &worker.session;
    let trial = Trial::new(session, recipient, way, kind, oaep)?;
    let opened = recipient.open(session, &trial.seal(session)?, oaep)?;
    if bool::from(opened.ct_eq(&trial.block())) {
        Ok(())
    } else {
        Err(HsmError::BadAnswer {
            operation: "self-test: open",
            what: format!("another key block than the sealed one, of {kind}"),
        })
    }
}

/// Key bytes that protect nothing.
fn random(session: &Session, kind: KeyKind) -> Result<Zeroizing<Vec<u8>>, HsmError> {
    let mut value = Zeroizing::new(vec![0; kind.key_len()]);
    session
        .generate_random_slice(&mut value)
        .during("self-test: random")?;
    Ok(value)
}

/// A key of a known value, with what sealing it this way takes.
fn create<'s>(
    session: &'s Session,
    kind: KeyKind,
    template: &Template,
    way: SealingWay,
    value: &[u8],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes(Lives::InSession);
    attributes.push(Attribute::Class(ObjectClass::SECRET_KEY));
    attributes.push(Attribute::KeyType(key_type(kind)));
    let derives = way == SealingWay::Concatenate;
    if template.leaves_open(Flag::Derive) {
        attributes.push(Flag::Derive.set(derives));
    }
    let limit = limit::of_secret(template, kind, derives);
    let key = limit::make(&limit, |limit| {
        let attributes = [&attributes[..], limit.as_slice()].concat();
        let template = SecretTemplate::new(attributes, value);
        session
            .create_object(template.as_slice())
            .during("self-test: create a key")
    })?;
    Ok(Ephemeral::new(session, key))
}

/// A frame in which the key falls on a block boundary, where its length does too: of 16 lengths of the
/// serial number in a row one makes it so.
fn frame(kind: KeyKind) -> Result<KeyBlockFrame, HsmError> {
    frame_with(kind, "00")
}

/// A frame of the same lengths with another header.
fn other_frame(kind: KeyKind) -> Result<KeyBlockFrame, HsmError> {
    frame_with(kind, "01")
}

fn frame_with(kind: KeyKind, key_version: &str) -> Result<KeyBlockFrame, HsmError> {
    let algorithm = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => 'T',
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => 'A',
    };
    let failed = |what: String| HsmError::SelfTest { what };
    let header = format!("D0000K0{algorithm}B{key_version}E0000");
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
