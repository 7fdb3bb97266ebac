//! Each page on the smallest console, as a text that stands in a file. The runbook has the same pictures.

use std::{fs, path::Path, time::Duration};

use hsm::{ClearKey, Kcv, KcvMethod};
use ratatui::{Terminal, backend::TestBackend};
use tr34::KeyKind;

use super::{
    guide::Guide,
    keyboard::Key,
    page::draw,
    steps::{
        Alone, CheckValue, ConfirmDigest, End, EnterComponent, EnterPin, ShowComponent, Step, Stop,
        Working,
    },
};
use crate::{
    Mode,
    people::{Agenda, Component, Ending, Entered, Typing},
};

const DIGEST: &str = "5f6b0c1e83a497d21b0ec65f3a88d417e2907c315d4ba60f92e8147bcc0368fa";
const COMPONENT: &str = "7A4F19C3D05B62E88E13F6A927C4B05D";

const FIRST: Component<'static> = Component {
    custodian: "First Custodian",
    key: "kn.acquirer-tmk",
    kind: KeyKind::Aes128,
    number: 1,
    of: 2,
};

fn guide() -> Guide {
    let act = "import-components: AES-128 from 2 components, check value CBDF95, key \
               kn.acquirer-tmk in token kdh";
    Guide::new(Agenda {
        title: "Import of the acquirer's terminal master key".to_owned(),
        mode: Mode::Real,
        digest: DIGEST.to_owned(),
        officers: vec!["First Officer".to_owned(), "Second Officer".to_owned()],
        notes: Vec::new(),
        tokens: vec!["token kdh: kdh, serial not fixed".to_owned()],
        acts: vec![act.to_owned()],
    })
}

fn in_act() -> Guide {
    let mut guide = guide();
    guide.act_begins(1);
    guide
}

/// The same where a key is given out.
fn giving_out() -> Guide {
    let act = "give-out-components: AES-128 in 3 components, key kn.switch-zone in token kdh";
    let mut guide = Guide::new(Agenda {
        title: "Zone key for the switch, in three components".to_owned(),
        acts: vec![act.to_owned()],
        ..guide().agenda
    });
    guide.act_begins(1);
    guide
}

fn kcv() -> Kcv {
    Kcv::parse(KcvMethod::for_key(KeyKind::Aes128), "A19083").unwrap()
}

/// What is on a console of this size, without the blanks behind.
fn page(guide: &Guide, step: &mut impl Step, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, guide, step)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut page = String::new();
    for row in buffer.content().chunks(width.into()) {
        let row: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        page.push_str(row.trim_end());
        page.push('\n');
    }
    page
}

fn typed(step: &mut impl Step, text: &str) {
    for character in text.chars() {
        assert!(step.press(Key::Char(character)).is_none());
    }
}

fn assert_picture(name: &str, guide: &Guide, step: &mut impl Step) {
    let page = page(guide, step, 80, 24);
    assert!(page.ends_with(&format!(" {}\n", step.keys())), "{page}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/screens")
        .join(name)
        .with_extension("txt");
    let picture = fs::read_to_string(&file).unwrap_or_default();
    assert!(page == picture, "{} is not:\n{page}", file.display());
    let runbook = include_str!("../../../../docs/ceremony.md");
    let in_runbook = format!("```\n{picture}```\n");
    assert!(runbook.contains(&in_runbook), "the runbook has no:\n{page}");
}

