//! Every rule of the configuration, each broken alone; then all of them at once.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hsm::UpstreamFreshness;
use tempfile::TempDir;

use super::*;

const SAMPLE: &str = include_str!("../../../deploy/kdh-host.toml");
const CERTIFICATE: &str = include_str!("testdata/ca.pem");
const OPERATORS: [(&str, &str); 3] = [
    (
        "fleet-operator",
        include_str!("testdata/fleet-operator.pem"),
    ),
    ("key-officer", include_str!("testdata/key-officer.pem")),
    ("auditor", include_str!("testdata/auditor.pem")),
];

/// A folder with all that a configuration names. The library is any file: it is not opened.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["root", "ca-krd", "ca-kdh", "ca-ops", "kdh", "host-tls"] {
        fs::write(path.join(format!("{name}.pem")), CERTIFICATE).unwrap();
    }
    fs::create_dir(path.join("operators")).unwrap();
    for (name, certificate) in OPERATORS {
        fs::write(path.join(format!("operators/{name}.pem")), certificate).unwrap();
    }
    fs::write(path.join("module.so"), "").unwrap();
    for name in ["issuing.pin", "kdh.pin"] {
        fs::write(path.join(name), "1234\n").unwrap();
        set_mode(&path.join(name), 0o600);
    }
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The sample of `deploy/`, moved to the test's folder. Read this way, it is proved to be complete.
fn sample() -> String {
    SAMPLE
        .replace("/etc/kdh-host/", "")
        .replace("/usr/lib/softhsm/libsofthsm2.so", "module.so")
}

fn parse(text: &str, folder: &TempDir) -> Result<Config, Vec<String>> {
    Config::parse(text, folder.path()).map_err(|StartError(faults)| faults)
}

#[test]
fn the_sample_says_what_the_defaults_are() {
    let folder = folder();
    let sample = parse(&sample(), &folder).unwrap();
    let minimal = parse(MINIMAL, &folder).unwrap();
    let defaults = |config: &Config| {
        let token = config.issuing_token.token.clone();
        (
            (config.oaep_hash, config.key_strength, config.min_rsa_bits),
            (config.ke_for_tdea, config.key_policy, config.shared_keys),
            config.keys_for_new_devices,
            (
                config.certificate_validity,
                config.activation_code_lifetime,
                config.delivery_lifetime,
                config.one_pass_lifetime,
                config.kdh_key.clone(),
                config.approval_lifetime,
                config.keep_old_pair,
            ),
            (
                config.connections,
                config.connections_per_address,
                config.handshake_timeout,
                config.anonymous_timeout,
                config.device_calls_per_minute,
                config.rewrap_per_second,
                config.rollout_per_second,
                config.export_keep,
                config.stop_timeout,
            ),
            (token.workers, token.queue, token.deadline),
            (token.probe_after, token.max_stuck),
        )
    };
    assert_eq!(defaults(&sample), defaults(&minimal));
    assert_eq!(minimal.oaep_hash, OaepHash::Sha256, "the safe choice");
    assert_eq!(minimal.ke_for_tdea, KeForTdea::Aes, "the safe choice");
    assert_eq!(
        minimal.key_strength,
        KeyStrength::Require,
        "the safe choice"
    );
    assert_eq!(minimal.key_policy, KeyPolicy::Strict, "the safe choice");
    assert_eq!(minimal.shared_keys, SharedKeys::Refuse, "the safe choice");
    assert_eq!(
        minimal.keys_for_new_devices,
        KeysForNewDevices::Wait,
        "no key that nobody has ordered"
    );
    assert!(minimal.operators.is_empty(), "nobody may do anything");
    assert_eq!(
        minimal.store,
        StoreSettings::Sqlite(folder.path().join("host.db"))
    );
}

const MINIMAL: &str = r#"
store = "host.db"
terminals.address = "127.0.0.1:0"
administration.address = "[::1]:0"
[issuing-token]
module = "module.so"
label = "issuing"
pin-file = "issuing.pin"
[kdh-token]
module = "module.so"
label = "kdh"
pin-file = "kdh.pin"
[certificates]
ca-krd = "ca-krd.pem"
ca-kdh = "ca-kdh.pem"
ca-ops = "ca-ops.pem"
kdh = "kdh.pem"
host-tls = "host-tls.pem"
crl-ca-krd = "crl-ca-krd.der"
crl-ca-kdh = "crl-ca-kdh.der"
"#;

