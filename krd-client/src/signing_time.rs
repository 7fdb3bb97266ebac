//! Signing times: what stands in the place of a nonce where a token was made without asking the
//! terminal.

use time::{Duration, OffsetDateTime};
use tr34::SigningTime;

/// What a signing time has to fit.
#[derive(Clone, Copy, Debug)]
pub struct SigningTimeBounds {
    /// Since when the terminal's certificate holds, which the token names.
    pub since: OffsetDateTime,
    /// Only later ones are taken.
    pub last: Option<SigningTime>,
    /// Now, by the terminal's own clock.
    pub now: OffsetDateTime,
    /// How far ahead of that clock a signing time may lie.
    pub skew: Duration,
}

/// Why a signing time is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningTimeRefusal {
    /// Before there was the certificate that the token names.
    #[error("the token was signed at {0}, before the terminal's certificate was made")]
    TooEarly(SigningTime),
    /// Not later than the mark: an old token, or the same one again.
    #[error("the token was signed at {found}, and only those that were signed after {last} count")]
    NotLater {
        /// In the token.
        found: SigningTime,
        /// Of the last one-pass key token that was taken, or of what happened since that outdates them.
        last: SigningTime,
    },
    /// Too far ahead of the terminal's clock. Taken, it would shut out all tokens until then.
    #[error("the token was signed at {0}, which is ahead of the terminal's clock")]
    Ahead(SigningTime),
}

impl SigningTimeRefusal {
    /// The stable word for it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooEarly(_) => "signing-time-too-early",
            Self::NotLater { .. } => "signing-time-not-later",
            Self::Ahead(_) => "signing-time-ahead",
        }
    }
}

impl SigningTimeBounds {
    /// Checks a signing time.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn verify(&self, found: SigningTime) -> Result<(), SigningTimeRefusal> {
        let seconds = i128::from(found.unix_seconds());
        if seconds < i128::from(self.since.unix_timestamp()) {
            return Err(SigningTimeRefusal::TooEarly(found));
        }
        if let Some(last) = self.last
            && found <= last
        {
            return Err(SigningTimeRefusal::NotLater { found, last });
        }
        let latest = (self.now + self.skew).unix_timestamp();
        if seconds > i128::from(latest) {
            return Err(SigningTimeRefusal::Ahead(found));
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;
    const SINCE: u64 = NOW - 86400;

    fn at(seconds: u64) -> SigningTime {
        SigningTime::from_unix_seconds(seconds).unwrap()
    }

    fn bounds(last: Option<u64>) -> SigningTimeBounds {
        let clock = |seconds: u64| OffsetDateTime::from_unix_timestamp(seconds.cast_signed());
        SigningTimeBounds {
            since: clock(SINCE).unwrap(),
            last: last.map(at),
            now: clock(NOW).unwrap(),
            skew: Duration::minutes(5),
        }
    }

    #[test]
    fn later_ones_are_taken_up_to_the_skew() {
        for (last, found) in [
            (None, SINCE),
            (None, NOW),
            (None, NOW + 300),
            (Some(NOW - 1), NOW),
            // Of a host whose clock was ahead.
            (Some(NOW + 299), NOW + 300),
        ] {
            assert_eq!(bounds(last).verify(at(found)), Ok(()), "{last:?} {found}");
        }
    }

    #[test]
    fn all_others_are_refused() {
        let not_later = |found, last| SigningTimeRefusal::NotLater {
            found: at(found),
            last: at(last),
        };
        for (last, found, refusal) in [
            (Some(NOW), NOW, not_later(NOW, NOW)),
            (Some(NOW), NOW - 1, not_later(NOW - 1, NOW)),
            (Some(NOW), SINCE, not_later(SINCE, NOW)),
            (None, 0, SigningTimeRefusal::TooEarly(at(0))),
            (None, SINCE - 1, SigningTimeRefusal::TooEarly(at(SINCE - 1))),
            (Some(NOW + 300), NOW + 300, not_later(NOW + 300, NOW + 300)),
            (None, NOW + 301, SigningTimeRefusal::Ahead(at(NOW + 301))),
            (
                Some(NOW),
                NOW + 301,
                SigningTimeRefusal::Ahead(at(NOW + 301)),
            ),
        ] {
            assert_eq!(bounds(last).verify(at(found)), Err(refusal));
        }
    }
}
