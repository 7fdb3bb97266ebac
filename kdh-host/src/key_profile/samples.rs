//! A profile for tests.

use hsm::KcvMethod;
use tr34::KeyKind;

use super::profile::{Derivation, KcvForm, KeyProfile, KeySource, ProfileSlot};
use crate::names::{BdkName, KeyAlias, ProfileName, Slot};

/// With a slot of each source.
pub(crate) fn sample() -> KeyProfile {
    let slot = |slot, header: &str, source, kcv_len, days, renewal_days| ProfileSlot {
        slot: Slot::parse(slot).unwrap(),
        header: header.parse().unwrap(),
        kind: KeyKind::Aes128,
        source,
        kcv: KcvForm {
            method: KcvMethod::AesCmac,
            len: kcv_len,
        },
        validity_days: days,
        renewal_days,
    };
    let shared = KeySource::Shared(KeyAlias::parse("acq-data").unwrap());
    let derived = KeySource::Derived(Derivation {
        bdk: BdkName::parse("acquirer").unwrap(),
        key_set_id: [0x01, 0x23, 0x45, 0x67],
        ksn_in_header: true,
    });
    KeyProfile {
        name: ProfileName::parse("standard").unwrap(),
        slots: vec![
            slot("data", "D0000D0AB00E0000", shared, 5, 365, None),
            slot("dukpt", "D0000B1AX00N0000", derived, 3, 730, None),
            slot(
                "tmk",
                "D0000K0AD00N0000",
                KeySource::Unique,
                5,
                400,
                Some(365),
            ),
        ],
    }
}