#[test]
fn the_pages_are_those_of_the_runbook() {
    let mut guide = guide();
    let mut step = ConfirmDigest::new("First Officer");
    typed(&mut step, "5f6b 0c1e 83");
    assert_picture("digest", &guide, &mut step);

    let mut step = EnterPin::new("kdh", None);
    typed(&mut step, "secret");
    guide.tokens_are_opened();
    assert_picture("pin", &guide, &mut step);

    let guide = in_act();
    let person = "First Custodian";
    assert_picture("alone", &guide, &mut Alone { person });

    let mut step = EnterComponent::new(&FIRST, Typing::Enter);
    typed(&mut step, &COMPONENT[..14]);
    assert_picture("component", &guide, &mut step);

    let kcv = kcv();
    let entered = Entered { kcv, parity: None };
    let component = &FIRST;
    let entered = &entered;
    assert_picture(
        "check-value",
        &guide,
        &mut CheckValue { component, entered },
    );

    let value = &ClearKey::from_hex(COMPONENT).unwrap();
    let kcv = &entered.kcv;
    let given = &Component {
        key: "kn.switch-zone",
        of: 3,
        ..FIRST
    };
    let mut guide = giving_out();
    let mut step = ShowComponent {
        component: given,
        value,
        kcv,
    };
    assert_picture("shown", &guide, &mut step);

    let told = "That is not the component. Read it from your sheet again: 2 of 3 tries are left.";
    guide.told.push(told.to_owned());
    let mut step = EnterComponent::new(given, Typing::Back);
    assert_picture("typed-back", &guide, &mut step);

    assert_picture("stop", &in_act(), &mut Stop);

    let mut guide = in_act();
    let told = "Officer confirmed the digest.";
    guide.told = vec![format!("First {told}"), format!("Second {told}")];
    let mut step = Working {
        elapsed: Duration::from_millis(12_600),
        interrupted: false,
    };
    assert_picture("working", &guide, &mut step);

    let made = "key kn.acquirer-tmk in token kdh, AES-128, check value CBDF95";
    guide.act_ends(1, Ok(made));
    for (custodian, number) in [("First", 1), ("Second", 2)] {
        let component = Component { number, ..FIRST };
        let told = format!("{custodian} Custodian entered {component}.");
        guide.told.push(told);
    }
    guide.end();
    let ending = Ending {
        outcome: "Done.",
        transcript: Path::new("/ceremony/tmk-transcript.jsonl"),
        head: DIGEST,
    };
    assert_picture("end", &guide, &mut End { ending: &ending });
}

/// What an act made is there to its last word, however long it is, and so is how it goes on.
#[test]
fn nothing_of_an_ending_is_cut_off() {
    let mut guide = giving_out();
    let made = "key kn.switch-zone in token kdh, AES-128, check value of the whole key, to be announced \
                with the components: CBDF95";
    guide.act_ends(1, Ok(made));
    guide.end();
    let outcome = "Sitting 1 of 2 has ended. To be continued until 2026-03-04T10:15:00Z, with the same command \
                   and the same plan. After that the components so far are destroyed.";
    let transcript = &Path::new("/ceremony").join("x".repeat(100));
    let ending = &Ending {
        outcome,
        transcript,
        head: DIGEST,
    };
    let page = page(&guide, &mut End { ending }, 80, 24);
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_shows(&page, &[outcome, "Transcript:", &format!("act 1: {made}")]);
}

/// The rows of a page that hold one of `parts`, in their order.
fn assert_shows(page: &str, parts: &[&str]) {
    let mut rest = page;
    for part in parts {
        let found = rest.find(part);
        assert!(found.is_some(), "{part:?} is not in its place:\n{page}");
        rest = &rest[found.unwrap()..];
    }
}

