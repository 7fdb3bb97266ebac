//! The line mode, with the real program in a pseudo-terminal.

use std::{fs, path::Path};

use hsm::{HsmError, Pin, TokenConfig};
use hsm_modules::{SOFTHSM, on};
use rustix::process::Signal;

use crate::{
    common::module,
    site::{
        FIRST, FIRST_KCV, KEY, SECOND, SECOND_KCV, Site, assert_no_secret, assert_refused,
        assert_success, change, import_plan, library, printed, token_files,
    },
    terminal::Terminal,
};

const TRANSCRIPT: &str = "tmk-transcript.jsonl";
const CONSOLE: (u16, u16) = (80, 24);
const CTRL_C: &str = "\u{3}";
const HIDDEN: &str = "type its 32 hexadecimal digits (not shown):";
const SHEET: &str = "is this the one on your sheet?";

fn site() -> Site {
    let site = Site::new(&["kdh"]);
    site.write_plan("plan.toml", &import_plan());
    site
}

/// The plan's digest, its two lines.
fn digest(site: &Site) -> [String; 2] {
    let checked = printed(&site.program(&["check-plan", "plan.toml"], ""));
    let lines: Vec<_> = checked.lines().skip(1).collect();
    [0, 1].map(|line| lines[line].trim().to_owned())
}

fn start(site: &Site) -> Terminal {
    Terminal::run(site, &["run", "plan.toml", "--plain"], CONSOLE)
}

fn start_and_confirm(site: &Site) -> Terminal {
    let [line, _] = digest(site);
    let mut terminal = start(site);
    for officer in ["First Officer", "Second Officer"] {
        terminal
            .sees(&format!("{officer}: compare the digest"))
            .types(&format!("{line}\n"))
            .sees(&format!("{officer} confirmed the digest."));
    }
    terminal.sees("First Custodian: press Enter when you are alone");
    terminal
}

/// What the terminal was sent, without blanks at the ends of lines, and with what each run has of its
/// own replaced.
fn recorded(terminal: &Terminal, site: &Site, [first, second]: &[String; 2]) -> String {
    let transcript = site.read(TRANSCRIPT);
    let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
    let sent = terminal.sent();
    let lines = sent.lines().map(|line| format!("{}\n", line.trim_end()));
    lines
        .collect::<String>()
        .replace(first, "5f6b 0c1e 83a4 97d2 1b0e c65f 3a88 d417")
        .replace(second, "e290 7c31 5d4b a60f 92e8 147b cc03 68fa")
        .replace(site.folder().to_str().unwrap(), "/ceremony")
        .replace(
            &verified.head,
            "0820c3d00a88375d41ab2f60e7c195d86a3e0b94f1728c5dd3b6094ea7f2513c",
        )
}

#[test]
fn a_recorded_ceremony_reads_as_it_was_written() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let digest = digest(&site);
        let mut terminal = start_and_confirm(&site);
        let mistyped = change(SECOND, "315C", "315D");
        for (typed, next) in [
            ("", "First Custodian: type its 32"),
            (FIRST, SHEET),
            ("yes", "Second Custodian: press Enter when you are alone"),
            ("", HIDDEN),
            (&SECOND[..31], HIDDEN),
            (&mistyped, SHEET),
            ("no", HIDDEN),
            (SECOND, SECOND_KCV),
        ] {
            terminal.forget().types(&format!("{typed}\n")).sees(next);
        }
        terminal.sees(SHEET).types("yes\n");
        terminal.ends_with(0).assert_restored();
        assert_eq!(site.keys("kdh"), [KEY]);

        let recorded = recorded(&terminal, &site, &digest);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens/plain.txt");
        let golden = fs::read_to_string(&file).unwrap();
        assert!(recorded == golden, "{} is not:\n{recorded}", file.display());
        assert!(!recorded.contains('\u{1b}'), "{recorded:?}");
        let runbook = include_str!("../../../docs/ceremony.md");
        assert!(runbook.contains(&format!("```\n{golden}```\n")));
        assert_no_secret(&terminal.sent(), &site.pins());
    });
}

