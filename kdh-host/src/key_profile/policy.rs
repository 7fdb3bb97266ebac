//! What no slot of a device may hold, in one table.
//!
//! Each rule looks at a slot alone, and does nothing but look.

use std::fmt;

use hsm::KcvMethod;
use time::{Date, macros::date};
use tr34::{Kbh, KbhError, KbhField, KeyAlgorithm, KeyKind};

use super::{
    profile::{KeyProfile, KeySource, ProfileSlot},
    usages::{Holder, Pins, UNRESTRICTED, Usage},
};
use crate::{
    config::{Config, KeyPolicy, KeyStrength, RSA_BITS_FOR_AES_128, SharedKeys},
    names::{Slot, beginning},
};

/// When a rule refuses. What it does not refuse, it warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuses {
    Always,
    InStrictMode,
    Never,
}

impl Refuses {
    /// For the document.
    #[cfg(test)]
    const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::InStrictMode => "in strict mode",
            Self::Never => "never: it warns",
        }
    }
}

/// Something that a slot may not hold, or should not.
pub(crate) struct Rule {
    /// Stable: programs may look for it.
    pub(crate) name: &'static str,
    pub(crate) refuses: Refuses,
    finds: Finds,
    /// Why it is one, and what to do.
    pub(crate) why: &'static str,
}

/// What a rule looks at.
#[derive(Clone, Copy)]
enum Finds {
    /// A header that cannot be read, for this reason.
    InHeader(fn(KbhError) -> bool),
    /// A slot. Gives what is found, in words, if anything is.
    InSlot(fn(&ProfileSlot, &Grounds) -> Option<String>),
}

/// What the host's configuration and the calendar have to do with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grounds {
    pub(crate) policy: KeyPolicy,
    pub(crate) shared_keys: SharedKeys,
    /// The smallest RSA key of a terminal under which this host sends an AES key. Ke need not be looked at: it is
    /// never weaker than the key that travels under it.
    pub(crate) rsa_bits: usize,
    pub(crate) today: Date,
}

impl Grounds {
    pub(crate) fn new(config: &Config, today: Date) -> Self {
        Self {
            policy: config.key_policy,
            shared_keys: config.shared_keys,
            rsa_bits: match config.key_strength {
                KeyStrength::Require => config.min_rsa_bits.max(RSA_BITS_FOR_AES_128),
                KeyStrength::Warn => config.min_rsa_bits,
            },
            today,
        }
    }
}

/// What a rule has found in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) slot: Slot,
    pub(crate) rule: &'static str,
    pub(crate) refuses: bool,
    pub(crate) message: String,
}

const MALFORMED_HEADER: Rule = Rule {
    name: "malformed-header",
    refuses: Refuses::Always,
    finds: Finds::InHeader(|error| error != UNKNOWN_USAGE),
    why: "terminals take 16 characters as in TR-31, for example D0000P0AE00N0000",
};

