//! The full screen, with the real program in a pseudo-terminal.

use std::fs;

use hsm_modules::{SOFTHSM, on};
use rustix::process::Signal;

use crate::{
    site::{
        FIRST, FIRST_KCV, GIVE_OUT, IMPORT, KEY, SECOND, SECOND_KCV, SUM_KCV, Site,
        assert_no_secret, change, import_plan,
    },
    terminal::Terminal,
};

const TRANSCRIPT: &str = "tmk-transcript.jsonl";
const CONSOLE: (u16, u16) = (80, 24);
const CTRL_C: &str = "\u{3}";
const PAGE_DOWN: &str = "\u{1b}[6~";
const CTRL_U: &str = "\u{15}";
const BACKSPACE: &str = "\u{7f}";

/// A site with a plan whose custodians type.
fn site() -> Site {
    let site = Site::new(&["kdh"]);
    site.write_plan("plan.toml", &import_plan());
    site
}

/// The first line of the plan's digest.
fn digest(site: &Site) -> String {
    let checked = site.program(&["check-plan", "plan.toml"], "");
    let checked = String::from_utf8(checked.stdout).unwrap();
    let line = checked.lines().nth(1).unwrap();
    line.trim().to_owned()
}

fn start(site: &Site) -> Terminal {
    Terminal::run(site, &["run", "plan.toml"], CONSOLE)
}

fn confirm(terminal: &mut Terminal, digest: &str) {
    for officer in ["First Officer", "Second Officer"] {
        terminal
            .sees(&format!("{officer}: compare all of the digest"))
            .types(PAGE_DOWN)
            .types(digest)
            .sees("32 of 32 characters")
            .types("\r");
    }
}

/// From being alone to the check value.
fn enter(terminal: &mut Terminal, custodian: &str, component: &str, kcv: &str) {
    terminal
        .sees(&format!("Now {custodian}, alone."))
        .types("\r")
        .sees(&format!("{custodian} types component"))
        .types(component)
        .sees("32 of 32 digits")
        .types("\r")
        .sees(&format!("check value  {kcv}"));
}

/// The ceremony from its beginning to the first custodian's turn.
fn start_and_confirm(site: &Site) -> Terminal {
    let mut terminal = start(site);
    confirm(&mut terminal, &digest(site));
    terminal.sees("Now First Custodian, alone.");
    terminal
}

fn assert_nothing_made(site: &Site) {
    assert_eq!(site.keys("kdh"), [""; 0]);
}

fn assert_no_component_sent(terminal: &Terminal) {
    assert_no_secret(&terminal.sent(), &[]);
}

#[test]
fn a_ceremony_is_led_from_its_plan_to_its_end() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        terminal.sees("act 1 of 1  FOR REAL");
        enter(&mut terminal, "First Custodian", FIRST, FIRST_KCV);
        terminal.types("y");
        enter(&mut terminal, "Second Custodian", SECOND, SECOND_KCV);
        terminal.types("y").sees("Done.");
        let screen = terminal.screen();
        let made = format!("done    act 1: key {KEY} in token kdh, AES-128, check value {SUM_KCV}");
        assert!(screen.contains(&made), "{screen}");
        terminal.types("\r").ends_with(0).assert_restored();
        assert_eq!(site.keys("kdh"), [KEY]);

        // The last words stand on the ordinary screen, and nothing of the other.
        let transcript = site.read(TRANSCRIPT);
        let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
        let screen = terminal.screen();
        assert!(screen.contains(&verified.head[..16]), "{screen}");
        for gone in ["NOW", "Custodian", FIRST_KCV, "----"] {
            assert!(!screen.contains(gone), "{screen}");
        }
        assert_no_component_sent(&terminal);
        assert_no_secret(&transcript, &site.pins());
    });
}

/// The program becomes another one for it, at the same terminal.
#[test]
fn a_rehearsal_is_led_by_the_same_screens() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = Terminal::run(&site, &["run", "plan.toml", "--rehearse"], CONSOLE);
        terminal.sees("REHEARSAL: throw-away tokens, made-up components.");
        confirm(&mut terminal, &digest(&site));
        let screen = terminal.sees("Done.").screen();
        for shown in [
            "  REHEARSAL ",
            "made-up components take the place",
            "its own.",
        ] {
            assert!(screen.contains(shown), "{shown:?} is not in\n{screen}");
        }
        // It is over: there is nothing that could be stopped.
        terminal.types(CTRL_C).ends_with(0).assert_restored();
        assert!(!site.exists(TRANSCRIPT));
        assert_nothing_made(&site);
    });
}

