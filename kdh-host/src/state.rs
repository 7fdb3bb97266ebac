//! Which state follows on which: the two tables that the protocol document draws.

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$state_doc:meta])* $state:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($(#[$state_doc])* $state,)+ }

        impl $name {
            /// Every state.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$state,)+];

            /// The word in the database, in answers and in the audit trail.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$state => $text,)+ }
            }

            /// From that word.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
            }
        }
    };
}

states! {
    /// Where a device stands.
    DeviceState {
        /// Known, without certificates.
        Registered = "REGISTERED",
        /// Has certificates.
        Enrolled = "ENROLLED",
        /// Has exchanged credentials with this host: may receive keys.
        Bound = "BOUND",
        /// Reported a wrong check value; an operator has to look at it.
        Quarantined = "QUARANTINED",
        /// Stopped by an operator.
        Suspended = "SUSPENDED",
        /// Stopped for good.
        Revoked = "REVOKED",
    }
}

states! {
    /// Where a delivery stands.
    DeliveryState {
        /// Nonce claimed, intent recorded; no token exists outside.
        Prepared = "PREPARED",
        /// The token left, or may have left.
        Issued = "ISSUED",
        /// The terminal proved that it holds the key.
        Confirmed = "CONFIRMED",
        /// The terminal reported another check value.
        Mismatch = "MISMATCH",
        /// A newer token was issued for the same slot.
        Superseded = "SUPERSEDED",
        /// Not confirmed in time.
        Expired = "EXPIRED",
        /// No token was made.
        Abandoned = "ABANDONED",
    }
}

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceEvent {
    /// Its keys were certified.
    Enrolled,
    /// Credentials were exchanged.
    Bound,
    /// It reported a wrong check value.
    WrongKcv,
    /// An operator stopped it.
    Suspended,
    /// An operator let it go on.
    Resumed,
    /// An operator stopped it for good.
    Revoked,
}

impl DeviceState {
    /// The state after an event; `None` if the event is not possible here. `before` is where a
    /// suspended device came from.
    pub(crate) fn after(self, event: DeviceEvent, before: Option<Self>) -> Option<Self> {
        use DeviceEvent as E;
        match (self, event) {
            (Self::Registered | Self::Enrolled | Self::Bound, E::Enrolled) => Some(Self::Enrolled),
            // Only a bound device gets into quarantine.
            (Self::Enrolled | Self::Bound, E::Bound) | (Self::Quarantined, E::Resumed) => {
                Some(Self::Bound)
            }
            (Self::Bound, E::WrongKcv) => Some(Self::Quarantined),
            (Self::Registered | Self::Enrolled | Self::Bound | Self::Quarantined, E::Suspended) => {
                Some(Self::Suspended)
            }
            (Self::Suspended, E::Resumed) => before,
            (Self::Revoked, _) => None,
            (_, E::Revoked) => Some(Self::Revoked),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceEvent as E;
    use DeviceState as S;

    #[test]
    fn every_transition_of_a_device() {
        let events = [
            E::Enrolled,
            E::Bound,
            E::WrongKcv,
            E::Suspended,
            E::Resumed,
            E::Revoked,
        ];
        let before = Some(S::Enrolled);
        let table: [(S, [Option<S>; 6]); 6] = [
            (
                S::Registered,
                [
                    Some(S::Enrolled),
                    None,
                    None,
                    Some(S::Suspended),
                    None,
                    Some(S::Revoked),
                ],
            ),
            (
                S::Enrolled,
                [
                    Some(S::Enrolled),
                    Some(S::Bound),
                    None,
                    Some(S::Suspended),
                    None,
                    Some(S::Revoked),
                ],
            ),
            (
                S::Bound,
                [
                    Some(S::Enrolled),
                    Some(S::Bound),
                    Some(S::Quarantined),
                    Some(S::Suspended),
                    None,
                    Some(S::Revoked),
                ],
            ),
            (
                S::Quarantined,
                [
                    None,
                    None,
                    None,
                    Some(S::Suspended),
                    Some(S::Bound),
                    Some(S::Revoked),
                ],
            ),
            (
                S::Suspended,
                [None, None, None, None, before, Some(S::Revoked)],
            ),
            (S::Revoked, [None; 6]),
        ];
        for (state, expected) in table {
            for (event, expected) in events.into_iter().zip(expected) {
                assert_eq!(state.after(event, before), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_suspension_does_not_lift_a_quarantine() {
        let suspended = S::Quarantined.after(E::Suspended, None);
        assert_eq!(suspended, Some(S::Suspended));
        let resumed = S::Suspended.after(E::Resumed, Some(S::Quarantined));
        assert_eq!(resumed, Some(S::Quarantined));
    }

    #[test]
    fn words_are_read_back() {
        for &state in DeviceState::ALL {
            assert_eq!(DeviceState::parse(state.as_str()), Some(state));
        }
        for &state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(state.as_str()), Some(state));
        }
        assert_eq!(DeviceState::parse("bound"), None);
    }
}
