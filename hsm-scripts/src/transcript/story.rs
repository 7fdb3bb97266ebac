//! What happened, in plain words.

use serde_json::Value;
use time::OffsetDateTime;

use super::{TranscriptError, event, line::Line, verify::time_of};

/// What a line says; a step and its signature are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line, counted from 1.
    pub line: u64,
    /// When.
    pub at: OffsetDateTime,
    /// What kind of line it is.
    pub event: String,
    /// In words.
    pub says: String,
    /// Whether this version of the program knows this kind of line.
    pub is_known: bool,
    /// Whose step it was, where it was somebody's.
    pub by: Option<String>,
    /// Whether they signed it.
    pub signed: bool,
    /// The PKCS#11 functions that it took: token, function, how often.
    pub operations: Vec<(String, String, u64)>,
}

/// The lines' story. `name` says what somebody is called.
pub(super) fn tell(
    lines: &[Line],
    name: &impl Fn(&str) -> String,
) -> Result<Vec<Entry>, TranscriptError> {
    let mut entries = Vec::<Entry>::new();
    for line in lines {
        if line.event == event::SIGNED {
            if let Some(step) = entries.last_mut() {
                step.signed = true;
            }
            continue;
        }
        let told = told(line, name);
        entries.push(Entry {
            line: line.sequence,
            at: time_of(line)?,
            event: line.event.clone(),
            by: line.text("by").map(name),
            is_known: told.is_some(),
            says: told.unwrap_or_else(|| in_general(line, name)),
            signed: false,
            operations: operations(line),
        });
    }
    Ok(entries)
}

/// Whether a line of this kind is told in words of its own.
pub(super) fn is_told(line: &Line) -> bool {
    line.event == event::SIGNED || told(line, &str::to_owned).is_some()
}

/// By token, or of the one token that the line is about.
fn operations(line: &Line) -> Vec<(String, String, u64)> {
    let mut found = Vec::new();
    let tokens = line.detail.get("operations").and_then(Value::as_object);
    for (token, functions) in tokens.into_iter().flatten() {
        for (function, times) in functions.as_object().into_iter().flatten() {
            found.push((
                token.clone(),
                function.clone(),
                times.as_u64().unwrap_or_default(),
            ));
        }
    }
    found
}

/// In words of its own, if its kind is known.
fn told(line: &Line, name: &impl Fn(&str) -> String) -> Option<String> {
    let by = line.text("by");
    let told = Telling {
        line,
        who: by.map_or_else(|| "Somebody".to_owned(), name),
    };
    told.of_the_ceremony()
        .or_else(|| told.of_components())
        .or_else(|| told.of_a_key_in_components(name))
        .or_else(|| told.of_another_act())
}

/// A line that is told.
struct Telling<'a> {
    line: &'a Line,
    /// Whose step it was.
    who: String,
}

