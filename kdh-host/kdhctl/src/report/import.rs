//! Keys that arrived encrypted.

use std::path::Path;

use kdh_proto::v1::KeyImport;
use serde_json::{Value, json};

use super::{Report, all, dash, fields, kcv_json, kcv_text, table};

pub(crate) fn key_import(import: &KeyImport) -> Report {
    let text = fields(&[
        ("Import", &import.id),
        ("Key", &import.name),
        ("Kind", &import.kind),
        ("Header", &import.header),
        ("KCV", &kcv_text(import.kcv.as_ref())),
        ("Form", &import.form),
        ("Sender", &import.sender),
        ("Under", &import.under),
        ("SHA-256", &import.sha256),
        ("State", &import.state),
        ("Asked by", &import.asked_by),
        ("Why", &import.why),
        ("Decided by", &import.decided_by),
        ("Created", &import.created_at),
        ("Changed", &import.changed_at),
        ("Expires", &import.expires_at),
    ]);
    let next = match &*import.state {
        "ASKED" => format!(
            "\n\nNext, as another operator with the role keys: kdhctl import approve {}",
            import.id
        ),
        "IMPORTED" => "\n\nNext: kdhctl key assign.".to_owned(),
        _ => String::new(),
    };
    Report {
        json: key_import_json(import),
        text: text + &next,
    }
}

pub(crate) fn import_nonce(sender: &str, nonce: &[u8], out: &Path) -> Report {
    let nonce = hex::encode_upper(nonce);
    let out = out.display().to_string();
    let text = fields(&[("Sender", sender), ("Nonce", &nonce), ("File", &out)]);
    let next = format!(
        "\n\nNext: send the file to {sender}, compare the nonce by another way, and bring in the token that \
         answers it: kdhctl import key-token."
    );
    Report {
        json: json!({"sender": sender, "nonce": nonce, "file": out}),
        text: text + &next,
    }
}

pub(crate) fn key_imports(imports: &[KeyImport]) -> Report {
    let rows = imports.iter().map(|import| {
        [
            import.id.clone(),
            import.name.clone(),
            import.kind.clone(),
            kcv_text(import.kcv.as_ref()),
            import.form.clone(),
            import.under.clone(),
            import.state.clone(),
            import.asked_by.clone(),
            import.why.clone(),
            dash(&import.decided_by),
            import.expires_at.clone(),
        ]
    });
    let header = [
        "ID",
        "KEY",
        "KIND",
        "KCV",
        "FORM",
        "UNDER",
        "STATE",
        "ASKED BY",
        "WHY",
        "DECIDED BY",
        "EXPIRES",
    ];
    Report {
        json: json!({"imports": all(imports, key_import_json)}),
        text: table(header, rows),
    }
}

fn key_import_json(import: &KeyImport) -> Value {
    json!({
        "id": import.id,
        "name": import.name,
        "kind": import.kind,
        "header": import.header,
        "kcv": import.kcv.as_ref().map(kcv_json),
        "form": import.form,
        "sender": import.sender,
        "under": import.under,
        "sha256": import.sha256,
        "state": import.state,
        "asked_by": import.asked_by,
        "why": import.why,
        "decided_by": import.decided_by,
        "created_at": import.created_at,
        "changed_at": import.changed_at,
        "expires_at": import.expires_at,
    })
}
