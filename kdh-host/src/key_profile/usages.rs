//! ANSI X9.143 table 2, as far as it says which usages go with which modes of use and algorithms; and what each
//! usage has to do with terminals and PINs.

use tr34::KeyAlgorithm;

/// What the standard says of a key usage.
pub(super) struct Usage {
    pub(super) code: &'static str,
    /// Modes of use, besides N: that one restricts nothing beyond the usage, and goes with all.
    pub(super) modes: &'static str,
    /// Of the algorithms whose keys are loaded here: A (AES), T (TDEA), both, or none.
    pub(super) algorithms: &'static str,
    pub(super) holder: Holder,
    pub(super) pins: Pins,
}

/// Who works with such keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Terminal,
    /// An issuer's or acquirer's HSM alone.
    Host,
}

/// What becomes of PINs if such a key gets out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pins {
    /// They are encrypted, made or verified with it.
    Direct,
    /// Keys that are wrapped under it, or derived from it, may be such keys (PCI PIN, requirement 20).
    Indirect,
    /// Nothing.
    None,
}

use Holder::{Host, Terminal};
use Pins::{Direct, Indirect, None as NoPins};

const fn usage(
    code: &'static str,
    modes: &'static str,
    algorithms: &'static str,
    holder: Holder,
    pins: Pins,
) -> Usage {
    Usage {
        code,
        modes,
        algorithms,
        holder,
        pins,
    }
}

/// Every usage that the standard defines; numeric ones are left to proprietary use.
pub(super) const USAGES: &[Usage] = &[
    usage("B0", "X", "AT", Host, Indirect),
    usage("B1", "X", "AT", Terminal, Indirect),
    // Of the variants of TDEA DUKPT alone.
    usage("B2", "XY", "T", Host, Indirect),
    usage("B3", "X", "AT", Terminal, Indirect),
    usage("C0", "CGV", "AT", Host, NoPins),
    usage("D0", "BDE", "AT", Terminal, NoPins),
    usage("D1", "BDE", "", Terminal, NoPins),
    usage("D2", "BDE", "AT", Host, NoPins),
    usage("D3", "BDE", "AT", Terminal, NoPins),
    usage("E0", "X", "AT", Host, NoPins),
    usage("E1", "X", "AT", Host, NoPins),
    usage("E2", "X", "AT", Host, NoPins),
    usage("E3", "X", "AT", Host, NoPins),
    usage("E4", "X", "AT", Host, NoPins),
    usage("E5", "X", "AT", Host, NoPins),
    usage("E6", "X", "AT", Host, NoPins),
    usage("E7", "BDESTV", "", Host, NoPins),
    // Not a key: nothing but N.
    usage("I0", "", "AT", Terminal, NoPins),
    usage("K0", "BDE", "AT", Terminal, Indirect),
    usage("K1", "BDE", "AT", Terminal, Indirect),
    usage("K2", "BDE", "", Terminal, Indirect),
    usage("K3", "BDEX", "", Terminal, Indirect),
    // ISO 20038 is for AES.
    usage("K4", "BDE", "A", Terminal, Indirect),
    // "Using TDEA", as the standard has it.
    usage("M0", "CGV", "T", Terminal, NoPins),
    usage("M1", "CGV", "AT", Terminal, NoPins),
    usage("M2", "CGV", "AT", Terminal, NoPins),
    // Ends in three operations of DEA under the two halves of the key.
    usage("M3", "CGV", "T", Terminal, NoPins),
    usage("M4", "CGV", "AT", Terminal, NoPins),
    usage("M5", "CGV", "AT", Terminal, NoPins),
    usage("M6", "CGV", "AT", Terminal, NoPins),
    usage("M7", "CGV", "", Terminal, NoPins),
    usage("M8", "CGV", "AT", Terminal, NoPins),
    usage("P0", "BDE", "AT", Terminal, Direct),
    usage("P1", "CGV", "AT", Host, Direct),
    usage("S0", "SV", "", Terminal, NoPins),
    usage("S1", "SV", "", Host, NoPins),
    usage("S2", "BDESTV", "", Terminal, NoPins),
    usage("V0", "CGV", "AT", Host, Direct),
    usage("V1", "CGV", "AT", Host, Direct),
    usage("V2", "CGV", "AT", Host, Direct),
    usage("V3", "CGV", "AT", Host, Direct),
    usage("V4", "CGV", "AT", Host, Direct),
    usage("V5", "CGV", "AT", Host, Direct),
];

impl Usage {
    /// What the standard says of a code; `None` if it defines no such usage.
    pub(super) fn of(code: &str) -> Option<&'static Self> {
        USAGES.iter().find(|usage| usage.code == code)
    }

    pub(super) fn has_mode(&self, mode: &str) -> bool {
        mode == UNRESTRICTED || self.modes.contains(mode)
    }

    pub(super) fn has_algorithm(&self, algorithm: KeyAlgorithm) -> bool {
        match algorithm {
            KeyAlgorithm::Aes => self.algorithms.contains('A'),
            KeyAlgorithm::Tdea => self.algorithms.contains('T'),
            // Not loaded here, whatever the usage.
            _ => false,
        }
    }

    /// For people: "B, D or E".
    pub(super) fn modes_in_words(&self) -> String {
        let modes: Vec<_> = self.modes.chars().map(String::from).collect();
        match &modes[..] {
            [] => UNRESTRICTED.to_owned(),
            [one] => one.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        }
    }

    /// For people: "AES or TDEA".
    pub(super) fn algorithms_in_words(&self) -> &'static str {
        match self.algorithms {
            "A" => "AES",
            "T" => "TDEA",
            "AT" => "AES or TDEA",
            _ => "other algorithms",
        }
    }
}

/// The mode of use that restricts nothing.
pub(super) const UNRESTRICTED: &str = "N";