impl Telling<'_> {
    fn text(&self, field: &str) -> String {
        shown(self.line.detail.get(field))
    }

    fn act(&self) -> String {
        format!("Act {}", self.text("act"))
    }

    /// Beginning and end, and what happens to tokens.
    fn of_the_ceremony(&self) -> Option<String> {
        let text = |field| self.text(field);
        Some(match &*self.line.event {
            event::BEGAN => {
                let mut said = format!("{} began to execute the plan.", text("tool"));
                if let Some(head) = self.line.text("rehearsed") {
                    said.push_str(" It was rehearsed; that transcript ends with ");
                    said.push_str(head);
                    said.push('.');
                }
                said
            }
            event::CONFIRMED => format!("{} confirmed the plan by its digest.", self.who),
            event::SITTING => format!("This is sitting {} of {}.", text("sitting"), text("of")),
            event::TOKEN_OPENED => format!(
                "Token {} was opened: label {}, serial number {}, {} by {}, module {} ({}).",
                text("name"),
                text("label"),
                text("serial"),
                text("model"),
                text("manufacturer"),
                text("module"),
                text("library")
            ),
            "initialize-token" => format!(
                "{} initialized token {}, serial number {}.",
                self.act(),
                text("label"),
                text("serial")
            ),
            event::CONTINUED => format!(
                "Sitting {} of {} ended. The next one is to be held until {}; then the components so far are \
                 destroyed.",
                text("sitting"),
                text("of"),
                text("until")
            ),
            event::FAILED => format!(
                "{} failed: {}. Taken back: {}. Left: {}.",
                self.act(),
                text("cause").trim_end_matches('.'),
                text("undone"),
                text("left")
            ),
            event::FINISHED => format!("The ceremony finished. Acts that stand: {}.", text("acts")),
            event::SEALED => "The HSM's audit key sealed the record.".to_owned(),
            _ => return None,
        })
    }

    /// What people did with components, and what became of their sum.
    fn of_components(&self) -> Option<String> {
        let text = |field| self.text(field);
        let act = self.act().to_lowercase();
        Some(match &*self.line.event {
            event::COMPONENT_ENTERED => format!(
                "{} entered component {} of {}, check value {} ({act}).",
                self.who,
                text("component"),
                text("of"),
                text("kcv"),
            ),
            event::COMPONENT_SHOWN => format!(
                "{} was shown component {} of {}, check value {}, and wrote it down ({act}).",
                self.who,
                text("component"),
                text("of"),
                text("kcv"),
            ),
            "combined-kcv-wrong" => format!(
                "The components made a key with the check value {}, and not {}: nothing of it was kept, and {} of 3 \
                 tries were left ({act}).",
                text("found"),
                text("expected"),
                text("tries-left"),
            ),
            "unfinished-key-destroyed" => format!(
                "The key {} in token {} was destroyed: {act} of this plan was making it when the program was stopped, \
                 and did not come to its end.",
                text("key"),
                text("token"),
            ),
            "partial-sum-destroyed" if self.line.text("key").is_some() => format!(
                "A partial sum of the key {} in token {}, of {} components, was destroyed: {}. It was of act {} of \
                 the plan {}.",
                text("key"),
                text("token"),
                text("components"),
                text("cause"),
                text("act"),
                text("plan-sha256"),
            ),
            "partial-sum-destroyed" => format!(
                "What there was of the sum was destroyed: {} ({act}).",
                text("cause"),
            ),
            _ => return None,
        })
    }

    /// A key that came in components or is given out in them.
    fn of_a_key_in_components(&self, name: &impl Fn(&str) -> String) -> Option<String> {
        let text = |field| self.text(field);
        let act = format!("{} ({})", self.act(), self.line.event);
        let components = components(self.line, name);
        let custody = match self.line.text("custody") {
            Some("recorded") => " The token keeps who held which.",
            Some("unrecorded") => " NOTHING KEEPS WHO HELD WHICH: the plan accepted that.",
            _ => "",
        };
        Some(match &*self.line.event {
            event::IMPORT_COMPONENTS => format!(
                "{act} made the key {} in token {}: {}, check value {}. Components: {components}.{custody}",
                text("key"),
                text("token"),
                text("kind"),
                text("kcv"),
            ),
            event::SITTING_ENDED => format!(
                "Act {} (import-components) goes on at another sitting. Token {} keeps the sum of the components so \
                 far, until {}; there is no key {} yet. Components: {components}.{custody}",
                text("act"),
                text("token"),
                text("expires"),
                text("key"),
            ),
            event::GIVE_OUT_COMPONENTS => format!(
                "{act} made the key {} in token {}: {}, check value {}. It is the sum of the components that were \
                 shown: {components}.{custody}",
                text("key"),
                text("token"),
                text("kind"),
                text("kcv"),
            ),
            _ => return None,
        })
    }

    fn of_another_act(&self) -> Option<String> {
        let text = |field| self.text(field);
        let act = format!("{} ({})", self.act(), self.line.event);
        Some(match &*self.line.event {
            "root-ca"
            | "sub-ca"
            | "kdh-credential"
            | "host-tls-credential"
            | "operator-credential"
            | "custodian-credential"
            | "import-credential"
            | event::AUDIT_CREDENTIAL => format!(
                "{act} made the key {} in token {} and certified it for {}, serial number {}, until {}, in the file \
                 {}. SHA-256 of its public key: {}.",
                text("key"),
                text("token"),
                text("subject"),
                text("serial"),
                text("not-after"),
                text("file"),
                text("public-key-sha256")
            ),
            "crl" => format!(
                "{act} made the revocation list {} of {}, until {}, in the file {}; revoked: {}.",
                text("number"),
                text("issuer"),
                text("next-update"),
                text("file"),
                text("revoked")
            ),
            "import-pair" => format!(
                "{act} made the pair {} in token {}, under which others send keys. Its public key is in the file {}; \
                 SHA-256 of the file: {}, of the public key: {}.",
                text("key"),
                text("token"),
                text("file"),
                text("file-sha256"),
                text("public-key-sha256")
            ),
            "storage-keys" => format!(
                "{act} made the storage keys {} and {} in token {}, {} each: inside the HSM, which never gives them \
                 out, so that nobody knows either.",
                text("key"),
                text("mac-key"),
                text("token"),
                text("kind")
            ),
            "import-wrapped" => match self.line.text("not-rehearsed") {
                Some(cause) => format!(
                    "{act} was not rehearsed, and made no key {}: {}.",
                    text("key"),
                    cause.trim_end_matches('.')
                ),
                None => format!(
                    "{act} made the key {} in token {}: {}, check value {}. It arrived encrypted under {} ({}){}.",
                    text("key"),
                    text("token"),
                    text("kind"),
                    text("kcv"),
                    text("under"),
                    text("form"),
                    self.arrived()
                ),
            },
            _ => return None,
        })
    }

    /// With what a wrapped key came.
    fn arrived(&self) -> String {
        let mut said = String::new();
        if let Some(header) = self.line.text("header") {
            said.push_str(", with the header ");
            said.push_str(header);
        }
        if let Some(files) = self.line.detail.get("files-sha256") {
            said.push_str(", in the files with the SHA-256 ");
            said.push_str(&shown(Some(files)));
        }
        said
    }
}