#[test]
fn a_wrong_digest_ends_the_ceremony() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let right = digest(&site);
        let last = right.chars().last().unwrap();
        let other = if last == '0' { "1" } else { "0" };
        let wrong = format!("{}{other}", &right[..right.len() - 1]);
        for typed_by in [[&wrong, &right], [&right, &wrong]] {
            let mut terminal = start(&site);
            let officers = ["First Officer", "Second Officer"];
            for (officer, typed) in officers.into_iter().zip(typed_by) {
                terminal.sees(&format!("{officer}: compare all of the digest"));
                terminal
                    .types(PAGE_DOWN)
                    .types(typed)
                    .sees("32 of 32 characters")
                    .types("\r");
                if *typed == wrong {
                    break;
                }
            }
            terminal.ends_with(1).assert_restored();
            let says = "typed something else than the digest";
            assert!(terminal.screen().contains(says), "{}", terminal.screen());
            assert!(!site.exists(TRANSCRIPT));
            assert_nothing_made(&site);
        }
    });
}

/// What is no component is not taken; what is another one shows in its check value.
#[test]
fn a_mistyped_component_is_typed_again() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        terminal.types("\r").sees("First Custodian types component");
        terminal
            .types(&FIRST[..31])
            .sees("31 of 32 digits")
            .types("\r")
            .sees("! AES-128 has 32 digits, and 31 were typed. Nothing was used.")
            .types("g")
            .sees("! That was not 0 to 9 or A to F; nothing was added.")
            .types(&FIRST[31..])
            .sees("32 of 32 digits")
            .types("5A")
            .sees("34 of 32 digits: 2 too many")
            .types("\r")
            .sees("! AES-128 has 32 digits, and 34 were typed. Nothing was used.")
            .types(BACKSPACE)
            .sees("33 of 32 digits: 1 too many")
            .types(CTRL_U)
            .sees("0 of 32 digits")
            .types(&change(FIRST, "7A4F", "7A4E"))
            .sees("32 of 32 digits")
            .types("\r")
            .sees("Is this the check value on your sheet?");
        assert!(!terminal.screen().contains(FIRST_KCV));
        // A key that answers nothing; then it is typed again.
        terminal.types("xn").sees("First Custodian types component");
        let in_groups = "7a4f 19c3 d05b 62e8 8e13 f6a9 27c4 b05d";
        terminal
            .types(in_groups)
            .sees("32 of 32 digits")
            .types("\r");
        terminal.sees(FIRST_KCV).types("y");
        enter(&mut terminal, "Second Custodian", SECOND, SECOND_KCV);
        terminal.types("y").sees("Done.").types("\r").ends_with(0);
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_no_component_sent(&terminal);
    });
}

#[test]
fn a_custodian_who_stops_ends_the_ceremony_as_one_that_was_declined() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        enter(&mut terminal, "First Custodian", FIRST, FIRST_KCV);
        terminal.types("s").ends_with(1).assert_restored();
        let screen = terminal.screen();
        let says = format!("First Custodian did not confirm the check value {FIRST_KCV}");
        assert!(screen.replace('\n', " ").contains(&says), "{screen}");
        assert_nothing_made(&site);
        let transcript = site.read(TRANSCRIPT);
        let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
        assert_eq!(verified.last_event, "failed");
    });
}

/// The sum is not the plan's key.
#[test]
fn the_terminal_is_restored_after_an_error() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        site.write_plan("plan.toml", IMPORT);
        let mut terminal = start_and_confirm(&site);
        enter(&mut terminal, "First Custodian", FIRST, FIRST_KCV);
        terminal.types("y");
        for left in ["2\n of 3 tries are left", "1\n of 3 tries are left"] {
            enter(&mut terminal, "Second Custodian", SECOND, SECOND_KCV);
            terminal.types("y").sees(left);
        }
        enter(&mut terminal, "Second Custodian", SECOND, SECOND_KCV);
        terminal.types("y").ends_with(1).assert_restored();
        let screen = terminal.screen();
        for said in [
            "act 1 (import-components) failed",
            SUM_KCV,
            "for the third time",
            "No act stands.",
        ] {
            assert!(screen.contains(said), "{screen}");
        }
        assert_nothing_made(&site);
    });
}

