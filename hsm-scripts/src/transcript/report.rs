//! The record of a ceremony on a page, for the file: one HTML document that needs nothing else.

use std::fmt::Write as _;

use pki::rfc3339;
use time::OffsetDateTime;

use super::{Entry, Missing, Record, Trust, conclusion, event};
use crate::people::grouped;

/// No script, nothing from elsewhere: a reader's browser has nothing to fetch or to run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE: &str = "\
:root{--ink:#1b2430;--soft:#5b6675;--line:#d5dae1;--good:#1d6b45;--bad:#a3262a;--paper:#fff}\
*{box-sizing:border-box}\
body{margin:0 auto;padding:28px 32px;max-width:210mm;color:var(--ink);background:var(--paper);\
font:9.4pt/1.36 'Helvetica Neue',Helvetica,Arial,'Liberation Sans',sans-serif}\
header{border-bottom:2px solid var(--ink);padding-bottom:10px;margin-bottom:14px}\
.kicker{font-size:8pt;letter-spacing:.12em;text-transform:uppercase;color:var(--soft);margin:0}\
h1{font-size:17pt;line-height:1.2;margin:2px 0 0}\
h2{font-size:9pt;letter-spacing:.08em;text-transform:uppercase;color:var(--soft);margin:18px 0 6px;break-after:avoid}\
.verdict{border:1.5px solid;border-radius:5px;padding:9px 13px;margin:14px 0;font-weight:600}\
.verdict ul{margin:5px 0 0;padding-left:18px;font-weight:400}\
.good{color:var(--good)}.bad{color:var(--bad)}\
.verdict li{color:var(--ink)}\
dl{display:grid;grid-template-columns:38mm 1fr;gap:3px 10px;margin:0;break-inside:avoid}\
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
code,.hash{font-family:'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace;font-size:8.2pt}\
pre.hash{margin:0;white-space:pre-wrap}\
table{border-collapse:collapse;width:100%}\
th{text-align:left;font-weight:600;color:var(--soft);font-size:8pt;border-bottom:1px solid var(--ink);\
white-space:nowrap}\
th,td{padding:3px 8px 3px 0;vertical-align:top}\
td{border-bottom:1px solid var(--line);overflow-wrap:anywhere}\
td code{font-size:7pt;white-space:nowrap}\
td.n{color:var(--soft);width:8mm}td.t{width:16mm}td.who{width:33mm}\
.module code{font-size:6.9pt}\
.ops{color:var(--soft);font-size:7.4pt;line-height:1.3;margin-top:1px}.ops code{font-size:7pt}\
.hands{display:grid;grid-template-columns:repeat(auto-fit,minmax(30mm,1fr));gap:34px 12px;margin-top:30px;break-inside:avoid}\
.hands div{border-top:1px solid var(--ink);padding-top:3px;font-size:8pt;color:var(--soft)}\
.hands b{display:block;color:var(--ink);font-weight:600}\
tr{break-inside:avoid}\
@media print{body{padding:0;max-width:none;font-size:8pt;line-height:1.2}h1{font-size:14pt}\
header{padding-bottom:6px;margin-bottom:8px}h2{margin:10px 0 2px}dl{row-gap:1px}\
.hands{margin-top:22px}td{padding:2px 8px 2px 0}.verdict{margin:8px 0;padding:6px 10px}}";

/// The page. `accepted` says whether the verifier accepted what is missing; `now` is when it verified,
/// against `trust`.
pub fn report(
    records: &[Record],
    trust: &Trust,
    accepted: bool,
    notes: &[String],
    now: OffsetDateTime,
) -> String {
    let title = records.first().map_or("", |record| &record.title);
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <title>{}</title><style>{STYLE}{}</style></head>\n<body>\n",
        escaped(&format!("Record of the ceremony: {title}")),
        sheets(records)
    );
    let _ = writeln!(
        page,
        "<header><p class=\"kicker\">Record of a key ceremony</p><h1>{}</h1></header>",
        escaped(title)
    );
    verdict(&mut page, records, trust, accepted, notes);
    verification(&mut page, trust, now);
    for (index, record) in records.iter().enumerate() {
        if records.len() > 1 {
            let _ = writeln!(
                page,
                "<h2>Transcript {} of {}, sitting {}</h2>",
                index + 1,
                records.len(),
                record.sitting
            );
        }
        facts(&mut page, record);
        people(&mut page, record);
        entries(&mut page, record);
    }
    hands(&mut page, records);
    page.push_str("</body></html>\n");
    page
}

/// What stands at the foot of each sheet of paper, so that none can be taken out or put in unseen.
fn sheets(records: &[Record]) -> String {
    let head = records.last().map_or("", |record| &record.head);
    // Nothing but digits goes into the style.
    let head: String = head.chars().filter(char::is_ascii_hexdigit).collect();
    format!(
        "@page{{size:A4;margin:12mm 12mm 14mm;\
         @bottom-left{{content:\"Last hash {head}\";font-size:7pt;white-space:nowrap}}\
         @bottom-right{{content:\"Sheet \" counter(page) \" of \" counter(pages);font-size:7pt}}}}"
    )
}

fn verdict(page: &mut String, records: &[Record], trust: &Trust, accepted: bool, notes: &[String]) {
    let missing = records.iter().flat_map(|record| &record.missing);
    let class = if accepted { "good" } else { "bad" };
    let mut words = conclusion(records, trust, accepted);
    if records.iter().any(|record| record.rehearsal) {
        words.insert_str(0, "REHEARSAL: nothing real was made. ");
    }
    let words = escaped(&words);
    let _ = write!(page, "<div class=\"verdict {class}\">{words}");
    let items = missing.map(Missing::to_string);
    let items: Vec<_> = items.chain(notes.iter().cloned()).collect();
    if !items.is_empty() {
        page.push_str("<ul>");
        for item in items {
            let _ = write!(page, "<li>{}</li>", escaped(&item));
        }
        page.push_str("</ul>");
    }
    page.push_str("</div>\n");
}

/// By what the signatures were judged: another CA would vouch for other people.
fn verification(page: &mut String, trust: &Trust, now: OffsetDateTime) {
    page.push_str("<h2>Verified</h2><dl>");
    let verifier = concat!("kdh-ceremony ", env!("CARGO_PKG_VERSION"));
    fact(
        page,
        "When, by what",
        &format!("{}, {verifier}", moment(now)),
    );
    match trust.ca() {
        Some(ca) => {
            fact(page, "Against the CA", &ca.subject().to_string());
            fact_digest(page, "its SHA-256", &hex::encode(ca.fingerprint()));
        }
        None => fact(
            page,
            "Against the CA",
            "none was given: no signature was checked",
        ),
    }
    if let Some(list) = trust.crl() {
        let number = list.number().0;
        let made = moment(list.crl().this_update());
        fact(
            page,
            "its revocation list",
            &format!("number {number}, of {made}"),
        );
    }
    page.push_str("</dl>\n");
}

fn fact(page: &mut String, name: &str, value: &str) {
    let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
}

fn fact_digest(page: &mut String, name: &str, hash: &str) {
    let hash = escaped(&unindented(hash));
    let _ = write!(
        page,
        "<dt>{name}</dt><dd><pre class=\"hash\">{hash}</pre></dd>"
    );
}

fn facts(page: &mut String, record: &Record) {
    page.push_str("<h2>Ceremony</h2><dl>");
    let (began, ended) = (moment(record.began), moment(record.ended));
    fact(page, "Held", &format!("from {began} to {ended}"));
    fact(page, "By", &record.tool);
    fact(page, "Mode", mode(record));
    let officers = match &*record.officers {
        [] => "none: it ran unattended".to_owned(),
        officers => officers.join(", "),
    };
    fact(page, "Officers", &officers);
    fact_digest(page, "Plan, SHA-256", &record.plan);
    fact_digest(page, "Last hash", &record.head);
    for (module, digest) in &record.modules {
        let digest = digest.as_deref().unwrap_or("could not be read");
        let (module, digest) = (escaped(module), escaped(digest));
        let _ = write!(
            page,
            "<dt>Module, SHA-256</dt><dd class=\"module\">{module} <code>{digest}</code></dd>"
        );
    }
    let seal = record.seal.as_ref().map_or_else(
        || "none".to_owned(),
        |seal| {
            format!(
                "by the HSM's audit key: {}, certificate {}",
                seal.subject, seal.serial
            )
        },
    );
    fact(page, "Seal", &seal);
    page.push_str("</dl>\n");
}

/// Its first line has the last hash of the rehearsal.
const fn mode(record: &Record) -> &'static str {
    match (record.rehearsal, record.rehearsed.is_some()) {
        (true, _) => "rehearsal",
        (false, true) => "real; rehearsed, as line 1 says",
        (false, false) => "real; the plan demanded no rehearsal",
    }
}

