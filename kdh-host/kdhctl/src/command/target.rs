//! Export targets: opened and closed by operators, and received from by a switch.

mod receiving;

use std::path::Path;

use hsm::{Kcv, KcvMethod};
use indicatif::{ProgressBar, ProgressStyle};
use kdh_proto::v1::{
    AcknowledgeFileRequest, AskTargetRequest, CloseTargetRequest, ExportKey, ExportTarget,
    FilePart, FillTargetRequest, KeyCheckValue, ListTargetsRequest, MakeFileRequest,
    TargetStanding, export_target::Scope, file_part::Part, key_check_value::Method,
    key_exports_client::KeyExportsClient,
};
use std::io::{self, IsTerminal as _};
use tonic::{Request, transport::Channel};

use crate::{
    cli::{Ask, TargetCommand},
    export_file,
    failure::Failure,
    pages::{PAGE, fetch_all},
    report::{self, Report},
    session::request,
    token_file,
};

type Client = KeyExportsClient<Channel>;

/// What can be checked before the host is called.
pub(super) fn prepare(command: &TargetCommand) -> Result<(), Failure> {
    match command {
        TargetCommand::Ask(ask) => described(ask).map(drop),
        TargetCommand::File { out, .. } => token_file::require_new(out),
        _ => Ok(()),
    }
}

pub(super) async fn run(command: TargetCommand, channel: Channel) -> Result<Report, Failure> {
    let mut client = KeyExportsClient::new(channel);
    match command {
        TargetCommand::Ask(ask) => {
            let message = AskTargetRequest {
                target: Some(described(&ask)?),
                why: ask.why,
            };
            let asked = client.ask_target(request(message)).await?;
            Ok(report::approval(asked.get_ref()))
        }
        TargetCommand::List { page } => {
            let targets = list(&mut client, "", page.limit);
            Ok(report::targets(&targets.await?))
        }
        TargetCommand::Show { name } => {
            let targets = list(&mut client, &name, None).await?;
            // One that somebody has made up hides none that two operators have agreed on.
            let told = targets.iter().find(|target| target.target.is_some());
            let newest = told.or_else(|| targets.first()).ok_or_else(|| {
                let unknown = format!("no export target was ever called {name}");
                Failure::failed(unknown, Some("see kdhctl target list"))
            })?;
            Ok(report::target(newest))
        }
        TargetCommand::Close { name, why } => {
            let message = CloseTargetRequest {
                name: name.clone(),
                why,
            };
            client.close_target(request(message)).await?;
            Ok(report::closed_target(&name))
        }
        TargetCommand::Fill { name } => fill(&mut client, &name).await,
        TargetCommand::File {
            name,
            out,
            from,
            to,
            limit,
        } => {
            let message = MakeFileRequest {
                name: name.clone(),
                from: from.unwrap_or_default(),
                to: to.unwrap_or_default(),
                limit,
            };
            make_file(&mut client, message, &out).await
        }
        TargetCommand::Ack { name, position } => {
            let message = AcknowledgeFileRequest {
                name: name.clone(),
                position,
            };
            let answer = client.acknowledge_file(request(message)).await?;
            Ok(report::acknowledged(&name, answer.get_ref().acknowledged))
        }
        TargetCommand::Receive {
            name,
            out,
            from,
            count,
        } => receiving::run(&mut client, &name, &out, from, count).await,
    }
}

fn described(ask: &Ask) -> Result<ExportTarget, Failure> {
    let scope = ask.model.clone().map(Scope::Model);
    Ok(ExportTarget {
        name: ask.name.clone(),
        form: ask.form.name().to_owned(),
        under: Some(key(
            &ask.under,
            &ask.under_kind,
            "--under-kcv",
            &ask.under_kcv,
        )?),
        mac: Some(key(&ask.mac, &ask.mac_kind, "--mac-kcv", &ask.mac_kcv)?),
        scope: scope.or_else(|| ask.group.clone().map(Scope::Group)),
        slots: ask.slots.clone(),
        receiver: ask.way.receiver.clone().unwrap_or_default(),
        receiver_key_sha256: String::new(),
    })
}

fn key(label: &str, kind: &str, argument: &str, kcv: &str) -> Result<ExportKey, Failure> {
    let parsed = Kcv::parse(KcvMethod::AesCmac, kcv)
        .map_err(|error| Failure::usage(format!("{argument} {kcv}: {error}")))?;
    Ok(ExportKey {
        label: label.to_owned(),
        kind: kind.to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: parsed.value().to_vec(),
        }),
    })
}

/// Newest first.
async fn list(
    client: &mut Client,
    name: &str,
    limit: Option<u32>,
) -> Result<Vec<TargetStanding>, Failure> {
    let targets = fetch_all(limit, async |last: Option<&TargetStanding>, limit| {
        let approval = last.and_then(|last| last.approval.as_ref());
        let message = ListTargetsRequest {
            name: name.to_owned(),
            before: approval.map_or_else(String::new, |approval| approval.id.clone()),
            limit,
        };
        let page = client.list_targets(request(message)).await?;
        Ok(page.into_inner().targets)
    });
    Ok(targets.await?)
}

/// Page by page, each of which is done whole.
async fn fill(client: &mut Client, name: &str) -> Result<Report, Failure> {
    let progress = progress("keys looked at");
    let (mut looked_at, mut queued) = (0u64, 0u64);
    let mut message = FillTargetRequest {
        name: name.to_owned(),
        limit: PAGE,
        ..FillTargetRequest::default()
    };
    loop {
        let page = client.fill_target(request(message.clone())).await?;
        let page = page.into_inner();
        looked_at += u64::from(page.looked_at);
        queued += u64::from(page.queued);
        progress.set_position(looked_at);
        if page.last_device.is_empty() {
            progress.finish_and_clear();
            return Ok(report::filled(name, looked_at, queued));
        }
        message.after_device = page.last_device;
        message.after_slot = page.last_slot;
    }
}

async fn make_file(
    client: &mut Client,
    message: MakeFileRequest,
    out: &Path,
) -> Result<Report, Failure> {
    let mut parts = client.make_file(Request::new(message)).await?.into_inner();
    let (mut header, mut text) = (None, String::new());
    let progress = progress("records");
    while let Some(FilePart { part }) = parts.message().await? {
        match part {
            Some(Part::Header(first)) => {
                progress.set_length(first.count);
                text += &export_file::header_line(&first)?;
                header = Some(first);
            }
            Some(Part::Record(record)) => {
                progress.inc(1);
                text += &export_file::record_line(&record)?;
            }
            None => {}
        }
    }
    progress.finish_and_clear();
    let header = header.ok_or_else(|| Failure::failed("the host has sent no file", None))?;
    if text.lines().count() as u64 != header.count + 1 {
        return Err(Failure::failed(
            "the host has not sent all records of the file",
            Some("run the command again: the same records make the same file"),
        ));
    }
    token_file::write_new_text(out, &text, "run the command again with another --out")?;
    Ok(report::exported_file(&header, out))
}

fn progress(what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {what}, {{elapsed}}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