/// What is put in place of what, and the key that the fault must name.
const BROKEN: &[(&str, &str, &str)] = &[
    ("\"127.0.0.1:0\"", "\"127.0.0.1\"", "terminals.address"),
    ("\"127.0.0.1:0\"", "\"localhost:1\"", "terminals.address"),
    (
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:65536\"",
        "terminals.address",
    ),
    ("\"[::1]:0\"", "\"\"", "administration.address"),
    ("label = \"issuing\"", "label = \"\"", "issuing-token.label"),
    (
        "label = \"kdh\"",
        "label = \"a-label-with-more-than-32-letters\"",
        "kdh-token.label",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\nworkers = 0",
        "kdh-token.workers",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\nworkers = 257",
        "kdh-token.workers",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\nmax-stuck = 257",
        "kdh-token.max-stuck",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\nprobe-after-seconds = 0",
        "kdh-token.probe-after-seconds",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\nqueue = 0",
        "kdh-token.queue",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\ndeadline-seconds = 0",
        "kdh-token.deadline-seconds",
    ),
    (
        "label = \"kdh\"",
        "label = \"kdh\"\ndeadline-seconds = 301",
        "kdh-token.deadline-seconds",
    ),
    ("\"issuing.pin\"", "\"none.pin\"", "issuing-token.pin-file"),
    ("\"kdh.pin\"", "\"module.so\"", "kdh-token.pin-file"),
    ("\"kdh.pin\"", "\".\"", "kdh-token.pin-file"),
    ("\"ca-krd.pem\"", "\"none.pem\"", "certificates.ca-krd"),
    ("\"ca-kdh.pem\"", "\"module.so\"", "certificates.ca-kdh"),
    ("\"ca-ops.pem\"", "\"kdh.pin\"", "certificates.ca-ops"),
    ("\"kdh.pem\"", "\".\"", "certificates.kdh"),
    ("\"host-tls.pem\"", "\"\"", "certificates.host-tls"),
    (
        "[certificates]",
        "[certificates]\nroot = \"none.pem\"",
        "certificates.root",
    ),
    ("store =", "oaep-hash = \"SHA256\"\nstore =", "oaep-hash"),
    ("store =", "oaep-hash = \"md5\"\nstore =", "oaep-hash"),
    ("store =", "ke-for-tdea = \"TDEA\"\nstore =", "ke-for-tdea"),
    ("store =", "ke-for-tdea = \"des\"\nstore =", "ke-for-tdea"),
    ("store =", "ke-for-tdea = \"\"\nstore =", "ke-for-tdea"),
    (
        "store =",
        "key-strength = \"none\"\nstore =",
        "key-strength",
    ),
    ("store =", "key-policy = \"loose\"\nstore =", "key-policy"),
    ("store =", "key-policy = \"Strict\"\nstore =", "key-policy"),
    ("store =", "shared-keys = \"warn\"\nstore =", "shared-keys"),
    ("store =", "shared-keys = \"\"\nstore =", "shared-keys"),
    (
        "store =",
        "keys-for-new-devices = \"Make\"\nstore =",
        "keys-for-new-devices",
    ),
    ("store =", "min-rsa-bits = 2047\nstore =", "min-rsa-bits"),
    ("store =", "min-rsa-bits = 4097\nstore =", "min-rsa-bits"),
    (
        "store =",
        "certificate-validity-days = 0\nstore =",
        "certificate-validity-days",
    ),
    (
        "store =",
        "certificate-validity-days = 3661\nstore =",
        "certificate-validity-days",
    ),
    (
        "store =",
        "activation-code-hours = 0\nstore =",
        "activation-code-hours",
    ),
    (
        "store =",
        "delivery-minutes = 0\nstore =",
        "delivery-minutes",
    ),
    ("store =", "one-pass-days = 0\nstore =", "one-pass-days"),
    ("store =", "one-pass-days = 367\nstore =", "one-pass-days"),
    ("store =", "kdh-key = \"\"\nstore =", "kdh-key"),
    ("store =", "approval-hours = 0\nstore =", "approval-hours"),
    ("store =", "approval-hours = 721\nstore =", "approval-hours"),
    (
        "store =",
        "storage.keep-old-pair-hours = 8785\nstore =",
        "storage.keep-old-pair-hours",
    ),
    (
        "store =",
        "limits.connections = 0\nstore =",
        "limits.connections",
    ),
    (
        "store =",
        "limits.handshake-seconds = 0\nstore =",
        "limits.handshake-seconds",
    ),
    (
        "store =",
        "limits.connections-per-address = 0\nstore =",
        "limits.connections-per-address",
    ),
    (
        "store =",
        "limits.anonymous-seconds = 4\nstore =",
        "limits.anonymous-seconds",
    ),
    (
        "store =",
        "limits.device-calls-per-minute = 0\nstore =",
        "limits.device-calls-per-minute",
    ),
    (
        "store =",
        "limits.rewrap-per-second = 0\nstore =",
        "limits.rewrap-per-second",
    ),
    (
        "store =",
        "limits.rollout-per-second = 0\nstore =",
        "limits.rollout-per-second",
    ),
    (
        "store =",
        "export.keep-days = 0\nstore =",
        "export.keep-days",
    ),
    (
        "store =",
        "operators = [{ certificate = \"operators/auditor.pem\", roles = [\"switch\", \"keys\"] }]\nstore =",
        "operators.roles",
    ),
    (
        "store =",
        "limits.stop-seconds = 301\nstore =",
        "limits.stop-seconds",
    ),
    (
        "store =",
        "operators = [{ certificate = \"operators/auditor.pem\", roles = [\"root\"] }]\nstore =",
        "operators.roles",
    ),
    (
        "store =",
        "operators = [{ certificate = \"operators/auditor.pem\", roles = [\"Fleet\"] }]\nstore =",
        "operators.roles",
    ),
    (
        "store =",
        "operators = [{ certificate = \"operators/auditor.pem\", roles = [] }, \
                      { certificate = \"operators/auditor.pem\", roles = [] }]\nstore =",
        "operators.certificate",
    ),
    (
        "store =",
        "operators = [{ certificate = \"operators/eve.pem\", roles = [] }]\nstore =",
        "operators.certificate",
    ),
    (
        "store =",
        "operators = [{ certificate = \"module.so\", roles = [] }]\nstore =",
        "operators.certificate",
    ),
];