const UNKNOWN_USAGE: KbhError = KbhError::UnknownValue(KbhField::KeyUsage);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}: {} ({})", self.slot, self.message, self.rule)
    }
}

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    MALFORMED_HEADER,
    Rule {
        name: "unknown-usage",
        refuses: Refuses::Always,
        finds: Finds::InHeader(|error| error == UNKNOWN_USAGE),
        why: "nobody can say what a key of a numeric or unknown usage may do: take one that X9.143 defines",
    },
    Rule {
        name: "header-of-other-kind",
        refuses: Refuses::Always,
        finds: Finds::InSlot(header_of_other_kind),
        why: "the header names the algorithm of the key: write A for AES, T for TDEA, or correct the kind",
    },
    Rule {
        name: "usage-of-other-algorithm",
        refuses: Refuses::Always,
        finds: Finds::InSlot(usage_of_other_algorithm),
        why: "a terminal cannot use the key for what the header says: correct the usage or the kind",
    },
    Rule {
        name: "usage-of-other-mode",
        refuses: Refuses::Always,
        finds: Finds::InSlot(usage_of_other_mode),
        why: "usage and mode of use contradict each other: correct one of them",
    },
    Rule {
        name: "unrestricted-mode",
        refuses: Refuses::InStrictMode,
        finds: Finds::InSlot(unrestricted_mode),
        why: "a key that may do everything does what nobody has thought of: name the one mode of use that the terminal \
              needs",
    },
    Rule {
        name: "exportable-pin-key",
        refuses: Refuses::Always,
        finds: Finds::InSlot(exportable_pin_key),
        why: "whoever has the terminal export it can read PINs: write N",
    },
    Rule {
        name: "stronger-than-what-wraps-it",
        refuses: Refuses::InStrictMode,
        finds: Finds::InSlot(stronger_than_what_wraps_it),
        why: "who breaks the weaker key has the stronger one (NIST SP 800-57 part 1, table 2): take AES-128, which \
              key-strength = \"require\" sends under RSA-3072 and longer only",
    },
    Rule {
        name: "host-key-in-terminal",
        refuses: Refuses::InStrictMode,
        finds: Finds::InSlot(host_key_in_terminal),
        why: "one opened terminal would give away what protects all cards or all terminals: it stays in an HSM; \
              terminals get keys that are derived from it",
    },
    Rule {
        name: "shared-keys-not-allowed",
        refuses: Refuses::Always,
        finds: Finds::InSlot(shared_keys_not_allowed),
        why: "one opened terminal would give away the key of all: take source = \"unique\", or set shared-keys = \
              \"allow\" in the host's configuration",
    },
    Rule {
        name: "shared-pin-key",
        refuses: Refuses::InStrictMode,
        finds: Finds::InSlot(shared_pin_key),
        why: "each terminal has keys of its own for whatever protects PINs (PCI PIN, requirement 20): take source = \
              \"unique\" or \"derived\"",
    },
    Rule {
        name: "shared-key",
        refuses: Refuses::Never,
        finds: Finds::InSlot(shared_key),
        why: "one opened terminal gives away the key of all: take source = \"unique\" where you can",
    },
    Rule {
        name: "derived-for-other-usage",
        refuses: Refuses::Always,
        finds: Finds::InSlot(derived_for_other_usage),
        why: "what is derived is the initial key of DUKPT: write usage B1",
    },
    Rule {
        name: "derived-of-other-kind",
        refuses: Refuses::Always,
        finds: Finds::InSlot(derived_of_other_kind),
        why: "initial keys are derived as in AES DUKPT (X9.24-3): take AES-128, AES-192 or AES-256",
    },
    Rule {
        name: "kcv-of-other-method",
        refuses: Refuses::Always,
        finds: Finds::InSlot(kcv_of_other_method),
        why: "the terminal and the host would never agree: take aes-cmac for AES keys, tdea-ecb for TDEA keys",
    },
    Rule {
        name: "kcv-too-long",
        refuses: Refuses::Always,
        finds: Finds::InSlot(kcv_too_long),
        why: "more of it would tell of the key (X9.24-1, A.4): take 3 bytes for tdea-ecb, 3 to 5 for aes-cmac",
    },
    Rule {
        name: "renewal-after-validity",
        refuses: Refuses::Always,
        finds: Finds::InSlot(renewal_after_validity),
        why: "the key would have run out before the next one comes: renew it earlier, or let it be valid longer",
    },
    Rule {
        name: "renewal-of-shared-key",
        refuses: Refuses::Always,
        finds: Finds::InSlot(renewal_of_shared_key),
        why: "the host makes no new version of a registered key: leave renewal-days out, and put a profile with another \
              key when it is time",
    },
    Rule {
        name: "tdea-past-its-date",
        refuses: Refuses::Never,
        finds: Finds::InSlot(tdea_past_its_date),
        why: "plan for AES: put a profile with an AES kind as soon as the terminals can load one",
    },
];

/// Reads the header of a slot.
///
/// # Errors
/// The name of the rule that refuses it, and what it says.
pub(crate) fn read_header(text: &str) -> Result<Kbh, (&'static str, String)> {
    Kbh::parse_plain(text.as_bytes()).map_err(|error| {
        let applies = |rule: &&Rule| matches!(rule.finds, Finds::InHeader(finds) if finds(error));
        let rule = RULES.iter().find(applies).unwrap_or(&MALFORMED_HEADER);
        let text = beginning(text);
        (rule.name, format!("{text:?}: {error}: {}", rule.why))
    })
}

