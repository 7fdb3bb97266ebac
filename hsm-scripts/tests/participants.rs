//! Who may take part: each case differs from a good plan in one thing and is refused, before an HSM is opened,
//! with what to do next.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::too_many_lines, reason = "a table is as long as it has cases")]

#[path = "participants/folder.rs"]
mod folder;

use std::fs;

use folder::{Folder, with_custodians};
use kdh_ceremony::{CeremonyError, Mode, Plan};
use time::{Duration, OffsetDateTime};

const NEW_CUSTODIAN: &str = include_str!("../plans/new-custodian.toml");
const TWO_SUB_CAS: &str = include_str!("../plans/two-sub-cas.toml");

/// The faults of a plan, as of so many days from now.
fn faults_in(folder: &Folder, days: i64, text: &str) -> Vec<String> {
    let now = OffsetDateTime::now_utc() + Duration::days(days);
    match Plan::parse(text, folder.path(), Mode::Real, now) {
        Ok(_) => Vec::new(),
        Err(CeremonyError::Plan(faults)) => faults,
        Err(other) => panic!("{other:?}"),
    }
}

fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the plan");
    text.replacen(from, to, 1)
}

const CRL: &str = "ceremony-crl = \"crl-ca-ops.der\"";
/// Made by psec, for a key of 128 bits.
const BLOCK: &str = "D0112K0AB00E0000C2EEFB4B455B95997E365125A4DE1AA742457F4E7C97EECE42299CCFAE7C2E70C573\
                     56CF82CD474C5270D57F5BDFBD1D";
const FIRST: &str = "\"first-custodian.pem\"";
const SECOND: &str = "\"second-custodian.pem\"";

/// The samples for one key, which have the lines of a site with custodians as comments.
const SAMPLES: [&str; 7] = [
    include_str!("../plans/import-master-key.toml"),
    include_str!("../plans/import-at-two-sittings.toml"),
    include_str!("../plans/give-out-components.toml"),
    include_str!("../plans/import-pair.toml"),
    include_str!("../plans/import-wrapped.toml"),
    include_str!("../plans/new-kdh-credential.toml"),
    include_str!("../plans/next-storage-keys.toml"),
];

