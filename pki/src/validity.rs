//! Time in certificates: whole seconds, UTC.

use std::time::Duration;

use der::DateTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_cert::time::Time;

/// From when until when a certificate holds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: OffsetDateTime,
    /// Last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    pub(crate) fn holds_at(&self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether `inner` ends no later than this does. Beginnings may differ: a certificate is made
    /// after its issuer's.
    pub(crate) fn covers_end_of(&self, inner: &Self) -> bool {
        inner.not_after <= self.not_after
    }

    pub(crate) fn to_x509(self) -> der::Result<x509_cert::time::Validity> {
        Ok(x509_cert::time::Validity::new(
            to_x509(self.not_before)?,
            to_x509(self.not_after)?,
        ))
    }
}

/// A time as messages give it, in the form of RFC 3339. What that form does not reach, certificates and lists do not
/// either.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// RFC 5280 4.1.2.5: `UTCTime` through 2049, `GeneralizedTime` after; fractions are cut off.
pub(crate) fn to_x509(at: OffsetDateTime) -> der::Result<Time> {
    let seconds = u64::try_from(at.unix_timestamp()).map_err(|_| der::ErrorKind::DateTime)?;
    Ok(DateTime::from_unix_duration(Duration::from_secs(seconds))?.into())
}

pub(crate) fn from_x509(time: Time) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time.to_unix_duration()
}