/// Says what the rules have found in a profile.
pub(crate) fn judge(profile: &KeyProfile, grounds: &Grounds) -> Vec<Finding> {
    let slots = profile.slots.iter();
    slots.flat_map(|slot| judge_slot(slot, grounds)).collect()
}

/// The same, of one slot.
pub(crate) fn judge_slot(slot: &ProfileSlot, grounds: &Grounds) -> Vec<Finding> {
    let rules = RULES.iter();
    rules.filter_map(|rule| rule.judge(slot, grounds)).collect()
}

impl Rule {
    fn judge(&self, slot: &ProfileSlot, grounds: &Grounds) -> Option<Finding> {
        let Finds::InSlot(finds) = self.finds else {
            return None;
        };
        let found = finds(slot, grounds)?;
        let refuses = match self.refuses {
            Refuses::Always => true,
            Refuses::InStrictMode => grounds.policy == KeyPolicy::Strict,
            Refuses::Never => false,
        };
        Some(Finding {
            slot: slot.slot.clone(),
            rule: self.name,
            refuses,
            message: format!("{found}: {}", self.why),
        })
    }
}

fn header_of_other_kind(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let algorithm = slot.header.algorithm();
    (slot.header.key_kind(slot.kind.key_len()) != Ok(slot.kind))
        .then(|| format!("the header says {algorithm}, and the key is {}", slot.kind))
}

fn usage_of_other_algorithm(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let usage = usage_of(slot)?;
    let algorithm = algorithm_of(slot.kind);
    (!usage.has_algorithm(algorithm)).then(|| {
        format!(
            "usage {} is for keys of {}, and this is one of {algorithm}",
            in_words(slot),
            usage.algorithms_in_words()
        )
    })
}

fn usage_of_other_mode(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let usage = usage_of(slot)?;
    (!usage.has_mode(slot.header.mode())).then(|| {
        format!(
            "usage {} goes with mode of use {}, not {} ({})",
            in_words(slot),
            usage.modes_in_words(),
            slot.header.mode(),
            slot.header.mode_words()
        )
    })
}

fn unrestricted_mode(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let usage = usage_of(slot)?;
    let restricted = slot.header.mode() != UNRESTRICTED || usage.modes.is_empty();
    (!restricted).then(|| {
        format!(
            "mode of use N restricts nothing of usage {}",
            in_words(slot)
        )
    })
}

fn exportable_pin_key(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let exportability = slot.header.exportability();
    (usage_of(slot)?.pins == Pins::Direct && exportability != NOT_EXPORTABLE).then(|| {
        format!(
            "usage {} is for PINs, and the key is exportable ({exportability})",
            in_words(slot)
        )
    })
}

fn stronger_than_what_wraps_it(slot: &ProfileSlot, grounds: &Grounds) -> Option<String> {
    // Keys of TDEA travel under every RSA key that a terminal may have.
    let rsa_bits = match algorithm_of(slot.kind) {
        KeyAlgorithm::Aes => grounds.rsa_bits,
        _ => return None,
    };
    let (key, rsa) = (security_bits(slot.kind), security_bits_of_rsa(rsa_bits));
    (key > rsa).then(|| {
        format!(
            "a key of {} (security of {key} bits) may travel under a terminal's RSA-{rsa_bits} ({rsa} bits)",
            slot.kind
        )
    })
}

fn host_key_in_terminal(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    (usage_of(slot)?.holder == Holder::Host)
        .then(|| format!("usage {} is no usage of terminals", in_words(slot)))
}

fn shared_keys_not_allowed(slot: &ProfileSlot, grounds: &Grounds) -> Option<String> {
    (is_shared(slot) && grounds.shared_keys == SharedKeys::Refuse)
        .then(|| "all devices would get one key".to_owned())
}

