//! What the commands print: text for people, with the next step, or JSON.

use std::io::{self, Write as _};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use krd_client::{
    BindingName, Bound, CertificateStatus, Enrolled, KcvMethodName, Keys, LoadReport, Moved,
    OpenedToken, SlotOutcome, SlotReport, SlotStatus, Status,
};
use serde_json::{Value, json};

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A refusal with its stable reason, or any other failure.
    pub(crate) fn failure(self, reason: Option<&str>, message: &str) {
        let kind = if reason.is_some() { "refused" } else { "error" };
        if self.json {
            print_json(&json!({ kind: { "reason": reason, "message": message } }));
        }
        let _ = match reason {
            Some(reason) => writeln!(io::stderr(), "refused: {reason}: {message}"),
            None => writeln!(io::stderr(), "error: {message}"),
        };
    }

    pub(crate) fn keygen(self, keys: &Keys) {
        if self.json {
            return print_json(&json!(keys));
        }
        print(if keys.made {
            "The terminal has its keys."
        } else {
            "The terminal has its keys already; nothing was changed."
        });
        print(&format!(
            "  RSA (decrypts)          {}",
            keys.encryption_key_fingerprint
        ));
        print(&format!(
            "  P-256 (TLS, receipts)   {}",
            keys.authentication_key_fingerprint
        ));
        if !keys.signing_retired {
            print("  The token did not let the RSA key's right to sign be taken away.");
        }
        print("Next: krd enroll, with an activation code from an operator.");
    }

    pub(crate) fn enrolled(self, enrolled: &Enrolled) {
        if self.json {
            return print_json(&json!(enrolled));
        }
        print("The terminal is enrolled.");
        print_certificate("encryption", &enrolled.encryption_certificate);
        print_certificate("authentication", &enrolled.authentication_certificate);
        print("Next: krd bind.");
    }

    pub(crate) fn bound(self, bound: &Bound) {
        if self.json {
            return print_json(&json!(bound));
        }
        print("The terminal is bound to this key distribution host.");
        print_certificate("KDH", &bound.kdh_certificate);
        print(&format!("  revocation list number {}", bound.crl_number));
        print("Next: krd load.");
    }

    /// Refusals of single slots are printed like any other refusal, one line each.
    pub(crate) fn loaded(self, report: &LoadReport) {
        if self.json {
            print_json(&json!({
                "receipts-sent": report.receipts_sent,
                "moved": report.moved,
                "slots": report.slots.iter().map(slot_json).collect::<Vec<_>>(),
            }));
        } else {
            for slot in &report.receipts_sent {
                print(&format!(
                    "slot {slot}: the receipt of an earlier load was sent"
                ));
            }
            if let Some(moved) = &report.moved {
                print("The host has ordered this:");
                print_moved(moved);
                // The same host goes on under its new credential, and what follows came from there.
                if moved.kdh.is_none() || report.slots.is_empty() {
                    print_next_after_move(moved);
                }
            }
            if report.slots.is_empty() && report.moved.is_none() {
                print("The host has assigned no key to this terminal.");
            }
        }
        for SlotReport {
            slot,
            key_version,
            outcome,
        } in &report.slots
        {
            match outcome {
                Ok(_) if self.json => {}
                Ok(SlotOutcome::Held) => {
                    print(&format!(
                        "slot {slot}: version {key_version} is held already"
                    ));
                }
                Ok(SlotOutcome::Loaded { header, kcv }) => print(&format!(
                    "slot {slot}: version {key_version} loaded and confirmed, header {header}, KCV {kcv}"
                )),
                Ok(SlotOutcome::LoadedOffLine { header, kcv }) => print(&format!(
                    "slot {slot}: version {key_version} loaded, header {header}, KCV {kcv}; the receipt goes \
                     to the host with the next krd load"
                )),
                Err(error) => {
                    let reason = error.reason().unwrap_or("error");
                    let _ = writeln!(io::stderr(), "refused: {reason}: slot {slot}: {error}");
                }
            }
        }
    }

    pub(crate) fn moved(self, moved: &Moved) {
        if self.json {
            return print_json(&json!(moved));
        }
        print_moved(moved);
        print_next_after_move(moved);
    }

    pub(crate) fn opened(self, opened: &OpenedToken) {
        if self.json {
            return print_json(&json!(opened));
        }
        print(&format!(
            "{}, profile {}: it opens. Not checked: {}.",
            opened.token,
            opened.profile,
            opened.not_checked.join(", ")
        ));
        let header = &opened.header;
        print(&format!("  header         {}", header.text));
        print(&format!("    usage        {}", header.usage));
        print(&format!("    algorithm    {}", header.algorithm));
        print(&format!("    mode of use  {}", header.mode));
        print(&format!("    export       {}", header.exportability));
        for block in &header.optional_blocks {
            print(&format!("    optional     {block}"));
        }
        print(&format!("  key            {} bytes", opened.key_len));
        print(&format!(
            "  KCV            {} ({})",
            opened.kcv,
            method(opened.kcv_method)
        ));
        print(&format!("  signer         {}", opened.signer));
        print(&format!("  recipient      {}", opened.recipient));
        if let Some(at) = &opened.signing_time {
            print(&format!("  signed at      {at}"));
        }
    }

    pub(crate) fn status(self, status: &Status) {
        if self.json {
            return print_json(&json!(status));
        }
        print(&format!("Terminal {}", status.serial_number));
        print_key("RSA key", status.encryption_key_fingerprint.as_deref());
        if status.encryption_key_may_sign == Some(true) {
            print("                          may still sign");
        }
        print_key(
            "P-256 key",
            status.authentication_key_fingerprint.as_deref(),
        );
        match (
            &status.encryption_certificate,
            &status.authentication_certificate,
        ) {
            (Some(encryption), Some(authentication)) => {
                print_certificate("encryption", encryption);
                print_certificate("authentication", authentication);
            }
            _ => print("  not enrolled"),
        }
        match (&status.bound_kdh, status.binding) {
            (Some(kdh), _) => print_certificate("bound to", &kdh.certificate),
            (None, BindingName::Unbinding) => {
                print("  being unbound: the next command goes on with that");
            }
            (None, _) => print("  not bound"),
        }
        print(&format!("  {:<14} {}", "profile", status.profile));
        if let Some(at) = &status.last_signing_time {
            print(&format!(
                "  one-pass keys only from tokens signed after {at}"
            ));
        }
        for token in &status.pending_acknowledgements {
            print(&format!("  the host has still to be told of token {token}"));
        }
        if let Some(crl) = &status.crl {
            print(&format!(
                "  revocation list number {}, next update due {}",
                crl.number, crl.next_update
            ));
        }
        if !status.slots.is_empty() {
            print(&slot_table(&status.slots).to_string());
        }
    }
}

