//! What keeps a token from being obeyed twice: the terminal's nonce, or the signer's time.

use std::{fmt, time::Duration};

use der::{DateTime, Decode};
use subtle::ConstantTimeEq;
use x509_cert::time::Time;

use crate::{MalformedToken, Profile, Rule, TokenKind, encode, oid, read::Element};

/// Bytes of the shortest nonce that any profile knows.
const MIN_NONCE_LEN: usize = 8;
/// Bytes of the longest one.
const MAX_NONCE_LEN: usize = 16;

/// What a key token is known as fresh by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Two-pass: the nonce that the terminal sent.
    Nonce(KrdNonce),
    /// One-pass: when it was signed. A terminal takes only later ones than it has taken.
    SigningTime(SigningTime),
}

/// The terminal's random number: 8 to 16 bytes, of which each profile takes some lengths. Comparison takes
/// the same time wherever two nonces of one length differ.
#[derive(Clone, Debug)]
pub struct KrdNonce(Vec<u8>);

impl KrdNonce {
    /// From random bytes.
    ///
    /// # Errors
    /// There are less than 8 or more than 16.
    pub fn new(bytes: &[u8]) -> Result<Self, MalformedToken> {
        if !(MIN_NONCE_LEN..=MAX_NONCE_LEN).contains(&bytes.len()) {
            return Err(TokenKind::RandomToken.breaks()(nonce_len(bytes)));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// From 16 random bytes.
    pub fn from_bytes(bytes: [u8; MAX_NONCE_LEN]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The DER of the randomNonce attribute.
    pub(crate) fn to_attribute(&self) -> Vec<u8> {
        encode::attribute(oid::RANDOM_NONCE, &encode::octet_string(&self.0))
    }

    /// From the value of that attribute.
    pub(crate) fn read(profile: Profile, octets: Element<'_>) -> Result<Self, MalformedToken> {
        let bytes = octets.content();
        if !profile.layout().nonce_len.contains(&bytes.len()) {
            return Err(octets.refused(nonce_len(bytes)));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Whether the profile has nonces of this length.
    pub(crate) fn check(&self, profile: Profile) -> Result<(), Rule> {
        if profile.layout().nonce_len.contains(&self.0.len()) {
            return Ok(());
        }
        Err(nonce_len(&self.0))
    }
}

const fn nonce_len(bytes: &[u8]) -> Rule {
    Rule::Length {
        field: "randomNonce",
        found: bytes.len(),
    }
}

impl PartialEq for KrdNonce {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KrdNonce {}

/// When a token was signed: whole seconds, UTC, from 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SigningTime(DateTime);

impl SigningTime {
    /// From seconds since 1970.
    ///
    /// # Errors
    /// The time is after the year 9999, which no ASN.1 time can say.
    pub fn from_unix_seconds(seconds: u64) -> Result<Self, MalformedToken> {
        DateTime::from_unix_duration(Duration::from_secs(seconds))
            .map(Self)
            .map_err(|_| TokenKind::KeyToken.breaks()(Rule::SigningTime))
    }

    /// Seconds since 1970.
    pub fn unix_seconds(self) -> u64 {
        self.0.unix_duration().as_secs()
    }

    /// The DER of the signingTime attribute.
    pub(crate) fn to_attribute(self) -> Vec<u8> {
        encode::attribute(oid::SIGNING_TIME, &self.to_der())
    }

    /// From the value of that attribute.
    pub(crate) fn read(value: Element<'_>) -> Result<Self, MalformedToken> {
        let time = Time::from_der(value.whole()).map(|time| Self(time.to_date_time()));
        match time {
            Ok(time) if time.to_der() == value.whole() => Ok(time),
            _ => Err(value.refused(Rule::SigningTime)),
        }
    }

    /// RFC 5652 11.3: a `UTCTime` to 2049, a `GeneralizedTime` after.
    fn to_der(self) -> Vec<u8> {
        let (tag, year) = match self.0.year() {
            year @ ..=2049 => (encode::UTC_TIME, format!("{:02}", year % 100)),
            year => (encode::GENERALIZED_TIME, format!("{year:04}")),
        };
        let rest = [
            self.0.month(),
            self.0.day(),
            self.0.hour(),
            self.0.minutes(),
            self.0.seconds(),
        ]
        .map(|number| format!("{number:02}"));
        encode::element(tag, &[year.as_bytes(), rest.concat().as_bytes(), b"Z"])
    }
}

impl fmt::Display for SigningTime {
    /// As in RFC 3339.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
