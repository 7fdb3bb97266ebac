//! Plans: the samples have no faults, and a fault is named with its place before an HSM is opened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "plan/imports.rs"]
mod imports;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Stdio},
};

use kdh_ceremony::{CeremonyError, Mode, Plan};
use tempfile::TempDir;
use time::OffsetDateTime;

const TWO_SUB_CAS: &str = include_str!("../plans/two-sub-cas.toml");
const SINGLE_SUB_CA: &str = include_str!("../plans/single-sub-ca.toml");
const CRL_REISSUE: &str = include_str!("../plans/crl-reissue.toml");
const IMPORT: &str = include_str!("../plans/import-master-key.toml");
const SITTINGS: &str = include_str!("../plans/import-at-two-sittings.toml");
const GIVE_OUT: &str = include_str!("../plans/give-out-components.toml");
const NEW_KDH: &str = include_str!("../plans/new-kdh-credential.toml");
const NEXT_STORAGE_KEYS: &str = include_str!("../plans/next-storage-keys.toml");

const COMPONENTS: [&str; 2] = [
    "7A4F 19C3 D05B 62E8 8E13 F6A9 27C4 B05D\n",
    "315C8EF40D97A26B94E05D7218FBC63A",
];

fn parse(text: &str, folder: &Path) -> Result<Plan, CeremonyError> {
    Plan::parse(text, folder, Mode::Real, OffsetDateTime::now_utc())
}

fn load(path: &Path) -> Result<Plan, CeremonyError> {
    Plan::load(path, Mode::Real, OffsetDateTime::now_utc())
}

/// What the plan is found to be: nothing, or its faults.
fn faults(text: &str, folder: &Path) -> Vec<String> {
    match parse(text, folder) {
        Ok(_) => Vec::new(),
        Err(CeremonyError::Plan(faults)) => {
            assert!(!faults.is_empty());
            faults
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// One thing is changed in a good plan, and the first fault has all of `named` in it. Others may
/// follow from it.
struct Case<'a> {
    change: (&'a str, &'a str),
    named: &'a [&'a str],
}

const fn case<'a>(from: &'a str, to: &'a str, named: &'a [&'a str]) -> Case<'a> {
    Case {
        change: (from, to),
        named,
    }
}

/// Replaces the first occurrence, which has to be there.
fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the plan");
    text.replacen(from, to, 1)
}

fn assert_cases(good: &str, folder: &Path, cases: &[Case<'_>]) {
    assert_eq!(faults(good, folder), [""; 0]);
    let mut missed = Vec::new();
    for Case {
        change: (from, to),
        named,
    } in cases
    {
        let found = faults(&change(good, from, to), folder);
        let named = |fault: &String| named.iter().all(|part| fault.contains(part));
        if !found.first().is_some_and(named) {
            missed.push(format!("{from:?} -> {to:?}: {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with the files that an import in automation reads, and the plan for it.
fn import_folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, component) in ["first.hex", "second.hex"].into_iter().zip(COMPONENTS) {
        write(folder.path(), name, component, 0o600);
    }
    write(folder.path(), "kdh.pin", "1234", 0o600);
    let plan = IMPORT
        .replace("confirmation = \"typed\"", "confirmation = \"unattended\"")
        .replace("label = \"kdh\"", "label = \"kdh\"\npin-file = \"kdh.pin\"")
        .replace(
            "custodian = \"First Custodian\"",
            "custodian = \"First Custodian\"\nfile = \"first.hex\"\nkcv = \"A19083\"",
        )
        .replace(
            "custodian = \"Second Custodian\"",
            "custodian = \"Second Custodian\"\nfile = \"second.hex\"\nkcv = \"EC8692\"",
        );
    (folder, plan)
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A folder with a CA's certificate and its revocation list number 1 with one entry, which OpenSSL
/// made.
fn crl_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    // What was revoked: OpenSSL's form.
    write(
        "index.txt",
        "R\t300101000000Z\t260131120000Z\t40A1B2C3D4E5F607\tunknown\t/CN=KDH 1\n",
    );
    write("crlnumber", "01\n");
    write(
        "openssl.cnf",
        "[ca]\ndefault_ca = ca\n[ca]\ndatabase = index.txt\ncrlnumber = crlnumber\n\
         default_md = sha256\ndefault_crl_days = 30\ncrl_extensions = crl\n\
         [crl]\nauthorityKeyIdentifier = keyid\n\
         [req]\ndistinguished_name = name\nx509_extensions = root\n[name]\n\
         [root]\nbasicConstraints = critical,CA:true,pathlen:0\n\
         keyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n\
         authorityKeyIdentifier = keyid:always\n",
    );
    for arguments in [
        "req -x509 -config openssl.cnf -newkey rsa:2048 -nodes -keyout ca.key -out ca-kdh.pem \
         -days 3000 -subj /C=DE/O=Bank/CN=CA",
        "ca -gencrl -config openssl.cnf -keyfile ca.key -cert ca-kdh.pem -out crl.pem",
        "crl -in crl.pem -outform DER -out crl-ca-kdh.der",
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        openssl(folder.path(), &arguments);
    }
    folder
}

#[test]
fn the_sample_plans_have_no_faults() {
    let empty = tempfile::tempdir().unwrap();
    for plan in [
        TWO_SUB_CAS,
        SINGLE_SUB_CA,
        IMPORT,
        SITTINGS,
        GIVE_OUT,
        NEXT_STORAGE_KEYS,
    ] {
        assert_eq!(faults(plan, empty.path()), [""; 0]);
    }
    for plan in [CRL_REISSUE, NEW_KDH] {
        assert_eq!(faults(plan, crl_folder().path()), [""; 0]);
    }
}

#[test]
fn a_plan_is_read_from_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    fs::write(&path, TWO_SUB_CAS).unwrap();
    let plan = load(&path).unwrap();
    assert_eq!(
        plan.digest(),
        parse(TWO_SUB_CAS, folder.path()).unwrap().digest()
    );
}

#[test]
fn every_byte_of_a_plan_is_in_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |text: &str| parse(text, folder.path()).unwrap().digest();
    let good = digest(TWO_SUB_CAS);
    assert_eq!(good.len(), 64);
    assert_ne!(good, digest(&format!("{TWO_SUB_CAS}\n")));
    assert_ne!(
        good,
        digest(&change(TWO_SUB_CAS, "years = 20", "years = 21"))
    );
}

#[test]
fn a_plan_that_is_not_there_or_not_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    assert!(matches!(load(&path), Err(CeremonyError::File { .. })));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(load(&path), Err(CeremonyError::File { .. })));
    fs::write(&path, "title = ").unwrap();
    assert!(matches!(load(&path), Err(CeremonyError::Plan(_))));
}

#[test]
fn bad_forms_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case("title =", "colour = 1\ntitle =", &["colour"]),
            case(
                "label = \"root\"",
                "label = \"root\"\npin = \"1\"",
                &["`pin`"],
            ),
            case("years = 20", "years = 20\ncolour = 1", &["`colour`"]),
            case(
                "key = \"ca-root\",",
                "key = \"ca-root\", colour = 1,",
                &["`colour`"],
            ),
            case(
                "act = \"root-ca\"",
                "act = \"root\"",
                &["`root`", "`root-ca`"],
            ),
            case("act = \"root-ca\"\n", "", &["`act`"]),
            case("title = \"PKI", "name = \"PKI", &["`name`"]),
            case("years = 20\n", "", &["`years`"]),
            case("years = 20", "years = -1", &["-1"]),
            case("years = 20", "years = \"20\"", &["\"20\""]),
            case("= \"typed\"", "= \"none\"", &["`none`", "`typed`"]),
        ],
    );
}

