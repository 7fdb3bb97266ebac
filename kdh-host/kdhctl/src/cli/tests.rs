#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::{CommandFactory, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn commands_parse() {
    for line in [
        "kdhctl device add SN-1 --model X",
        "kdhctl rollout start --model X --dry-run",
        "kdhctl rollout start --device SN-1 --device SN-2 --slot tmk --slot data --why x --yes",
        "kdhctl rollout start --group g --wave 1% --proceed-at 50 --stop-after 0 --why x",
        "kdhctl rollouts list --limit 3",
        "kdhctl rollout watch 7 --confirmed --seconds 1",
        "kdhctl rollout stop 7 --why x",
        "kdhctl --json rollout report 7 --troubled",
        "kdhctl device list",
        "kdhctl --json device list --state BOUND --group pilot --limit 3",
        "kdhctl device show SN-1 --json",
        "kdhctl device suspend SN-1 --why lost",
        "kdhctl device resume SN-1 --why found",
        "kdhctl device revoke SN-1 --why opened --yes",
        "kdhctl device code SN-1 --config other.toml",
        "kdhctl device unbind SN-1 --why repair",
        "kdhctl device rebind SN-1 --to two.pem --why sold",
        "kdhctl device cancel-order SN-1",
        "kdhctl device export SN-1 --out sn-1.pem",
        "kdhctl device admit --from sn-1.pem",
        "kdhctl device ca-unbind SN-1 --kdh lost.pem --why burnt",
        "kdhctl device ca-rebind SN-1 --kdh lost.pem --to two.pem --why burnt",
        "kdhctl device group SN-1 SN-2 --group pilot --why first",
        "kdhctl devices group --from f --none --why over",
        "kdhctl device groups",
        "kdhctl profile list",
        "kdhctl profiles show p --version 3 --out p.toml",
        "kdhctl profile put p.toml --dry-run",
        "kdhctl profile put p.toml --why new --yes",
        "kdhctl profile assign p --model M --why new",
        "kdhctl profile assign p --group g --dry-run",
        "kdhctl profile unassign --group g --why over --yes",
        "kdhctl profile remove p --why over",
        "kdhctl authority list --limit 3",
        "kdhctl authority approve 5f0c1a9e",
        "kdhctl authority reject 5f0c1a9e",
        "kdhctl authority fetch 5f0c1a9e --out token.pem",
        "kdhctl key register k --hsm-label kn.k --header D0000K0AB00E0000 --kcv 3F1A9C",
        "kdhctl key register k --hsm-label kn.k --header D0000K0TB00E0000 --kcv 3F1A9C \
         --kcv-method tdea-ecb",
        "kdhctl import zmk k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C --zmk zmk.a \
         --wrapped k.bin --padded --why new",
        "kdhctl import transport-key k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
         --pair import --transport-key t.bin --oaep-hash sha1 --wrapped k.bin --why new",
        "kdhctl import key-block k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
         --protection-key kbpk.a --block k.tr31 --why new",
        "kdhctl import list --limit 3",
        "kdhctl import approve 5f0c1a9e",
        "kdhctl import reject 5f0c1a9e",
        "kdhctl key list",
        "kdhctl key assign --device SN-1 --slot tmk --key k",
        "kdhctl key assign --device SN-1 --slot tmk --by-profile",
        "kdhctl bdk register acquirer-2026 --kind AES-256 --kcv 3F1A9C",
        "kdhctl bdk list --json",
        "kdhctl key refused",
        "kdhctl key refused --device SN-1",
        "kdhctl key discard --device SN-1 --slot tmk --version 3 --why edited",
        "kdhctl storage status --json",
        "kdhctl storage rotate --why yearly",
        "kdhctl storage watch --seconds 5",
        "kdhctl approval list --limit 3",
        "kdhctl approval show 5f0c1a9e --json",
        "kdhctl approval approve 5f0c1a9e",
        "kdhctl approval reject 5f0c1a9e",
        "kdhctl approval withdraw 5f0c1a9e --why later",
        "kdhctl delivery list --device SN-1",
        "kdhctl audit list --after 7 --limit 1",
        "kdhctl audit verify",
        "kdhctl kdh list --json",
        "kdhctl kdh watch --seconds 5",
        "kdhctl token inspect token.der --json",
        "kdhctl token inspect -",
        "kdhctl token one-pass --device SN-1 --slot tmk --out token.pem",
        "kdhctl token verify token.pem --anchor ca.pem --crl ca.crl --nonce 00 --kdh k.pem \
         --krd t.pem --at 2026-01-01T00:00:00Z",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    use ErrorKind::{
        InvalidValue, MissingRequiredArgument as Missing, UnknownArgument as Unknown,
        ValueValidation,
    };
    for (line, kind) in [
        ("kdhctl device add SN-1", Missing),
        ("kdhctl device suspend SN-1", Missing),
        ("kdhctl device resume SN-1", Missing),
        ("kdhctl device revoke SN-1 --yes", Missing),
        ("kdhctl device unbind SN-1", Missing),
        ("kdhctl device rebind SN-1 --why sold", Missing),
        ("kdhctl device rebind SN-1 --to two.pem", Missing),
        ("kdhctl device cancel-order", Missing),
        ("kdhctl device export SN-1", Missing),
        ("kdhctl device export --out f", Missing),
        ("kdhctl device admit", Missing),
        ("kdhctl device admit SN-1 --from f", Unknown),
        ("kdhctl device cancel-order SN-1 --yes", Unknown),
        ("kdhctl device ca-unbind SN-1 --why burnt", Missing),
        ("kdhctl device ca-unbind SN-1 --kdh lost.pem", Missing),
        (
            "kdhctl device ca-unbind SN-1 --kdh lost.pem --to two.pem --why burnt",
            Unknown,
        ),
        (
            "kdhctl device ca-rebind SN-1 --kdh lost.pem --why burnt",
            Missing,
        ),
        (
            "kdhctl device ca-rebind SN-1 --to two.pem --why burnt",
            Missing,
        ),
        (
            "kdhctl key discard --device SN-1 --slot tmk --version 3",
            Missing,
        ),
        (
            "kdhctl key discard --device SN-1 --slot tmk --version -1 --why edited",
            Unknown,
        ),
        ("kdhctl authority approve", Missing),
        ("kdhctl authority approve 5f0c1a9e 6a", Unknown),
        ("kdhctl authority reject", Missing),
        ("kdhctl authority fetch 5f0c1a9e", Missing),
        ("kdhctl authority fetch --out t.pem", Missing),
        ("kdhctl bdk register a --kcv 3F1A9C", Missing),
        ("kdhctl bdk register a --kind AES-128", Missing),
        ("kdhctl bdk register --kind AES-128 --kcv 3F1A9C", Missing),
        (
            "kdhctl bdk register a --kind AES --kcv 3F1A9C",
            ValueValidation,
        ),
        ("kdhctl device list --limit -1", Unknown),
        ("kdhctl device list --limit many", ValueValidation),
        ("kdhctl audit list --after x", ValueValidation),
        (
            "kdhctl import zmk k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C --zmk zmk.a \
             --wrapped k.bin",
            Missing,
        ),
        (
            "kdhctl import key-block k --kind AES-128 --header D0000K0AB00E0000 --kcv 3F1A9C \
             --block k.tr31 --why new",
            Missing,
        ),
        ("kdhctl import approve", Missing),
        (
            "kdhctl key register k --hsm-label l --header D0000K0AB00E000 --kcv 3F1A9C",
            ValueValidation,
        ),
        (
            "kdhctl key register k --hsm-label l --header D0000K0AB00E0000 --kcv 3F1A9C \
             --kcv-method cmac",
            InvalidValue,
        ),
        ("kdhctl device show SN-1 --pin 1234", Unknown),
        ("kdhctl kdh watch --seconds 0", ValueValidation),
        ("kdhctl token inspect", Missing),
        ("kdhctl token one-pass --device SN-1 --slot tmk", Missing),
        ("kdhctl token verify token.der", Missing),
    ] {
        assert_eq!(parse(line).unwrap_err(), kind, "{line}");
    }
}

