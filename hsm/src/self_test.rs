//! The self-test: throw-away keys are sealed, opened and combined as real ones would be.

use std::fmt;

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType, ObjectClass},
};
use pki::PublicKey;
use subtle::ConstantTimeEq;
use tr34::{ContentCipher, IssuerAndSerial, Kbh, KeyBlockFrame, KeyKind, OaepHash, Profile};
use zeroize::Zeroizing;

use crate::{
    CombiningWay, HsmError, KeyName, KeyRole, Missing, OpeningWay, PassedWay, SealRequest,
    SealedKeyBlock, SealingWay, SecretKey, SelfTestReport, check_value, cipher, combine,
    error::CallResult,
    inspect::key_type,
    kcv::Kcv,
    keys::RSA_EXPONENT,
    limit,
    open::{self, Encrypted, EncryptedKe, ExpectedKeyBlock, Means, Opening},
    seal::{self, Plan},
    secret::SecretTemplate,
    session::Session,
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
        let lacking = seal::missing(&worker.place, way, ContentCipher::Aes128Cbc);
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
    let missing = Missing(why_not);
    Ok(Ok(SelfTestReport {
        oaep,
        ways,
        missing,
    }))
}

fn sealing_by(
    worker: &Worker,
    recipient: &Recipient<'_>,
    way: SealingWay,
    oaep: OaepHash,
) -> Result<PassedWay, HsmError> {
    let mut passed = PassedWay {
        way,
        sealed: Vec::new(),
        refused: Vec::new(),
    };
    for (kind, cipher) in trials() {
        let lacking = seal::missing(&worker.place, way, cipher);
        match round_trip(worker, recipient, way, (kind, cipher), oaep) {
            Ok(()) => passed.sealed.push((kind, cipher)),
            Err(error) if INDISPENSABLE.contains(&kind) => return Err(error),
            Err(_) if !lacking.is_empty() => {
                let why = needs(format_args!("under {cipher}"), &lacking);
                passed.refused.push((kind, cipher, why));
            }
            // One that the module refuses is not offered. One that comes out as another is the end of
            // the way.
            Err(error @ (HsmError::Call { .. } | HsmError::Unsupported { .. })) => {
                let wrapping = seal::wrapping_with(&[way], cipher).join("");
                let why = format!("under {cipher} failed, with {wrapping}: {error}");
                passed.refused.push((kind, cipher, why));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(passed)
}

/// Every kind of key under each cipher that may carry it.
fn trials() -> impl Iterator<Item = (KeyKind, ContentCipher)> {
    let carriers = |kind| {
        let ciphers = ContentCipher::ALL.into_iter();
        ciphers.filter(move |cipher| cipher.carries(kind))
    };
    let pairs = move |kind| carriers(kind).map(move |cipher| (kind, cipher));
    KINDS.into_iter().flat_map(pairs)
}

/// The ways of opening that bring a throw-away key out of its block, and no key out of another one.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn opening(worker: &Worker) -> Result<Opening, HsmError> {
    let usual = INDISPENSABLE.map(|kind| (kind, ContentCipher::for_key(kind)));
    let tdea = [KeyKind::Tdea2, KeyKind::Tdea3].map(|kind| (kind, ContentCipher::DesEde3Cbc));
    Ok(Opening {
        aes: opening_of(worker, &usual)?,
        tdea: opening_of(worker, &tdea)?,
    })
}

/// Of all these kinds of key under these ciphers, which take the same mechanisms.
fn opening_of(
    worker: &Worker,
    trials: &[(KeyKind, ContentCipher)],
) -> Result<Result<Means, Missing>, HsmError> {
    let place = &worker.place;
    let mut means = Means {
        opening: Vec::new(),
        sealing: Vec::new(),
    };
    let mut why_not = Vec::new();
    for way in open::LADDER {
        let lacking = lacking_of(trials, |cipher| open::missing(place, way, cipher));
        for rebuilding in seal::LADDER {
            let missing = |cipher| seal::missing_to_encrypt(place, rebuilding, cipher);
            let lacking = [&lacking[..], &lacking_of(trials, missing)].concat();
            let trying = format!("{way}, rebuilding by {rebuilding},");
            match attempt(way, trying, &lacking, || {
                opening_by(&worker.session, way, rebuilding, trials)
            })? {
                Ok(()) => {
                    if !means.opening.contains(&way) {
                        means.opening.push(way);
                    }
                    if !means.sealing.contains(&rebuilding) {
                        means.sealing.push(rebuilding);
                    }
                }
                Err(reason) if lacking.is_empty() => why_not.push(reason),
                Err(_) => {}
            }
        }
        if !lacking.is_empty() && !means.opening.contains(&way) {
            why_not.push(needs(way, &lacking));
        }
    }
    Ok(if means.opening.is_empty() {
        Err(Missing(why_not))
    } else {
        Ok(means)
    })
}

/// What is lacking for the first cipher that lacks anything.
fn lacking_of(
    trials: &[(KeyKind, ContentCipher)],
    missing: impl Fn(ContentCipher) -> Vec<&'static str>,
) -> Vec<&'static str> {
    let mut lacking = trials.iter().map(|(_, cipher)| missing(*cipher));
    lacking
        .find(|lacking| !lacking.is_empty())
        .unwrap_or_default()
}

fn opening_by(
    session: &Session,
    way: OpeningWay,
    rebuilding: SealingWay,
    trials: &[(KeyKind, ContentCipher)],
) -> Result<(), HsmError> {
    let means = Means {
        opening: vec![way],
        sealing: vec![rebuilding],
    };
    let failed = |what: &str| HsmError::SelfTest {
        what: what.to_owned(),
    };
    for &(kind, cipher) in trials {
        let ke = cipher::generate_ke(session, &LOADING_KEY, cipher);
        let ke = ke.during("self-test: generate Ke")?;
        let value = random(session, kind)?;
        let wrapped = open::rebuilding_type(kind);
        let kn = create_as(wrapped, session, kind, &REBUILDING_KEY, rebuilding, &value)?;
        let frame = frame(kind)?;
        let encryption = cipher::with_random_iv(session, cipher, "self-test: random")?;
        let ciphertext = seal::encrypt(
            rebuilding,
            session,
            ke.handle(),
            &encryption,
            &frame,
            kn.handle(),
        )?;
        let block = Encrypted {
            encryption,
            ciphertext: &ciphertext,
        };
        let open = |frame| {
            let expected = ExpectedKeyBlock { kind, frame };
            open::open_as(session, &means, ke.handle(), &block, &expected)
        };

        let opened = open(frame)?.ok_or_else(|| failed("a key block was taken for another"))?;
        let found = check_value::of_copy(session, opened.handle(), kind, Kcv::LEN)?;
        if found != check_value_of(session, kind, &value)? {
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

/// Whether the module puts a key block together inside, which takes a key that may be derived from. A key
/// is brought in where nobody may ask yet how it will be sealed, so nothing is sealed here.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn assembles(worker: &Worker) -> Result<bool, HsmError> {
    let (session, kind, way) = (&worker.session, KeyKind::Aes128, SealingWay::Concatenate);
    let lacking = seal::missing_to_encrypt(&worker.place, way, ContentCipher::for_key(kind));
    let assembled = attempt(way, way, &lacking, || {
        let value = random(session, kind)?;
        let kn = create(session, kind, &TRANSPORT_KEY, way, &value)?;
        seal::try_to_assemble(session, &frame(kind)?, kn.handle())
    })?;
    Ok(assembled.is_ok())
}

fn combining_by(session: &Session, way: CombiningWay) -> Result<(), HsmError> {
    for kind in INDISPENSABLE {
        let components = [random(session, kind)?, random(session, kind)?];
        let mut sum = Zeroizing::new(components[0].to_vec());
        for (byte, other) in sum.iter_mut().zip(components[1].iter()) {
            *byte ^= other;
        }
        let expected = check_value_of(session, kind, &sum)?;
        let found = combine::trial(session, way, kind, &components)?;
        if found != expected {
            return Err(HsmError::KcvMismatch { expected, found });
        }
    }
    Ok(())
}

/// The check value of a key of this value.
fn check_value_of(session: &Session, kind: KeyKind, value: &[u8]) -> Result<Kcv, HsmError> {
    let template = check_value::template(kind);
    let key = create(session, kind, template, SealingWay::Splice, value)?;
    check_value::of(&key, session, kind, Kcv::LEN)
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

/// As [`limiting`], where the mechanisms that it takes are there.
///
/// # Errors
/// The module refuses the limit, or does not keep it.
pub(crate) fn limiting_by(session: &Session) -> Result<(), HsmError> {
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

/// A trial of a way for which the module does not list `lacking`; `trying` is the way with how it is tried.
/// Tried it is in any case: NSS lists less for a slot than works there. Why it is not possible is in the
/// answer.
///
/// # Errors
/// The HSM is unavailable, which says nothing of what it can do.
pub(crate) fn attempt<T>(
    way: impl fmt::Display,
    trying: impl fmt::Display,
    lacking: &[&str],
    trial: impl FnOnce() -> Result<T, HsmError>,
) -> Result<Result<T, String>, HsmError> {
    match trial() {
        Ok(passed) => Ok(Ok(passed)),
        // Whatever a module answers to a mechanism that it does not have.
        Err(_) if !lacking.is_empty() => Ok(Err(needs(way, lacking))),
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
        oaep: OaepHash,
    ) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let ke = EncryptedKe {
            cipher: sealed.encryption.cipher(),
            oaep,
            encrypted_key: &sealed.encrypted_key,
        };
        let ke = open::unwrap_ke(session, self.private.handle(), &ke, &OPENING_KEY)
            .during("self-test: unwrap Ke")?;
        session
            .decrypt(
                &cipher::padded(&sealed.encryption),
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
    kind: KeyKind,
    value: Zeroizing<Vec<u8>>,
    frame: KeyBlockFrame,
    plan: Plan,
}

impl<'s> Trial<'s> {
    pub(crate) fn new(
        session: &'s Session,
        recipient: &Recipient<'_>,
        way: SealingWay,
        (kind, cipher): (KeyKind, ContentCipher),
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
            cipher,
            oaep,
        };
        let plan = Plan::new(&[way], &key, &request)?;
        Ok(Self {
            kn,
            kind,
            value,
            frame,
            plan,
        })
    }

    pub(crate) fn seal(&self, session: &Session) -> Result<SealedKeyBlock, HsmError> {
        self.plan.seal(session, self.kn.handle())
    }

    /// Whether the key block is the one that was sealed.
    fn verify(&self, opened: &mut [u8]) -> Result<(), HsmError> {
        let (prefix, suffix) = (self.frame.prefix(), self.frame.suffix());
        let mut block = Zeroizing::new([prefix, &self.value[..], suffix].concat());
        if matches!(self.kind, KeyKind::Tdea2 | KeyKind::Tdea3) {
            // A module may have set the parity of the key, which TDEA makes nothing of.
            let key = prefix.len()..prefix.len() + self.value.len();
            for block in [&mut block[..], opened] {
                for byte in block.get_mut(key.clone()).unwrap_or_default() {
                    *byte |= 1;
                }
            }
        }
        if bool::from(opened.ct_eq(&block)) {
            return Ok(());
        }
        Err(HsmError::BadAnswer {
            operation: "self-test: open",
            what: format!("another key block than the sealed one, of {}", self.kind),
        })
    }
}

fn round_trip(
    worker: &Worker,
    recipient: &Recipient<'_>,
    way: SealingWay,
    trial: (KeyKind, ContentCipher),
    oaep: OaepHash,
) -> Result<(), HsmError> {
    let session = &worker.session;
    let trial = Trial::new(session, recipient, way, trial, oaep)?;
    let mut opened = recipient.open(session, &trial.seal(session)?, oaep)?;
    trial.verify(&mut opened)
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
/// A secret key of a known value, limited as by its template.
pub(crate) fn create<'s>(
    session: &'s Session,
    kind: KeyKind,
    template: &Template,
    way: SealingWay,
    value: &[u8],
) -> Result<Ephemeral<'s>, HsmError> {
    create_as(key_type(kind), session, kind, template, way, value)
}

/// As [`create`], of another type than keys of this kind usually are.
fn create_as<'s>(
    key_type: KeyType,
    session: &'s Session,
    kind: KeyKind,
    template: &Template,
    way: SealingWay,
    value: &[u8],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes(Lives::InSession);
    attributes.push(Attribute::Class(ObjectClass::SECRET_KEY));
    attributes.push(Attribute::KeyType(key_type));
    let derives = way == SealingWay::Concatenate;
    if template.leaves_open(Flag::Derive) {
        attributes.push(Flag::Derive.set(derives));
    }
    let limit = limit::of_secret(template, kind, derives);
    let key = limit::make(session, &limit, |limit| {
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
        let frame = KeyBlockFrame::new(Profile::X9_2019, &kdh, &header, kind.key_len());
        if frame.prefix().len().is_multiple_of(16) {
            return Ok(frame);
        }
    }
    Err(failed("no serial number aligns the key block".to_owned()))
}

pub(crate) fn name() -> Result<KeyName, HsmError> {
    Ok(KeyName::new("self-test")?)
}