#[test]
fn bad_people_tokens_and_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "file", "", 0o600);
    write(folder.path(), "open.pin", "1234", 0o644);
    symlink("nowhere", folder.path().join("link")).unwrap();
    write(folder.path(), "empty.pin", "", 0o600);
    let officers = "officers = [\"First Officer\", \"Second Officer\"]";
    let label = "label = \"root\"";
    let root = "certificate = \"root.pem\"\n";
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(officers, "officers = [\"First Officer\"]", &["officers"]),
            case(officers, "officers = [\"A\", \"A\"]", &["officers"]),
            case(officers, "", &["officers"]),
            case(
                "output = \".\"",
                "output = \"missing\"",
                &["output", "missing"],
            ),
            case("output = \".\"", "output = \"file\"", &["output", "file"]),
            case(
                "softhsm/libsofthsm2.so",
                "none.so",
                &["tokens.root", "none.so"],
            ),
            case(
                "[tokens.operator]",
                "[tokens.\"../operator\"]",
                &["tokens.../operator", "name"],
            ),
            case(label, "label = \"\"", &["tokens.root", "label"]),
            case(
                label,
                "label = \"a-label-that-is-33-characters-lon\"",
                &["tokens.root", "label"],
            ),
            case(
                label,
                "label = \"root\"\npin-file = \"missing.pin\"",
                &["tokens.root", "missing.pin"],
            ),
            case(
                label,
                "label = \"root\"\npin-file = \"open.pin\"",
                &["tokens.root", "open.pin"],
            ),
            case(
                label,
                "label = \"root\"\npin-file = \"empty.pin\"",
                &["tokens.root", "empty.pin"],
            ),
            case("pki-transcript.jsonl", "file", &["transcript", "file"]),
            case(
                "pki-transcript.jsonl",
                "a/b.jsonl",
                &["transcript", "a/b.jsonl"],
            ),
            case("crl-ca-krd.der", "a/crl.der", &["act 9 (crl)", "a/crl.der"]),
            case(
                "crl-ca-krd.der",
                "../crl.der",
                &["act 9 (crl)", "../crl.der"],
            ),
            case("crl-ca-krd.der", "/crl.der", &["act 9 (crl)", "/crl.der"]),
            case("crl-ca-krd.der", "./crl.der", &["act 9 (crl)", "./crl.der"]),
            case("crl-ca-krd.der", "", &["act 9 (crl)", "file name"]),
            case("crl-ca-krd.der", "crl.der/", &["act 9 (crl)", "crl.der/"]),
            case("crl-ca-krd.der", "..", &["act 9 (crl)", ".."]),
            case("crl-ca-krd.der", "link", &["act 9 (crl)", "link", "exists"]),
            case("crl-ca-krd.der", "file", &["act 9 (crl)", "file", "exists"]),
            case(
                "crl-ca-krd.der",
                "kdh.pem",
                &["act 9 (crl)", "kdh.pem", "twice"],
            ),
            case(
                "crl-ca-krd.der",
                "pki-transcript.jsonl",
                &["act 9 (crl)", "pki-transcript.jsonl", "twice"],
            ),
            case(
                root,
                "certificate = \"root.pem\"\n[[acts]]\nact = \"root-ca\"\ntoken = \"root\"\n\
                 key = \"ca-root\"\nsubject = \"CN=A\"\nyears = 1\ncertificate = \"a.pem\"\n",
                &["act 2 (root-ca)", "ca-root", "twice"],
            ),
        ],
    );
}