#[test]
fn a_component_that_is_given_out_is_written_down_and_typed_back() {
    on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        let last = GIVE_OUT.rfind("[[acts.components]]").unwrap();
        site.write_plan("plan.toml", &GIVE_OUT[..last]);
        let mut terminal = start(&site);
        confirm(&mut terminal, &digest(&site));
        let mut sheets = Vec::new();
        for custodian in ["First Custodian", "Second Custodian"] {
            terminal
                .sees(&format!("Now {custodian}, alone."))
                .types("\r")
                .sees(&format!("{custodian} writes down component"))
                .sees("check value  ");
            let groups =
                |row: &&str| row.len() == 39 && row.split(' ').all(|group| group.len() == 4);
            let screen = terminal.screen();
            let shown = screen.lines().map(str::trim).find(groups).unwrap();
            let sheet = shown.replace(' ', "");
            terminal
                .types("w")
                .sees("to show that it is written down")
                .types(&"0".repeat(32))
                .sees("32 of 32 digits")
                .forget()
                .types("\r")
                .sees("  0 of 32 digits")
                .sees("2 of 3 tries are")
                .types(&sheet)
                .sees("32 of 32 digits");
            assert!(!terminal.screen().contains(shown));
            terminal.types("\r");
            sheets.push(sheet);
        }
        terminal
            .sees("Done.")
            .types("\r")
            .ends_with(0)
            .assert_restored();
        assert_eq!(site.keys("kdh"), ["kn.switch-zone"]);
        assert_ne!(sheets[0], sheets[1]);
        let transcript = site.read("give-out-transcript.jsonl");
        for sheet in sheets {
            assert!(!transcript.to_ascii_uppercase().contains(&sheet));
            assert!(
                !terminal.screen().contains(&sheet[..4]),
                "{}",
                terminal.screen()
            );
        }
    });
}

/// From the page before to this one.
type Go<'a> = &'a dyn Fn(&mut Terminal);

/// On each page Ctrl-C asks; no goes on as if nothing had been, yes ends it as one that was declined.
#[test]
fn ctrl_c_asks_before_it_stops_wherever_it_is_pressed() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let digest = digest(&site);
        let question = "Ctrl-C was pressed. Stop the ceremony?";
        let pages: [(&str, Go<'_>); 5] = [
            ("First Officer: compare all of the digest", &|_| ()),
            ("Now First Custodian, alone.", &|t| confirm(t, &digest)),
            ("First Custodian types component 1", &|t| {
                t.types("\r");
            }),
            ("14 of 32 digits", &|t| {
                t.types(&FIRST[..14]);
            }),
            ("Is this the check value on your sheet?", &|t| {
                t.types(&FIRST[14..]).sees("32 of 32 digits").types("\r");
            }),
        ];
        for last in 0..pages.len() {
            let mut terminal = start(&site);
            for (index, (page, go)) in pages[..=last].iter().enumerate() {
                go(&mut terminal);
                terminal.sees(page).types(CTRL_C).sees(question);
                assert!(!terminal.screen().contains(page), "{}", terminal.screen());
                if index < last {
                    // Neither of the keys that it asks for.
                    terminal.types("\rx").types("n").sees(page);
                }
            }
            terminal.types("y").ends_with(1).assert_restored();
            let says = "somebody pressed Ctrl-C and said that it shall stop";
            let screen = terminal.screen().replace('\n', " ");
            assert!(screen.contains(says), "{screen}");
            assert_nothing_made(&site);
            // Before the tokens were opened nothing is recorded.
            assert_eq!(site.exists(TRANSCRIPT), last > 0);
            if last > 0 {
                let transcript = site.read(TRANSCRIPT);
                let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
                assert_eq!(verified.last_event, "failed");
                fs::remove_file(site.path(TRANSCRIPT)).unwrap();
            }
            assert_no_component_sent(&terminal);
        }
    });
}

#[test]
fn a_program_that_is_told_to_end_takes_the_act_back_and_restores_the_terminal() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
            let mut terminal = start_and_confirm(&site);
            terminal.types("\r").sees("First Custodian types component");
            terminal.types(&FIRST[..8]).sees("8 of 32 digits");
            terminal.is_told(signal).ends_with(1).assert_restored();
            let screen = terminal.screen();
            assert!(screen.contains("the program was told to end"), "{screen}");
            let transcript = site.read(TRANSCRIPT);
            let verified = kdh_ceremony::verify_transcript(&transcript).unwrap();
            assert_eq!(verified.last_event, "failed");
            assert_nothing_made(&site);
            fs::remove_file(site.path(TRANSCRIPT)).unwrap();
        }
    });
}

