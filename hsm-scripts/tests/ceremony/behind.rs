//! What stands behind a screen or lines, driven without an HSM: each test runs itself again, in a
//! pseudo-terminal.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
};

use hsm::{ClearKey, Kcv, KcvMethod};
use kdh_ceremony::{Agenda, Component, FullScreen, LineMode, People, Typing};
use portable_pty::CommandBuilder;
use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::Style,
};
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::{
    site::{FIRST, FIRST_KCV},
    terminal::Terminal,
};

/// Tells a test that it is the one in the terminal, and with what.
const INSIDE: &str = "KDH_TEST_INSIDE";
const CONSOLE: (u16, u16) = (80, 24);

const COMPONENT: Component<'static> = Component {
    custodian: "First Custodian",
    key: "kn.acquirer-tmk",
    kind: KeyKind::Aes128,
    number: 1,
    of: 2,
};

/// The test of this name, in a terminal.
fn again(test: &str, inside: &str) -> Terminal {
    again_as(test, inside, "xterm")
}

fn again_as(test: &str, inside: &str, kind: &str) -> Terminal {
    let mut command = CommandBuilder::new(env::current_exe().unwrap());
    let test = format!("behind::{test}");
    command.args([&*test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, inside);
    command.env("TERM", kind);
    // What a panic says has to fit on the console.
    command.env("RUST_BACKTRACE", "0");
    Terminal::run_command(&command, CONSOLE)
}

fn inside() -> Option<String> {
    env::var(INSIDE).ok()
}

fn people(mode: &str) -> Box<dyn People> {
    let mut people: Box<dyn People> = match mode {
        "screen" => Box::new(FullScreen::new().unwrap()),
        "lines" => Box::new(LineMode::new().unwrap()),
        other => panic!("{other}"),
    };
    people.begin(Agenda {
        title: "A ceremony".to_owned(),
        acts: vec!["the first".to_owned(), "the second".to_owned()],
        ..Agenda::default()
    });
    people
}

fn kcv() -> Kcv {
    Kcv::parse(KcvMethod::for_key(KeyKind::Aes128), FIRST_KCV).unwrap()
}

/// Texts that shall not be in this process's memory, themselves kept so that they are not.
struct Needles(Vec<Vec<u8>>);

const MASK: u8 = 0x5a;

impl Needles {
    /// The first component: its bytes and, in any writing, its digits; halves of each.
    fn of_first() -> Self {
        let masked = |text: &str| text.bytes().map(|byte| byte ^ MASK).collect::<Vec<_>>();
        let bytes = (0..FIRST.len()).step_by(2).map(|index| {
            let digits = &FIRST[index..index + 2];
            u8::from_str_radix(digits, 16).unwrap() ^ MASK
        });
        let bytes: Vec<_> = bytes.collect();
        let mut needles = vec![bytes[..8].to_vec(), bytes[8..].to_vec()];
        let groups: Vec<_> = (0..FIRST.len()).step_by(4).collect();
        for half in [&groups[..4], &groups[4..]] {
            let mut digits = Vec::new();
            let mut grouped = Vec::new();
            for group in half {
                let group = masked(&FIRST[*group..group + 4]);
                if !grouped.is_empty() {
                    grouped.push(b' ' ^ MASK);
                }
                grouped.extend_from_slice(&group);
                digits.extend_from_slice(&group);
            }
            needles.extend([digits, grouped]);
        }
        Self(needles)
    }

    /// Which of them is in the memory that this process can write to, one byte after the other or one
    /// cell of a screen's buffer after the other.
    fn found(&self) -> Option<String> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
            // A copy of what is looked for would be found the next time.
            let mut part = Zeroizing::new(vec![0; usize::try_from(to - from).unwrap()]);
            // Some cannot be read.
            if memory.read_exact_at(&mut part, from).is_err() {
                continue;
            }
            for (number, needle) in self.0.iter().enumerate() {
                for stride in [1, size_of::<Cell>()] {
                    let holds = |start: usize| {
                        let mut place = start;
                        needle.iter().all(|byte| {
                            let same = part.get(place) == Some(&(byte ^ MASK));
                            place += stride;
                            same
                        })
                    };
                    if (0..part.len()).any(holds) {
                        return Some(format!("needle {number} by {stride} in {line}"));
                    }
                }
            }
        }
        None
    }
}

/// The search finds what is there: as bytes, and as cells of a buffer.
#[test]
fn a_component_in_memory_is_found() {
    if inside().is_none() {
        again("a_component_in_memory_is_found", "").ends_with(0);
        return;
    }
    let needles = Needles::of_first();
    assert_eq!(needles.found(), None);
    let component = ClearKey::from_hex(FIRST).unwrap();
    assert!(needles.found().unwrap().contains("by 1 in"));
    drop(component);
    assert_eq!(needles.found(), None);
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    buffer.set_string(3, 3, "7A4F 19C3 D05B 62E8", Style::new());
    assert!(!needles.found().unwrap().contains("by 1 in"));
    buffer.reset();
    assert_eq!(needles.found(), None);
}

