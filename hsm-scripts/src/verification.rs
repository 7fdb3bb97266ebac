//! `kdh-ceremony verify`: what a transcript shows, in words, as JSON and as a page.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, anyhow};
use kdh_ceremony::{
    Entry, Expected, Missing, Record, Trust, conclusion, report, verify_records, write_new,
};
use pki::{Certificate, rfc3339};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::Verify;

pub(crate) fn run(arguments: &Verify) -> anyhow::Result<ExitCode> {
    let outcome = verify(arguments);
    if arguments.json {
        let document = match &outcome {
            Ok(verdict) => verdict.to_json(),
            Err(error) => json!({"accepted": false, "error": format!("{error:#}")}),
        };
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    let verdict = match outcome {
        Ok(verdict) => verdict,
        Err(_) if arguments.json => return Ok(ExitCode::FAILURE),
        Err(error) => return Err(error),
    };
    if !arguments.json {
        verdict.print();
    }
    if let Some(file) = &arguments.report {
        let page = verdict.page(OffsetDateTime::now_utc());
        write_new(file, page.as_bytes())?;
    }
    Ok(if verdict.accepted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Records that hold, and whether they are enough.
struct Verdict {
    records: Vec<Record>,
    trust: Trust,
    accepted: bool,
    accept_unsigned: bool,
    /// What to look at.
    notes: Vec<String>,
}

fn verify(arguments: &Verify) -> anyhow::Result<Verdict> {
    let ca = match &arguments.ca {
        Some(path) => {
            let pem = in_file(path, fs::read_to_string(path))?;
            let ca = Certificate::from_pem(&pem);
            Some(ca.with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let crl = match &arguments.crl {
        Some(path) => Some(in_file(path, fs::read(path))?),
        None => None,
    };
    let trust = Trust::new(ca, crl.as_deref())?;
    let texts: Vec<String> = arguments
        .transcripts
        .iter()
        .map(|path| in_file(path, fs::read_to_string(path)))
        .collect::<Result<_, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = if arguments.rehearsal {
        Expected::Rehearsal
    } else {
        Expected::Ceremony
    };
    let records = verify_records(&texts, &trust, expected).map_err(|(index, error)| {
        let path = arguments.transcripts[index].display();
        anyhow!("{path}: {error}{}", error.next_step())
    })?;
    let notes = records.iter().flat_map(notes_of).collect();
    let missing = records.iter().flat_map(|record| &record.missing);
    let accept_unsigned = arguments.accept_unsigned;
    let accepted = missing
        .clone()
        .all(|missing| accept_unsigned && missing.can_be_accepted());
    Ok(Verdict {
        records,
        trust,
        accepted,
        accept_unsigned,
        notes,
    })
}

/// What to look at, and what is no reason against the record.
fn notes_of(record: &Record) -> Vec<String> {
    let unknown = record.entries.iter().filter(|entry| !entry.is_known);
    let unknown = unknown.map(|entry| {
        format!(
            "Line {} is {:?}, which this version of the program does not know: read it with care.",
            entry.line, entry.event
        )
    });
    let stopped = (!record.stopped.is_empty()).then(|| {
        let how: Vec<_> = record.stopped.iter().map(ToString::to_string).collect();
        format!(
            "Sitting {} was stopped, and held again: {}",
            record.sitting,
            how.join(" ")
        )
    });
    unknown.chain(stopped).collect()
}

fn in_file<T>(path: &Path, read: std::io::Result<T>) -> anyhow::Result<T> {
    read.with_context(|| path.display().to_string())
}

impl Verdict {
    /// For the file; it says when it was made.
    fn page(&self, now: OffsetDateTime) -> String {
        report(&self.records, &self.trust, self.accepted, &self.notes, now)
    }

    fn print(&self) {
        for record in &self.records {
            let kind = if record.rehearsal {
                "REHEARSAL, nothing real was made: "
            } else {
                ""
            };
            println!("{kind}{}", record.title);
            println!("  plan (SHA-256) {}", record.plan);
            for person in &record.people {
                let token = person.token.as_deref().unwrap_or("not used");
                println!(
                    "  {} is {}, certificate {}, token {token}",
                    person.id, person.name, person.serial
                );
            }
            for entry in &record.entries {
                println!("{}", in_words(entry));
            }
            println!(
                "Its last hash, to compare with the minutes: {}\n",
                record.head
            );
        }
        for note in &self.notes {
            println!("Note: {note}");
        }
        for missing in self.records.iter().flat_map(|record| &record.missing) {
            let accepted = self.accept_unsigned && missing.can_be_accepted();
            let word = if accepted { "accepted" } else { "MISSING" };
            let hint = if missing.can_be_accepted() && !accepted {
                " --accept-unsigned accepts that."
            } else {
                ""
            };
            println!("{word}: {missing}{hint}");
        }
        println!("{}", self.in_short());
    }

    fn in_short(&self) -> String {
        conclusion(&self.records, &self.trust, self.accepted)
    }

    fn to_json(&self) -> Value {
        let records = self.records.iter().map(|record| {
            let people = record.people.iter().map(|person| {
                json!({
                    "id": person.id,
                    "name": person.name,
                    "certificate-serial": person.serial,
                    "token": person.token,
                })
            });
            json!({
                "title": record.title,
                "plan-sha256": record.plan,
                "tool": record.tool,
                "mode": if record.rehearsal { "rehearsal" } else { "real" },
                "rehearsed": record.rehearsed,
                "modules": record.modules,
                "officers": record.officers,
                "participants": people.collect::<Vec<_>>(),
                "lines": record.entries.iter().map(entry).collect::<Vec<_>>(),
                "sitting": record.sitting,
                "stopped": record.stopped.iter().map(missing).collect::<Vec<_>>(),
                "sealed": record.seal.is_some(),
                "seal": record.seal.as_ref().map(|seal| json!({
                    "subject": seal.subject,
                    "certificate-serial": seal.serial,
                })),
                "missing": record.missing.iter().map(missing).collect::<Vec<_>>(),
                "last-hash": record.head,
            })
        });
        json!({
            "accepted": self.accepted,
            "says": self.in_short(),
            "ca": self.trust.ca().map(|ca| json!({
                "subject": ca.subject().to_string(),
                "certificate-sha256": hex::encode(ca.fingerprint()),
            })),
            "crl": self.trust.crl().map(|list| json!({
                "number": list.number().0,
                "this-update": rfc3339(list.crl().this_update()),
                "next-update": rfc3339(list.crl().next_update()),
            })),
            "transcripts": records.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn missing(missing: &Missing) -> Value {
    json!({"says": missing.to_string(), "can-be-accepted": missing.can_be_accepted()})
}

fn entry(entry: &Entry) -> Value {
    json!({
        "line": entry.line,
        "at": rfc3339(entry.at),
        "event": entry.event,
        "is-known": entry.is_known,
        "says": entry.says,
        "by": entry.by,
        "signed": entry.signed,
    })
}

fn in_words(entry: &Entry) -> String {
    let at = rfc3339(entry.at.replace_nanosecond(0).unwrap_or(entry.at));
    let signed = match (&entry.by, entry.signed) {
        (Some(_), true) => " Signed.",
        (Some(_), false) => " Not signed.",
        (None, _) => "",
    };
    format!("{:>4}  {at}  {}{signed}", entry.line, entry.says)
}
