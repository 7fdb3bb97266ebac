//! Groups of terminals.

use kdh_proto::v1::{DeviceGroup, SetDeviceGroupResponse};
use serde_json::json;

use super::{Report, all, counted, dash, table};

/// Terminals that were put into a group, or taken out of theirs.
pub(crate) fn grouped(group: &str, done: &SetDeviceGroupResponse) -> Report {
    let (moved, stayed) = (counted(done.moved, "terminal"), done.stayed);
    let text = match (group, &*done.profile_name) {
        ("", _) => {
            format!("Taken out of their groups: {moved}. In none before: {stayed}.")
        }
        (group, profile) => {
            let profile = match profile {
                "" => "The group carries no key profile: that of a terminal's model says what it holds.".to_owned(),
                name => format!("What they hold is said by key profile {name}, which the group carries."),
            };
            format!(
                "Put into group {group}: {moved}. There already: {stayed}. It has {} now.\n{profile}",
                counted(done.devices, "terminal")
            )
        }
    };
    Report {
        json: json!({
            "group": group,
            "moved": done.moved,
            "stayed": stayed,
            "devices": done.devices,
            "profile_name": done.profile_name,
        }),
        text,
    }
}

pub(crate) fn groups(groups: &[DeviceGroup]) -> Report {
    let rows = groups.iter().map(|group| {
        [
            group.name.clone(),
            group.devices.to_string(),
            dash(&group.profile_name),
        ]
    });
    let json = |group: &DeviceGroup| {
        json!({
            "name": group.name,
            "devices": group.devices,
            "profile_name": group.profile_name,
        })
    };
    Report {
        json: json!({"groups": all(groups, json)}),
        text: table(["GROUP", "TERMINALS", "KEY PROFILE"], rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_terminals() {
        let group = DeviceGroup {
            name: "pilot".to_owned(),
            devices: 2,
            profile_name: String::new(),
        };
        let report = groups(&[group]);
        let json = json!({"name": "pilot", "devices": 2, "profile_name": ""});
        assert_eq!(report.json, json!({"groups": [json]}));

        let mut done = SetDeviceGroupResponse {
            moved: 2,
            stayed: 1,
            devices: 3,
            profile_name: String::new(),
        };
        let report = grouped("pilot", &done);
        let json =
            json!({"group": "pilot", "moved": 2, "stayed": 1, "devices": 3, "profile_name": ""});
        assert_eq!(report.json, json);
        assert_eq!(
            report.text,
            "Put into group pilot: 2 terminals. There already: 1. It has 3 terminals now.\n\
             The group carries no key profile: that of a terminal's model says what it holds."
        );
        done.profile_name = "standard".to_owned();
        let carried = "\nWhat they hold is said by key profile standard, which the group carries.";
        assert!(grouped("pilot", &done).text.ends_with(carried));
        assert_eq!(
            grouped("", &done).text,
            "Taken out of their groups: 2 terminals. In none before: 1."
        );
    }
}
