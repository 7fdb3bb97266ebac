//! Requests to the terminals' CA.

use std::path::Path;

use kdh_proto::v1::AuthorityRequest;
use serde_json::{Value, json};

use super::{Report, all, dash, fields, table};

pub(crate) fn authority_request(request: &AuthorityRequest) -> Report {
    Report {
        json: authority_request_json(request),
        text: match next_for_authority_request(request) {
            Some(next) => format!("{}\n\nNext{next}", authority_request_text(request)),
            None => authority_request_text(request),
        },
    }
}

fn next_for_authority_request(request: &AuthorityRequest) -> Option<String> {
    let AuthorityRequest {
        id, kind, state, ..
    } = request;
    match &**state {
        "ASKED" => Some(format!(
            ", as another operator with the role recovery: kdhctl authority approve {id}"
        )),
        "SIGNED" => Some(format!(
            ", at the terminal: krd {} --authority. If it is not on line: kdhctl authority fetch {id} --out FILE",
            kind.to_lowercase()
        )),
        _ => None,
    }
}

pub(crate) fn authority_requests(requests: &[AuthorityRequest]) -> Report {
    let rows = requests.iter().map(|request| {
        [
            request.id.clone(),
            request.serial_number.clone(),
            request.kind.clone(),
            request.kdh.clone(),
            dash(&request.new_kdh),
            request.state.clone(),
            request.asked_by.clone(),
            request.why.clone(),
            dash(&request.decided_by),
            request.expires_at.clone(),
        ]
    });
    let header = [
        "ID",
        "DEVICE",
        "KIND",
        "LOST KDH",
        "NEW KDH",
        "STATE",
        "ASKED BY",
        "WHY",
        "DECIDED BY",
        "EXPIRES",
    ];
    Report {
        json: json!({"requests": all(requests, authority_request_json)}),
        text: table(header, rows),
    }
}

pub(crate) fn exported_token(request: &AuthorityRequest, out: &Path) -> Report {
    let out = out.display().to_string();
    Report {
        json: json!({"request": authority_request_json(request), "out": out}),
        text: format!(
            "{out} holds the token for {}. Bring it to that terminal: no other one obeys it.\n\n\
             Next, at the terminal: krd {} --from {out}",
            request.serial_number,
            request.kind.to_lowercase()
        ),
    }
}

fn authority_request_json(request: &AuthorityRequest) -> Value {
    json!({
        "id": request.id,
        "serial_number": request.serial_number,
        "kind": request.kind,
        "certificate_serial": request.certificate_serial,
        "kdh": request.kdh,
        "new_kdh": request.new_kdh,
        "state": request.state,
        "asked_by": request.asked_by,
        "why": request.why,
        "decided_by": request.decided_by,
        "created_at": request.created_at,
        "changed_at": request.changed_at,
        "expires_at": request.expires_at,
    })
}

fn authority_request_text(request: &AuthorityRequest) -> String {
    fields(&[
        ("Request", &request.id),
        ("Device", &request.serial_number),
        ("Certificate", &request.certificate_serial),
        ("Kind", &request.kind),
        ("Lost KDH", &request.kdh),
        ("New KDH", &request.new_kdh),
        ("State", &request.state),
        ("Asked by", &request.asked_by),
        ("Why", &request.why),
        ("Decided by", &request.decided_by),
        ("Created", &request.created_at),
        ("Changed", &request.changed_at),
        ("Expires", &request.expires_at),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_request() -> AuthorityRequest {
        AuthorityRequest {
            id: "5f0c1a9e".to_owned(),
            serial_number: "SN-1001".to_owned(),
            kind: "REBIND".to_owned(),
            certificate_serial: "0A".to_owned(),
            kdh: "0B".to_owned(),
            new_kdh: "CN=kdh-2, serial number 0C".to_owned(),
            state: "ASKED".to_owned(),
            asked_by: "ada".to_owned(),
            why: "the HSM burnt down".to_owned(),
            decided_by: String::new(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            changed_at: "2026-01-01T00:00:00Z".to_owned(),
            expires_at: "2026-01-04T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn requests_to_the_authority() {
        let request = sample_request();
        let report = authority_request(&request);
        let json = json!({
            "id": "5f0c1a9e",
            "serial_number": "SN-1001",
            "kind": "REBIND",
            "certificate_serial": "0A",
            "kdh": "0B",
            "new_kdh": "CN=kdh-2, serial number 0C",
            "state": "ASKED",
            "asked_by": "ada",
            "why": "the HSM burnt down",
            "decided_by": "",
            "created_at": "2026-01-01T00:00:00Z",
            "changed_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-04T00:00:00Z",
        });
        assert_eq!(report.json, json);
        for part in [
            "5f0c1a9e",
            "SN-1001",
            "the HSM burnt down",
            "Decided by   -",
        ] {
            assert!(report.text.contains(part), "{part}: {}", report.text);
        }
        let list = authority_requests(std::slice::from_ref(&request));
        assert_eq!(list.json, json!({"requests": [json]}));
        let exported = exported_token(&request, Path::new("t.pem"));
        assert_eq!(exported.json, json!({"request": json, "out": "t.pem"}));
        assert!(
            exported.text.starts_with("t.pem holds"),
            "{}",
            exported.text
        );
    }
}