fn shared_pin_key(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let how = match usage_of(slot)?.pins {
        Pins::Direct => "protects PINs",
        Pins::Indirect => "may protect keys that protect PINs",
        Pins::None => return None,
    };
    is_shared(slot).then(|| format!("usage {} {how}, and the key is shared", in_words(slot)))
}

fn shared_key(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    is_shared(slot).then(|| "all devices get one key".to_owned())
}

fn derived_for_other_usage(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    (is_derived(slot) && slot.header.usage() != "B1")
        .then(|| format!("the key is derived, and its usage is {}", in_words(slot)))
}

fn derived_of_other_kind(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    (is_derived(slot) && algorithm_of(slot.kind) != KeyAlgorithm::Aes)
        .then(|| format!("the key is derived, and of the kind {}", slot.kind))
}

fn kcv_of_other_method(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    (slot.kcv.method != KcvMethod::for_key(slot.kind)).then(|| {
        format!(
            "check values by {} are none of keys of the kind {}",
            method_in_words(slot.kcv.method),
            slot.kind
        )
    })
}

fn kcv_too_long(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let (method, len) = (slot.kcv.method, slot.kcv.len);
    let most = match method {
        KcvMethod::TdeaEcb => 3,
        KcvMethod::AesCmac => 5,
    };
    (len > most).then(|| {
        format!(
            "a check value by {} has {most} bytes at most, not {len}",
            method_in_words(method)
        )
    })
}

fn renewal_after_validity(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    let (validity, renewal) = (slot.validity_days, slot.renewal_days?);
    (renewal >= validity)
        .then(|| format!("a key is renewed after {renewal} days, and valid for {validity} days"))
}

fn renewal_of_shared_key(slot: &ProfileSlot, _: &Grounds) -> Option<String> {
    (is_shared(slot) && slot.renewal_days.is_some())
        .then(|| "the key is shared, and shall be renewed by itself".to_owned())
}

fn tdea_past_its_date(slot: &ProfileSlot, grounds: &Grounds) -> Option<String> {
    // NIST SP 800-131A rev. 2, table 1.
    let disallowed = match slot.kind {
        KeyKind::Tdea2 => date!(2016 - 01 - 01),
        KeyKind::Tdea3 => date!(2024 - 01 - 01),
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => return None,
    };
    (grounds.today >= disallowed).then(|| {
        format!(
            "encryption with {} is disallowed since {disallowed} (NIST SP 800-131A)",
            slot.kind
        )
    })
}

/// Of a header's exportability.
const NOT_EXPORTABLE: &str = "N";

/// What the standard says of the header's usage. A header that can be read has one that it defines.
fn usage_of(slot: &ProfileSlot) -> Option<&'static Usage> {
    Usage::of(slot.header.usage())
}

fn in_words(slot: &ProfileSlot) -> String {
    format!("{} ({})", slot.header.usage(), slot.header.usage_words())
}

const fn is_shared(slot: &ProfileSlot) -> bool {
    matches!(slot.source, KeySource::Shared(_))
}

const fn is_derived(slot: &ProfileSlot) -> bool {
    matches!(slot.source, KeySource::Derived(_))
}

const fn algorithm_of(kind: KeyKind) -> KeyAlgorithm {
    match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => KeyAlgorithm::Tdea,
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => KeyAlgorithm::Aes,
    }
}

/// As profiles' files have it.
const fn method_in_words(method: KcvMethod) -> &'static str {
    match method {
        KcvMethod::TdeaEcb => "tdea-ecb",
        KcvMethod::AesCmac => "aes-cmac",
    }
}

/// NIST SP 800-57 part 1, table 2.
const fn security_bits(kind: KeyKind) -> u32 {
    match kind {
        KeyKind::Tdea2 => 80,
        KeyKind::Tdea3 => 112,
        KeyKind::Aes128 => 128,
        KeyKind::Aes192 => 192,
        KeyKind::Aes256 => 256,
    }
}

/// The same table.
const fn security_bits_of_rsa(bits: usize) -> u32 {
    match bits {
        ..2048 => 80,
        2048..3072 => 112,
        3072..7680 => 128,
        7680..15360 => 192,
        _ => 256,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
