//! Every rule, broken alone, with the whole of what is said; and the tables of the document.

use std::fmt::Write as _;

use super::*;
use crate::{
    key_profile::{
        profile::{Derivation, KcvForm},
        samples::sample,
        usages::USAGES,
    },
    names::{BdkName, KeyAlias},
};

/// As the host is by default.
fn strict() -> Grounds {
    Grounds {
        policy: KeyPolicy::Strict,
        shared_keys: SharedKeys::Refuse,
        rsa_bits: 3072,
        today: date!(2026 - 11 - 27),
    }
}

/// A slot of which nothing is to be said: the sample's `tmk`.
fn sound() -> ProfileSlot {
    sample().slots.remove(2)
}

/// With this header, of keys of this kind.
fn with(header: &str, kind: KeyKind) -> ProfileSlot {
    ProfileSlot {
        header: header.parse().unwrap(),
        kind,
        kcv: KcvForm {
            method: KcvMethod::for_key(kind),
            len: 3,
        },
        ..sound()
    }
}

fn shared(header: &str) -> ProfileSlot {
    ProfileSlot {
        source: KeySource::Shared(KeyAlias::parse("acq-data").unwrap()),
        renewal_days: None,
        ..with(header, KeyKind::Aes128)
    }
}

fn derived(header: &str, kind: KeyKind) -> ProfileSlot {
    ProfileSlot {
        source: KeySource::Derived(Derivation {
            bdk: BdkName::parse("acquirer").unwrap(),
            key_set_id: [0; 4],
            ksn_in_header: false,
        }),
        ..with(header, kind)
    }
}

fn judge_slot(slot: ProfileSlot, grounds: &Grounds) -> Vec<String> {
    let profile = KeyProfile {
        slots: vec![slot],
        ..sample()
    };
    let findings = judge(&profile, grounds).into_iter();
    let findings = findings.map(|finding| {
        assert_eq!(finding.slot.as_str(), "tmk");
        let verdict = if finding.refuses { "refused" } else { "warned" };
        format!("{verdict}: {} ({})", finding.message, finding.rule)
    });
    findings.collect()
}

#[test]
fn what_is_sound_is_passed_over_in_silence() {
    for slot in [
        sound(),
        with("D0000K0AB00E0000", KeyKind::Aes128),
        with("D0000K1AB00E0000", KeyKind::Aes128),
        with("D0000P0AE00N0000", KeyKind::Aes128),
        with("D0000B1AX00N0000", KeyKind::Aes128),
        with("D0000D0AE00S0000", KeyKind::Aes128),
        with("D0000M6AG00N0000", KeyKind::Aes128),
        with("D0000I0AN00N0000", KeyKind::Aes128),
        derived("D0000B1AX00N0000", KeyKind::Aes128),
    ] {
        let header = slot.header.to_string();
        assert_eq!(judge_slot(slot, &strict()), [""; 0], "{header}");
    }
}

