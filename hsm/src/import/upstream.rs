//! A TR-34 token from another host: who signed it, for whom it is, and that it is fresh. What passed is a
//! value that only this module makes.

use cryptoki::object::ObjectHandle;
use pki::{
    Certificate, CredentialError, CrlError, PublicKey, Role, RoleError, verify_credential,
    verify_crl,
};
use time::{Duration, OffsetDateTime};
use tr34::{ContentCipher, Freshness, KeyToken, KrdNonce, MalformedToken, Profile, SigningTime};

use super::ImportError;
use crate::{HsmError, KeyName, KeyRole, Token, inspect::public_key, worker::Worker};

/// Records of nonces that wait for their token are called so, and then as the import pair.
const NONCE_RECORD: &str = "import-nonce:";

/// How far ahead of ours the sender's clock may be.
const MAX_AHEAD: Duration = Duration::minutes(5);

/// What a token from upstream has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// The sender's dialect.
    pub profile: Profile,
    /// The CA that certifies the sender.
    pub ca: &'a Certificate,
    /// The sender's certificate.
    pub sender: &'a Certificate,
    /// The CA's revocation list. Where the token brings one as well, the sender stands on neither.
    pub crl: Option<&'a [u8]>,
    /// The certificate of the import pair as a receiver.
    pub own: &'a Certificate,
    /// The import pair.
    pub pair: &'a KeyName,
    /// By what the token is known as fresh.
    pub freshness: UpstreamFreshness,
    /// When it is looked at.
    pub now: OffsetDateTime,
}

/// By what a token is known as fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFreshness {
    /// It answers the nonce that was made for it ([`Token::make_import_nonce`]).
    Nonce,
    /// It was signed within this time.
    SignedWithin(Duration),
}

/// A token whose sender, receiver and freshness are the right ones. What is in it is still closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct UpstreamToken {
    profile: Profile,
    token: KeyToken,
    pair: KeyName,
    own: Certificate,
}

/// Why a token from upstream is refused. One variant for each check, in their order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// It does not parse.
    #[error("{0}: ask the sender for the token again, and for its profile")]
    Malformed(#[from] MalformedToken),
    /// Our certificate.
    #[error(
        "the certificate of import pair {pair} is none of a receiver (KRD): {cause}: name the one that was \
         made for it"
    )]
    OwnRole {
        /// The import pair.
        pair: String,
        /// Why.
        cause: RoleError,
    },
    /// The revocation list.
    #[error("the revocation list of the sender's CA: {0}: have it sent with a current one")]
    Crl(#[from] CrlError),
    /// There is none.
    #[error("the token brings no revocation list of the sender's CA: name a file with one")]
    NoCrl,
    /// The sender's certificate.
    #[error("the sender's certificate: {0}: ask the sender for its present one")]
    Sender(#[from] CredentialError),
    /// The signer.
    #[error(
        "the token names another signer than the sender's certificate: ask the sender for its present one"
    )]
    OtherSender,
    /// The signature.
    #[error(
        "the token's signature does not verify: it was changed, or is not the sender's; have it sent again"
    )]
    Signature,
    /// The recipient.
    #[error(
        "the token is for another receiver than the certificate of import pair {pair}: have the sender make \
         it for that certificate"
    )]
    Recipient {
        /// The import pair.
        pair: String,
    },
    /// No nonce waits for a token.
    #[error(
        "no nonce of import pair {pair} waits for a token; each is good for one: make one with kdh-ceremony \
         import nonce, and have the sender answer it"
    )]
    NoNonce {
        /// The import pair.
        pair: String,
    },
    /// The nonce.
    #[error(
        "the token answers another nonce than the last that was made: have the sender answer that one"
    )]
    OtherNonce,
    /// One pass where a nonce was demanded.
    #[error(
        "the token answers no nonce: have the sender answer the one that was made, or accept a signing time"
    )]
    OnePass,
    /// A nonce where none was demanded.
    #[error("the token answers a nonce: have freshness be known by it")]
    TwoPass,
    /// The signing time.
    #[error(
        "the token was signed at {signed}, which is not within {hours} hours: have it made again"
    )]
    SigningTime {
        /// By the sender.
        signed: SigningTime,
        /// Hours.
        hours: i64,
    },
}

impl UpstreamToken {
    pub(super) const fn profile(&self) -> Profile {
        self.profile
    }

    /// The token.
    pub const fn token(&self) -> &KeyToken {
        &self.token
    }

    /// The import pair for which it is.
    pub const fn pair(&self) -> &KeyName {
        &self.pair
    }

    /// The certificate of the import pair.
    pub(super) const fn own(&self) -> &Certificate {
        &self.own
    }
}