#[test]
fn each_fault_is_named_by_its_key() {
    let folder = folder();
    for (good, bad, key) in BROKEN {
        let text = MINIMAL.replacen(good, bad, 1);
        assert_ne!(text, MINIMAL, "{bad}");
        let faults = parse(&text, &folder).unwrap_err();
        assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
        assert!(
            faults[0].starts_with(&format!("{key}: ")),
            "{bad}: {faults:?}"
        );
    }
}

/// What is wrong with lists of credentials and models, in words.
#[test]
fn credentials_and_models_that_do_not_fit_are_named() {
    let folder = folder();
    for (line, fault) in [
        (
            "retiring-kdh = [{ certificate = \"none.pem\", key = \"old\" }]",
            "retiring-kdh.certificate: ",
        ),
        (
            "retiring-kdh = [{ certificate = \"operators/auditor.pem\", key = \"\" }]",
            "retiring-kdh.key: ",
        ),
        (
            "retiring-kdh = [{ certificate = \"operators/auditor.pem\", key = \"kdh-signing\" }]",
            "retiring-kdh.key: \"kdh-signing\" is named twice",
        ),
        (
            "retiring-kdh = [{ certificate = \"kdh.pem\", key = \"old\" }]",
            "retiring-kdh.certificate: the certificate ",
        ),
        (
            "models = [{ name = \"X\", profile = \"aws\" }]",
            "models.profile: no profile is called \"aws\"",
        ),
        (
            "models = [{ name = \"\", profile = \"clover\" }]",
            "models.name: \"\" is no name of a model",
        ),
        (
            "models = [{ name = \"X\", profile = \"clover\" }, { name = \"X\", profile = \"clover\" }]",
            "models.name: \"X\" stands there twice",
        ),
        (
            "oaep-hash = \"sha1\"\nmodels = [{ name = \"X\", profile = \"aws-2012\" }]",
            "models.profile: tokens of profile aws-2012 cannot say oaep-hash = \"sha1\"",
        ),
    ] {
        let faults = parse(&format!("{line}\n{MINIMAL}"), &folder).unwrap_err();
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].starts_with(fault), "{line}: {faults:?}");
    }
}