/// The sample is a profile that a host takes as it is by default.
#[test]
fn nothing_is_to_be_said_of_the_sample() {
    let sample = include_str!("../../../../deploy/key-profile.toml");
    let sample: toml::Table = sample.parse().unwrap();
    let slots = sample["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 2);
    for slot in slots {
        let text = |field| slot.get(field).and_then(toml::Value::as_str);
        let number = |field| slot.get(field).and_then(toml::Value::as_integer);
        let days = |field| number(field).map(|days| u32::try_from(days).unwrap());
        let kind = KeyKind::from_name(text("kind").unwrap()).unwrap();
        let header = text("header").unwrap();
        let slot = ProfileSlot {
            validity_days: days("validity-days").unwrap(),
            renewal_days: days("renewal-days"),
            ..match text("source") {
                Some("derived") => derived(header, kind),
                _ => with(header, kind),
            }
        };
        assert_eq!(judge_slot(slot, &strict()), [""; 0], "{header}");
    }
}

const HOST_KEY: &str = "one opened terminal would give away what protects all cards or all terminals: it stays in an HSM; \
                        terminals get keys that are derived from it (host-key-in-terminal)";
const WEAK: &str = "who breaks the weaker key has the stronger one (NIST SP 800-57 part 1, table 2): take AES-128, which \
                    key-strength = \"require\" sends under RSA-3072 and longer only (stronger-than-what-wraps-it)";
const OTHER_MODE: &str =
    "usage and mode of use contradict each other: correct one of them (usage-of-other-mode)";
const OTHER_ALGORITHM: &str = "a terminal cannot use the key for what the header says: correct the usage or the kind \
                               (usage-of-other-algorithm)";
const EXPORTABLE: &str =
    "whoever has the terminal export it can read PINs: write N (exportable-pin-key)";
const SHARED: &str = "one opened terminal gives away the key of all: take source = \"unique\" where you can (shared-key)";
const SHARED_PIN: &str = "each terminal has keys of its own for whatever protects PINs (PCI PIN, requirement 20): take \
                          source = \"unique\" or \"derived\" (shared-pin-key)";
const NOT_ALLOWED: &str = "one opened terminal would give away the key of all: take source = \"unique\", or set shared-keys = \
                           \"allow\" in the host's configuration (shared-keys-not-allowed)";
const KCV_METHOD: &str = "the terminal and the host would never agree: take aes-cmac for AES keys, tdea-ecb for TDEA keys \
                          (kcv-of-other-method)";
const TDEA: &str = "plan for AES: put a profile with an AES kind as soon as the terminals can load one \
                    (tdea-past-its-date)";
const RENEWAL: &str = "the key would have run out before the next one comes: renew it earlier, or let it be valid longer \
                       (renewal-after-validity)";

/// A mode of use that goes with a usage by no table, and what is said of it.
#[test]
fn usages_that_contradict_the_mode_are_refused() {
    for (header, said) in [
        (
            "P0AC",
            "P0 (PIN encryption) goes with mode of use B, D or E, not C (generate and verify)",
        ),
        (
            "P0AX",
            "P0 (PIN encryption) goes with mode of use B, D or E, not X (derive other keys)",
        ),
        (
            "K0AG",
            "K0 (key encryption or wrapping) goes with mode of use B, D or E, not G (generate only)",
        ),
        (
            "K1AX",
            "K1 (TR-31 key block protection key) goes with mode of use B, D or E, not X (derive other keys)",
        ),
        (
            "K4AV",
            "K4 (ISO 20038 key block protection key) goes with mode of use B, D or E, not V (verify only)",
        ),
        (
            "M1AB",
            "M1 (ISO 9797-1 MAC algorithm 1) goes with mode of use C, G or V, not B (encrypt and decrypt, wrap and unwrap)",
        ),
        (
            "M6AE",
            "M6 (ISO 9797-1:2011 MAC algorithm 5, CMAC) goes with mode of use C, G or V, not E (encrypt or wrap only)",
        ),
        (
            "M8AS",
            "M8 (ISO 9797-1:2011 MAC algorithm 6) goes with mode of use C, G or V, not S (sign only)",
        ),
        (
            "B1AB",
            "B1 (initial DUKPT key) goes with mode of use X, not B (encrypt and decrypt, wrap and unwrap)",
        ),
        (
            "B1AY",
            "B1 (initial DUKPT key) goes with mode of use X, not Y (make key variants)",
        ),
        (
            "B3AE",
            "B3 (key derivation key) goes with mode of use X, not E (encrypt or wrap only)",
        ),
        (
            "D0AV",
            "D0 (data encryption key) goes with mode of use B, D or E, not V (verify only)",
        ),
        (
            "D3AT",
            "D3 (data encryption key for sensitive data) goes with mode of use B, D or E, not T (sign and decrypt)",
        ),
        (
            "I0AE",
            "I0 (initialization vector) goes with mode of use N, not E (encrypt or wrap only)",
        ),
    ] {
        let slot = with(&format!("D0000{header}00N0000"), KeyKind::Aes128);
        let expected = format!("refused: usage {said}: {OTHER_MODE}");
        assert_eq!(judge_slot(slot, &strict()), [expected], "{header}");
    }
    let lenient = Grounds {
        policy: KeyPolicy::Lenient,
        ..strict()
    };
    let slot = with("D0000P0AC00N0000", KeyKind::Aes128);
    assert!(judge_slot(slot, &lenient)[0].starts_with("refused: "));
}

#[test]
fn usages_that_contradict_the_algorithm_are_refused() {
    let (aes, tdea) = (KeyKind::Aes128, KeyKind::Tdea2);
    for (header, kind, said) in [
        (
            "M0AC",
            aes,
            "M0 (ISO 16609 MAC algorithm 1) is for keys of TDEA, and this is one of AES",
        ),
        (
            "M3AC",
            aes,
            "M3 (ISO 9797-1 MAC algorithm 3) is for keys of TDEA, and this is one of AES",
        ),
        (
            "M7AC",
            aes,
            "M7 (HMAC) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "D1AB",
            aes,
            "D1 (asymmetric key for data encryption) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "K2AB",
            aes,
            "K2 (TR-34 asymmetric key) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "K3AX",
            aes,
            "K3 (asymmetric key for key agreement or wrapping) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "S0AS",
            aes,
            "S0 (key pair for digital signatures) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "S2AT",
            aes,
            "S2 (key pair for other uses) is for keys of other algorithms, and this is one of AES",
        ),
        (
            "K4TB",
            tdea,
            "K4 (ISO 20038 key block protection key) is for keys of AES, and this is one of TDEA",
        ),
        (
            "M7TC",
            tdea,
            "M7 (HMAC) is for keys of other algorithms, and this is one of TDEA",
        ),
    ] {
        let slot = with(&format!("D0000{header}00N0000"), kind);
        let expected = format!("refused: usage {said}: {OTHER_ALGORITHM}");
        assert_eq!(judge_slot(slot, &strict())[0], expected, "{header}");
    }
}

/// Slots, each with the whole of what is said of it in strict mode.
fn expect(cases: Vec<(ProfileSlot, Vec<String>)>) {
    for (slot, expected) in cases {
        let header = slot.header.to_string();
        assert_eq!(judge_slot(slot, &strict()), expected, "{header}");
    }
}

#[test]
fn headers_that_contradict_the_key_or_give_it_away_are_refused() {
    let aes256 = |header: &str| with(header, KeyKind::Aes256);
    let tdea = |header: &str| with(header, KeyKind::Tdea3);
    expect(vec![
        (
            with("D0000K0TD00N0000", KeyKind::Aes128),
            vec![
                "refused: the header says TDEA, and the key is AES-128: the header names the algorithm of the key: write A \
                 for AES, T for TDEA, or correct the kind (header-of-other-kind)"
                    .into(),
            ],
        ),
        (
            with("D0000K0HD00N0000", KeyKind::Aes128),
            vec![
                "refused: the header says HMAC, and the key is AES-128: the header names the algorithm of the key: write A \
                 for AES, T for TDEA, or correct the kind (header-of-other-kind)"
                    .into(),
            ],
        ),
        (
            tdea("D0000K0AD00N0000"),
            vec![
                "refused: the header says AES, and the key is TDEA-3KEY: the header names the algorithm of the key: write A \
                 for AES, T for TDEA, or correct the kind (header-of-other-kind)"
                    .into(),
                format!(
                    "warned: encryption with TDEA-3KEY is disallowed since 2024-01-01 (NIST SP 800-131A): {TDEA}"
                ),
            ],
        ),
        (
            with("D0000P0AN00N0000", KeyKind::Aes128),
            vec![
                "refused: mode of use N restricts nothing of usage P0 (PIN encryption): a key that may do everything does \
                 what nobody has thought of: name the one mode of use that the terminal needs (unrestricted-mode)"
                    .into(),
            ],
        ),
        (
            with("D0000P0AE00E0000", KeyKind::Aes128),
            vec![format!(
                "refused: usage P0 (PIN encryption) is for PINs, and the key is exportable (E): {EXPORTABLE}"
            )],
        ),
        (
            with("D0000P0AB00S0000", KeyKind::Aes128),
            vec![format!(
                "refused: usage P0 (PIN encryption) is for PINs, and the key is exportable (S): {EXPORTABLE}"
            )],
        ),
        (
            aes256("D0000K0AD00N0000"),
            vec![format!(
                "refused: a key of AES-256 (security of 256 bits) may travel under a terminal's RSA-3072 (128 bits): {WEAK}"
            )],
        ),
        (
            with("D0000K0AD00N0000", KeyKind::Aes192),
            vec![format!(
                "refused: a key of AES-192 (security of 192 bits) may travel under a terminal's RSA-3072 (128 bits): {WEAK}"
            )],
        ),
    ]);
}

#[test]
fn what_belongs_into_an_hsm_is_refused() {
    expect(vec![
        (
            with("D0000V2AV00E0000", KeyKind::Aes128),
            vec![
                format!(
                    "refused: usage V2 (PIN verification, Visa PVV) is for PINs, and the key is exportable (E): {EXPORTABLE}"
                ),
                format!(
                    "refused: usage V2 (PIN verification, Visa PVV) is no usage of terminals: {HOST_KEY}"
                ),
            ],
        ),
        (
            with("D0000B0AX00N0000", KeyKind::Aes128),
            vec![format!(
                "refused: usage B0 (base derivation key) is no usage of terminals: {HOST_KEY}"
            )],
        ),
        (
            with("D0000C0AC00N0000", KeyKind::Aes128),
            vec![format!(
                "refused: usage C0 (card verification key) is no usage of terminals: {HOST_KEY}"
            )],
        ),
        (
            with("D0000E0AX00N0000", KeyKind::Aes128),
            vec![format!(
                "refused: usage E0 (EMV issuer master key: application cryptograms) is no usage of terminals: {HOST_KEY}"
            )],
        ),
        (
            with("D0000E4AB00N0000", KeyKind::Aes128),
            vec![
                format!(
                    "refused: usage E4 (EMV issuer master key: dynamic numbers) goes with mode of use X, not B (encrypt and \
                     decrypt, wrap and unwrap): {OTHER_MODE}"
                ),
                format!(
                    "refused: usage E4 (EMV issuer master key: dynamic numbers) is no usage of terminals: {HOST_KEY}"
                ),
            ],
        ),
    ]);
}

#[test]
fn where_keys_come_from_has_rules() {
    expect(vec![
        (
            shared("D0000D0AB00E0000"),
            vec![
                format!("refused: all devices would get one key: {NOT_ALLOWED}"),
                format!("warned: all devices get one key: {SHARED}"),
            ],
        ),
        (
            derived("D0000P0AE00N0000", KeyKind::Aes128),
            vec![
                "refused: the key is derived, and its usage is P0 (PIN encryption): what is derived is the initial key of \
                 DUKPT: write usage B1 (derived-for-other-usage)"
                    .into(),
            ],
        ),
        (
            derived("D0000B1TX00N0000", KeyKind::Tdea2),
            vec![
                "refused: the key is derived, and of the kind TDEA-2KEY: initial keys are derived as in AES DUKPT (X9.24-3): \
                 take AES-128, AES-192 or AES-256 (derived-of-other-kind)"
                    .into(),
                format!(
                    "warned: encryption with TDEA-2KEY is disallowed since 2016-01-01 (NIST SP 800-131A): {TDEA}"
                ),
            ],
        ),
    ]);
}

#[test]
fn check_values_and_times_have_rules() {
    let tdea = |header: &str| with(header, KeyKind::Tdea3);
    let changed = |change: fn(&mut ProfileSlot)| {
        let mut slot = sound();
        change(&mut slot);
        slot
    };
    expect(vec![
        (
            changed(|slot| {
                slot.kcv = KcvForm {
                    method: KcvMethod::TdeaEcb,
                    len: 3,
                };
            }),
            vec![format!(
                "refused: check values by tdea-ecb are none of keys of the kind AES-128: {KCV_METHOD}"
            )],
        ),
        (
            ProfileSlot {
                kcv: KcvForm {
                    method: KcvMethod::AesCmac,
                    len: 5,
                },
                ..tdea("D0000P0TE00N0000")
            },
            vec![
                format!(
                    "refused: check values by aes-cmac are none of keys of the kind TDEA-3KEY: {KCV_METHOD}"
                ),
                format!(
                    "warned: encryption with TDEA-3KEY is disallowed since 2024-01-01 (NIST SP 800-131A): {TDEA}"
                ),
            ],
        ),
        (
            ProfileSlot {
                kcv: KcvForm {
                    method: KcvMethod::TdeaEcb,
                    len: 4,
                },
                ..tdea("D0000P0TE00N0000")
            },
            vec![
                "refused: a check value by tdea-ecb has 3 bytes at most, not 4: more of it would tell of the key (X9.24-1, \
                 A.4): take 3 bytes for tdea-ecb, 3 to 5 for aes-cmac (kcv-too-long)"
                    .into(),
                format!(
                    "warned: encryption with TDEA-3KEY is disallowed since 2024-01-01 (NIST SP 800-131A): {TDEA}"
                ),
            ],
        ),
        (
            changed(|slot| slot.kcv.len = 6),
            vec![
                "refused: a check value by aes-cmac has 5 bytes at most, not 6: more of it would tell of the key (X9.24-1, \
                 A.4): take 3 bytes for tdea-ecb, 3 to 5 for aes-cmac (kcv-too-long)"
                    .into(),
            ],
        ),
        (
            changed(|slot| slot.renewal_days = Some(400)),
            vec![format!(
                "refused: a key is renewed after 400 days, and valid for 400 days: {RENEWAL}"
            )],
        ),
        (
            changed(|slot| slot.validity_days = 30),
            vec![format!(
                "refused: a key is renewed after 365 days, and valid for 30 days: {RENEWAL}"
            )],
        ),
    ]);
}

#[test]
fn keys_of_all_devices_need_permission_and_are_never_for_pins() {
    let allowed = Grounds {
        shared_keys: SharedKeys::Allow,
        ..strict()
    };
    let of_pins = |usage: &str, how: &str| {
        vec![
            format!("refused: usage {usage} {how}, and the key is shared: {SHARED_PIN}"),
            format!("warned: all devices get one key: {SHARED}"),
        ]
    };
    let indirectly = "may protect keys that protect PINs";
    for (slot, expected) in [
        (
            shared("D0000D0AB00E0000"),
            vec![format!("warned: all devices get one key: {SHARED}")],
        ),
        (
            shared("D0000P0AE00N0000"),
            of_pins("P0 (PIN encryption)", "protects PINs"),
        ),
        (
            shared("D0000K0AB00E0000"),
            of_pins("K0 (key encryption or wrapping)", indirectly),
        ),
        (
            shared("D0000K1AB00E0000"),
            of_pins("K1 (TR-31 key block protection key)", indirectly),
        ),
        (
            shared("D0000B1AX00E0000"),
            of_pins("B1 (initial DUKPT key)", indirectly),
        ),
        (
            ProfileSlot {
                renewal_days: Some(30),
                ..shared("D0000D0AB00E0000")
            },
            vec![
                format!("warned: all devices get one key: {SHARED}"),
                "refused: the key is shared, and shall be renewed by itself: the host makes no new version of a registered \
                 key: leave renewal-days out, and put a profile with another key when it is time \
                 (renewal-of-shared-key)"
                    .into(),
            ],
        ),
    ] {
        let header = slot.header.to_string();
        assert_eq!(judge_slot(slot, &allowed), expected, "{header}");
    }
}

#[test]
fn a_lenient_policy_warns_of_what_a_strict_one_refuses_and_of_nothing_else() {
    let lenient = Grounds {
        policy: KeyPolicy::Lenient,
        shared_keys: SharedKeys::Allow,
        ..strict()
    };
    let rules = |slot: ProfileSlot| -> Vec<String> {
        let findings = judge_slot(slot, &lenient).into_iter();
        let short = findings.map(|finding| {
            let (verdict, rest) = finding.split_once(':').unwrap();
            let rule = rest.rsplit_once('(').unwrap().1;
            format!("{verdict} {}", rule.trim_end_matches(')'))
        });
        short.collect()
    };
    for (slot, expected) in [
        (
            with("D0000P0AN00N0000", KeyKind::Aes256),
            &[
                "warned unrestricted-mode",
                "warned stronger-than-what-wraps-it",
            ][..],
        ),
        (
            shared("D0000B0AX00N0000"),
            &[
                "warned host-key-in-terminal",
                "warned shared-pin-key",
                "warned shared-key",
            ],
        ),
        (
            with("D0000P0AE00E0000", KeyKind::Aes128),
            &["refused exportable-pin-key"],
        ),
        (
            with("D0000M3AC00N0000", KeyKind::Aes128),
            &["refused usage-of-other-algorithm"],
        ),
    ] {
        assert_eq!(rules(slot), expected);
    }
}

#[test]
fn what_wraps_a_key_is_as_strong_as_the_host_demands_of_terminals() {
    let by = |rsa_bits, header: &str, kind| {
        let grounds = Grounds {
            rsa_bits,
            ..strict()
        };
        judge_slot(with(header, kind), &grounds)
    };
    let weak = format!(
        "refused: a key of AES-128 (security of 128 bits) may travel under a terminal's RSA-2048 (112 bits): {WEAK}"
    );
    assert_eq!(by(2048, "D0000K0AD00N0000", KeyKind::Aes128), [weak]);
    let almost = by(3071, "D0000K0AD00N0000", KeyKind::Aes128);
    assert!(almost[0].contains("RSA-3071 (112 bits)"), "{almost:?}");
    assert_eq!(by(3072, "D0000K0AD00N0000", KeyKind::Aes128), [""; 0]);
    // Keys of TDEA travel under RSA-2048.
    let tdea = by(2048, "D0000K0TD00N0000", KeyKind::Tdea3);
    assert!(
        tdea.len() == 1 && tdea[0].starts_with("warned: "),
        "{tdea:?}"
    );
}

#[test]
fn tdea_is_warned_of_from_its_date_on() {
    let on = |today, kind| {
        let grounds = Grounds { today, ..strict() };
        judge_slot(with("D0000K0TD00N0000", kind), &grounds).len()
    };
    assert_eq!(on(date!(2015 - 12 - 31), KeyKind::Tdea2), 0);
    assert_eq!(on(date!(2016 - 01 - 01), KeyKind::Tdea2), 1);
    assert_eq!(on(date!(2023 - 12 - 31), KeyKind::Tdea3), 0);
    assert_eq!(on(date!(2024 - 01 - 01), KeyKind::Tdea3), 1);
}

/// A header with a usage can be read if, and only if, the table says something of it.
#[test]
fn the_table_has_every_usage_that_a_header_may_have() {
    let characters = ('0'..='9').chain('A'..='Z');
    let mut readable = Vec::new();
    for one in characters.clone() {
        for other in characters.clone() {
            let header = format!("D0000{one}{other}AN00N0000");
            if read_header(&header).is_ok() {
                readable.push(format!("{one}{other}"));
            }
        }
    }
    let codes: Vec<_> = USAGES.iter().map(|usage| usage.code).collect();
    assert_eq!(readable, codes);
}

#[test]
fn names_of_rules_are_each_given_once() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// The document's tables are the code's, line by line.
#[test]
fn the_document_has_the_tables() {
    let document = include_str!("../../../../docs/keys.md");
    let mut rules = "| rule | refuses | why, and what to do |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        let (name, refuses) = (rule.name, rule.refuses.as_str());
        writeln!(rules, "| `{name}` | {refuses} | {} |", rule.why).unwrap();
    }
    let mut usages =
        "| usage | is | mode of use | keys of | in terminals | PINs |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for usage in USAGES {
        let header = read_header(&format!("D0000{}AN00N0000", usage.code)).unwrap();
        let algorithms = match usage.algorithms {
            "" => "-",
            _ => usage.algorithms_in_words(),
        };
        let holder = match usage.holder {
            Holder::Terminal => "yes",
            Holder::Host => "no",
        };
        let pins = match usage.pins {
            Pins::Direct => "directly",
            Pins::Indirect => "indirectly",
            Pins::None => "-",
        };
        writeln!(
            usages,
            "| `{}` | {} | {} | {algorithms} | {holder} | {pins} |",
            usage.code,
            header.usage_words(),
            usage.modes_in_words(),
        )
        .unwrap();
    }
    for table in [rules, usages] {
        assert!(document.contains(&table), "docs/keys.md lacks:\n{table}");
    }
}