#[test]
fn a_console_may_change_its_size_in_the_middle() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        terminal.types("\r").sees("First Custodian types component");
        terminal.types(&FIRST[..20]).sees("20 of 32 digits");
        terminal
            .resizes(132, 50)
            .sees("20 of 32 digits")
            .sees(&"-".repeat(132))
            .resizes(60, 20)
            .sees("This console has 60 x 20 characters");
        assert!(!terminal.screen().contains("****"), "{}", terminal.screen());
        // What is typed where there is no room is not taken; but the question whether to stop has room
        // everywhere.
        terminal.types("12").types(CTRL_C);
        terminal.sees("y stop the ceremony | n go on").types("n");
        terminal.sees("Ctrl-C stop").resizes(80, 24);
        terminal.sees("20 of 32 digits").types(&FIRST[20..]);
        terminal.sees("32 of 32 digits").types("\r").sees(FIRST_KCV);
        terminal.types("y");
        enter(&mut terminal, "Second Custodian", SECOND, SECOND_KCV);
        terminal.types("y").sees("Done.").types("\r").ends_with(0);
        terminal.assert_restored();
        assert_eq!(site.keys("kdh"), [KEY]);
        assert_no_component_sent(&terminal);
    });
}

#[test]
fn what_one_custodian_saw_is_gone_for_the_next() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let mut terminal = start_and_confirm(&site);
        enter(&mut terminal, "First Custodian", FIRST, FIRST_KCV);
        terminal.types("y").sees("Now Second Custodian, alone.");
        let screen = terminal.screen();
        for gone in [FIRST_KCV, "*"] {
            assert!(!screen.contains(gone), "{gone:?} is still there:\n{screen}");
        }
        // Also from what can be scrolled back to: the sequence that clears it was sent since.
        let sent = terminal.sent();
        let seen = sent.rfind(FIRST_KCV).unwrap();
        assert!(sent[seen..].contains("\u{1b}[2J"), "{sent:?}");
        assert!(sent[seen..].contains("\u{1b}[3J"), "{sent:?}");
        terminal.types(CTRL_C).sees("Stop the ceremony?").types("y");
        terminal.ends_with(1);
    });
}

#[test]
fn what_was_typed_before_it_was_asked_for_is_thrown_away() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let digest = digest(&site);
        let mut terminal = start(&site);
        terminal.sees("First Officer: compare all of the digest");
        // The second officer's confirmation, by the first one.
        terminal.types(PAGE_DOWN);
        terminal.types(&format!("{digest}\r{digest}\r"));
        terminal.sees("Second Officer: compare all of the digest");
        terminal
            .types("77")
            .types(CTRL_C)
            .sees("Stop the ceremony?");
        // Everything that came before was taken by now.
        terminal.types("n").sees("> 77__ ____").types(CTRL_C);
        terminal.sees("Stop the ceremony?").types("y").ends_with(1);
        assert!(!site.exists(TRANSCRIPT));
    });
}

#[test]
fn a_pin_is_typed_without_being_shown() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        let pin = site.read("kdh.pin");
        let plan = site.read("plan.toml");
        let plan = change(&plan, "pin-file = \"kdh.pin\"", "");
        for (typed, code) in [("00000000", 1), (pin.as_str(), 0)] {
            fs::write(site.path("plan.toml"), &plan).unwrap();
            let mut terminal = start(&site);
            confirm(&mut terminal, &digest(&site));
            terminal
                .sees("PIN of token \"kdh\"")
                .types(CTRL_C)
                .sees("Stop the ceremony?")
                .types("n")
                .sees("PIN of token \"kdh\"")
                .types("\r")
                .sees("! Nothing was typed yet.")
                .types(typed)
                .sees(&format!("{} characters", typed.len()))
                .types("\r");
            if code == 0 {
                terminal.sees("Now First Custodian, alone.").types(CTRL_C);
                terminal.sees("Stop the ceremony?").types("y").ends_with(1);
            } else {
                terminal.ends_with(1).assert_restored();
                let screen = terminal.screen();
                assert!(screen.contains("the PIN is incorrect"), "{screen}");
            }
            assert!(!terminal.sent().contains(typed), "{:?}", terminal.sent());
        }
    });
}

#[test]
fn a_console_that_is_too_small_is_refused() {
    on(&[&SOFTHSM], |_| {
        let site = site();
        for size in [(79, 24), (80, 23), (40, 12)] {
            let mut terminal = Terminal::run(&site, &["run", "plan.toml"], size);
            terminal.ends_with(1).assert_restored();
            let words = terminal.screen();
            let words: Vec<_> = words.split_whitespace().collect();
            let says = format!("This console has {} x {} characters;", size.0, size.1);
            // Lines break where the console ends.
            let together = words.concat();
            assert!(together.contains(&says.replace(' ', "")), "{together}");
            assert!(together.contains("runthiswith--plain"), "{together}");
            assert!(!site.exists(TRANSCRIPT));
        }
    });
}