#[test]
fn bad_cas_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "text.pem", "no certificate", 0o644);
    let root = "act 1 (root-ca)";
    let sub = "act 2 (sub-ca)";
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(
                "token = \"root\"\n",
                "token = \"vault\"\n",
                &[root, "vault"],
            ),
            case("token = \"root\",", "token = \"vault\",", &[sub, "vault"]),
            case(
                "key = \"ca-root\"\n",
                "key = \"CA root\"\n",
                &[root, "CA root"],
            ),
            case("key = \"ca-root\"\n", "key = \"\"\n", &[root]),
            case(
                "key = \"ca-root\"\n",
                "key = \"a-label-that-is-33-characters-lon\"\n",
                &[root],
            ),
            case(
                "key = \"ca-root\",",
                "key = \"CA root\",",
                &[sub, "CA root"],
            ),
            case(
                "CN=Example Bank Root CA,",
                "Example Bank,",
                &[root, "subject"],
            ),
            case(
                "CN=Example Bank Root CA,O=Example Bank,C=DE",
                "",
                &[root, "subject"],
            ),
            case("years = 20", "years = 0", &[root, "years"]),
            case("years = 20", "years = 31", &[root, "years"]),
            case(
                "years = 20",
                "years = 20\nrsa-bits = 2048",
                &[root, "rsa-bits", "2048"],
            ),
            case(
                "years = 20",
                "years = 20\nrsa-bits = 1000",
                &[root, "rsa-bits", "1000"],
            ),
            case(
                "years = 20",
                "years = 20\nrsa-bits = 8192",
                &[root, "rsa-bits", "8192"],
            ),
            case(
                "years = 20",
                "years = 20\nrsa-bits = 3500",
                &[root, "rsa-bits", "3500"],
            ),
            case(
                "years = 10",
                "years = 10\nrsa-bits = 2048",
                &[sub, "rsa-bits", "2048"],
            ),
            case("years = 10", "years = 31", &[sub, "years"]),
            case(
                "certificate = \"root.pem\" }",
                "certificate = \"missing.pem\" }",
                &[sub, "issuer", "missing.pem"],
            ),
            case(
                "certificate = \"root.pem\" }",
                "certificate = \"text.pem\" }",
                &[sub, "issuer", "text.pem"],
            ),
            // A later act makes it.
            case(
                "certificate = \"root.pem\" }",
                "certificate = \"ca-ops.pem\" }",
                &[sub, "issuer", "ca-ops.pem"],
            ),
        ],
    );
}

#[test]
fn bad_credentials_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let tls = "act 6 (host-tls-credential)";
    let hosts = "hosts = [\"localhost\", \"127.0.0.1\"]";
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(
                "rsa-bits = 2048 ",
                "rsa-bits = 1024 ",
                &["act 5 (kdh-credential)", "1024"],
            ),
            case(
                "\"KDH 1\"",
                "\"\"",
                &["act 5 (kdh-credential)", "common-name"],
            ),
            case(
                "years = 3\n",
                "years = 0\n",
                &["act 5 (kdh-credential)", "years"],
            ),
            case(hosts, "", &["hosts"]),
            case(hosts, "hosts = []", &[tls, "hosts"]),
            case(
                "\"fleet-operator\"",
                "\"\"",
                &["act 7 (operator-credential)", "common-name"],
            ),
        ],
    );
}

#[test]
fn what_belongs_to_another_kind_of_credential_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(
                "common-name = \"KDH 1\"",
                "common-name = \"KDH 1\"\nhosts = [\"a\"]",
                &["hosts"],
            ),
            case(
                "common-name = \"kdh-1\"",
                "common-name = \"kdh-1\"\nrsa-bits = 3072",
                &["rsa-bits"],
            ),
            case(
                "common-name = \"fleet-operator\"",
                "common-name = \"fleet-operator\"\nhosts = [\"a\"]",
                &["hosts"],
            ),
            case(
                "common-name = \"fleet-operator\"",
                "common-name = \"fleet-operator\"\nrsa-bits = 2048",
                &["rsa-bits"],
            ),
        ],
    );
}

/// Kn has to stand on a block boundary behind the issuer's name and the serial number, and 13
/// lengths of serial number cannot make up for 16 lengths of name.
#[test]
fn a_ca_name_for_which_no_serial_number_fits_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let name = "CN=Example Bank KDH CA";
    let found: Vec<_> = (0..16)
        .map(|more| {
            let longer = format!("{name}{}", "A".repeat(more));
            faults(&change(TWO_SUB_CAS, name, &longer), folder.path())
        })
        .collect();
    let bad: Vec<_> = found.iter().filter(|found| !found.is_empty()).collect();
    assert_eq!(bad.len(), 3, "{found:#?}");
    for found in bad {
        assert_eq!(found.len(), 2);
        for (fault, act) in found
            .iter()
            .zip(["act 3 (sub-ca)", "act 5 (kdh-credential)"])
        {
            assert!(fault.contains(act) && fault.contains("AA"), "{found:?}");
        }
    }
}

