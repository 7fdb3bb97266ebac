//! Which state follows on which: the tables that the protocol document draws.

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
        /// A token left that destroys its keys and ends its binding: it receives none before it has bound again.
        Unbound = "UNBOUND",
        /// A token left that binds it, with its keys, to another host.
        Rebound = "REBOUND",
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
        /// Confirmed before the device's binding ended: it has bound anew since, without this key.
        Ended = "ENDED",
        /// No token was made.
        Abandoned = "ABANDONED",
    }
}

states! {
    /// Where a version of a device's key stands.
    DeviceKeyState {
        /// Offered to the device, which has not confirmed it.
        Pending = "PENDING",
        /// Confirmed. Good until a later version is confirmed.
        Active = "ACTIVE",
        /// A later version was confirmed: what the host had of this one is destroyed.
        Destroyed = "DESTROYED",
        /// Another key was assigned before the device had confirmed this one.
        Withdrawn = "WITHDRAWN",
        /// The HSM did not vouch for its row, and two operators have discarded it: it holds no key.
        Discarded = "DISCARDED",
    }
}

states! {
    /// Where something stands that takes two operators.
    ApprovalState {
        /// Waits for another operator.
        Asked = "ASKED",
        /// Approved: in force.
        Approved = "APPROVED",
        /// It was in force, and is done.
        Ended = "ENDED",
        /// It was approved, and an operator ended it.
        Withdrawn = "WITHDRAWN",
        /// An operator rejected it.
        Rejected = "REJECTED",
        /// Nobody approved it in time.
        Expired = "EXPIRED",
    }
}

impl ApprovalState {
    /// Whether nothing follows on it.
    pub(crate) const fn is_over(self) -> bool {
        !matches!(self, Self::Asked | Self::Approved)
    }
}

states! {
    /// What an operator asks for that another one has to approve.
    ApprovedAct {
        /// Keys of devices go to a payment switch.
        ExportTarget = "EXPORT_TARGET",
        /// A row of a device's key is discarded, for which the HSM does not vouch.
        KeyDiscard = "KEY_DISCARD",
        /// A new pair of storage keys, in the place of the present one.
        StorageRotation = "STORAGE_ROTATION",
    }
}

states! {
    /// Where a record stands that is for a payment switch.
    ExportState {
        /// In line: it is to be made.
        Queued = "QUEUED",
        /// The HSM has made it.
        Made = "MADE",
        /// There was nothing to be exported any more.
        Skipped = "SKIPPED",
        /// It has arrived, and its key is not kept any longer.
        Erased = "ERASED",
    }
}

states! {
    /// What became of the keys that a device held when a token left that ends its binding.
    KeysFate {
        /// The device has not said what it did.
        AssumedDestroyed = "ASSUMED_DESTROYED",
        /// The device has said that it holds none any more.
        Destroyed = "DESTROYED",
        /// They belong to another host.
        HandedOver = "HANDED_OVER",
    }
}

states! {
    /// How a binding ends.
    EndOfBinding {
        /// With all keys of the device.
        Unbind = "UNBIND",
        /// By going over to another KDH, with the keys.
        Rebind = "REBIND",
    }
}

states! {
    /// Where an unbind or rebind token stands.
    BindingTokenState {
        /// Nonce claimed, intent recorded; no token exists outside.
        Prepared = "PREPARED",
        /// The token exists: it left, or may leave.
        Issued = "ISSUED",
        /// The device has acknowledged it.
        Obeyed = "OBEYED",
        /// No token left.
        Abandoned = "ABANDONED",
    }
}

states! {
    /// Where a request to `CA_KRD`'s authority stands.
    AuthorityState {
        /// Waits for another operator.
        Asked = "ASKED",
        /// Approved: its token is being signed.
        Approved = "APPROVED",
        /// Its token exists.
        Signed = "SIGNED",
        /// An operator rejected it.
        Rejected = "REJECTED",
        /// Nobody approved it in time.
        Expired = "EXPIRED",
    }
}