#[test]
fn what_was_not_understood_is_asked_again_in_words() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        terminal.types("\n").sees(HIDDEN);
        for (typed, said) in [
            ("", "That is not an even number of hexadecimal digits."),
            (
                &FIRST[..31],
                "That is not an even number of hexadecimal digits.",
            ),
            (
                "7A4F19C3D05B62E88E13F6A927C4B05G",
                "That is not an even number",
            ),
            (&FIRST[..30], "That is 15 bytes long, not 16."),
            (&format!("{FIRST}00"), "That is 17 bytes long, not 16."),
            (&"0".repeat(300), "That is too long."),
        ] {
            terminal.forget().types(&format!("{typed}\n")).sees(said);
            terminal
                .sees("Nothing was used; type it again.")
                .sees(HIDDEN);
        }
        terminal.types(&format!("{FIRST}\n")).sees(SHEET);
        for typed in ["", "y", "ja", "yes please"] {
            terminal.forget().types(&format!("{typed}\n")).sees(SHEET);
        }
        terminal.types("STOP\n").ends_with(1).assert_restored();
        let says = format!("First Custodian did not confirm the check value {FIRST_KCV}");
        assert!(terminal.sent().contains(&says), "{}", terminal.sent());
        assert_eq!(site.keys("kdh"), [""; 0]);
        assert_no_secret(&terminal.sent(), &site.pins());
    });
}

#[test]
fn ctrl_c_asks_before_it_stops() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let question = "Ctrl-C was pressed. Stop the ceremony? (yes, no)";
        let asked = ["press Enter when you are alone", HIDDEN, SHEET];
        let answers = ["\n".to_owned(), format!("{FIRST}\n")];
        for last in 0..asked.len() {
            let mut terminal = start_and_confirm(&site);
            for (index, prompt) in asked[..=last].iter().enumerate() {
                if index > 0 {
                    terminal.types(&answers[index - 1]).sees(prompt);
                }
                terminal.forget().types(CTRL_C).sees(question);
                if index < last {
                    terminal.forget().types("maybe\n").sees(question);
                    terminal.forget().types("no\n").sees(prompt).forget();
                }
            }
            terminal.types("yes\n").ends_with(1).assert_restored();
            let says = "somebody pressed Ctrl-C and said that it shall stop";
            assert!(terminal.sent().contains(says), "{}", terminal.sent());
            let transcript = site.read(TRANSCRIPT);
            let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
            assert_eq!(verified.last_event, "failed");
            fs::remove_file(site.path(TRANSCRIPT)).unwrap();
            assert_eq!(site.keys("kdh"), [""; 0]);
        }
    });
}

/// The second officer's confirmation, by the first one.
#[test]
fn what_was_typed_before_it_was_asked_for_is_thrown_away() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let [line, _] = digest(&site);
        let mut terminal = start(&site);
        terminal.sees("First Officer: compare the digest");
        terminal.types(&format!("{line}\n{line}\n"));
        terminal
            .sees("Second Officer: compare the digest")
            .types("77\n");
        terminal.ends_with(1).assert_restored();
        let says = "Second Officer typed less than the digest's first 32 characters";
        assert!(terminal.sent().contains(says), "{}", terminal.sent());
        assert!(!site.exists(TRANSCRIPT));
    });
}

#[test]
fn a_program_that_is_told_to_end_takes_the_act_back_and_restores_the_terminal() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
            let mut terminal = start_and_confirm(&site);
            terminal.types("\n").sees(HIDDEN).types(&FIRST[..8]);
            terminal.is_told(signal).ends_with(1).assert_restored();
            let says = "the program was told to end";
            assert!(terminal.sent().contains(says), "{}", terminal.sent());
            let transcript = site.read(TRANSCRIPT);
            let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
            assert_eq!(verified.last_event, "failed");
            fs::remove_file(site.path(TRANSCRIPT)).unwrap();
            assert_no_secret(&terminal.sent(), &site.pins());
        }
        assert_eq!(site.keys("kdh"), [""; 0]);
    });
}

/// There it is chosen without being asked for.
#[test]
fn a_dumb_terminal_and_an_unattended_ceremony_get_plain_lines() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        for kind in ["dumb", ""] {
            let mut terminal = Terminal::run_as(&site, &["run", "plan.toml"], CONSOLE, kind);
            terminal.sees("First Officer: compare the digest with your printout");
            terminal.types("no\n").ends_with(1);
            assert!(!terminal.sent().contains('\u{1b}'), "{}", terminal.sent());
        }
        let plan = change(&import_plan(), "\"typed\"", "\"unattended\"");
        let second = "custodian = \"Second Custodian\"";
        let mut with_files = plan;
        for (custodian, name, component, kcv) in [
            (
                "custodian = \"First Custodian\"",
                "first.hex",
                FIRST,
                FIRST_KCV,
            ),
            (second, "second.hex", SECOND, SECOND_KCV),
        ] {
            site.write_private(name, component);
            let with_file = format!("{custodian}\nfile = \"{name}\"\nkcv = \"{kcv}\"");
            with_files = change(&with_files, custodian, &with_file);
        }
        site.write_plan("plan.toml", &with_files);
        let mut terminal = Terminal::run(&site, &["run", "plan.toml"], CONSOLE);
        terminal.ends_with(0).assert_restored();
        let sent = terminal.sent();
        for said in [
            "UNATTENDED",
            "Act 1 of 1 begins:",
            "Act 1 of 1 is done:",
            "Done.",
        ] {
            assert!(sent.contains(said), "{sent}");
        }
        assert!(!sent.contains('\u{1b}'), "{sent}");
    });
}