#[test]
fn bad_revocation_lists_are_named() {
    let folder = crl_folder();
    write(folder.path(), "text.der", "no list", 0o644);
    let act = "act 1 (crl)";
    assert_cases(
        CRL_REISSUE,
        folder.path(),
        &[
            case("days = 90", "days = 0", &[act, "days"]),
            case("days = 90", "days = 401", &[act, "days"]),
            case("number = 2 ", "number = 1 ", &[act, "number"]),
            case("number = 2 ", "number = 0 ", &[act, "number"]),
            case(
                "\"crl-ca-kdh.der\"",
                "\"missing.der\"",
                &[act, "previous", "missing.der"],
            ),
            case(
                "\"crl-ca-kdh.der\"",
                "\"text.der\"",
                &[act, "previous", "text.der"],
            ),
            case(
                "crl-ca-kdh-2.der",
                "crl-ca-kdh.der",
                &[act, "crl-ca-kdh.der", "exists"],
            ),
            case(
                "certificate = \"ca-kdh.pem\"",
                "certificate = \"a.pem\"",
                &[act, "a.pem"],
            ),
            case("token = \"issuing\"", "token = \"vault\"", &[act, "vault"]),
            case(
                "40A1B2C3D4E5F607",
                "40A1B2C3D4E5F60",
                &[act, "revoked", "40A1B2C3D4E5F60"],
            ),
            case("40A1B2C3D4E5F607", "xyz0", &[act, "revoked", "xyz0"]),
            case("40A1B2C3D4E5F607", "", &[act, "revoked"]),
            case("40A1B2C3D4E5F607", "C0A1B2C3D4E5F607", &[act, "revoked"]),
            case(
                "40A1B2C3D4E5F607",
                "40A1B2C3D4E5F608",
                &[act, "previous", "40A1B2C3D4E5F607"],
            ),
            case("previous = ", "# ", &[act, "previous"]),
            case("2026-01-31", "2999-01-31", &[act, "revoked", "2999"]),
            case(
                "[[acts.revoked]]",
                "[[acts.revoked]]\nserial = \"40A1B2C3D4E5F607\"\nat = \"2026-01-31T12:00:00Z\"\n\
                 [[acts.revoked]]",
                &[act, "revoked", "twice"],
            ),
            case("2026-01-31T12:00:00Z", "2026-02-31", &["acts"]),
            case("\"superseded\"", "\"lost\"", &["`lost`", "`superseded`"]),
        ],
    );
}

#[test]
fn a_list_of_another_ca_is_not_the_one_before() {
    let (folder, other) = (crl_folder(), crl_folder());
    let list = "crl-ca-kdh.der";
    fs::copy(other.path().join(list), folder.path().join(list)).unwrap();
    let found = faults(CRL_REISSUE, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("act 1 (crl): previous"), "{found:#?}");
}

/// What fits by itself, and not with the rest of the plan.
#[test]
fn what_does_not_fit_together_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kdh = "act 5 (kdh-credential)";
    let kdh_issuer = "{ token = \"issuing\", key = \"ca-kdh\", certificate = \"ca-kdh.pem\" }";
    let krd_issuer = "{ token = \"issuing\", key = \"ca-krd\", certificate = \"ca-krd.pem\" }";
    let root = "{ token = \"root\", key = \"ca-root\", certificate = \"root.pem\" }";
    let mixed = change(kdh_issuer, "ca-kdh.pem", "ca-krd.pem");
    let officers = "[\"First Officer\", \"Second Officer\"]";
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(officers, "[\"A\", \"A \"]", &["officers"]),
            case(officers, "[\"A\", \"B\", \"A\"]", &["officers"]),
            case(officers, "[\"A\", \"\"]", &["officers"]),
            case(
                "label = \"issuing\"",
                "label = \"root\"",
                &["tokens.", "same"],
            ),
            case("years = 10", "years = 21", &["act 2 (sub-ca)", "years"]),
            case(
                "CN=Example Bank KRD CA",
                "CN=Example Bank Root CA",
                &["act 2 (sub-ca)", "subject"],
            ),
            case(
                "key = \"ca-root\"\n",
                "key = \"kn.root\"\n",
                &["act 1", "kn."],
            ),
            case(kdh_issuer, root, &[kdh, "issuer", "Root CA"]),
            case(kdh_issuer, &mixed, &[kdh, "issuer", "ca-krd"]),
            case(krd_issuer, kdh_issuer, &["act 9 (crl)", "one list"]),
            case("number = 1", "number = 0", &["act 8 (crl)", "number"]),
            case("number = 1", "number = 2", &["act 8 (crl)", "previous"]),
        ],
    );
}

#[test]
fn what_a_client_cannot_look_for_is_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let place = "act 6 (host-tls-credential): hosts";
    for host in [
        "local host",
        "localhost.",
        "",
        "*",
        "127.0.0.1:443",
        "https://a",
    ] {
        let hosts = format!("[\"{host}\"");
        assert_cases(
            TWO_SUB_CAS,
            folder.path(),
            &[case("[\"localhost\"", &hosts, &[place])],
        );
    }
}

/// Control and format characters, and what else ends a line: with them a screen shows another plan.
const NOT_PLAIN: [char; 24] = [
    '\0',
    '\u{7}',
    '\u{8}',
    '\t',
    '\n',
    '\r',
    '\u{1b}',
    '\u{7f}',
    '\u{85}',
    '\u{9b}',
    '\u{ad}',
    '\u{61c}',
    '\u{180e}',
    '\u{200b}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2069}',
    '\u{feff}',
    '\u{fff9}',
    '\u{e0041}',
];

/// One after the other, each of [`NOT_PLAIN`] takes the place of `?` in what is changed. The first
/// fault names it and the place, and no fault holds it.
fn assert_refused_where_not_plain(good: &str, folder: &Path, places: &[(&str, &str, &[&str])]) {
    assert_eq!(faults(good, folder), [""; 0]);
    for (from, to, place) in places {
        for character in NOT_PLAIN {
            let code = u32::from(character);
            let to = to.replace('?', &format!("\\U{code:08X}"));
            let found = faults(&change(good, from, &to), folder);
            let named = format!("holds U+{code:04X}");
            let first = &found[0];
            let is_named = place.iter().all(|part| first.contains(part)) && first.contains(&named);
            assert!(is_named, "{to}: {found:#?}");
            let shown = found.iter().any(|fault| fault.contains(character));
            assert!(!shown, "{to}: {found:#?}");
        }
    }
}