states! {
    /// Where the import of a key that arrived encrypted stands.
    KeyImportState {
        /// Waits for another operator.
        Asked = "ASKED",
        /// Approved: the HSM is unwrapping it.
        Approved = "APPROVED",
        /// The HSM has it, and the host knows it.
        Imported = "IMPORTED",
        /// An operator rejected it.
        Rejected = "REJECTED",
        /// Nobody approved it in time.
        Expired = "EXPIRED",
    }
}

states! {
    /// What a rollout is for.
    RolloutKind {
        /// An operator has started it.
        Command = "COMMAND",
        /// Keys that are due by their profiles.
        Renewal = "RENEWAL",
        /// Keys for devices that came to a profile later.
        Filling = "FILLING",
    }
}

states! {
    /// Where a rollout stands.
    RolloutState {
        /// Keys are being made, or it waits for the present wave.
        Running = "RUNNING",
        /// Until an operator has it go on.
        Paused = "PAUSED",
        /// An operator has ended it.
        Stopped = "STOPPED",
        /// Every device was looked at.
        Done = "DONE",
    }
}

/// What shall become of a binding; of a rebinding, with the KDH that takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingChange<K> {
    /// The device destroys its keys and is bound to nobody.
    Unbind,
    /// The device goes over to this KDH, with its keys.
    Rebind(K),
}

impl<K> BindingChange<K> {
    /// As its parts stand in the database; `None` if they do not go together.
    pub(crate) fn of_parts(kind: &str, new_kdh: Option<K>) -> Option<Self> {
        match (EndOfBinding::parse(kind)?, new_kdh) {
            (EndOfBinding::Unbind, None) => Some(Self::Unbind),
            (EndOfBinding::Rebind, Some(kdh)) => Some(Self::Rebind(kdh)),
            (EndOfBinding::Unbind, Some(_)) | (EndOfBinding::Rebind, None) => None,
        }
    }

    pub(crate) const fn kind(&self) -> EndOfBinding {
        match self {
            Self::Unbind => EndOfBinding::Unbind,
            Self::Rebind(_) => EndOfBinding::Rebind,
        }
    }

    /// The KDH that takes over.
    pub(crate) const fn new_kdh(&self) -> Option<&K> {
        match self {
            Self::Unbind => None,
            Self::Rebind(kdh) => Some(kdh),
        }
    }
}

impl BindingChange<Vec<u8>> {
    /// With the certificate borrowed.
    pub(crate) fn as_deref(&self) -> BindingChange<&[u8]> {
        match self {
            Self::Unbind => BindingChange::Unbind,
            Self::Rebind(der) => BindingChange::Rebind(der),
        }
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
    /// A token leaves that unbinds it from this host.
    Unbound,
    /// A token leaves that binds it to another host.
    Rebound,
    /// The token that would have ended its binding did not leave after all.
    StillBound,
    /// An operator stopped it.
    Suspended,
    /// An operator let it go on.
    Resumed,
    /// An operator stopped it for good.
    Revoked,
}

impl DeviceState {
    /// Whether it gets no new keys as it stands. One that is rebound is another host's.
    pub(crate) const fn is_left_alone(self) -> bool {
        match self {
            Self::Registered | Self::Enrolled | Self::Bound | Self::Unbound => false,
            Self::Rebound | Self::Quarantined | Self::Suspended | Self::Revoked => true,
        }
    }

