//! Key profiles.

use std::{path::Path, process::ExitCode};

use kdh_proto::v1::{
    AssignKeyProfileRequest, KeyProfileChange, KeyProfileTarget, ListKeyProfilesRequest,
    PutKeyProfileRequest, RemoveKeyProfileRequest, ShowKeyProfileRequest,
    key_profile_target::Target,
};

use super::confirm;
use crate::{
    cli::{Change, ProfileCommand, ProfileTarget},
    failure::Failure,
    profile_file,
    report::{self, Report},
    session::{Client, request},
    token_file,
};

/// What can be asked or checked before the host is called.
pub(super) fn prepare(command: &ProfileCommand) -> Result<(), Failure> {
    match command {
        ProfileCommand::Put { file, change } => {
            profile_file::read(file)?;
            prepare_change(change)
        }
        ProfileCommand::Assign { change, .. } | ProfileCommand::Unassign { change, .. } => {
            prepare_change(change)
        }
        ProfileCommand::Show { out: Some(out), .. } => token_file::require_new(out),
        ProfileCommand::List | ProfileCommand::Show { .. } | ProfileCommand::Remove { .. } => {
            Ok(())
        }
    }
}

/// There is somebody to ask, unless nobody shall be asked.
fn prepare_change(change: &Change) -> Result<(), Failure> {
    if change.dry_run || change.yes {
        return Ok(());
    }
    confirm::require_terminal("a change of what devices hold is shown first")
}

pub(super) async fn run(
    command: ProfileCommand,
    client: &mut Client,
) -> Result<(Report, ExitCode), Failure> {
    let report = match command {
        ProfileCommand::List => {
            let listed = client.list_key_profiles(request(ListKeyProfilesRequest {}));
            report::profiles(listed.await?.get_ref())
        }
        ProfileCommand::Show { name, version, out } => {
            let message = ShowKeyProfileRequest {
                profile_name: name,
                version: version.unwrap_or_default(),
            };
            let shown = client.show_key_profile(request(message)).await?;
            let report = report::profile(shown.get_ref());
            match out {
                Some(out) => write(shown.get_ref().version.as_ref(), &out, report)?,
                None => report,
            }
        }
        ProfileCommand::Put { file, change } => {
            let read = profile_file::read(&file)?;
            let message = PutKeyProfileRequest {
                profile: Some(read.profile),
                based_on: read.based_on,
                why: change.why.clone().unwrap_or_default(),
                dry_run: true,
            };
            let planned = client.put_key_profile(request(message.clone())).await?;
            if !goes_on(planned.get_ref(), &change)? {
                return Ok(as_planned(planned.get_ref()));
            }
            let message = PutKeyProfileRequest {
                dry_run: false,
                ..message
            };
            let done = client.put_key_profile(request(message)).await?;
            report::profile_put(done.get_ref())
        }
        ProfileCommand::Assign {
            name,
            target,
            change,
        } => return assign(name, target, &change, client).await,
        ProfileCommand::Unassign { target, change } => {
            return assign(String::new(), target, &change, client).await;
        }
        ProfileCommand::Remove { name, why } => {
            let message = RemoveKeyProfileRequest {
                profile_name: name,
                why,
            };
            let removed = client.remove_key_profile(request(message)).await?;
            report::profile_removed(removed.get_ref())
        }
    };
    Ok((report, ExitCode::SUCCESS))
}

/// What would be done; if the policy refuses it, that is no success.
fn as_planned(planned: &KeyProfileChange) -> (Report, ExitCode) {
    let code = u8::from(report::is_refused(planned));
    (report::planned_profile(planned), ExitCode::from(code))
}

async fn assign(
    profile_name: String,
    target: ProfileTarget,
    change: &Change,
    client: &mut Client,
) -> Result<(Report, ExitCode), Failure> {
    let message = AssignKeyProfileRequest {
        profile_name,
        target: Some(KeyProfileTarget {
            // The command line has one of them.
            target: target
                .model
                .map(Target::Model)
                .or(target.group.map(Target::Group)),
        }),
        why: change.why.clone().unwrap_or_default(),
        dry_run: true,
    };
    let planned = client.assign_key_profile(request(message.clone())).await?;
    if !goes_on(planned.get_ref(), change)? {
        return Ok(as_planned(planned.get_ref()));
    }
    let message = AssignKeyProfileRequest {
        dry_run: false,
        ..message
    };
    let done = client.assign_key_profile(request(message)).await?;
    Ok((report::profile_assigned(done.get_ref()), ExitCode::SUCCESS))
}

/// Whether what was planned shall be done: there is something to do, and whoever is asked agrees. What the policy
/// refuses is left to the host to refuse, which puts it on record.
fn goes_on(planned: &KeyProfileChange, change: &Change) -> Result<bool, Failure> {
    if change.dry_run || planned.unchanged {
        return Ok(false);
    }
    if !change.yes && !report::is_refused(planned) {
        confirm::by_yes(&report::planned_profile(planned).text)?;
    }
    Ok(true)
}

fn write(
    version: Option<&kdh_proto::v1::KeyProfileVersion>,
    out: &Path,
    report: Report,
) -> Result<Report, Failure> {
    let version = version.cloned().unwrap_or_default();
    token_file::write_new_text(out, &profile_file::write(&version), "show it again")?;
    let out = out.display();
    Ok(Report {
        text: format!(
            "{}\n\nIt is in {out}. Change it there, then: kdhctl profile put {out} --why TEXT",
            report.text
        ),
        ..report
    })
}
