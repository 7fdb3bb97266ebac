//! Plans: nothing has happened when one is refused.

use std::{fs, os::unix::fs::PermissionsExt as _};

use hsm_modules::SOFTHSM;

use super::{Chapter, refused_plans, run, said, with_files};
use crate::site::{FIRST, KEY, Site, change};

#[test]
fn plans() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let mut chapter = Chapter::new(1, "Plans");
        let good = with_files(&site);
        let first = "custodian = \"First Custodian\"";
        let component =
            "[[acts.components]]\ncustodian = \"N\"\nfile = \"first.hex\"\nkcv = \"A19083\"\n";
        let four_more: String = (0..4)
            .map(|n| {
                let file = format!("{n}.hex");
                site.write_private(&file, FIRST);
                component
                    .replace("\"N\"", &format!("\"Another {n}\""))
                    .replace("first.hex", &file)
            })
            .collect();
        let file = "file = \"first.hex\"";
        for (name, text) in [
            ("short.hex", &FIRST[..30]),
            ("words.hex", "no component"),
            ("long.hex", &*FIRST.repeat(20)),
            ("open.hex", FIRST),
        ] {
            site.write_private(name, text);
        }
        fs::set_permissions(site.path("open.hex"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(site.path("there.json"), "{}").unwrap();
        let second = "[[acts.components]]\ncustodian = \"Second Custodian\"";
        refused_plans(
            &mut chapter,
            &site,
            &good,
            &[],
            &[
                ("it is no TOML", "title = ", "title "),
                (
                    "a field that there is not",
                    "title = ",
                    "purpose = \"x\"\ntitle = ",
                ),
                (
                    "a title that hides something",
                    "title = \"",
                    "title = \"\\u202e",
                ),
                (
                    "nobody, in a real ceremony, and no file",
                    "file = \"first.hex\"\n",
                    "",
                ),
                (
                    "the same custodian twice",
                    "\"Second Custodian\"",
                    "\"First Custodian\"",
                ),
                (
                    "the same custodian twice, written otherwise",
                    "\"Second Custodian\"",
                    "\" first  CUSTODIAN\"",
                ),
                (
                    "the same custodian twice, in other characters that look alike",
                    "\"Second Custodian\"",
                    "\"\u{ff26}irst\u{a0}Custodian\"",
                ),
                (
                    "the same custodian twice, with a character that does not show",
                    "\"Second Custodian\"",
                    "\"First Custodian\u{fe0f}\"",
                ),
                ("one component", &good[good.find(second).unwrap()..], ""),
                ("six components", second, &format!("{four_more}{second}")),
                (
                    "both components from one file",
                    "\"second.hex\"",
                    "\"first.hex\"",
                ),
                ("a component that is short", file, "file = \"short.hex\""),
                (
                    "a component that is no hexadecimal number",
                    file,
                    "file = \"words.hex\"",
                ),
                ("a component that is long", file, "file = \"long.hex\""),
                (
                    "a component that everybody may read",
                    file,
                    "file = \"open.hex\"",
                ),
                ("a component that is not there", file, "file = \"gone.hex\""),
                (
                    "a component's file without its check value",
                    "kcv = \"A19083\"\n",
                    "",
                ),
                (
                    "a component's check value of 4 digits",
                    "\"A19083\"",
                    "\"A190\"",
                ),
                (
                    "a check value that is no hexadecimal number",
                    "\"CBDF95\"",
                    "\"CBDF9G\"",
                ),
                ("a check value that is too short", "\"CBDF95\"", "\"CBDF\""),
                ("a kind of key that there is not", "\"AES-128\"", "\"DES\""),
                (
                    "another kind of key than its components are",
                    "\"AES-128\"",
                    "\"AES-256\"",
                ),
                ("a label that is no master key's", KEY, "acquirer-tmk"),
                (
                    "a token that the plan does not name",
                    "\ntoken = \"kdh\"",
                    "\ntoken = \"vault\"",
                ),
                (
                    "a sitting is left out",
                    first,
                    &format!("{first}\nsitting = 3"),
                ),
                (
                    "a transcript elsewhere",
                    "\"tmk-transcript.jsonl\"",
                    "\"../tmk.jsonl\"",
                ),
                (
                    "a transcript that is there",
                    "\"tmk-transcript.jsonl\"",
                    "\"there.json\"",
                ),
            ],
        );
        site.write_private("kdh.pin.kept", &site.read("kdh.pin"));
        fs::set_permissions(site.path("kdh.pin"), fs::Permissions::from_mode(0o640)).unwrap();
        chapter.case(
            "a PIN file that others may read",
            said(&site, &run(&site, &good)),
        );
        fs::set_permissions(site.path("kdh.pin"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = run(&site, &good);
        assert!(output.status.success(), "{output:?}");
        let again = change(&good, "\"tmk-transcript.jsonl\"", "\"again.jsonl\"");
        chapter.case(
            "the key is in the token already",
            said(&site, &run(&site, &again)),
        );
        assert_eq!(site.keys("kdh"), [KEY]);
        chapter.assert_is_in_the_book();
    });
}