#[test]
fn each_model_has_its_profile_and_others_the_default() {
    let folder = folder();
    let models = "models = [{ name = \"A\", profile = \"aws-2012\" }, \
                  { name = \"C\", profile = \"clover\" }]\n";
    let config = parse(&format!("{models}{MINIMAL}"), &folder).unwrap();
    for (model, profile) in [
        ("A", Profile::Aws2012),
        ("C", Profile::Clover),
        ("B", Profile::X9_2019),
        ("a", Profile::X9_2019),
    ] {
        assert_eq!(config.profiles.of(model), profile, "{model}");
    }
    let in_use: Vec<_> = config.profiles.in_use().collect();
    assert_eq!(
        in_use,
        [Profile::X9_2019, Profile::Aws2012, Profile::Clover]
    );
}

#[test]
fn all_faults_are_named_at_once() {
    let folder = folder();
    let (mut text, mut keys) = (MINIMAL.to_owned(), Vec::new());
    for (good, bad, key) in BROKEN {
        // Two faults of one key, or a key written twice, are not what this is about.
        let written =
            keys.contains(key) || key.starts_with("operators") && text.contains("operators");
        if !written && text.contains(good) {
            text = text.replacen(good, bad, 1);
            keys.push(key);
        }
    }
    let faults = parse(&text, &folder).unwrap_err();
    assert!(keys.len() > 15 && faults.len() == keys.len(), "{faults:#?}");
    for key in keys {
        assert!(faults.iter().any(|fault| fault.starts_with(key)), "{key}");
    }
}

#[test]
fn a_file_of_another_shape_is_refused() {
    let folder = folder();
    let cases = [
        ("a key that is unknown", "store =", "stor = \"x\"\nstore ="),
        (
            "in a section",
            "label = \"kdh\"",
            "label = \"kdh\"\npin = \"1234\"",
        ),
        ("in the storage", "store =", "storage.keep = 1\nstore ="),
        ("in the limits", "store =", "limits.calls = 1\nstore ="),
        (
            "in an operator",
            "store =",
            "operators = [{ certificate = \"operators/auditor.pem\", roles = [], pin = \"1\" }]\nstore =",
        ),
        (
            "an operator by name",
            "store =",
            "operators = [{ name = \"auditor\", roles = [] }]\nstore =",
        ),
        ("a key that is missing", "store = \"host.db\"", ""),
        ("a section that is missing", "[kdh-token]", "[kdh-tokens]"),
        (
            "an operator without roles",
            "store =",
            "operators = [{ certificate = \"operators/auditor.pem\" }]\nstore =",
        ),
        (
            "a word for a number",
            "store =",
            "min-rsa-bits = \"2048\"\nstore =",
        ),
        (
            "a negative number",
            "store =",
            "delivery-minutes = -1\nstore =",
        ),
        ("a fraction", "store =", "delivery-minutes = 1.5\nstore ="),
        (
            "a number beyond all",
            "store =",
            "delivery-minutes = 18446744073709551616\nstore =",
        ),
        ("snake case", "store =", "oaep_hash = \"sha1\"\nstore ="),
        ("a key twice", "store =", "store = \"x\"\nstore ="),
        ("no TOML", "store =", "store"),
    ];
    for (case, good, bad) in cases {
        assert!(
            parse(&MINIMAL.replacen(good, bad, 1), &folder).is_err(),
            "{case}"
        );
    }
    assert!(parse("", &folder).is_err());
}

#[test]
fn a_pin_file_that_others_can_touch_is_refused() {
    let folder = folder();
    for mode in [0o640, 0o604, 0o660, 0o620, 0o601] {
        set_mode(&folder.path().join("kdh.pin"), mode);
        let faults = parse(MINIMAL, &folder).unwrap_err();
        assert_eq!(faults.len(), 1, "{mode:o}: {faults:?}");
        assert!(faults[0].starts_with("kdh-token.pin-file: "), "{faults:?}");
        assert!(!faults[0].contains("1234"), "the PIN is in no message");
    }
    set_mode(&folder.path().join("kdh.pin"), 0o400);
    assert!(parse(MINIMAL, &folder).is_ok());
}