/// Who held which component, by its check value.
fn components(line: &Line, name: &impl Fn(&str) -> String) -> String {
    let components = line.detail.get("components").and_then(Value::as_array);
    let told: Vec<_> = components
        .into_iter()
        .flatten()
        .map(|component| {
            let text = |field| component.get(field).and_then(Value::as_str);
            let custodian = text("custodian").map_or_else(|| "-".to_owned(), name);
            match (text("kcv"), text("confirmed-by")) {
                (_, Some("rehearsal")) => format!("{custodian}, made up"),
                (Some(kcv), Some("earlier sitting")) => {
                    format!("{custodian} {kcv}, at an earlier sitting")
                }
                (kcv, _) => format!("{custodian} {}", kcv.unwrap_or("-")),
            }
        })
        .collect();
    told.join("; ")
}

/// A line of a kind that is not told in a way of its own: its name and its fields.
fn in_general(line: &Line, name: &impl Fn(&str) -> String) -> String {
    let mut said = line.event.replace('-', " ");
    if let Some(by) = line.text("by").map(name) {
        said = format!("{by}: {said}");
    }
    let fields = line.detail.as_object().into_iter().flatten();
    let fields: Vec<_> = fields
        .filter(|(field, _)| !matches!(&***field, "by" | "operations"))
        .map(|(field, value)| format!("{} {}", field.replace('-', " "), shown(Some(value))))
        .collect();
    if !fields.is_empty() {
        said += " (";
        said += &fields.join(", ");
        said.push(')');
    }
    said + "."
}

/// A value as it is read aloud.
fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) if values.is_empty() => "nothing".to_owned(),
        Some(Value::Array(values)) => {
            let values: Vec<_> = values.iter().map(|value| shown(Some(value))).collect();
            values.join("; ")
        }
        Some(Value::Object(fields)) => {
            let fields = fields.iter();
            let fields: Vec<_> = fields
                .map(|(field, value)| format!("{} {}", field.replace('-', " "), shown(Some(value))))
                .collect();
            fields.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/transcript.md");

    fn line(event: &str, detail: Value) -> Line {
        Line {
            sequence: 1,
            at: "1970-01-01T00:00:00Z".to_owned(),
            event: event.to_owned(),
            detail,
            previous: String::new(),
            hash: String::new(),
        }
    }

    /// The first column of the table of events.
    fn documented() -> Vec<&'static str> {
        let table = DOCUMENT.split("| event | detail |").nth(1).unwrap();
        let table = table.split("\n\n").next().unwrap();
        let rows = table.lines().filter(|row| row.starts_with("| `"));
        let firsts =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        firsts.collect()
    }

    #[test]
    fn every_event_that_is_documented_is_told() {
        let events = documented();
        assert!(events.len() > 20, "{events:?}");
        for event in events {
            assert!(is_told(&line(event, json!({}))), "{event}");
        }
        assert!(!is_told(&line("another", json!({}))));
    }

    #[test]
    fn an_unknown_line_is_told_with_all_that_it_says() {
        let detail =
            json!({"by": "first", "what-for": ["a", 1], "nothing": null, "of": {"a-b": true}});
        let lines = [line("new-kind", detail)];
        let entries = tell(&lines, &|who| who.to_uppercase()).unwrap();
        assert!(!entries[0].is_known);
        assert_eq!(
            entries[0].says,
            "FIRST: new kind (nothing -, of a b true, what for a; 1)."
        );
    }
}