const fn method(method: KcvMethodName) -> &'static str {
    match method {
        KcvMethodName::TdeaEcb => "TDEA-ECB",
        KcvMethodName::AesCmac => "AES-CMAC",
    }
}

fn print_moved(moved: &Moved) {
    if let Some(kdh) = &moved.kdh {
        print("The terminal is bound to another KDH credential, with the keys that it holds.");
        print_certificate("before", &moved.previous_kdh);
        print_certificate("now", kdh);
    } else {
        print("The terminal is unbound, and holds no key any more.");
        print_certificate("before", &moved.previous_kdh);
        for key in &moved.destroyed_keys {
            print(&format!(
                "  slot {}: version {} destroyed",
                key.slot, key.key_version
            ));
        }
    }
    if !moved.acknowledged {
        print("  The host will be told when the terminal next speaks to it.");
    }
}

fn print_next_after_move(moved: &Moved) {
    print(if moved.kdh.is_some() {
        "Next: krd load at the same host; at another one (host and server-name in the configuration) krd bind."
    } else {
        "Next: krd bind."
    });
}

fn slot_json(report: &SlotReport) -> Value {
    let mut value = json!({ "slot": report.slot, "key-version": report.key_version });
    let more = match &report.outcome {
        Ok(SlotOutcome::Held) => json!({ "outcome": "held" }),
        Ok(SlotOutcome::Loaded { header, kcv }) => {
            json!({ "outcome": "loaded", "header": header, "kcv": kcv })
        }
        Ok(SlotOutcome::LoadedOffLine { header, kcv }) => {
            json!({ "outcome": "loaded-off-line", "header": header, "kcv": kcv })
        }
        Err(error) => json!({
            "outcome": "refused",
            "reason": error.reason(),
            "message": error.to_string(),
        }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn slot_table(slots: &[SlotStatus]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "slot",
        "version",
        "header",
        "KCV",
        "state",
        "confirmed",
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for slot in slots {
        let confirmed = match (slot.confirmed, slot.receipt_pending) {
            (true, _) => "yes",
            (false, true) => "receipt pending",
            (false, false) => "no",
        };
        table.add_row([
            slot.slot.clone(),
            or_dash(slot.key_version.map(|version| version.to_string())),
            or_dash(header_and_id(slot)),
            or_dash(slot.kcv.clone()),
            slot.state.to_owned(),
            confirmed.to_owned(),
        ]);
    }
    table
}

fn header_and_id(slot: &SlotStatus) -> Option<String> {
    let header = slot.header.clone()?;
    Some(match &slot.initial_key_id {
        Some(id) => format!("{header}\ninitial key {id}"),
        None => header,
    })
}

fn print_key(what: &str, fingerprint: Option<&str>) {
    print(&format!("  {what:<14} {}", fingerprint.unwrap_or("none")));
}

fn print_certificate(what: &str, certificate: &CertificateStatus) {
    print(&format!("  {what:<14} {}", certificate.subject));
    print(&format!(
        "  {:<14} serial {}, until {}, by {}",
        "", certificate.serial, certificate.not_after, certificate.issuer
    ));
}

fn print_json(value: &Value) {
    print(&format!("{value:#}"));
}

/// Where standard output is closed, nobody reads it, and there is no way to say so.
fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