/// Checks a token, in this order: it parses; our certificate's role; the CA's list; the sender's certificate;
/// the signer; the signature; the recipient; freshness.
pub(crate) fn verify(
    hsm: &Token,
    der: &[u8],
    expected: &Upstream<'_>,
) -> Result<UpstreamToken, HsmError> {
    let token = verify_origin(der, expected)?;
    match (expected.freshness, token.freshness()) {
        (UpstreamFreshness::Nonce, Freshness::Nonce(found)) => {
            require_nonce(hsm, expected.pair, found)?;
        }
        (UpstreamFreshness::SignedWithin(within), Freshness::SigningTime(time)) => {
            require_signed_within(*time, within, expected.now)?;
        }
        (UpstreamFreshness::Nonce, Freshness::SigningTime(_)) => {
            return Err(UpstreamError::OnePass.into());
        }
        (UpstreamFreshness::SignedWithin(_), Freshness::Nonce(_)) => {
            return Err(UpstreamError::TwoPass.into());
        }
    }
    Ok(UpstreamToken {
        profile: expected.profile,
        token,
        pair: expected.pair.clone(),
        own: expected.own.clone(),
    })
}

fn verify_origin(der: &[u8], expected: &Upstream<'_>) -> Result<KeyToken, UpstreamError> {
    let token = KeyToken::parse(expected.profile, der)?;
    let pair = || expected.pair.label().to_owned();
    Role::Krd
        .verify(expected.own)
        .map_err(|cause| UpstreamError::OwnRole {
            pair: pair(),
            cause,
        })?;
    let mut sender = None;
    for list in token.crl().into_iter().chain(expected.crl) {
        let list = verify_crl(list, expected.ca, expected.now, None)?;
        let verified =
            verify_credential(expected.sender, expected.ca, Role::Kdh, &list, expected.now);
        sender = Some(verified?);
    }
    let sender = sender.ok_or(UpstreamError::NoCrl)?;
    let signer = token.signed_by();
    if signer.signer() != sender.id() {
        return Err(UpstreamError::OtherSender);
    }
    sender
        .public_key()
        .verify(signer.signed_bytes(), signer.signature())
        .map_err(|_| UpstreamError::Signature)?;
    if *token.enveloped().recipient() != expected.own.issuer_and_serial()? {
        return Err(UpstreamError::Recipient { pair: pair() });
    }
    Ok(token)
}

fn require_signed_within(
    signed: SigningTime,
    within: Duration,
    now: OffsetDateTime,
) -> Result<(), UpstreamError> {
    let at = i64::try_from(signed.unix_seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    match at {
        Some(at) if at <= now + MAX_AHEAD && at >= now - within => Ok(()),
        _ => Err(UpstreamError::SigningTime {
            signed,
            hours: within.whole_hours(),
        }),
    }
}

/// Refuses to receive tokens for a pair that is not the certificate's, in an HSM that cannot open them inside or
/// does not keep what their freshness takes.
pub(crate) fn require_receiver(
    hsm: &Token,
    pair: &KeyName,
    own: &Certificate,
    freshness: UpstreamFreshness,
) -> Result<(), HsmError> {
    let (wanted, expected) = (pair.clone(), own.public_key().clone());
    hsm.run("find an import pair", move |worker| {
        require_pair(worker, &wanted, &expected).map(drop)
    })?;
    hsm.how_it_opens()?.means(ContentCipher::Aes128Cbc)?;
    match freshness {
        UpstreamFreshness::Nonce => hsm.require_records("keeping a nonce"),
        UpstreamFreshness::SignedWithin(_) => Ok(()),
    }
}

/// The import pair, which is that of the certificate.
pub(super) fn require_pair(
    worker: &mut Worker,
    pair: &KeyName,
    certified: &PublicKey,
) -> Result<ObjectHandle, HsmError> {
    let private = worker.key(KeyRole::ImportPair, pair)?;
    if public_key(&worker.session, private, pair)? == *certified {
        return Ok(private);
    }
    Err(ImportError::OtherPair {
        pair: pair.label().to_owned(),
    }
    .into())
}

/// Makes a nonce for a token to an import pair, as long as the sender's dialect has it, and keeps it in each of these
/// HSMs until the token was used there. One that waited is forgotten.
pub(crate) fn make_nonce(
    hsms: &[Token],
    pair: &KeyName,
    profile: Profile,
) -> Result<KrdNonce, HsmError> {
    for hsm in hsms {
        let wanted = pair.clone();
        hsm.run("find an import pair", move |worker| {
            worker.key(KeyRole::ImportPair, &wanted).map(drop)
        })?;
    }
    let random = match hsms {
        [first, ..] => first.random(profile.nonce_len())?,
        [] => Vec::new(),
    };
    let nonce = KrdNonce::new(&random).map_err(UpstreamError::from)?;
    for hsm in hsms {
        hsm.store_record(&record(pair), nonce.as_bytes())?;
    }
    Ok(nonce)
}

/// Refuses a token whose nonce is not the one that waits.
pub(super) fn require_nonce(hsm: &Token, pair: &KeyName, found: &KrdNonce) -> Result<(), HsmError> {
    let kept = hsm.load_record(&record(pair))?;
    let kept = kept.ok_or_else(|| UpstreamError::NoNonce {
        pair: pair.label().to_owned(),
    })?;
    if KrdNonce::new(&kept).is_ok_and(|kept| kept == *found) {
        return Ok(());
    }
    Err(UpstreamError::OtherNonce.into())
}

/// The token was used.
pub(super) fn spend_nonce(hsm: &Token, pair: &KeyName) -> Result<(), HsmError> {
    hsm.destroy_record(&record(pair))
}

fn record(pair: &KeyName) -> String {
    format!("{NONCE_RECORD}{}", pair.label())
}