    /// The state after an event; `None` if the event is not possible here. `before` is where a
    /// suspended device came from.
    pub(crate) fn after(self, event: DeviceEvent, before: Option<Self>) -> Option<Self> {
        use DeviceEvent as E;
        match (self, event) {
            (
                Self::Registered | Self::Enrolled | Self::Bound | Self::Unbound | Self::Rebound,
                E::Enrolled,
            ) => Some(Self::Enrolled),
            // Only a bound device gets into quarantine.
            (Self::Enrolled | Self::Bound | Self::Unbound | Self::Rebound, E::Bound)
            | (Self::Quarantined, E::Resumed)
            | (Self::Unbound | Self::Rebound, E::StillBound) => Some(Self::Bound),
            (Self::Bound, E::WrongKcv) => Some(Self::Quarantined),
            // Until the device has said that it obeyed one token, it may have to be given another.
            (Self::Bound | Self::Unbound | Self::Rebound, E::Unbound) => Some(Self::Unbound),
            (Self::Bound | Self::Unbound | Self::Rebound, E::Rebound) => Some(Self::Rebound),
            (
                Self::Registered
                | Self::Enrolled
                | Self::Bound
                | Self::Unbound
                | Self::Rebound
                | Self::Quarantined,
                E::Suspended,
            ) => Some(Self::Suspended),
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

    const EVENTS: [E; 9] = [
        E::Enrolled,
        E::Bound,
        E::WrongKcv,
        E::Unbound,
        E::Rebound,
        E::StillBound,
        E::Suspended,
        E::Resumed,
        E::Revoked,
    ];

    /// For each state, what each of [`EVENTS`] leads to; a dash for nowhere.
    const TABLE: &[(S, &str)] = &[
        (S::Registered, "ENROLLED - - - - - SUSPENDED - REVOKED"),
        (S::Enrolled, "ENROLLED BOUND - - - - SUSPENDED - REVOKED"),
        (
            S::Bound,
            "ENROLLED BOUND QUARANTINED UNBOUND REBOUND - SUSPENDED - REVOKED",
        ),
        (
            S::Unbound,
            "ENROLLED BOUND - UNBOUND REBOUND BOUND SUSPENDED - REVOKED",
        ),
        (
            S::Rebound,
            "ENROLLED BOUND - UNBOUND REBOUND BOUND SUSPENDED - REVOKED",
        ),
        (S::Quarantined, "- - - - - - SUSPENDED BOUND REVOKED"),
        // To where it came from.
        (S::Suspended, "- - - - - - - ENROLLED REVOKED"),
        (S::Revoked, "- - - - - - - - -"),
    ];

    #[test]
    fn every_transition_of_a_device() {
        assert_eq!(TABLE.len(), S::ALL.len());
        for (state, expected) in TABLE {
            let expected: Vec<_> = expected.split(' ').map(S::parse).collect();
            assert_eq!(expected.len(), EVENTS.len(), "{state:?}");
            for (event, expected) in EVENTS.into_iter().zip(expected) {
                let next = state.after(event, Some(S::Enrolled));
                assert_eq!(next, expected, "{state:?} {event:?}");
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
    fn a_rebinding_names_a_kdh_and_an_unbinding_none() {
        let of_parts = BindingChange::of_parts;
        assert_eq!(of_parts("UNBIND", None::<u8>), Some(BindingChange::Unbind));
        assert_eq!(of_parts("REBIND", Some(1)), Some(BindingChange::Rebind(1)));
        for (kind, kdh) in [
            ("UNBIND", Some(1)),
            ("REBIND", None),
            ("unbind", None),
            ("", None),
        ] {
            assert_eq!(of_parts(kind, kdh), None, "{kind:?} {kdh:?}");
        }
    }

    #[test]
    fn words_are_read_back() {
        macro_rules! read_back {
            ($($name:ident)+) => {$(
                for &state in $name::ALL {
                    assert_eq!($name::parse(state.as_str()), Some(state));
                }
            )+};
        }
        read_back!(DeviceState DeliveryState KeysFate EndOfBinding BindingTokenState);
        read_back!(AuthorityState KeyImportState ApprovalState ApprovedAct ExportState);
        read_back!(RolloutKind RolloutState);
        assert_eq!(DeviceState::parse("bound"), None);
    }
}