/// What is shown is what is meant.
#[test]
fn names_that_would_paint_over_the_screen_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let label = "label = \"root\"";
    let issuer = "certificate = \"root.pem\" }";
    assert_refused_where_not_plain(
        TWO_SUB_CAS,
        folder.path(),
        &[
            ("title = \"PKI", "title = \"?PKI", &["title"]),
            ("\"First Officer\"", "\"First?Officer\"", &["officers"]),
            ("output = \".\"", "output = \"./?\"", &["output"]),
            ("pki-transcript", "pki?transcript", &["transcript"]),
            (
                "[tokens.operator]",
                "[tokens.\"oper?ator\"]",
                &["tokens.oper\\u{", "name"],
            ),
            (label, "label = \"ro?ot\"", &["tokens.root", "label"]),
            (
                label,
                "label = \"root\"\nserial = \"1?2\"",
                &["tokens.root", "serial"],
            ),
            (
                label,
                "label = \"root\"\npin-file = \"a?.pin\"",
                &["tokens.root", "pin-file"],
            ),
            (
                label,
                "label = \"root\"\nso-pin-file = \"a?.pin\"",
                &["tokens.root", "so-pin-file"],
            ),
            ("CN=Example Bank Root", "CN=Ro?ot", &["act 1", "subject"]),
            (
                "\"root.pem\"\n",
                "\"ro?ot.pem\"\n",
                &["act 1", "certificate"],
            ),
            (
                issuer,
                "certificate = \"ro?ot.pem\" }",
                &["act 2", "issuer", "certificate"],
            ),
            ("\"KDH 1\"", "\"KDH?1\"", &["act 5", "common-name"]),
            ("\"kdh.pem\"", "\"k?dh.pem\"", &["act 5", "certificate"]),
            ("crl-ca-krd.der", "crl?krd.der", &["act 9", "file"]),
        ],
    );
    // Every module of the plan is the same one; of the tokens, this one is checked first.
    let module = "[tokens.issuing]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"";
    let bad_module = "[tokens.issuing]\nmodule = \"/usr/lib/?softhsm/libsofthsm2.so\"";
    assert_refused_where_not_plain(
        TWO_SUB_CAS,
        folder.path(),
        &[(module, bad_module, &["tokens.issuing", "module"])],
    );
    let (folder, import) = import_folder();
    assert_refused_where_not_plain(
        &import,
        folder.path(),
        &[
            ("\"First Custodian\"", "\"First?Custodian\"", &["act 1"]),
            (
                "\"first.hex\"",
                "\"first?.hex\"",
                &["act 1", "First Custodian", "file"],
            ),
        ],
    );
    let folder = crl_folder();
    assert_refused_where_not_plain(
        CRL_REISSUE,
        folder.path(),
        &[("\"crl-ca-kdh.der\"", "\"crl?.der\"", &["act 1", "previous"])],
    );
}

/// What a name's parser takes out of an escape, or out of a file that is no part of the plan.
#[test]
fn names_that_are_not_plain_once_they_are_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (escape, code) in [
        (r"\\E2\\80\\AE", "U+202E"),
        (r"\\e2\\80\\8b", "U+200B"),
        (r"\\C2\\9B", "U+009B"),
    ] {
        let subject = format!("CN=Ro{escape}ot");
        assert_cases(
            TWO_SUB_CAS,
            folder.path(),
            &[case("CN=Example Bank Root", &subject, &["subject", code])],
        );
    }
    let folder = crl_folder();
    let subject = "/C=DE/O=Bank/CN=C\u{202e}A";
    let arguments =
        "req -x509 -config openssl.cnf -utf8 -key ca.key -out ca-kdh.pem -days 30 -subj";
    let arguments: Vec<_> = arguments.split_whitespace().chain([subject]).collect();
    openssl(folder.path(), &arguments);
    let found = faults(CRL_REISSUE, folder.path());
    let place = "act 1 (crl): issuer: certificate: subject: holds U+202E";
    assert!(found[0].starts_with(place), "{found:#?}");
    assert!(!found.concat().contains('\u{202e}'), "{found:#?}");
}

/// Neither does what the parser of TOML quotes.
#[test]
fn a_plan_of_bad_form_does_not_paint_over_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("title =", "\"\\u001b[2J\" = 1\ntitle ="),
        ("title =", "\"\u{202e}\" = 1\ntitle ="),
        ("act = \"root-ca\"", "act = \"\\u009b\""),
        ("years = 20", "years = \"\u{200b}\""),
    ] {
        let found = faults(&change(TWO_SUB_CAS, from, to), folder.path());
        let painted = |c: char| c != '\n' && NOT_PLAIN.contains(&c);
        assert!(!found.concat().contains(painted), "{found:#?}");
        assert!(found.concat().contains("\\u{"), "{found:#?}");
    }
}

#[test]
fn names_in_other_scripts_are_plain() {
    let folder = tempfile::tempdir().unwrap();
    let plan = change(
        TWO_SUB_CAS,
        "title = \"PKI",
        "title = \"Schlüssel – Übung №1",
    );
    let plan = change(&plan, "First Officer", "Łucja O’Neill");
    let plan = change(&plan, "Second Officer", "e\u{301}va 山田太郎 שרה");
    assert_eq!(faults(&plan, folder.path()), [""; 0]);
}

#[test]
fn nobody_is_asked_in_an_unattended_ceremony() {
    let folder = tempfile::tempdir().unwrap();
    let plan = change(TWO_SUB_CAS, "\"typed\"", "\"unattended\"");
    let found = faults(&plan, folder.path());
    let tokens = [
        "first-custodian",
        "issuing",
        "kdh",
        "operator",
        "root",
        "second-custodian",
    ];
    assert_eq!(found.len(), tokens.len(), "{found:#?}");
    for (found, token) in found.iter().zip(tokens) {
        let place = format!("tokens.{token}: pin-file");
        assert!(found.starts_with(&place), "{found}");
    }
}