#[test]
fn what_is_wrong_with_a_component_is_said_as_it_is_typed() {
    let cases = [
        ("", "0 of 32 digits"),
        ("7A4", "3 of 32 digits"),
        ("7a4f 19c3-d05b", "12 of 32 digits"),
        ("7A4G", "! That was not 0 to 9 or A to F"),
        ("7A4O", "! That was not 0 to 9 or A to F"),
        ("7A4\u{e9}", "! That was not 0 to 9 or A to F"),
        (COMPONENT, "32 of 32 digits\n"),
        (&format!("{COMPONENT}0"), "33 of 32 digits: 1 too many"),
        (&COMPONENT.repeat(8), "256 of 32 digits: 224 too many"),
        (
            &format!("{}0", COMPONENT.repeat(8)),
            "! That is far too much",
        ),
    ];
    for (text, said) in cases {
        let mut step = EnterComponent::new(&FIRST, Typing::Enter);
        typed(&mut step, text);
        let page = page(&in_act(), &mut step, 80, 40);
        assert_shows(&page, &[said]);
        // None of it is shown.
        assert!(!page.contains("7A4") && !page.contains("7a4"), "{page}");
    }
    for text in ["", "7A4", &COMPONENT[..31], &format!("{COMPONENT}0")] {
        let mut step = EnterComponent::new(&FIRST, Typing::Enter);
        typed(&mut step, text);
        assert!(step.press(Key::Enter).is_none(), "{text}");
        let count = format!("and {} were typed. Nothing was used.", text.len());
        assert_shows(&page(&in_act(), &mut step, 80, 24), &[&count]);
        // The next key takes the complaint away; the end of it makes it good.
        step.press(Key::Clear);
        assert_shows(&page(&in_act(), &mut step, 80, 24), &["0 of 32 digits"]);
        typed(&mut step, COMPONENT);
        let entered = step.press(Key::Enter).unwrap();
        assert_eq!(entered.expose_typed(), COMPONENT);
    }
}

#[test]
fn the_cursor_stands_where_the_next_digit_comes() {
    for (kind, count, place) in [
        (KeyKind::Aes128, 0, (3, 14)),
        (KeyKind::Aes128, 3, (6, 14)),
        (KeyKind::Aes128, 4, (8, 14)),
        (KeyKind::Aes128, 31, (41, 14)),
        (KeyKind::Aes128, 32, (42, 14)),
        (KeyKind::Aes128, 34, (5, 15)),
        (KeyKind::Tdea3, 32, (3, 15)),
        (KeyKind::Tdea3, 48, (22, 15)),
        (KeyKind::Aes256, 32, (3, 15)),
        (KeyKind::Aes256, 64, (42, 15)),
    ] {
        let component = &Component { kind, ..FIRST };
        let mut step = EnterComponent::new(component, Typing::Enter);
        typed(&mut step, &"7".repeat(count));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let guide = in_act();
        terminal
            .draw(|frame| draw(frame, &guide, &mut step))
            .unwrap();
        let cursor = terminal.backend().cursor_position();
        assert_eq!((cursor.x, cursor.y), place, "{kind} {count}");
        assert!(terminal.backend().cursor_visible());
    }
}

#[test]
fn the_parity_of_a_tdea_component_is_shown_and_not_held_against_it() {
    let component = &Component {
        kind: KeyKind::Tdea2,
        ..FIRST
    };
    let odd = "0123456789ABCDEF".repeat(2);
    for (text, said) in [
        (&odd, "odd parity in all 16 bytes"),
        (
            &odd.replacen("01", "00", 1),
            "odd parity in 15 of 16 bytes; nothing is refused for that",
        ),
    ] {
        let mut step = EnterComponent::new(component, Typing::Enter);
        typed(&mut step, text);
        assert_shows(&page(&in_act(), &mut step, 80, 24), &[said]);
        assert!(step.press(Key::Enter).is_some());
        let parity = component.parity(&ClearKey::from_hex(text).unwrap());
        let entered = &Entered { kcv: kcv(), parity };
        let mut step = CheckValue { component, entered };
        assert_shows(&page(&in_act(), &mut step, 80, 24), &["A19083", said]);
    }
}

#[test]
fn what_is_wrong_with_a_digest_is_said_as_it_is_typed() {
    let line = "5f6b 0c1e 83a4 97d2 1b0e c65f 3a88 d417";
    let cases = [
        ("", "0 of 32 characters"),
        ("yes", "! A digest has 0 to 9 and a to f only"),
        ("5f6b.", "! A digest has 0 to 9 and a to f only"),
        (line, "> 5f6b 0c1e 83a4 97d2 1b0e c65f 3a88 d417\n"),
        (&format!("{DIGEST}0"), "! The digest has no more characters"),
    ];
    for (text, said) in cases {
        let mut step = ConfirmDigest::new("First Officer");
        typed(&mut step, text);
        assert_shows(&page(&guide(), &mut step, 80, 24), &[said]);
    }
    for text in ["", &line[..38]] {
        let mut step = ConfirmDigest::new("First Officer");
        typed(&mut step, text);
        let _ = page(&guide(), &mut step, 80, 24);
        assert_eq!(step.press(Key::Enter), None);
        let said = "! That is not the whole first line yet.";
        assert_shows(&page(&guide(), &mut step, 80, 24), &[said]);
    }
    // What is wrong is not found out by trying.
    for text in [line, &line.replace('5', "6")] {
        let mut step = ConfirmDigest::new("First Officer");
        typed(&mut step, text);
        assert_shows(&page(&guide(), &mut step, 80, 24), &["32 of 32 characters"]);
        assert_eq!(step.press(Key::Enter), Some(text.replace(' ', "")));
    }
}