#[test]
fn the_samples_lines_for_a_site_with_custodians_are_taken_as_they_are() {
    let folder = Folder::new();
    // What other plans or another host made.
    for (from, to) in [
        ("brief.pem", "third-custodian.pem"),
        ("foreign.pem", "ca-krd.pem"),
        ("foreign.pem", "switch.pem"),
        ("foreign.pem", "switch-ca.pem"),
        ("foreign-crl.pem", "switch-ca.crl"),
    ] {
        fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    // Its name has a length with which a KDH's certificate can be aligned.
    folder.openssl(
        "req -x509 -config req.cnf -newkey rsa:2048 -days 3000 -extensions v3 -nodes -keyout ca-kdh.key \
         -out ca-kdh.pem -subj /C=DE/O=Bank/CN=CA",
    );
    folder.write("transport-key.bin", &"01".repeat(384));
    folder.write("switch-one.bin", &"02".repeat(24));
    folder.write("switch-two.bin", &"03".repeat(40));
    folder.write("switch-three.txt", BLOCK);
    folder.write("switch-four.der", "0\u{3}\u{2}\u{1}\u{1}");
    for sample in SAMPLES {
        // One plan makes this file, and another one reads it.
        let receiver = "receiver = \"import-krd.pem\"";
        let sample = &*sample.replace(receiver, "receiver = \"foreign.pem\"");
        assert_eq!(faults_in(&folder, 0, sample), [""; 0]);
        let plan = with_custodians(sample);
        assert_eq!(faults_in(&folder, 0, &plan), [""; 0]);
        // Each line is looked at.
        for (from, to, place) in [
            ("ceremony-ca = ", "# ceremony-ca = ", "ceremony-ca"),
            (
                "ceremony-crl = \"",
                "ceremony-crl = \"foreign-",
                "ceremony-crl",
            ),
            (
                "\"second-custodian.pem\"",
                "\"missing.pem\"",
                "participants.second",
            ),
            ("\"audit.pem\"", "\"operator.pem\"", "audit"),
            (
                "[\"first\", \"second\"]",
                "[\"first\", \"Second Officer\"]",
                "officers",
            ),
        ] {
            let found = faults_in(&folder, 0, &change(&plan, from, to));
            assert!(
                found.iter().any(|fault| fault.starts_with(place)),
                "{to}: {found:#?}"
            );
        }
    }
}

#[test]
fn who_may_not_take_part_is_named_with_what_to_do() {
    let folder = Folder::new();
    let without_crl = change(NEW_CUSTODIAN, CRL, "");
    for good in [NEW_CUSTODIAN, &without_crl] {
        assert_eq!(faults_in(&folder, 0, good), [""; 0]);
    }
    let of_second = |cause: &str| format!("participants.second: certificate: {cause}");
    let by_the_ca = "name one by CN=ca-ops,O=Bank,C=DE, the CA of ceremony-ca";
    let act = "name the one that an act custodian-credential made";
    let cases = [
        // Certificates.
        (
            (SECOND, "\"elsewhere.pem\""),
            of_second(&format!("the certificate is not by the expected CA; {by_the_ca}")),
        ),
        (
            (SECOND, "\"operator.pem\""),
            of_second(&format!("the extended key usage is not the role's; {act}")),
        ),
        (
            (SECOND, "\"audit.pem\""),
            of_second(&format!("the organizational unit is not the role's; {act}")),
        ),
        (
            (SECOND, "\"ca-ops.pem\""),
            of_second("the basic constraints are not the role's; "),
        ),
        (
            (SECOND, "\"nameless.pem\""),
            of_second("has no common name: it does not say whose it is"),
        ),
        (
            (SECOND, "\"painter.pem\""),
            of_second("holds U+202E, a control or format character"),
        ),
        ((SECOND, "\"missing.pem\""), of_second("")),
        ((SECOND, "\"leaf.cnf\""), of_second("")),
        // One person under two ids.
        (
            (SECOND, "\"namesake.pem\""),
            "participants.second: is the same person as participants.first: they have the same subject; \
             nobody takes part twice"
                .to_owned(),
        ),
        (
            (SECOND, FIRST),
            "participants.second: is the same person as participants.first: they have the same subject; \
             nobody takes part twice"
                .to_owned(),
        ),
        (
            (SECOND, "\"shouter.pem\""),
            "participants.second: is the same person as participants.first: they have the same name; nobody takes \
             part twice"
                .to_owned(),
        ),
        (
            (SECOND, "\"twice.pem\""),
            "participants.second: is the same person as participants.first: they have the same public key; \
             nobody takes part twice"
                .to_owned(),
        ),
        (
            ("token = \"second-custodian\"", "token = \"first-custodian\""),
            "participants.second: is the same person as participants.first: they have the same token; \
             nobody takes part twice"
                .to_owned(),
        ),
        (
            ("token = \"second-custodian\"", "token = \"first-custodian\"\nserial = \"1\""),
            "participants.second: is the same person as participants.first: they have the same token; \
             nobody takes part twice"
                .to_owned(),
        ),
        (
            ("token = \"second-custodian\"", "token = \"issuing\""),
            "participants.second: token: is tokens.issuing; a participant has a token of their own"
                .to_owned(),
        ),
        // The CA and its list.
        (
            ("ceremony-ca = \"ca-ops.pem\"", ""),
            "ceremony-ca: is missing; name the certificate of the CA that certifies participants".to_owned(),
        ),
        (
            ("ceremony-ca = \"ca-ops.pem\"", "ceremony-ca = \"audit.pem\""),
            "ceremony-ca: CN=Audit,OU=Audit,O=Bank,C=DE is no sub-CA; name".to_owned(),
        ),
        (
            ("ceremony-ca = \"ca-ops.pem\"", "ceremony-ca = \"missing.pem\""),
            "ceremony-ca: ".to_owned(),
        ),
        (
            (CRL, "ceremony-crl = \"foreign-crl.pem\""),
            "ceremony-crl: ".to_owned(),
        ),
        (
            (CRL, "ceremony-crl = \"missing.pem\""),
            "ceremony-crl: ".to_owned(),
        ),
        // The audit key.
        (
            ("\"audit.pem\"", FIRST),
            "audit: certificate: the organizational unit is not the role's; name the one that an act \
             audit-credential made"
                .to_owned(),
        ),
        (
            ("\"audit.pem\"", "\"elsewhere.pem\""),
            format!("audit: certificate: the certificate is not by the expected CA; {by_the_ca}"),
        ),
        (
            ("\"audit.pem\"", "\"missing.pem\""),
            "audit: certificate: ".to_owned(),
        ),
        (
            ("audit = { token = \"kdh\"", "audit = { token = \"vault\""),
            "audit: there is no token \"vault\" in the plan".to_owned(),
        ),
        (
            ("key = \"audit\"", "key = \"\""),
            "audit: key: ".to_owned(),
        ),
        // Who confirms.
        (
            ("[\"first\", \"second\"]", "[\"first\"]"),
            "officers: two or more people, all different, confirm".to_owned(),
        ),
        (
            ("[\"first\", \"second\"]", "[\"first\", \"first\"]"),
            "officers: two or more people, all different, confirm".to_owned(),
        ),
        (
            ("[\"first\", \"second\"]", "[\"first\", \"secnod\"]"),
            "officers: \"secnod\" is no participant of this plan; correct the id, or add \
             [participants.secnod]"
                .to_owned(),
        ),
        (
            ("[\"first\", \"second\"]", "[\"first\", \"Second Custodian\"]"),
            "officers: \"Second Custodian\" is no participant".to_owned(),
        ),
        // What a participant's table holds.
        (
            ("[participants.second]", "[participants.\"second one\"]"),
            "officers: \"second\" is no participant".to_owned(),
        ),
        (
            ("[participants.first]", "[participants.\"\"]"),
            "officers: \"first\" is no participant".to_owned(),
        ),
        (
            ("key = \"custodian\"   ", "key = \"\"   "),
            "participants.first: key: ".to_owned(),
        ),
        (
            ("token = \"second-custodian\"", "token = \"\""),
            "participants.second: token: is empty".to_owned(),
        ),
        (
            (
                "token = \"second-custodian\"",
                "token = \"second-custodian-with-a-long-label\"",
            ),
            "participants.second: token: a label has at most 32 characters".to_owned(),
        ),
        (
            ("token = \"second-custodian\"", "token = \"second\\u202e\""),
            "participants.second: token: holds U+202E".to_owned(),
        ),
        (
            (
                "token = \"second-custodian\"",
                "token = \"second-custodian\"\npin-file = \"missing.pin\"",
            ),
            "participants.second: PIN ".to_owned(),
        ),
        (
            (
                "module = \"/usr/lib/softhsm/libsofthsm2.so\"\ntoken = \"second-custodian\"",
                "module = \"missing.so\"\ntoken = \"second-custodian\"",
            ),
            "participants.second: module: there is no library".to_owned(),
        ),
        (
            ("confirmation = \"typed\"", "confirmation = \"unattended\""),
            "tokens.issuing: pin-file: nobody is there to type the PIN".to_owned(),
        ),
        // Rehearsals.
        (
            ("# require-rehearsal = true", "require-rehearsal = true"),
            "require-rehearsal: say in rehearsal-transcript which file the rehearsal's transcript is copied to"
                .to_owned(),
        ),
        (
            ("# rehearsal-transcript", "rehearsal-transcript"),
            "rehearsal-transcript: is demanded by require-rehearsal = true only; write both".to_owned(),
        ),
    ];
    assert_missed_none(&folder, NEW_CUSTODIAN, 0, &cases);
    assert_missed_none(
        &folder,
        NEW_CUSTODIAN,
        0,
        &[
            (
                (SECOND, "\"gone.pem\""),
                of_second(
                    "the certificate was revoked; whoever holds it takes no part; have a new one issued, or \
                     name somebody else",
                ),
            ),
            (
                ("ceremony-ca = \"ca-ops.pem\"", ""),
                "ceremony-ca: is missing".to_owned(),
            ),
        ],
    );
    assert_missed_none(
        &folder,
        &without_crl,
        0,
        &[(
            ("ceremony-ca = \"ca-ops.pem\"", "ceremony-ca = \"foreign.pem\""),
            "participants.first: certificate: the certificate is not by the expected CA; name one by \
             CN=foreign,O=Bank,C=DE, the CA of ceremony-ca"
                .to_owned(),
        )],
    );
    let has_ended = "the certificate has expired; have one issued that holds at the ceremony";
    let brief = change(NEW_CUSTODIAN, SECOND, "\"brief.pem\"");
    assert_eq!(faults_in(&folder, 0, &brief), [""; 0]);
    assert_eq!(faults_in(&folder, 11, &brief), [of_second(has_ended)]);
    let found = faults_in(&folder, -1, NEW_CUSTODIAN);
    let too_early = "ceremony-ca: CN=ca-ops,O=Bank,C=DE is not valid now; participants need certificates by \
                     one that is";
    assert_eq!(found[0], too_early);
    let found = faults_in(&folder, 31, NEW_CUSTODIAN);
    assert!(found[0].starts_with("ceremony-crl: "), "{found:#?}");
    assert!(
        found[0].ends_with("; have a current list by CN=ca-ops,O=Bank,C=DE issued (act crl)"),
        "{found:#?}"
    );
}

fn assert_missed_none(folder: &Folder, good: &str, days: i64, cases: &[((&str, &str), String)]) {
    let mut missed = Vec::new();
    for ((from, to), expected) in cases {
        let found = faults_in(folder, days, &change(good, from, to));
        if !found
            .first()
            .is_some_and(|fault| fault.starts_with(expected))
        {
            missed.push(format!(
                "{from:?} -> {to:?}: not {expected:?}, but {found:#?}"
            ));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Two ids that differ in nothing that a token says of itself, but in their modules or serial numbers, are two.
#[test]
fn tokens_of_one_label_are_told_apart_by_their_serial_numbers() {
    let folder = Folder::new();
    let both = change(
        NEW_CUSTODIAN,
        "token = \"first-custodian\"",
        "serial = \"1\"\ntoken = \"custodian\"",
    );
    let both = change(
        &both,
        "token = \"second-custodian\"",
        "serial = \"2\"\ntoken = \"custodian\"",
    );
    assert_eq!(faults_in(&folder, 0, &both), [""; 0]);
    let found = faults_in(
        &folder,
        0,
        &change(&both, "serial = \"2\"", "serial = \"1\""),
    );
    assert!(found[0].contains("they have the same token"), "{found:#?}");
}

/// An audit key that the plan itself makes is that of the act.
#[test]
fn the_audit_key_is_that_of_the_act_that_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let faults = |text: &str| match Plan::parse(
        text,
        folder.path(),
        Mode::Real,
        OffsetDateTime::now_utc(),
    ) {
        Ok(_) => Vec::new(),
        Err(CeremonyError::Plan(faults)) => faults,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(faults(TWO_SUB_CAS), [""; 0]);
    for (from, to, expected) in [
        (
            "audit = { token = \"kdh\", key = \"audit\"",
            "audit = { token = \"kdh\", key = \"kdh-signing\"",
            "audit: audit.pem belongs to the key audit in token kdh",
        ),
        (
            "audit = { token = \"kdh\", key = \"audit\"",
            "audit = { token = \"issuing\", key = \"audit\"",
            "audit: audit.pem belongs to the key audit in token kdh",
        ),
        (
            "key = \"audit\", certificate = \"audit.pem\" }",
            "key = \"audit\", certificate = \"kdh.pem\" }",
            "audit: certificate: ",
        ),
    ] {
        let found = faults(&change(TWO_SUB_CAS, from, to));
        assert!(found[0].starts_with(expected), "{to}: {found:#?}");
    }
}
