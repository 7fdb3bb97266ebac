//! What docs/key-import.md tells is done as it is told there: its table of modules is what the program answers,
//! its plans are the sample plans, and its commands are run, the sender's too.

use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, Output},
};

use hsm::{Kcv, KcvMethod, KeyName, KeyRole};
use hsm_modules::{
    KRYOPTIC, Place, SOFTHSM, WHOLE,
    makers::{self, openssl},
};
use serde_json::Value;

use crate::{
    site::{
        IMPORT, IMPORT_PAIR, IMPORT_WRAPPED, SAMPLE_MODULE, Site, assert_refused, assert_success,
        change, library, printed, unattended,
    },
    wrapped::{act_of, hash, other_host},
};

const DOCUMENT: &str = include_str!("../../../docs/key-import.md");

/// Key over others, of 256 bits: two components, and their sum.
const OVER: [&str; 2] = [
    "7A4F19C3D05B62E88E13F6A927C4B05D315C8EF40D97A26B94E05D7218FBC63A",
    "315C8EF40D97A26B94E05D7218FBC63A0123456789ABCDEFFEDCBA9876543210",
];
const OVER_SUM: &str = "4B139737DDCCC0831AF3ABDB3F3F7667307FCB93843C6F846A3CE7EA6EAFF42A";

/// The fenced blocks in this language, in their order.
fn fenced(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let blocks = DOCUMENT.split(&*start).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// The block in this language that has this in it.
fn block(language: &str, part: &str) -> &'static str {
    let mut found = fenced(language)
        .into_iter()
        .filter(|block| block.contains(part));
    let block = found.next().unwrap();
    assert_eq!(found.next(), None, "{part} is in one block");
    block
}

/// Runs a block as a shell would, in the site's folder, with this module in the place of the document's.
fn run(site: &Site, place: &Place, commands: &str) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_kdh-ceremony")).parent();
    let python = makers::psec().unwrap();
    let mut path = OsString::new();
    for folder in [programs.unwrap(), python.parent().unwrap()] {
        path.push(folder);
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap());
    let commands = commands.replace(SAMPLE_MODULE, &library());
    let commands = commands.replace("_md:sha256", &format!("_md:{}", hash(place)));
    Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands])
        .current_dir(site.folder())
        .env("PATH", path)
        .output()
        .unwrap()
}

/// Brings in the key over others by components, as custodians would.
fn bring_in(site: &Site, label: &str) {
    let mut plan = change(&unattended(IMPORT), "kn.acquirer-tmk", label);
    plan = change(&plan, "kind = \"AES-128\"", "kind = \"AES-256\"");
    plan = change(&plan, "\"A1B2C3\"", &format!("\"{}\"", kcv(OVER_SUM)));
    plan = change(&plan, "tmk-transcript", label);
    for (custodian, component) in ["First Custodian", "Second Custodian"].iter().zip(OVER) {
        let file = format!("{custodian}.hex").replace(' ', "-");
        site.write_private(&file, component);
        let (custodian, kcv) = (format!("\"{custodian}\""), kcv(component));
        let with_file = format!("{custodian}\nfile = \"{file}\"\nkcv = \"{kcv}\"");
        plan = change(&plan, &custodian, &with_file);
    }
    site.write_plan("components.toml", &plan);
    assert_success(&site.execute("components.toml"));
}

/// The check value of an AES-256 key, by OpenSSL.
fn kcv(key: &str) -> String {
    let key = format!("hexkey:{key}");
    let mac = ["mac", "-cipher", "AES-256-CBC", "-macopt", &key, "CMAC"];
    String::from_utf8(openssl(&mac, &[0; 16])).unwrap()[..6].to_owned()
}

/// Runs what the document has the sender do, which ends with the key's check value.
fn send(site: &Site, place: &Place, file: &str) -> String {
    let output = run(site, place, block("sh", file));
    assert_success(&output);
    let printed = printed(&output);
    let kcv = printed.lines().last().unwrap();
    assert_eq!(kcv.len(), 6, "{printed}");
    kcv.to_owned()
}

/// Imports by an act of the sample plan, with this check value.
fn import(site: &Site, number: usize, kcv: &str, place: &Place) -> Output {
    let plan = change(&act_of(IMPORT_WRAPPED, number), "A1B2C3", kcv);
    let hash = format!("oaep-hash = \"{}\"", hash(place));
    let plan = plan.replace("oaep-hash = \"sha256\"", &hash);
    let plan = change(&plan, "switch-keys-transcript", &format!("act-{number}"));
    site.write_plan("plan.toml", &plan);
    site.execute("plan.toml")
}