#[test]
fn a_profile_a_target_and_a_reason_are_needed() {
    use ErrorKind::{ArgumentConflict, MissingRequiredArgument, UnknownArgument, ValueValidation};
    for (line, kind) in [
        ("kdhctl device group SN-1 --why x", MissingRequiredArgument),
        (
            "kdhctl device group SN-1 --group g",
            MissingRequiredArgument,
        ),
        (
            "kdhctl device group --group g --why x",
            MissingRequiredArgument,
        ),
        (
            "kdhctl device group SN-1 --group g --none --why x",
            ArgumentConflict,
        ),
        (
            "kdhctl device group SN-1 --from f --group g --why x",
            ArgumentConflict,
        ),
        ("kdhctl profile show", MissingRequiredArgument),
        ("kdhctl profile show p --version 0", ValueValidation),
        ("kdhctl profile put p.toml", MissingRequiredArgument),
        ("kdhctl profile put --dry-run", MissingRequiredArgument),
        (
            "kdhctl profile put p.toml --dry-run --yes",
            ArgumentConflict,
        ),
        ("kdhctl profile assign p --why x", MissingRequiredArgument),
        (
            "kdhctl profile assign p --model M --group g --why x",
            ArgumentConflict,
        ),
        (
            "kdhctl profile assign --model M --why x",
            MissingRequiredArgument,
        ),
        ("kdhctl profile unassign --why x", MissingRequiredArgument),
        (
            "kdhctl profile unassign p --group g --why x",
            UnknownArgument,
        ),
        ("kdhctl profile remove p", MissingRequiredArgument),
    ] {
        assert_eq!(parse(line).unwrap_err(), kind, "{line}");
    }
}

/// Every command that the documents show.
#[test]
fn the_commands_of_the_documents_parse() {
    for (document, at_least) in [
        (include_str!("../../../../docs/export.md"), 10),
        (include_str!("../../../../docs/key-import.md"), 6),
        (include_str!("../../../../docs/keys.md"), 9),
    ] {
        let document = document.replace("\\\n", "");
        let commands = document.lines().filter(|line| line.starts_with("kdhctl "));
        let mut found = 0;
        for command in commands {
            found += 1;
            // What stands in quotes is one word.
            let words = command.split('"').enumerate().map(|(index, part)| {
                if index % 2 == 0 {
                    part.to_owned()
                } else {
                    part.replace(' ', "-")
                }
            });
            assert!(parse(&words.collect::<String>()).is_ok(), "{command}");
        }
        assert!(found >= at_least, "{found}");
    }
}
