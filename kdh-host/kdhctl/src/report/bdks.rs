//! BDKs, and what was given out of them.

use kdh_proto::v1::{Bdk, KeySet, ListBdksResponse};
use serde_json::{Value, json};

use super::{Report, all, fields, kcv_json, kcv_text, table};

pub(crate) fn bdk(bdk: &Bdk) -> Report {
    let text = fields(&[
        ("BDK", &bdk.name),
        ("Kind", &bdk.kind),
        ("KCV", &kcv_text(bdk.kcv.as_ref())),
        ("HSM label", &format!("bdk.{}", bdk.name)),
        ("Created", &bdk.created_at),
    ]);
    Report {
        json: bdk_json(bdk),
        text: text
            + "\n\nNext: a key profile with source = \"derived\" names it, with a key set id.",
    }
}

pub(crate) fn bdks(listed: &ListBdksResponse) -> Report {
    let ListBdksResponse { bdks, refused } = listed;
    let rows = bdks.iter().flat_map(|bdk| {
        let none = bdk.key_sets.is_empty().then(KeySet::default);
        let sets: Vec<KeySet> = bdk.key_sets.iter().cloned().chain(none).collect();
        sets.into_iter().map(|set| {
            let counted = |count: String| {
                if set.id.is_empty() {
                    "-".to_owned()
                } else {
                    count
                }
            };
            [
                bdk.name.clone(),
                bdk.kind.clone(),
                kcv_text(bdk.kcv.as_ref()),
                counted(hex::encode_upper(&set.id)),
                counted(set.last_derivation_id.to_string()),
                counted((u32::MAX - set.last_derivation_id).to_string()),
                counted(set.keys.to_string()),
            ]
        })
    });
    let rows = rows.chain(refused.iter().map(|name| {
        let none = || "-".to_owned();
        let refused = "REFUSED".to_owned();
        [
            name.clone(),
            refused,
            none(),
            none(),
            none(),
            none(),
            none(),
        ]
    }));
    let header = [
        "BDK",
        "KIND",
        "KCV",
        "KEY SET",
        "IDS GIVEN OUT",
        "IDS LEFT",
        "KEYS",
    ];
    Report {
        json: json!({"bdks": all(bdks, bdk_json), "refused": refused}),
        text: table(header, rows),
    }
}

fn bdk_json(bdk: &Bdk) -> Value {
    json!({
        "name": bdk.name,
        "kind": bdk.kind,
        "kcv": bdk.kcv.as_ref().map(kcv_json),
        "created_at": bdk.created_at,
        "key_sets": all(&bdk.key_sets, |set| {
            json!({
                "id": hex::encode_upper(&set.id),
                "last_derivation_id": set.last_derivation_id,
                "keys": set.keys,
            })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_set_is_a_line() {
        let named = |name: &str, key_sets| Bdk {
            name: name.to_owned(),
            kind: "AES-128".to_owned(),
            key_sets,
            ..Bdk::default()
        };
        let set = |first, last_derivation_id| KeySet {
            id: vec![first, 2, 3, 4],
            last_derivation_id,
            keys: 3,
        };
        let report = bdks(&ListBdksResponse {
            bdks: vec![
                named("a", vec![set(1, 5), set(0xAB, u32::MAX)]),
                named("b", Vec::new()),
            ],
            refused: vec!["c".to_owned()],
        });
        let lines: Vec<Vec<&str>> = report
            .text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for line in [
            &["a", "AES-128", "-", "01020304", "5", "4294967290", "3"],
            &["a", "AES-128", "-", "AB020304", "4294967295", "0", "3"],
            &["b", "AES-128", "-", "-", "-", "-", "-"],
            &["c", "REFUSED", "-", "-", "-", "-", "-"],
        ] {
            assert!(lines.iter().any(|found| found == line), "{}", report.text);
        }
        assert_eq!(report.json["bdks"][0]["key_sets"][1]["id"], "AB020304");
        assert_eq!(report.json["bdks"][1]["key_sets"], json!([]));
    }
}