#[test]
fn a_plan_that_is_longer_than_the_screen_can_be_read_to_its_end() {
    let mut agenda = guide().agenda;
    agenda.acts = (1..=30).map(|act| format!("crl: number {act}")).collect();
    let guide = Guide::new(agenda);
    let mut step = ConfirmDigest::new("First Officer");
    typed(&mut step, DIGEST);
    let first = page(&guide, &mut step, 80, 24);
    assert_shows(
        &first,
        &["The plan:", "rows 1 to ", " of 32", "1. crl: number 1"],
    );
    let mut seen = first;
    let mut refused = 0;
    // It cannot be confirmed before.
    while step.press(Key::Enter).is_none() {
        refused += 1;
        let said = "! The plan goes on: read it to its end with Down or Page Down.";
        assert_shows(&page(&guide, &mut step, 80, 24), &[said]);
        step.press(Key::Down);
        seen += &page(&guide, &mut step, 80, 24);
    }
    assert!(refused > 20, "{refused}");
    for act in 1..=30 {
        assert_shows(&seen, &[&format!("  {act}. crl: number {act}\n")]);
    }
    assert_shows(
        &page(&guide, &mut step, 80, 24),
        &["to 32 of 32", "30. crl"],
    );
    for _ in 0..10 {
        step.press(Key::PageUp);
    }
    assert_shows(&page(&guide, &mut step, 80, 24), &["rows 1 to"]);
    // A larger console shows more of it.
    let large = page(&guide, &mut step, 132, 90);
    assert_shows(
        &large,
        &["The plan:\n", "1. crl: number 1", "30. crl: number 30"],
    );
}

#[test]
fn a_console_that_is_too_small_says_so_and_takes_no_keys_but_one() {
    for (width, height) in [(79, 24), (80, 23), (40, 10), (12, 3), (1, 1)] {
        let mut step = EnterComponent::new(&FIRST, Typing::Enter);
        typed(&mut step, COMPONENT);
        let small = page(&in_act(), &mut step, width, height);
        assert!(!small.contains("***"), "{small}");
        if width >= 79 {
            let small = small.split_whitespace().collect::<Vec<_>>().join(" ");
            let says = format!("This console has {width} x {height} characters");
            assert_shows(
                &small,
                &[&says, "80 x 24", "nothing is lost", "Ctrl-C stop"],
            );
        }
        assert!(!step.needs_no_room());
        if width >= 40 {
            let question = page(&in_act(), &mut Stop, width, height);
            assert_shows(&question, &["y stop the ceremony | n go on"]);
        }
    }
}

/// Names and labels of a plan may be long, and in any script.
#[test]
fn long_texts_stay_inside_the_screen() {
    let mut agenda = guide().agenda;
    agenda.title = "\u{9375}\u{306e}".repeat(60);
    agenda.tokens = vec!["x".repeat(300)];
    agenda.officers = vec!["An officer whose name is long ".repeat(9)];
    agenda.acts = vec!["word ".repeat(60)];
    let officer = agenda.officers[0].clone();
    let guide = Guide::new(agenda);
    let mut step = ConfirmDigest::new(&officer);
    let page = page(&guide, &mut step, 80, 24);
    assert_shows(
        &page,
        &[
            "FOR REAL",
            "NOW",
            "...",
            "The plan:",
            "0 of 32",
            "Ctrl-C stop",
        ],
    );
}