#[test]
fn words_and_roles_are_understood() {
    let folder = folder();
    let text = MINIMAL.replacen(
        "store =",
        "oaep-hash = \"sha1\"\nke-for-tdea = \"tdea\"\nkey-strength = \"warn\"\n\
         key-policy = \"lenient\"\nshared-keys = \"allow\"\n\
         operators = [{ certificate = \"operators/key-officer.pem\", \
                        roles = [\"fleet\", \"keys\", \"audit\", \"recovery\"] }, \
                      { certificate = \"operators/auditor.pem\", roles = [] }]\nstore =",
        1,
    );
    let config = parse(&text, &folder).unwrap();
    assert_eq!(config.oaep_hash, OaepHash::Sha1);
    assert_eq!(config.ke_for_tdea, KeForTdea::Tdea);
    assert_eq!(config.key_strength, KeyStrength::Warn);
    assert_eq!(config.key_policy, KeyPolicy::Lenient);
    assert_eq!(config.shared_keys, SharedKeys::Allow);
    let all = [
        OperatorRole::Fleet,
        OperatorRole::Keys,
        OperatorRole::Audit,
        OperatorRole::Recovery,
    ];
    let operators = config.operators.iter();
    let operators: Vec<_> = operators
        .map(|operator| (operator.name.as_str(), operator.roles.as_slice()))
        .collect();
    assert_eq!(operators, [("key-officer", &all[..]), ("auditor", &[])]);
}