#[test]
fn a_token_is_initialized_before_it_is_used_and_with_pins() {
    let (folder, plan) = import_folder();
    write(folder.path(), "kdh.so-pin", "12345678", 0o600);
    let act = "[[acts]]\nact = \"initialize-token\"\ntoken = \"kdh\"\n\n[[acts]]";
    let pins = "pin-file = \"kdh.pin\"\nso-pin-file = \"kdh.so-pin\"";
    let plan = change(&plan, "pin-file = \"kdh.pin\"", pins);
    let good = change(&plan, "[[acts]]", act);
    let place = "act 1 (initialize-token)";
    assert_cases(
        &good,
        folder.path(),
        &[
            case("so-pin-file = \"kdh.so-pin\"", "", &[place, "so-pin-file"]),
            case(
                "so-pin-file",
                "serial = \"1\"\nso-pin-file",
                &[place, "serial"],
            ),
            case(
                "\"kdh.so-pin\"",
                "\"missing.pin\"",
                &["tokens.kdh", "missing.pin"],
            ),
            case(
                "\ntoken = \"kdh\"",
                "\ntoken = \"vault\"",
                &[place, "vault"],
            ),
        ],
    );
    let late = format!("{plan}\n[[acts]]\nact = \"initialize-token\"\ntoken = \"kdh\"\n");
    let found = faults(&late, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("act 2 (initialize-token)"),
        "{found:#?}"
    );
}

/// A rehearsal looks at no PIN, module or component, and finds every other fault.
#[test]
fn a_rehearsal_needs_nothing_secret() {
    let (folder, plan) = import_folder();
    for file in ["kdh.pin", "first.hex", "second.hex"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let plan = change(&plan, "/usr/lib/softhsm/libsofthsm2.so", "none.so");
    let rehearsed = |text: &str| {
        let now = OffsetDateTime::now_utc();
        Plan::parse(text, folder.path(), Mode::Rehearsal, now)
    };
    rehearsed(&plan).unwrap();
    rehearsed(&change(&plan, "\"A1B2C3\"", "\"A1B2\"")).unwrap_err();
    assert_eq!(faults(&plan, folder.path()).len(), 4);
}

#[test]
fn bad_components_are_named() {
    let (folder, plan) = import_folder();
    write(folder.path(), "open.hex", COMPONENTS[0], 0o640);
    write(folder.path(), "text.hex", "no component", 0o600);
    write(folder.path(), "odd.hex", "7A4", 0o600);
    write(folder.path(), "empty.hex", "", 0o600);
    write(folder.path(), "short.hex", &COMPONENTS[1][2..], 0o600);
    write(folder.path(), "long.hex", &"7A".repeat(300), 0o600);
    fs::create_dir(folder.path().join("folder")).unwrap();
    let act = "act 1 (import-components)";
    assert_cases(
        &plan,
        folder.path(),
        &[
            case(
                "\"Second Custodian\"",
                "\"First Custodian\"",
                &[act, "components"],
            ),
            case(
                "kind = \"AES-128\"",
                "kind = \"AES-512\"",
                &[act, "kind", "AES-512"],
            ),
            case(
                "kind = \"AES-128\"",
                "kind = \"aes-128\"",
                &[act, "kind", "aes-128"],
            ),
            case("kcv = \"A1B2C3\"", "kcv = \"A1B2\"", &[act, "kcv"]),
            case("kcv = \"A1B2C3\"", "kcv = \"A1B2CX\"", &[act, "kcv"]),
            case("kcv = \"A1B2C3\"", "kcv = \"\"", &[act, "kcv"]),
            case(
                "\"kn.acquirer-tmk\"",
                "\"kn acquirer\"",
                &[act, "kn acquirer"],
            ),
            case("\ntoken = \"kdh\"", "\ntoken = \"vault\"", &[act, "vault"]),
            case("\"kn.acquirer-tmk\"", "\"acquirer-tmk\"", &[act, "kn."]),
            case("\"kn.acquirer-tmk\"", "\"kn.\"", &[act, "kn."]),
            case(
                "\"Second Custodian\"",
                "\"First Custodian \"",
                &[act, "components"],
            ),
            case("\"Second Custodian\"", "\"\"", &[act, "is empty"]),
            case("\"second.hex\"", "\"first.hex\"", &[act, "same file"]),
            case("\"A19083\"", "\"A190\"", &[act, "First Custodian", "kcv"]),
            case(
                "\"A19083\"",
                "\"A1908300\"",
                &[act, "First Custodian", "kcv"],
            ),
            case("\"A19083\"", "\"A1908X\"", &[act, "First Custodian", "kcv"]),
            case("\"first.hex\"", "\"short.hex\"", &[act, "short.hex"]),
            case("\"first.hex\"", "\"long.hex\"", &[act, "long.hex"]),
            case("\"first.hex\"", "\"open.hex\"", &[act, "open.hex"]),
            case("\"first.hex\"", "\"missing.hex\"", &[act, "missing.hex"]),
            case("\"first.hex\"", "\"text.hex\"", &[act, "text.hex"]),
            case("\"first.hex\"", "\"odd.hex\"", &[act, "odd.hex"]),
            case("\"first.hex\"", "\"empty.hex\"", &[act, "empty.hex"]),
            case("\"first.hex\"", "\"folder\"", &[act, "folder"]),
            case("\nkcv = \"A19083\"", "", &[act, "components", "kcv"]),
            case("\nfile = \"first.hex\"", "", &[act, "components", "file"]),
        ],
    );
    let one = plan.find("[[acts.components]]").unwrap();
    let second = plan.rfind("[[acts.components]]").unwrap();
    for (text, named) in [
        (&plan[..second], "components"),
        (&plan[..one], "`components`"),
    ] {
        let found = faults(text, folder.path());
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(named), "{found:#?}");
    }
}

