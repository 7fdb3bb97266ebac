//! What a ceremony refuses, and the whole of what it says: in each case one thing is wrong. What comes out of the
//! chapters here is what stands in docs/refusals.md.

mod components;
mod imports;
mod key_blocks;
mod people;
mod plans;
mod sittings;
mod storage;
mod transcripts;

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Output};

use kdh_ceremony::CeremonyError;

use crate::site::{
    KEY, SAMPLE_MODULE, Site, change, import_plan_with_files, library, printed, unattended,
};

const BOOK: &str = include_str!("../../../../docs/refusals.md");
/// Enough for every way that is known.
const MIN_CASES: usize = 80;
/// How a message tells what to do next.
const NEXT: [&str; 18] = [
    "agree on",
    "ask ",
    "bring ",
    "choose ",
    "compare ",
    "connect ",
    "correct",
    "find out",
    "give ",
    "have ",
    "keep ",
    "mend ",
    "name ",
    "see to",
    "start ",
    "stop",
    "make sure",
    "may type",
];

/// A part of the table.
pub(crate) struct Chapter {
    number: usize,
    title: &'static str,
    cases: Vec<(String, String)>,
}

impl Chapter {
    pub(crate) const fn new(number: usize, title: &'static str) -> Self {
        Self {
            number,
            title,
            cases: Vec::new(),
        }
    }

    /// What is wrong, and what was said.
    pub(crate) fn case(&mut self, wrong: &str, said: String) {
        self.cases.push((wrong.to_owned(), said));
    }

    fn text(&self) -> String {
        let mut text = format!(
            "## {}. {}\n\n| | what is wrong | what is said |\n|---|---|---|\n",
            self.number, self.title
        );
        for ((wrong, said), number) in self.cases.iter().zip(1..) {
            let said = said.replace('|', "\\|").replace('\n', "<br>");
            writeln!(text, "| {}.{number} | {wrong} | {said} |", self.number).unwrap();
        }
        text
    }

    /// The book has this chapter, word for word.
    pub(crate) fn assert_is_in_the_book(&self) {
        let mut said = BTreeSet::new();
        for (wrong, _) in &self.cases {
            assert!(said.insert(wrong), "{wrong}, twice");
        }
        let text = self.text();
        let head = text.lines().next().unwrap();
        let chapter = BOOK.split("\n## ").find_map(|chapter| {
            let chapter = format!("## {}\n", chapter.trim_end());
            chapter.starts_with(head).then_some(chapter)
        });
        if chapter.as_ref() == Some(&text) {
            return;
        }
        let file =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("refusals-{}.md", self.number));
        fs::write(&file, &text).unwrap();
        let chapter = chapter.unwrap_or_default();
        let known: BTreeSet<_> = chapter.lines().collect();
        let others: Vec<_> = text.lines().filter(|line| !known.contains(line)).collect();
        panic!(
            "docs/refusals.md has another chapter than {}; there it does not say\n{}",
            file.display(),
            others.join("\n")
        );
    }
}

#[test]
fn the_book_has_many_cases_and_each_says_what_to_do_next() {
    let rows: Vec<_> = BOOK
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .collect();
    assert!(rows.len() >= MIN_CASES, "{}", rows.len());
    for row in &rows {
        let said = row.rsplit(" | ").next().unwrap().to_ascii_lowercase();
        assert!(NEXT.iter().any(|next| said.contains(next)), "{row}");
    }
    let numbers: BTreeSet<_> = rows.iter().map(|row| row.split(" | ").next()).collect();
    assert_eq!(numbers.len(), rows.len(), "a number is there twice");
}

/// What the program said when it refused, on its own.
pub(crate) fn said(site: &Site, output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let said = stderr.strip_prefix("kdh-ceremony: ");
    settled(site, said.unwrap_or_else(|| panic!("{stderr}")))
}

/// What a ceremony said that was refused in the library.
pub(crate) fn told(site: &Site, refused: Result<(), CeremonyError>) -> String {
    settled(site, &refused.unwrap_err().to_string())
}

/// Without what is another each time: folders, digests, dates.
pub(crate) fn settled(site: &Site, said: &str) -> String {
    let said = said
        .trim_end()
        .replace(site.folder().to_str().unwrap(), "/ceremony")
        .replace(&library(), SAMPLE_MODULE);
    without_digests(&without_offsets(&without_dates(&said)))
}