#[test]
fn a_component_that_was_typed_leaves_nothing_in_memory() {
    if let Some(mode) = inside() {
        let mut people = people(&mode);
        let typed = people.type_component(&COMPONENT, Typing::Enter).unwrap();
        let clear = COMPONENT.read(&typed).unwrap();
        let needles = Needles::of_first();
        assert!(needles.found().is_some());
        drop((typed, clear));
        assert_eq!(needles.found(), None);
        return;
    }
    for (mode, prompt, enter) in [
        ("screen", "0 of 32 digits", "\r"),
        ("lines", "(not shown):", "\n"),
    ] {
        let mut terminal = again("a_component_that_was_typed_leaves_nothing_in_memory", mode);
        terminal.sees(prompt).types(FIRST);
        if mode == "screen" {
            terminal.sees("32 of 32 digits");
        }
        terminal.types(enter).ends_with(0).assert_restored();
        assert!(!terminal.sent().contains("7A4F"), "{}", terminal.sent());
    }
}

#[test]
fn a_component_that_is_given_out_is_shown_once_and_leaves_nothing() {
    let test = "a_component_that_is_given_out_is_shown_once_and_leaves_nothing";
    if let Some(mode) = inside() {
        let needles = Needles::of_first();
        let mut people = people(&mode);
        let value = ClearKey::from_hex(FIRST).unwrap();
        people.show_component(&COMPONENT, &value, &kcv()).unwrap();
        drop(value);
        assert_eq!(needles.found(), None);
        people.part();
        drop(people.type_pin("kdh", None).unwrap());
        return;
    }
    let spelled = "7A4F 19C3 D05B 62E8 8E13 F6A9 27C4 B05D";

    let mut terminal = again(test, "screen");
    terminal.sees(spelled).sees(FIRST_KCV);
    // The buffers that it is drawn from grow and shrink.
    terminal
        .resizes(150, 60)
        .sees(&"-".repeat(150))
        .sees(spelled);
    terminal.resizes(80, 24).sees(spelled);
    terminal.types("\u{3}").sees("Stop the ceremony?");
    assert!(!terminal.screen().contains("7A4F"), "{}", terminal.screen());
    terminal.types("n").sees(spelled).types("w");
    let after = terminal.sees("PIN of token").screen();
    assert!(
        !after.contains("7A4F") && !after.contains(FIRST_KCV),
        "{after}"
    );
    terminal.types("1\r").ends_with(0).assert_restored();
    assert!(!terminal.screen().contains("7A4F"), "{}", terminal.screen());
    assert_cleared_after(&terminal, "7A4F");

    let mut terminal = again(test, "lines");
    terminal
        .sees(spelled)
        .sees("type \"written\"")
        .types("yes\n");
    terminal
        .forget()
        .sees("type \"written\"")
        .types("written\n");
    let after = terminal.sees("PIN of token").screen();
    assert!(
        !after.contains("7A4F") && !after.contains(FIRST_KCV),
        "{after}"
    );
    terminal.types("1\n").ends_with(0).assert_restored();
    assert_cleared_after(&terminal, FIRST_KCV);
}

/// The screen, and what can be scrolled back to, were cleared after this was on it.
fn assert_cleared_after(terminal: &Terminal, text: &str) {
    let sent = terminal.sent();
    let after = &sent[sent.rfind(text).unwrap()..];
    for clear in ["\u{1b}[2J", "\u{1b}[3J"] {
        assert!(after.contains(clear), "{after:?}");
    }
}

/// There nothing could be cleared.
#[test]
fn a_component_is_not_given_out_on_a_dumb_terminal() {
    if inside().is_some() {
        let value = ClearKey::from_hex(FIRST).unwrap();
        let shown = people("lines").show_component(&COMPONENT, &value, &kcv());
        let refused = shown.unwrap_err().to_string();
        assert!(refused.contains("whose screen can be cleared"), "{refused}");
        return;
    }
    let test = "a_component_is_not_given_out_on_a_dumb_terminal";
    let mut terminal = again_as(test, "lines", "dumb");
    terminal.ends_with(0);
    assert!(!terminal.sent().contains("7A4F"), "{}", terminal.sent());
}

#[test]
fn the_terminal_is_restored_after_a_panic() {
    if inside().is_some() {
        let _people = people("screen");
        panic!("a fault of the program");
    }
    let mut terminal = again("the_terminal_is_restored_after_a_panic", "");
    terminal.ends_with(101).assert_restored();
    let screen = terminal.screen();
    assert!(screen.contains("a fault of the program"), "{screen}");
}

/// While the HSM is at work, nothing is taken that is typed, but Ctrl-C is not forgotten.
#[test]
fn ctrl_c_while_the_hsm_is_at_work_is_asked_about_when_it_has_answered() {
    let test = "ctrl_c_while_the_hsm_is_at_work_is_asked_about_when_it_has_answered";
    if let Some(pipe) = inside() {
        let mut people = people("screen");
        people.act_begins(1).unwrap();
        // The HSM: it answers when something is written there.
        fs::read(pipe).unwrap();
        people.act_ends(1, Ok("what it made"));
        let stopped = people.act_begins(2).unwrap_err().to_string();
        assert!(stopped.contains("somebody pressed Ctrl-C"), "{stopped}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for (early, answers) in [("", "y"), ("ny\r", "xy")] {
        let mut terminal = again(test, pipe.to_str().unwrap());
        terminal
            .sees("The HSM is at work: 1 s")
            .types(early)
            .types("\u{3}");
        terminal.sees("You are asked as soon as the HSM has answered.");
        answer(&pipe);
        terminal.sees("Stop the ceremony?").types(answers);
        terminal.ends_with(0).assert_restored();
    }
}

fn answer(pipe: &Path) {
    fs::write(pipe, "done").unwrap();
}