#[test]
fn one_person_is_no_two_operators() {
    let folder = folder();
    for (file, certificate) in [
        ("anna.pem", include_str!("testdata/anna.pem")),
        ("anna-again.pem", include_str!("testdata/anna-again.pem")),
        ("bert.pem", include_str!("testdata/bert-with-annas-key.pem")),
    ] {
        fs::write(folder.path().join(file), certificate).unwrap();
    }
    let operator = |file: &str| format!("{{ certificate = \"{file}\", roles = [] }}");
    for (other, fault) in [
        (
            "anna-again.pem",
            r#""anna  EK" and "Anna Ek" differ in nothing but capitals and spaces"#,
        ),
        ("bert.pem", r#""Bert" and "Anna Ek" have one key"#),
    ] {
        let [anna, other] = [operator("anna.pem"), operator(other)];
        let line = format!("operators = [{anna}, {other}]\nstore =");
        let faults = parse(&MINIMAL.replacen("store =", &line, 1), &folder).unwrap_err();
        assert_eq!(faults, [format!("operators.certificate: {fault}")]);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = folder();
    let path = folder.path().join("none.toml");
    let StartError(faults) = Config::load(&path).unwrap_err();
    assert!(faults[0].contains("none.toml"), "{faults:?}");
    fs::write(&path, MINIMAL).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(
        config.store,
        StoreSettings::Sqlite(folder.path().join("host.db")),
        "beside the file"
    );
}

/// A replica of the KDH's token with these settings, in an otherwise sound configuration.
fn with_replica(settings: &str, folder: &TempDir) -> Result<Config, Vec<String>> {
    let text = sample().replace(
        "[certificates]",
        &format!("[[kdh-token.replicas]]\n{settings}\n[certificates]"),
    );
    parse(&text, folder)
}

#[test]
fn replicas_have_settings_of_their_own() {
    let folder = folder();
    let settings = "module = \"module.so\"\nlabel = \"two\"\npin-file = \"kdh.pin\"\nworkers = 2";
    let config = with_replica(settings, &folder).unwrap();
    let [replica] = &config.kdh_token.replicas[..] else {
        panic!("{:?}", config.kdh_token.replicas);
    };
    assert_eq!((&*replica.token.label, replica.token.workers), ("two", 2));
    assert!(config.issuing_token.replicas.is_empty());
}

/// A sender of keys without faults.
const SENDER: &str = "name = \"switch\", certificate = \"operators/auditor.pem\", ca = \"ca-ops.pem\", \
                      pair = \"import-krd\", receiver = \"kdh.pem\"";

#[test]
fn a_sender_of_keys_answers_nonces_unless_it_is_said() {
    let folder = folder();
    let more = ", profile = \"clover\", crl = \"list\", signed-within-hours = 720";
    let of = |more: &str| {
        let text = format!("key-senders = [{{ {SENDER}{more} }}]\n{MINIMAL}");
        parse(&text, &folder).unwrap().key_senders.remove(0)
    };
    let (plain, other) = (of(""), of(more));
    assert_eq!((&*plain.name, plain.pair.label()), ("switch", "import-krd"));
    assert_eq!((plain.profile, plain.crl), (Profile::default(), None));
    assert_eq!(plain.freshness, UpstreamFreshness::Nonce);
    assert_eq!(other.profile, Profile::Clover);
    assert_eq!(other.crl, Some(folder.path().join("list")));
    let month = time::Duration::days(30);
    assert_eq!(other.freshness, UpstreamFreshness::SignedWithin(month));
}

#[test]
fn faults_of_senders_of_keys_are_named() {
    let folder = folder();
    let faults = |senders: &str| {
        let text = format!("key-senders = [{senders}]\n{MINIMAL}");
        parse(&text, &folder).unwrap_err()
    };
    for (from, to, fault) in [
        (
            "\"switch\"",
            "\"The Switch\"",
            "key-senders.name: \"The Switch\" is no name of a sender: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (
            "operators/auditor.pem",
            "none.pem",
            "key-senders.switch.certificate: ",
        ),
        ("ca-ops.pem", "module.so", "key-senders.switch.ca: "),
        ("kdh.pem", "kdh.pin", "key-senders.switch.receiver: "),
        ("\"import-krd\"", "\"\"", "key-senders.switch.pair: "),
        (
            "name =",
            "profile = \"aws\", name =",
            "key-senders.switch.profile: no profile is called \"aws\"",
        ),
        (
            "name =",
            "signed-within-hours = 0, name =",
            "key-senders.switch.signed-within-hours: 0 is not between 1 and 720",
        ),
        (
            "name =",
            "signed-within-hours = 721, name =",
            "key-senders.switch.signed-within-hours: 721 is not between 1 and 720",
        ),
    ] {
        assert!(SENDER.contains(from));
        let found = faults(&format!("{{ {} }}", SENDER.replacen(from, to, 1)));
        assert_eq!(found.len(), 1, "{to}: {found:?}");
        assert!(found[0].starts_with(fault), "{to}: {found:?}");
    }
    for field in ["name", "certificate", "ca", "pair", "receiver"] {
        let without: Vec<_> = SENDER
            .split(", ")
            .filter(|part| !part.starts_with(&format!("{field} =")))
            .collect();
        let found = faults(&format!("{{ {} }}", without.join(", ")));
        let missing = format!("missing field `{field}`");
        assert!(found[0].contains(&missing), "{found:?}");
    }

    // Two of them.
    let by_nonce = SENDER.replace("\"switch\"", "\"acquirer\"");
    let other = by_nonce.replace("auditor", "key-officer");
    let waits = "key-senders.acquirer.pair: import-krd waits for an answer of \"switch\" already: make a pair for \
                 each sender that answers nonces, or set signed-within-hours";
    let same_key =
        "key-senders.acquirer.certificate: its key is that of \"switch\": name each sender once";
    let by_time = format!("{{ {by_nonce}, signed-within-hours = 1 }}");
    for (second, expected) in [
        (format!("{{ {other} }}"), &[waits][..]),
        (by_time, &[same_key]),
        (
            format!(
                "{{ {} }}",
                SENDER
                    .replace("auditor", "key-officer")
                    .replace("import-krd", "import-2")
            ),
            &["key-senders.name: \"switch\" stands there twice"],
        ),
    ] {
        assert_eq!(faults(&format!("{{ {SENDER} }}, {second}")), expected);
    }
    let by_time = format!("key-senders = [{{ {SENDER} }}, {{ {other}, signed-within-hours = 1 }}]");
    parse(&format!("{by_time}\n{MINIMAL}"), &folder).unwrap();
}

/// As an operator's host has it: the sample's lines, without the marks that keep them from being read.
#[test]
fn the_senders_of_the_sample_are_read() {
    let folder = folder();
    let senders = folder.path().join("senders");
    fs::create_dir(&senders).unwrap();
    for name in [
        "senders/switch.pem",
        "senders/switch-ca.pem",
        "import-krd.pem",
    ] {
        fs::write(folder.path().join(name), CERTIFICATE).unwrap();
    }
    let sample = sample();
    let (before, lines) = sample.split_once("# [[key-senders]]\n").unwrap();
    let (lines, after) = lines.split_once("\n\n").unwrap();
    let lines = lines.replace("# ", "");
    let text = format!("{before}[[key-senders]]\n{lines}\n\n{after}");
    let config = parse(&text, &folder).unwrap();
    assert_eq!(config.key_senders[0].name, "switch");
}

/// The configuration with a database of PostgreSQL's.
fn with_postgres(table: &str, folder: &TempDir) -> Result<Config, Vec<String>> {
    let store = format!("store = {{ {table} }}");
    parse(&MINIMAL.replacen("store = \"host.db\"", &store, 1), folder)
}

const ON_SOCKET: &str = "socket = \"run\", database = \"kdh\", user = \"kdh-host\"";
const OVER_TLS: &str =
    "host = \"db.example\", ca = \"ca-ops.pem\", database = \"kdh\", user = \"kdh-host\"";

#[test]
fn a_database_of_postgresql_is_reached_by_socket_or_over_tls() {
    let folder = folder();
    let store = |table: &str| match with_postgres(table, &folder).unwrap().store {
        StoreSettings::Postgres(settings) => settings,
        other @ StoreSettings::Sqlite(_) => panic!("{other:?}"),
    };
    let settings = store(ON_SOCKET);
    let on_socket = PostgresServer::Socket {
        folder: folder.path().join("run"),
        port: 5432,
    };
    assert_eq!(settings.server, on_socket);
    assert_eq!((&*settings.database, &*settings.user), ("kdh", "kdh-host"));
    assert_eq!(settings.password(), Ok(String::new()));

    let settings = store(&format!(
        "{OVER_TLS}, port = 6432, password-file = \"kdh.pin\""
    ));
    let over_tls = PostgresServer::Tls {
        host: "db.example".to_owned(),
        port: 6432,
        ca: folder.path().join("ca-ops.pem"),
    };
    assert_eq!(settings.server, over_tls);
    assert_eq!(settings.password(), Ok("1234".to_owned()));
    let shown = StoreSettings::Postgres(settings).to_string();
    assert_eq!(shown, "kdh at db.example, port 6432, as kdh-host");
    for host in ["10.0.0.7", "2001:db8::7", "db-1.bank_inner.example"] {
        store(&OVER_TLS.replace("db.example", host));
    }
}

#[test]
fn faults_of_the_database_are_named() {
    let folder = folder();
    fs::write(folder.path().join("two-lines"), "1234\n5678\n").unwrap();
    fs::write(folder.path().join("empty"), "\n").unwrap();
    for name in ["two-lines", "empty"] {
        set_mode(&folder.path().join(name), 0o600);
    }
    let long = "a".repeat(64);
    let no_ca = OVER_TLS.replace("ca = \"ca-ops.pem\", ", "");
    for (table, fault) in [
        (
            format!("{ON_SOCKET}, port = 0"),
            "store.port: 0 is not between 1 and 65535",
        ),
        (
            format!("{ON_SOCKET}, port = 65536"),
            "store.port: 65536 is not",
        ),
        (
            ON_SOCKET.replace("\"kdh\"", "\"\""),
            "store.database: a name has 1 to 63 bytes",
        ),
        (
            ON_SOCKET.replace("\"kdh\"", &format!("\"{long}\"")),
            "store.database: ",
        ),
        (
            ON_SOCKET.replace("kdh-host", "kdh\\u0000"),
            "store.user: a name has",
        ),
        (ON_SOCKET.replace("kdh-host", ""), "store.user: "),
        (
            format!("{ON_SOCKET}, ca = \"ca-ops.pem\""),
            "store.ca: on a socket there is no TLS",
        ),
        (
            format!("{ON_SOCKET}, host = \"db.example\""),
            "store: say where the server is: host",
        ),
        (
            ON_SOCKET.replace("socket = \"run\", ", ""),
            "store: say where the server is: host",
        ),
        (no_ca, "store.ca: missing"),
        (OVER_TLS.replace("ca-ops.pem", "none.pem"), "store.ca: "),
        (OVER_TLS.replace("ca-ops.pem", "kdh.pin"), "store.ca: "),
        (
            OVER_TLS.replace("db.example", ""),
            "store.host: \"\" is neither a name nor an IP address",
        ),
        (
            OVER_TLS.replace("db.example", "/run/postgresql"),
            "store.host: ",
        ),
        (
            OVER_TLS.replace("db.example", "db.example:5432"),
            "store.host: ",
        ),
        (
            OVER_TLS.replace("db.example", "db%2eexample"),
            "store.host: ",
        ),
        (
            format!("{ON_SOCKET}, password-file = \"none\""),
            "store.password-file: ",
        ),
        (
            format!("{ON_SOCKET}, password-file = \"two-lines\""),
            "store.password-file: ",
        ),
        (
            format!("{ON_SOCKET}, password-file = \"empty\""),
            "store.password-file: ",
        ),
        (
            format!("{ON_SOCKET}, password-file = \"module.so\""),
            "store.password-file: ",
        ),
    ] {
        let faults = with_postgres(&table, &folder).unwrap_err();
        assert_eq!(faults.len(), 1, "{table}: {faults:?}");
        assert!(faults[0].starts_with(fault), "{table}: {faults:?}");
        assert!(!faults[0].contains("5678"), "the password is in no message");
    }
    let all = "host = \"\", port = 0, database = \"\", user = \"\", password-file = \"none\"";
    let faults = with_postgres(all, &folder).unwrap_err();
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_database_of_another_shape_is_refused() {
    let folder = folder();
    for (table, fault) in [
        (
            format!("{ON_SOCKET}, password = \"1234\""),
            "unknown field `password`",
        ),
        (
            format!("{ON_SOCKET}, sslmode = \"disable\""),
            "unknown field `sslmode`",
        ),
        (
            ON_SOCKET.replace(", user = \"kdh-host\"", ""),
            "missing field `user`",
        ),
        (ON_SOCKET.replace("\"run\"", "7"), "invalid type: integer"),
    ] {
        let faults = with_postgres(&table, &folder).unwrap_err();
        assert!(faults[0].contains(fault), "{table}: {faults:?}");
    }
    let text = MINIMAL.replacen("store = \"host.db\"", "store = 7", 1);
    let faults = parse(&text, &folder).unwrap_err();
    let expected = "expected the path of a SQLite file, or a table for PostgreSQL";
    assert!(faults[0].contains(expected), "{faults:?}");
}

/// As an operator's host has it: the sample's lines, without the marks that keep them from being read.
#[test]
fn the_database_of_the_sample_is_read() {
    let folder = folder();
    let sample = sample();
    let (_, lines) = sample.split_once("# [store]\n").unwrap();
    let (lines, _) = lines.split_once("\n\n").unwrap();
    let on_socket = lines.replace("# ", "");
    let line = sample
        .lines()
        .find(|line| line.starts_with("store = "))
        .unwrap();
    let text = format!("{}\n[store]\n{on_socket}\n", sample.replacen(line, "", 1));
    let config = parse(&text, &folder).unwrap();
    assert_eq!(
        config.store.to_string(),
        "kdh at /run/postgresql, port 5432, as kdh-host"
    );
}

#[test]
fn faults_of_replicas_are_named() {
    let folder = folder();
    let faults = |settings: &str| with_replica(settings, &folder).unwrap_err();
    assert_eq!(
        faults("module = \"module.so\"\nlabel = \"kdh\"\npin-file = \"kdh.pin\""),
        ["kdh-token.replicas[0]: this token is listed already"]
    );
    let of_gone = faults("module = \"gone.so\"\nlabel = \"two\"\npin-file = \"kdh.pin\"");
    assert!(
        of_gone[0].starts_with("kdh-token.replicas[0].module: "),
        "{of_gone:?}"
    );
    assert_eq!(
        faults(
            "module = \"module.so\"\nlabel = \"two\"\npin-file = \"kdh.pin\"\n\
             [[kdh-token.replicas.replicas]]\nmodule = \"module.so\"\nlabel = \"three\"\n\
             pin-file = \"kdh.pin\""
        ),
        ["kdh-token.replicas[0]: a replica has no replicas"]
    );
}
