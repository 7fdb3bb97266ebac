//! Plans for keys that arrived encrypted, and for what they come under.

use std::{fs, path::Path};

use kdh_ceremony::{Mode, Plan};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::{assert_cases, case, change, crl_folder, faults, import_folder};

const IMPORT_PAIR: &str = include_str!("../../plans/import-pair.toml");
const IMPORT_WRAPPED: &str = include_str!("../../plans/import-wrapped.toml");

/// Made by psec, for a key of 128 bits.
const BLOCK: &str = "D0112K0AB00E0000C2EEFB4B455B95997E365125A4DE1AA742457F4E7C97EECE42299CCFAE7C2E70C573\
                     56CF82CD474C5270D57F5BDFBD1D";

/// A folder with all that the plan of wrapped keys names.
fn folder() -> TempDir {
    let folder = crl_folder();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("transport-key.bin", &[1; 384]);
    write("switch-one.bin", &[2; 24]);
    write("switch-two.bin", "03".repeat(40).as_bytes());
    write("switch-three.txt", BLOCK.as_bytes());
    write("switch-four.der", b"\x30\x03\x02\x01\x01");
    write("noise", &[0xFF; 40]);
    write("long", &vec![b'A'; 300 * 1024]);
    for (from, to) in [
        ("ca-kdh.pem", "switch.pem"),
        ("ca-kdh.pem", "switch-ca.pem"),
        ("ca-kdh.pem", "import-krd.pem"),
        ("ca-kdh.pem", "ca-krd.pem"),
        ("crl-ca-kdh.der", "switch-ca.crl"),
    ] {
        fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    folder
}

/// A folder with what the plan of pairs names.
fn pair_folder() -> TempDir {
    let folder = crl_folder();
    let path = |name| folder.path().join(name);
    fs::copy(path("ca-kdh.pem"), path("ca-krd.pem")).unwrap();
    folder
}

#[test]
fn the_sample_plans_have_no_faults() {
    assert_eq!(faults(IMPORT_PAIR, pair_folder().path()), [""; 0]);
    assert_eq!(faults(IMPORT_WRAPPED, folder().path()), [""; 0]);
}

#[test]
fn bad_pairs_are_named() {
    let (pair, credential) = ("act 1 (import-pair)", "act 2 (import-credential)");
    assert_cases(
        IMPORT_PAIR,
        pair_folder().path(),
        &[
            case(
                "rsa-bits = 3072",
                "rsa-bits = 2048",
                &[pair, "rsa-bits: 2048 is not one of 3072"],
            ),
            case(
                "rsa-bits = 3072",
                "rsa-bits = 3073",
                &[pair, "rsa-bits: 3073"],
            ),
            case(
                "\"import-pair\"\nrsa",
                "\"kn.pair\"\nrsa",
                &[pair, "\"kn.\" are for master keys"],
            ),
            case(
                "\"import-pair\"\nrsa",
                "\"zmk.pair\"\nrsa",
                &[pair, "\"zmk.\" are for ZMKs"],
            ),
            case(
                "\"import-pair\"\nrsa",
                "\"kbpk.pair\"\nrsa",
                &[pair, "\"kbpk.\" are for key block protection keys"],
            ),
            case(
                "\"import-pair.pem\"",
                "\"../pair.pem\"",
                &[pair, "public-key", "is not a file name"],
            ),
            case(
                "\"import-pair.pem\"",
                "\"ca-krd.pem\"",
                &[pair, "public-key", "exists already"],
            ),
            case(
                "key = \"import-krd\"",
                "key = \"import-pair\"",
                &[credential, "is made twice"],
            ),
            case(
                "years = 3",
                "years = 3\nrsa-bits = 2048",
                &[credential, "rsa-bits: 2048 is not one of 3072"],
            ),
            case(
                "years = 3",
                "years = 3\nhosts = [\"a\"]",
                &[credential, "hosts: are for a TLS server"],
            ),
            case("years = 3", "years = 31", &[credential, "years"]),
            case(
                "\"Receiver of keys\"",
                "\"\"",
                &[credential, "common-name: is empty"],
            ),
            case(
                "\"ca-krd.pem\"",
                "\"missing.pem\"",
                &[credential, "issuer", "missing.pem"],
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_imports_are_named() {
    let (rsa, zmk) = ("act 1 (import-wrapped)", "act 2 (import-wrapped)");
    let (tr31, tr34) = ("act 3 (import-wrapped)", "act 4 (import-wrapped)");
    let first_kind = "kind = \"AES-128\"\nkcv = \"A1B2C3\"\nform = \"rsa";
    let with_kind = |kind: &str| first_kind.replace("AES-128", kind);
    let with_kcv = |kcv: &str| first_kind.replace("A1B2C3", kcv);
    let header = "header = \"D0000K0AB00E0000\"        #";
    let with_header = |text: &str| header.replace("D0000K0AB00E0000", text);
    assert_cases(
        IMPORT_WRAPPED,
        folder().path(),
        &[
            case(
                "\"kn.switch-one\"",
                "\"switch-one\"",
                &[rsa, "key: a master key's label is kn.NAME"],
            ),
            case(
                "\"kn.switch-one\"",
                "\"kn.\"",
                &[rsa, "key: a master key's label is kn.NAME"],
            ),
            case(
                "\"kn.switch-one\"",
                "\"zmk.switch-one\"",
                &[rsa, "key: a master key's label is kn.NAME"],
            ),
            case(
                "\"kn.switch-two\"",
                "\"kn.switch-one\"",
                &[zmk, "is made twice"],
            ),
            case(
                first_kind,
                &with_kind("AES-512"),
                &[rsa, "kind: \"AES-512\" is no kind of key"],
            ),
            case(
                first_kind,
                &with_kcv("A1B2"),
                &[rsa, "kcv: a key check value is 3 to 5 bytes"],
            ),
            case(
                first_kind,
                &with_kcv("A1B2CX"),
                &[rsa, "kcv: a key check value is 3 to 5 bytes"],
            ),
            case(
                "\"rsa-oaep+key-wrap\"",
                "\"rsa\"",
                &["\"rsa\" is not one of rsa-oaep+key-wrap, zmk+key-wrap, tr31, tr34"],
            ),
            case(
                "\"sha256\"",
                "\"md5\"",
                &["\"md5\" is not one of sha256, sha1"],
            ),
            case("\"rfc3394\"", "\"pkcs7\"", &["unknown variant `pkcs7`"]),
            case(
                "transport-key = \"transport-key.bin\"\n",
                "",
                &[
                    rsa,
                    "transport-key: names the file with the encrypted transport key",
                ],
            ),
            case(
                "\"transport-key.bin\"",
                "\"missing.bin\"",
                &[rsa, "transport-key", "missing.bin"],
            ),
            case(
                "\"switch-one.bin\"",
                "\"missing.bin\"",
                &[rsa, "file", "missing.bin"],
            ),
            case(
                "\"switch-one.bin\"",
                "\"long\"",
                &[rsa, "file", "is too long for an encrypted key"],
            ),
            case(
                "\"zmk.switch\"",
                "\"switch\"",
                &[zmk, "under: the key of zmk+key-wrap is called zmk.NAME"],
            ),
            case("\"zmk.switch\"", "\"ZMK\"", &[zmk, "under"]),
            case(
                "file = \"switch-two.bin\"",
                "oaep-hash = \"sha1\"\nfile = \"switch-two.bin\"",
                &[zmk, "oaep-hash: is not for zmk+key-wrap"],
            ),
            case(
                "file = \"switch-two.bin\"",
                "transport-key = \"noise\"\nfile = \"switch-two.bin\"",
                &[zmk, "transport-key: is not for zmk+key-wrap"],
            ),
            case(
                "file = \"switch-three.txt\"",
                "key-wrap = \"rfc3394\"\nfile = \"switch-three.txt\"",
                &[tr31, "key-wrap: is not for tr31"],
            ),
            case(
                "\"kbpk.switch\"",
                "\"zmk.switch\"",
                &[tr31, "under: the key of tr31 is called kbpk.NAME"],
            ),
            case(
                header,
                &with_header("D0000K0AB00E000"),
                &[tr31, "header: key block header has 15 characters"],
            ),
            case(
                header,
                &with_header("D0000Z9AB00E0000"),
                &[tr31, "header", "key usage"],
            ),
            case(
                header,
                &with_header("D0000K0TB00E0000"),
                &[
                    tr31,
                    "header: the announced header says algorithm TDEA, which is not that of a key of the kind AES-128",
                ],
            ),
            case(
                header,
                &with_header("D0000K0AB00N0000"),
                &[
                    tr31,
                    "header: the header says that the key is not exportable (N), and a master key is sent to terminals",
                ],
            ),
            case(
                "header = \"D0000K0AB00E0000\"        # usage, algorithm, mode and exportability have to be these\n",
                "",
                &[tr31, "header: the key comes with one"],
            ),
            case(
                "\"switch-three.txt\"",
                "\"noise\"",
                &[tr31, "file: the key block has a byte at 0"],
            ),
            case(
                "\"switch-three.txt\"",
                "\"switch-two.bin\"",
                &[tr31, "file: a key block of version 0"],
            ),
            case("\"switch-four.der\"", "\"noise\"", &[tr34, "file"]),
            case(
                "profile = \"x9-2019\"",
                "profile = \"x9\"",
                &[tr34, "upstream"],
            ),
            case(
                "certificate = \"switch.pem\"",
                "certificate = \"noise\"",
                &[tr34, "upstream", "noise"],
            ),
            case(
                "ca = \"switch-ca.pem\"",
                "ca = \"none.pem\"",
                &[tr34, "upstream", "none.pem"],
            ),
            case(
                "crl = \"switch-ca.crl\"",
                "crl = \"noise\"",
                &[tr34, "upstream", "noise"],
            ),
            case(
                "receiver = \"import-krd.pem\"",
                "receiver = \"noise\"",
                &[tr34, "upstream", "noise"],
            ),
            case(
                "# signed-within-hours = 24",
                "signed-within-hours = 0",
                &[tr34, "signed-within-hours: begins with 1"],
            ),
        ],
    );
    let without_upstream = &IMPORT_WRAPPED[..IMPORT_WRAPPED.find("[acts.upstream]").unwrap()];
    let found = faults(without_upstream, folder().path());
    assert_eq!(
        found[0],
        format!("{tr34}: upstream: says who sent the token")
    );
}

#[test]
fn a_rehearsal_looks_at_no_ciphertext() {
    let empty = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let rehearsed = |text: &str, folder: &Path| Plan::parse(text, folder, Mode::Rehearsal, now);
    rehearsed(IMPORT_WRAPPED, empty.path()).unwrap();
    rehearsed(&change(IMPORT_WRAPPED, "A1B2C3", "A1B2"), empty.path()).unwrap_err();
}

#[test]
fn keys_over_others_come_in_components_as_aes_keys() {
    let (folder, plan) = import_folder();
    for label in [
        "zmk.switch",
        "kbpk.switch",
        "zmkx.switch",
        "kbpkx.switch",
        "zmac.switch",
    ] {
        let good = change(&plan, "kn.acquirer-tmk", label);
        assert_cases(
            &good,
            folder.path(),
            &[
                case(
                    "kind = \"AES-128\"",
                    "kind = \"TDEA-2KEY\"",
                    &[
                        "act 1 (import-components)",
                        "kind: a key over others is an AES key",
                    ],
                ),
                case(
                    &format!("\"{label}\""),
                    "\"zmk.\"",
                    &["act 1", "key: a master key's label is kn.NAME"],
                ),
                case(
                    &format!("\"{label}\""),
                    "\"key.switch\"",
                    &["act 1", "a ZMK's zmk.NAME", "a BDK's bdk.NAME", "zmac.NAME"],
                ),
            ],
        );
    }
    // A BDK stands over others too, and there are initial keys of TDEA.
    let bdk = change(&plan, "kn.acquirer-tmk", "bdk.fleet");
    let tdea = change(&bdk, "kind = \"AES-128\"", "kind = \"TDEA-2KEY\"");
    for plan in [bdk, tdea] {
        let found = faults(&plan, folder.path());
        assert!(
            !found.iter().any(|fault| fault.contains("key over others")),
            "{found:?}"
        );
    }
}