fn people(page: &mut String, record: &Record) {
    if record.people.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Participants</h2><table><thead><tr><th>Name</th><th>In the plan</th>\
         <th>Certificate</th><th>Own token</th><th>Signed</th></tr></thead><tbody>\n",
    );
    for person in &record.people {
        let theirs = |entry: &&Entry| entry.signed && entry.by.as_ref() == Some(&person.name);
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escaped(&person.name),
            escaped(&person.id),
            escaped(&person.serial),
            escaped(person.token.as_deref().unwrap_or("-")),
            record.entries.iter().filter(theirs).count()
        );
    }
    page.push_str("</tbody></table>\n");
}

fn entries(page: &mut String, record: &Record) {
    page.push_str(
        "<h2>What happened</h2><table><thead><tr><th></th><th>Time (UTC)</th><th>Who</th>\
         <th>What</th></tr></thead><tbody>\n",
    );
    let mut day = moment_parts(record.began).0;
    for entry in &record.entries {
        let who = match (&entry.by, entry.signed) {
            (Some(by), true) => format!("{}<br><span class=\"good\">signed</span>", escaped(by)),
            (Some(by), false) => {
                format!("{}<br><span class=\"bad\">not signed</span>", escaped(by))
            }
            (None, _) => String::new(),
        };
        let _ = write!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"t\">{}</td><td class=\"who\">{who}</td><td>{}",
            entry.line,
            escaped(&clock(entry.at, &mut day)),
            escaped(&entry.says)
        );
        for of_a_token in entry.operations.chunk_by(|one, next| one.0 == next.0) {
            let functions: Vec<_> = of_a_token
                .iter()
                .map(|(_, function, times)| {
                    format!("<code>{} \u{d7}{times}</code>", escaped(function))
                })
                .collect();
            let token = of_a_token.first().map_or("", |(token, _, _)| token);
            let _ = write!(
                page,
                "<div class=\"ops\">{}: {}</div>",
                escaped(token),
                functions.join(", ")
            );
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table>\n");
}

/// Where those who were there sign by hand: each officer and custodian by name.
fn hands(page: &mut String, records: &[Record]) {
    page.push_str("<section class=\"hands\"><div>Place, date</div>");
    let people = signatories(records);
    if people.is_empty() {
        page.push_str("<div>Security officer</div><div>Security officer</div>");
    }
    for (name, roles) in people {
        let (name, roles) = (escaped(name), roles.join(" and "));
        let _ = write!(page, "<div><b>{name}</b>{roles}</div>");
    }
    page.push_str("<div>Witness</div></section>\n");
}

/// Officers first, then who held a component and is none; each once, with what they were.
fn signatories(records: &[Record]) -> Vec<(&str, Vec<&'static str>)> {
    let officers = records.iter().flat_map(|record| &record.officers);
    let officers = officers.map(|name| (&**name, "security officer"));
    let entries = records.iter().flat_map(|record| &record.entries);
    let custodians = entries
        .filter(|entry| event::is_of_a_component(&entry.event))
        .filter_map(|entry| Some((entry.by.as_deref()?, "custodian")));
    let mut people = Vec::<(&str, Vec<&'static str>)>::new();
    for (name, role) in officers.chain(custodians) {
        match people.iter_mut().find(|(known, _)| *known == name) {
            Some((_, roles)) if roles.contains(&role) => {}
            Some((_, roles)) => roles.push(role),
            None => people.push((name, vec![role])),
        }
    }
    people
}

/// In groups, on one line: a sheet has room for it.
fn unindented(hash: &str) -> String {
    let lines: Vec<_> = grouped(hash)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.join(" ")
}

/// To the second.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    rfc3339(at.replace_nanosecond(0).unwrap_or(at))
}

/// The time of day, with its date where that is another than before.
fn clock(at: OffsetDateTime, day: &mut String) -> String {
    let (date, time) = moment_parts(at);
    if *day == date {
        return time;
    }
    day.clone_from(&date);
    format!("{date} {time}")
}

fn moment_parts(at: OffsetDateTime) -> (String, String) {
    let moment = moment(at);
    let (date, time) = moment.split_once('T').unwrap_or((&moment, ""));
    (date.to_owned(), time.trim_end_matches('Z').to_owned())
}

/// Text in HTML, also within quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(title: &str, says: &str) -> Record {
        Record {
            title: title.to_owned(),
            plan: "0".repeat(64),
            tool: "kdh-ceremony".to_owned(),
            rehearsal: false,
            rehearsed: None,
            modules: [("<i>".to_owned(), Some("<u>".to_owned()))].into(),
            officers: vec!["<s>".to_owned()],
            began: OffsetDateTime::UNIX_EPOCH,
            ended: OffsetDateTime::UNIX_EPOCH,
            people: Vec::new(),
            entries: vec![Entry {
                line: 1,
                at: OffsetDateTime::UNIX_EPOCH,
                event: "began".to_owned(),
                says: says.to_owned(),
                is_known: true,
                by: Some("<em>".to_owned()),
                signed: true,
                operations: [
                    ("kdh", "C_Sign(CKM_ECDSA)"),
                    ("kdh", "C_Login"),
                    ("a\"b", "C"),
                ]
                .map(|(token, function)| (token.to_owned(), function.to_owned(), 2))
                .into(),
            }],
            head: "1".repeat(64),
            seal: None,
            missing: vec![Missing::Failed("<img src=x>".to_owned())],
            sitting: 1,
            stopped: Vec::new(),
        }
    }

    #[test]
    fn every_sheet_says_which_it_is_and_of_which_record() {
        let mut record = record("title", "says");
        record.head = "ab".repeat(31) + "\"}<";
        let page = report(
            &[record],
            &Trust::default(),
            true,
            &[],
            OffsetDateTime::UNIX_EPOCH,
        );
        let foot = format!("@bottom-left{{content:\"Last hash {}\"", "ab".repeat(31));
        for part in [&*foot, "\"Sheet \" counter(page) \" of \" counter(pages)"] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn no_text_of_a_transcript_becomes_markup() {
        let record = record(
            "</title><script>alert(1)</script>",
            "<a href='http://elsewhere'>\"x\"&",
        );
        let page = report(
            &[record],
            &Trust::default(),
            false,
            &["<note>".to_owned()],
            OffsetDateTime::UNIX_EPOCH,
        );
        for bad in [
            "<script", "<a ", "<img", "<note>", "<em>", "<i>", "<u>", "<s>", "href='", "a\"b",
        ] {
            assert!(!page.contains(bad), "{bad}: {page}");
        }
        for good in ["&lt;script&gt;", "&quot;x&quot;&amp;", "&#39;http"] {
            assert!(page.contains(good), "{good}: {page}");
        }
        // What is opened is closed, and nothing comes from elsewhere.
        for tag in ["div", "td", "tr", "table", "tbody", "dl", "section", "span"] {
            let opened = page.matches(&format!("<{tag}")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!page.contains("url(") && !page.contains("@import"));
    }
}