#[test]
fn bad_sittings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let act = "act 1 (import-components)";
    let hours = "expires-hours = 48";
    let (first, third) = (
        "sitting = 1                        # the default",
        "sitting = 2\n",
    );
    let order = &[act, "sitting", "from 1 without a gap"];
    assert_cases(
        SITTINGS,
        folder.path(),
        &[
            case(first, "sitting = 0", order),
            case(first, "sitting = 2", order),
            case("\nsitting = 1\n", "\nsitting = 3\n", order),
            case(third, "sitting = 3\n", order),
            case(third, "sitting = 4294967295\n", order),
            case(third, "sitting = -1\n", &["-1"]),
            case(third, "sitting = \"2\"\n", &["\"2\""]),
            case(third, "", &[act, "expires-hours", "single sitting"]),
            case(hours, "expires-hours = 0", &[act, "1 to 720, not 0"]),
            case(hours, "expires-hours = 721", &[act, "1 to 720, not 721"]),
            case(hours, "expires-hours = -1", &["-1"]),
            case(
                "custody = \"recorded\"",
                "custody = \"none\"",
                &["`none`", "`unrecorded`"],
            ),
            case("custody = \"recorded\"", "keep = \"recorded\"", &["`keep`"]),
            case(
                "\"Third Custodian\"",
                "\"FIRST  custodian\"",
                &[act, "nobody holds two components"],
            ),
            case(
                "[[acts]]\n",
                "[[acts]]\nact = \"initialize-token\"\ntoken = \"kdh\"\n[[acts]]\n",
                &["acts", "has a plan of its own"],
            ),
            case(
                "\"zone-transcript.jsonl\"",
                "\"x/zone.jsonl\"",
                &["transcript", "file name"],
            ),
        ],
    );

    // Up to five components, whatever the sittings.
    let component = "[[acts.components]]\ncustodian = \"Another\"\nsitting = 2\n";
    let with = |more: usize| {
        let more = (0..more).map(|number| component.replace("Another", &format!("N{number}")));
        format!("{SITTINGS}\n{}", more.collect::<String>())
    };
    assert_eq!(faults(&with(2), folder.path()), [""; 0]);
    let found = faults(&with(3), folder.path());
    assert!(found[0].contains("two to five components"), "{found:#?}");
}

/// Each sitting writes its own; what sittings before it wrote is no fault, and the last is not written twice.
#[test]
fn transcripts_of_sittings_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "zone-transcript.jsonl", "", 0o600);
    assert_eq!(faults(SITTINGS, folder.path()), [""; 0]);
    let plan = parse(SITTINGS, folder.path()).unwrap();
    assert_eq!(plan.sittings(), 2);
    let names = [1, 2].map(|sitting| plan.transcript_of(sitting));
    let names = names.map(|path| path.file_name().unwrap().to_owned());
    assert_eq!(names, ["zone-transcript.jsonl", "zone-transcript-2.jsonl"]);
    let bare = change(SITTINGS, "\"zone-transcript.jsonl\"", "\"zone\"");
    let bare = parse(&bare, folder.path()).unwrap().transcript_of(2);
    assert!(bare.ends_with("zone-2"), "{}", bare.display());

    write(folder.path(), "zone-transcript-2.jsonl", "", 0o600);
    let found = faults(SITTINGS, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].ends_with("zone-transcript-2.jsonl exists already"),
        "{found:#?}"
    );
    // At one sitting the first is the last.
    let once = change(SITTINGS, "sitting = 2\n", "");
    let once = change(&once, "expires-hours = 48\n", "");
    let found = faults(&once, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].ends_with("zone-transcript.jsonl exists already"));
}

#[test]
fn bad_gifts_of_components_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "kdh.pin", "1234", 0o600);
    let act = "act 1 (give-out-components)";
    let third = "[[acts.components]]\ncustodian = \"Third Custodian\"\n";
    let one = GIVE_OUT.find("[[acts.components]]").unwrap();
    let two = GIVE_OUT.rfind("[[acts.components]]").unwrap();
    let second = GIVE_OUT[..two].rfind("[[acts.components]]").unwrap();
    assert_cases(
        GIVE_OUT,
        folder.path(),
        &[
            case(
                "\"Third Custodian\"",
                "\"first custodian\"",
                &[act, "nobody holds two components"],
            ),
            case("\"Third Custodian\"", "\"\"", &[act, "is empty"]),
            case("\"Third Custodian\"", "\"\\u001b[2J\"", &[act, "U+001B"]),
            case("\"kn.switch-zone\"", "\"switch-zone\"", &[act, "kn.NAME"]),
            case("\"kn.switch-zone\"", "\"kn.\"", &[act, "kn.NAME"]),
            case("\"kn.switch-zone\"", "\"kn.Zone\"", &[act, "kn.Zone"]),
            case("\"AES-128\"", "\"AES-512\"", &[act, "kind", "AES-512"]),
            case("\ntoken = \"kdh\"", "\ntoken = \"vault\"", &[act, "vault"]),
            case(
                "kind = \"AES-128\"",
                "kcv = \"A1B2C3\"\nkind = \"AES-128\"",
                &["`kcv`"],
            ),
            case(
                "custodian = \"First Custodian\"",
                "custodian = \"First Custodian\"\nfile = \"first.hex\"",
                &["`file`"],
            ),
            case(
                "custodian = \"First Custodian\"",
                "custodian = \"First Custodian\"\nsitting = 2",
                &["`sitting`"],
            ),
            case(third, &third.repeat(2), &[act, "nobody holds two"]),
            case(
                "confirmation = \"typed\"",
                "confirmation = \"unattended\"",
                &["pin-file"],
            ),
        ],
    );
    let with_pin = change(
        GIVE_OUT,
        "label = \"kdh\"",
        "label = \"kdh\"\npin-file = \"kdh.pin\"",
    );
    let unattended = change(&with_pin, "\"typed\"", "\"unattended\"");
    let found = faults(&unattended, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("nobody is there to be shown a component"));
    for (text, named) in [
        (&GIVE_OUT[..second], "two to five components"),
        (&GIVE_OUT[..one], "`components`"),
    ] {
        let found = faults(text, folder.path());
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(named), "{found:#?}");
    }
}

