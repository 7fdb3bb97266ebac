//! Groups of terminals.

use std::{fs, io, path::Path};

use indicatif::{ProgressBar, ProgressStyle};
use kdh_proto::v1::{ListDeviceGroupsRequest, SetDeviceGroupRequest, SetDeviceGroupResponse};

use crate::{
    cli::GroupOrNone,
    failure::Failure,
    report::{self, Report},
    session::{Client, request},
};

/// Terminals per call; the host takes 1000 at most.
const STEP: usize = 500;

/// The serial numbers that were typed, or that a file has.
pub(super) fn serials(typed: &[String], from: Option<&Path>) -> Result<Vec<String>, Failure> {
    let Some(path) = from else {
        return Ok(typed.to_vec());
    };
    let fault = |fault: &dyn std::fmt::Display| {
        Failure::usage(format!("--from {}: {fault}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    let serials = lines(&text);
    if serials.is_empty() {
        return Err(fault(&"there is no serial number in it"));
    }
    Ok(serials)
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let serials = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    serials.map(ToOwned::to_owned).collect()
}

/// Puts terminals into a group, step by step.
pub(super) async fn set(
    typed: &[String],
    from: Option<&Path>,
    to: GroupOrNone,
    why: String,
    client: &mut Client,
) -> Result<Report, Failure> {
    let serials = serials(typed, from)?;
    let group = to.group.unwrap_or_default();
    let bar = bar(serials.len());
    let mut sum = SetDeviceGroupResponse::default();
    for step in serials.chunks(STEP) {
        let message = SetDeviceGroupRequest {
            serial_numbers: step.to_vec(),
            group: group.clone(),
            why: why.clone(),
        };
        let done = client
            .set_device_group(request(message))
            .await?
            .into_inner();
        sum = SetDeviceGroupResponse {
            moved: sum.moved + done.moved,
            stayed: sum.stayed + done.stayed,
            ..done
        };
        bar.inc(step.len() as u64);
    }
    bar.finish_and_clear();
    Ok(report::grouped(&group, &sum))
}

/// Lists the groups.
pub(super) async fn list(client: &mut Client) -> Result<Report, Failure> {
    let groups = client.list_device_groups(request(ListDeviceGroupsRequest {}));
    Ok(report::groups(&groups.await?.get_ref().groups))
}

/// On standard error, where somebody sees it and there is more than one step.
fn bar(terminals: usize) -> ProgressBar {
    if terminals <= STEP || !io::IsTerminal::is_terminal(&io::stderr()) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} terminals, {elapsed} so far");
    ProgressBar::new(terminals as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_serial_number_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serials.txt");
        fs::write(&path, "# first wave\nSN-1\r\n\n  SN-2 \nSN-3").unwrap();
        assert_eq!(serials(&[], Some(&path)).unwrap(), ["SN-1", "SN-2", "SN-3"]);
        assert_eq!(serials(&["SN-9".to_owned()], None).unwrap(), ["SN-9"]);
        for (text, fault) in [
            (&b"# nothing\n\n"[..], "there is no serial number in it"),
            (b"", "there is no serial number in it"),
            (b"\xff", "valid UTF-8"),
        ] {
            fs::write(&path, text).unwrap();
            let failure = serials(&[], Some(&path)).unwrap_err();
            assert_eq!(failure.exit_code, 2);
            let text = failure.to_string();
            assert!(text.contains(fault) && text.contains("--from "), "{text}");
        }
        let none = folder.path().join("none.txt");
        assert_eq!(serials(&[], Some(&none)).unwrap_err().exit_code, 2);
    }
}