const NEW_PIN: &str = "New PIN of token \"own\", by its holder alone (not shown):";
const SAME_AGAIN: &str = "The same again (not shown):";

/// The arguments that have a token's holder make its PIN.
fn init(library: &str) -> [&str; 8] {
    let so_pin = "so.pin";
    [
        "token",
        "init",
        "--module",
        library,
        "--label",
        "own",
        "--so-pin-file",
        so_pin,
    ]
}

#[test]
fn a_tokens_holder_makes_its_pin_and_nobody_is_shown_it() {
    on(&[&SOFTHSM], |_| {
        let site = Site::new(&[]);
        site.write_private("so.pin", "87654321");
        let library = library();
        let mut terminal = Terminal::run(&site, &init(&library), CONSOLE);
        terminal.sees(NEW_PIN);
        // A slip of the finger, a PIN that is too short, nothing at all: asked again.
        for (typed, next) in [
            ("27182818\n", SAME_AGAIN),
            ("27182819\n", "That was not the same. Nothing was used"),
            (
                "27182\n",
                "A PIN has at least 6 characters. Nothing was used",
            ),
            ("\n", "A PIN has at least 6 characters. Nothing was used"),
            ("27182818\n", SAME_AGAIN),
        ] {
            terminal.forget().types(typed).sees(next);
            if next != SAME_AGAIN {
                terminal.sees(NEW_PIN);
            }
        }
        terminal.types("27182818\n").ends_with(0).assert_restored();
        let sent = terminal.sent();
        assert!(
            sent.contains("token own initialized, serial number "),
            "{sent}"
        );
        assert!(!sent.contains("2718"), "{sent}");
        // It is the token's, and stands nowhere else.
        let open = |pin: &str| {
            let pin = Pin::new(pin.to_owned().into());
            module().open(&TokenConfig::new("own"), &pin).map(drop)
        };
        assert!(matches!(
            open("27182819"),
            Err(HsmError::PinIncorrect { .. })
        ));
        open("27182818").unwrap();
        assert_eq!(fs::read_dir(site.folder()).unwrap().count(), 1);
    });
}

#[test]
fn a_pin_that_its_holder_does_not_make_initializes_no_token() {
    on(&[&SOFTHSM], |_| {
        let site = Site::new(&[]);
        site.write_private("so.pin", "87654321");
        let library = library();
        let before = token_files();
        let no_terminal = site.program(&init(&library), "27182818\n27182818\n");
        assert_refused(
            &no_terminal,
            "this is typed at a terminal, which the input is not",
        );
        // To make PINs up needs a file for each.
        let made_up = [&init(&library)[..], &["--generate-pins"]].concat();
        let made_up = site.program(&made_up, "");
        assert_eq!(made_up.status.code(), Some(2));
        assert!(
            printed(&made_up).contains("--pin-file"),
            "{}",
            printed(&made_up)
        );

        let mut terminal = Terminal::run(&site, &init(&library), CONSOLE);
        terminal.sees(NEW_PIN).types("27182818\n").sees(SAME_AGAIN);
        terminal.types(CTRL_C).sees("(yes, no)").types("yes\n");
        terminal.ends_with(1).assert_restored();
        let mut terminal = Terminal::run(&site, &init(&library), CONSOLE);
        terminal.sees(NEW_PIN).types("2718").is_told(Signal::TERM);
        terminal.ends_with(1).assert_restored();
        // Asked for only if the other PIN is there.
        fs::remove_file(site.path("so.pin")).unwrap();
        let mut terminal = Terminal::run(&site, &init(&library), CONSOLE);
        terminal.ends_with(1).assert_restored();
        assert!(!terminal.sent().contains("New PIN"), "{}", terminal.sent());
        assert!(before == token_files(), "a token was touched");
    });
}

#[test]
fn the_help_teaches_both_modes() {
    on(&[&SOFTHSM], |_| {
        let site = Site::new(&[]);
        let help = site.program(&["run", "--help"], "");
        assert_success(&help);
        let help = printed(&help);
        for taught in [
            "--plain",
            "80 columns and 24 rows",
            "TERM is \"dumb\"",
            "Ctrl-C asks",
        ] {
            assert!(help.contains(taught), "{taught:?} is not in {help}");
        }
        let help = printed(&site.program(&["token", "init", "--help"], ""));
        assert!(help.contains("makes their own PIN"), "{help}");
    });
}