#[test]
fn bad_storage_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let act = "act = \"storage-keys\"\ntoken = \"kdh\"\n";
    let number = &format!("{act}number = 1");
    let numbered = |number: &str| format!("{act}number = {number}");
    let elsewhere = number.replace("kdh", "vault");
    let initialize = "act = \"initialize-token\"\ntoken = \"kdh\"";
    let (place, again) = ("act 14 (storage-keys)", "act 15 (storage-keys)");
    assert_cases(
        TWO_SUB_CAS,
        folder.path(),
        &[
            case(number, &numbered("0"), &[place, "number", "from 1"]),
            case(number, &numbered("-1"), &["-1", "u32"]),
            case(number, &numbered("1.5"), &["1.5", "u32"]),
            case(number, &numbered("\"1\""), &["\"1\"", "u32"]),
            case(number, &numbered("4294967296"), &["4294967296", "u32"]),
            case(
                number,
                &format!("{number}\nkind = \"AES-128\""),
                &["`kind`"],
            ),
            case(number, "act = \"storage-keys\"", &["`token`"]),
            case(number, &elsewhere, &[place, "no token \"vault\""]),
            case(
                number,
                &format!("{number}\n[[acts]]\n{act}"),
                &[again, "\"ksk.1\"", "twice"],
            ),
            case(
                "\"kdh-signing\"",
                "\"ksk.1\"",
                &["act 5", "\"ksk.\"", "storage keys"],
            ),
            case(
                "\"host-tls\"",
                "\"ksm.x\"",
                &["act 6", "\"ksm.\"", "storage keys"],
            ),
            case(
                "[[acts]]\n",
                &format!("[[acts]]\n{act}\n[[acts]]\n{initialize}\n[[acts]]\n"),
                &["act 2 (initialize-token)", "before everything else"],
            ),
        ],
    );
    let both = change(TWO_SUB_CAS, number, &elsewhere.replace("= 1", "= 0"));
    assert_eq!(faults(&both, folder.path()).len(), 2);
    // In another token, or later on.
    for more in [
        "token = \"issuing\"\nnumber = 1",
        "token = \"kdh\"\nnumber = 2",
    ] {
        let more = format!("{number}\n[[acts]]\nact = \"storage-keys\"\n{more}");
        let plan = change(TWO_SUB_CAS, number, &more);
        assert_eq!(faults(&plan, folder.path()), [""; 0]);
    }
}

/// Only root can give a file away.
#[test]
#[expect(clippy::print_stderr, reason = "says what is not tested")]
fn files_of_another_user_are_refused() {
    let (folder, plan) = import_folder();
    for (from, other) in [("kdh.pin", "other.pin"), ("first.hex", "other.hex")] {
        let path = folder.path().join(other);
        fs::copy(folder.path().join(from), &path).unwrap();
        // A link of one's own makes no file one's own, and keeps no file from being so.
        let [good, bad] = ["good", "bad"].map(|name| format!("{name}-{other}"));
        symlink(from, folder.path().join(&good)).unwrap();
        symlink(other, folder.path().join(&bad)).unwrap();
        assert_eq!(faults(&change(&plan, from, &good), folder.path()), [""; 0]);
        assert_eq!(faults(&change(&plan, from, other), folder.path()), [""; 0]);
        if let Err(error) = chown(&path, Some(12_345), None) {
            eprintln!("skipped: a file cannot be given to another user: {error}");
            return;
        }
        for bad in [other, &bad] {
            let named = [bad, "belongs to user 12345", "chown"];
            assert_cases(&plan, folder.path(), &[case(from, bad, &named)]);
        }
    }
}

/// A fault quotes the place, never what stands in a file that is secret.
#[test]
fn no_component_is_in_a_fault() {
    let (folder, plan) = import_folder();
    let secret = "7A4F19C3D05B62E8";
    write(
        folder.path(),
        "text.hex",
        &format!("{secret}-no hex"),
        0o600,
    );
    let plan = change(&plan, "\"first.hex\"", "\"text.hex\"");
    let found = faults(&plan, folder.path());
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains(&secret[..8]), "{found:?}");
}

#[test]
fn a_plan_without_acts_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let head = &TWO_SUB_CAS[..TWO_SUB_CAS.find("[[acts]]").unwrap()];
    let plan = change(head, "title =", "acts = []\ntitle =");
    let audit = "audit = { token = \"kdh\", key = \"audit\", certificate = \"audit.pem\" }";
    let plan = change(&plan, audit, "");
    let found = faults(&plan, folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("acts"), "{found:#?}");
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = TWO_SUB_CAS.to_owned();
    for (from, to) in [
        ("output = \".\"", "output = \"missing\""),
        (", \"Second Officer\"", ""),
        ("label = \"root\"", "label = \"\""),
        ("key = \"ca-root\"\n", "key = \"CA root\"\n"),
        ("years = 20", "years = 0\nrsa-bits = 1000"),
        ("\"KDH 1\"", "\"\""),
        ("days = 90", "days = 0"),
    ] {
        plan = change(&plan, from, to);
    }
    let found = faults(&plan, folder.path());
    let places = [
        "output",
        "officers",
        "tokens.root",
        "act 1 (root-ca): \"CA root\"",
        "act 1 (root-ca): rsa-bits",
        "act 1 (root-ca): years",
        "act 5 (kdh-credential)",
        "act 8 (crl)",
    ];
    let mut rest = found.iter();
    for place in places {
        let named = rest.any(|fault| fault.starts_with(place));
        assert!(named, "{place} is not named in its turn: {found:#?}");
    }
    let message = CeremonyError::Plan(found.clone()).to_string();
    assert!(found.iter().all(|fault| message.contains(fault)));
}