fn without_digests(said: &str) -> String {
    let mut text = String::new();
    let mut digits = String::new();
    for character in said.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            digits.push(character);
            continue;
        }
        // Of a plan, or the part of it that is in a label.
        text.push_str(if digits.len() >= 32 { "…" } else { &digits });
        digits.clear();
        text.push(character);
    }
    text.pop();
    text
}

fn without_dates(said: &str) -> String {
    let mut text = said.to_owned();
    let like = |part: &str, form: &str| {
        part.len() == form.len()
            && part
                .bytes()
                .zip(form.bytes())
                .all(|(byte, form)| match form {
                    b'0' => byte.is_ascii_digit(),
                    form => byte == form,
                })
    };
    let is = |text: &str, at: usize, form: &str| {
        text.get(at..at + form.len())
            .is_some_and(|part| like(part, form))
    };
    while let Some(at) = (0..text.len()).find(|at| is(&text, *at, "0000-00-00")) {
        let mut end = at + 10;
        if is(&text, end, "T00:00:00") {
            let is_time =
                |character: char| character.is_ascii_digit() || ":.+TZ".contains(character);
            let time = text[end..].find(|character| !is_time(character));
            end = time.map_or(text.len(), |len| end + len);
        }
        text.replace_range(at..end, "DATE");
    }
    text
}

/// Without what says where in something of which the length is another each time.
fn without_offsets(said: &str) -> String {
    let mut text = said.to_owned();
    for mark in ["at byte ", "column "] {
        let mut parts = text.split(mark);
        let mut settled = parts.next().unwrap().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            let digits = &part[..part.len() - rest.len()];
            let at = if digits.len() > 2 { "…" } else { digits };
            settled = [&settled, mark, at, rest].concat();
        }
        text = settled;
    }
    text
}

/// The sample of an import, unattended, with its components in files.
pub(crate) fn with_files(site: &Site) -> String {
    unattended(&import_plan_with_files(site))
}

/// A plan with another transcript and key for each case, so that none is in the way of the next.
pub(crate) fn run(site: &Site, plan: &str) -> Output {
    site.write_plan("plan.toml", plan);
    let output = site.execute("plan.toml");
    for entry in fs::read_dir(site.folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            fs::remove_file(path).unwrap();
        }
    }
    output
}

/// A plan, confirmed by two officers.
pub(crate) fn confirmed(site: &Site, plan: &str) -> Output {
    fs::write(site.path("plan.toml"), plan).unwrap();
    let digest = digest(site);
    site.program(&["run", "plan.toml"], &format!("{digest}\n{digest}\n"))
}

/// The first line of the plan's digest.
pub(crate) fn digest(site: &Site) -> String {
    let checked = printed(&site.program(&["check-plan", "plan.toml"], ""));
    checked.lines().nth(1).unwrap().trim().to_owned()
}

/// Cases that differ from a good plan in one place: what is wrong, what stands there, what stands there now.
pub(crate) type Change<'a> = (&'a str, &'a str, &'a str);

/// Each is refused and leaves no key but `keys`.
pub(crate) fn refused_plans(
    chapter: &mut Chapter,
    site: &Site,
    good: &str,
    keys: &[&str],
    changes: &[Change<'_>],
) {
    for (wrong, from, to) in changes {
        let output = run(site, &change(good, from, to));
        chapter.case(wrong, said(site, &output));
        assert_eq!(site.keys("kdh"), keys, "{wrong}");
    }
}

#[test]
fn what_differs_each_time_is_left_out() {
    let digest = "0123456789abcdef".repeat(4);
    assert_eq!(
        without_dates("on 2026-11-27, 2026-11-27T10:00:00Z"),
        "on DATE, DATE"
    );
    assert_eq!(
        without_digests(&format!("plan {digest}, CBDF95")),
        "plan …, CBDF95"
    );
    assert_eq!(
        without_dates("due at 2026-11-27T09:00:00Z; renew"),
        "due at DATE; renew"
    );
    assert_eq!(
        without_offsets("at byte 826: x, at byte 0"),
        "at byte …: x, at byte 0"
    );
    assert_eq!(without_digests(KEY), KEY);
}