fn assert_imported(site: &Site, label: &str, kcv: &str) {
    let token = site.token("kdh");
    let name = KeyName::new(label).unwrap();
    let key = token.secret_key(KeyRole::TransportKey, &name).unwrap();
    let kcv = Kcv::parse(KcvMethod::AesCmac, kcv).unwrap();
    assert_eq!(token.kcv(&key).unwrap(), kcv, "{label}");
}

#[test]
fn the_plans_are_the_sample_plans() {
    let plans = fenced("toml");
    assert_eq!(plans.len(), 6);
    for plan in plans {
        let samples = [IMPORT_PAIR, IMPORT_WRAPPED];
        assert!(samples.iter().any(|it| it.contains(plan)), "{plan}");
    }
}

#[test]
fn keys_arrive_as_it_is_told() {
    hsm_modules::on(&[&SOFTHSM, &KRYOPTIC], |place| {
        let site = Site::new(&["kdh", "issuing"]);
        for (label, file) in [("zmk.switch", "zmk.clear"), ("kbpk.switch", "kbpk.clear")] {
            bring_in(&site, label);
            fs::write(site.path(file), hex::decode(OVER_SUM).unwrap()).unwrap();
        }
        site.write_plan("pair.toml", &act_of(IMPORT_PAIR, 0));
        let made = site.execute("pair.toml");
        assert_success(&made);
        let digest = run(&site, place, block("sh", "openssl dgst"));
        let digest = printed(&digest);
        let digest = digest.rsplit(' ').next().unwrap().trim();
        assert!(printed(&made).contains(digest), "{digest}");

        for (number, file, label) in [
            (0, "-out transport-key.bin", "kn.switch-one"),
            (1, "-out switch-two.bin", "kn.switch-two"),
        ] {
            let kcv = send(&site, place, file);
            assert_success(&import(&site, number, &kcv, place));
            assert_imported(&site, label, &kcv);
        }
        let kcv = send(&site, place, "> switch-three.txt");
        let output = import(&site, 2, &kcv, place);
        if place.module() == &SOFTHSM {
            assert_refused(&output, "is not possible with this module, which lacks");
        } else {
            assert_success(&output);
            assert_imported(&site, "kn.switch-three", &kcv);
        }
    });
}

#[test]
fn a_nonce_is_made_as_it_is_told() {
    hsm_modules::on(&[&KRYOPTIC], |place| {
        let site = other_host();
        let output = run(&site, place, block("sh", "import nonce"));
        assert_success(&output);
        assert!(site.exists("nonce.der"));
    });
}

/// Where errors are worded.
const SOURCES: [&str; 6] = [
    include_str!("../../../hsm/src/import/ciphertext.rs"),
    include_str!("../../../hsm/src/import/error.rs"),
    include_str!("../../../hsm/src/import/upstream.rs"),
    include_str!("../../../hsm/src/error.rs"),
    include_str!("../../../hsm/src/open/mod.rs"),
    include_str!("../../../proto/src/reason.rs"),
];

/// What stands in the place of something is dots in the document, and in braces in a source.
fn with_dots(source: &str) -> String {
    let on_one_line: String = source.split("\\\n").map(str::trim_start).collect();
    let mut parts = on_one_line.split('{');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        // Braces of Rust's own hold more than a name.
        match part.split_once('}') {
            Some((name, after)) if !name.contains(char::is_whitespace) => {
                text.push('…');
                text.push_str(after);
            }
            _ => text.push_str(part),
        }
    }
    text
}

#[test]
fn errors_are_worded_as_the_program_words_them() {
    let sources = SOURCES.map(with_dots).concat();
    let table = DOCUMENT.split("## When it is refused").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let errors: Vec<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert!(errors.len() > 15, "{errors:?}");
    for error in errors {
        assert!(sources.contains(error), "nothing says {error:?}");
    }
}

#[test]
fn what_modules_can_is_what_the_program_answers() {
    hsm_modules::on(&WHOLE, |place| {
        let site = Site::new(&["kdh"]);
        let library = library();
        let check = ["hsm", "check", "--module", &library, "--label", "kdh"];
        let json = ["--pin-file", "kdh.pin", "--json"];
        let output = site.program(&[&check[..], &json].concat(), "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap();
        let problem = |form: &str| {
            let start = format!("cannot import keys by {form}: ");
            let mut problems = problems.iter().filter_map(Value::as_str);
            let found = problems.find_map(|problem| problem.strip_prefix(&*start));
            found.unwrap()
        };
        let imports = report["imports"].as_array().unwrap().iter();
        let answers = imports.map(|import| match import["with"].as_str() {
            Some(with) => with.to_owned(),
            None => format!("no: {}", problem(import["form"].as_str().unwrap())),
        });
        let title = place.module().title.to_owned();
        let cells: Vec<_> = [title].into_iter().chain(answers).collect();
        let row = format!("| {} |\n", cells.join(" | "));
        assert!(DOCUMENT.contains(&row), "the document has no:\n{row}");
    });
}
