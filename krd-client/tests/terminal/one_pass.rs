//! Keys from files, off line; and looking into a token.

use kdh_proto::{Reason, v1::binding_order::Kind};
use krd_client::{KrdError, OnePassFile, SlotOutcome, SlotReport};
use time::{Duration, OffsetDateTime};
use tr34::{Freshness, KrdNonce, Profile};

use crate::{
    host::{Confirmation, Order, TODAY},
    stage::{Stage, neighbour, on_stage},
    tokens::on_every_module,
    world::{HEADER, OTHER_HEADER, SERIAL, id, signing_time},
};

impl Stage {
    /// A file for slot `tmk`, signed so many seconds from now.
    fn file(&self, key_version: u32, seconds: i64, change: fn(&mut Order)) -> String {
        let at = TODAY.now + Duration::seconds(seconds);
        self.host.one_pass("tmk", key_version, at, change)
    }

    fn load_text(&self, text: &str) -> Result<SlotReport, KrdError> {
        let file = OnePassFile::parse(text.as_bytes())?;
        self.terminal().load_file(&file, None)
    }

    fn last_signing_time(&self) -> Option<String> {
        self.terminal().status().unwrap().last_signing_time
    }
}

fn shown(at: OffsetDateTime) -> String {
    signing_time(at).to_string()
}

#[test]
fn a_key_is_loaded_off_line_and_its_receipt_sent_later() {
    on_every_module(|_| {
        on_stage(|| async {
            let mut stage = Stage::bound().await;
            let file = stage.file(1, 0, |_| {});
            let line = std::mem::replace(&mut stage.config.host, "127.0.0.1:1".to_owned());
            let report = stage.load_text(&file).unwrap();
            let kcv = stage.host.kcv(0).to_string();
            let loaded = SlotOutcome::LoadedOffLine {
                header: HEADER.to_owned(),
                kcv: kcv.clone(),
            };
            assert_eq!(report.outcome.unwrap(), loaded);
            let slot = stage.slot();
            assert_eq!((slot.state, slot.kcv), ("held", Some(kcv)));
            assert_eq!((slot.confirmed, slot.receipt_pending), (false, true));
            assert_eq!(stage.last_signing_time(), Some(shown(TODAY.now)));

            stage.config.host = line;
            let report = stage.terminal().load(None).await.unwrap();
            assert_eq!(report.receipts_sent.len(), 1);
            let outcome = report.slots[0].outcome.as_ref().unwrap();
            assert_eq!(*outcome, SlotOutcome::Held);
            assert!(stage.slot().confirmed);
            let script = stage.host.script();
            assert!(script.requests.is_empty(), "it was not asked for");
            let receipt = script.confirms[0].receipt.clone().unwrap();
            let statement = crate::flow::statement(&receipt);
            assert_eq!(statement.delivery_id, "file-tmk-1");
            assert_eq!((statement.slot.as_str(), statement.key_version), ("tmk", 1));
        });
    });
}

#[test]
fn each_file_is_taken_once_and_none_that_is_older() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let (first, second) = (stage.file(1, 0, |_| {}), stage.file(2, 10, |_| {}));
            stage.load_text(&first).unwrap();
            let again = stage.load_text(&first).unwrap_err();
            assert_eq!(again.reason(), Some("signing-time-not-later"));
            stage.load_text(&second).unwrap();
            let older = first.replace("Key-Version: 1", "Key-Version: 3");
            let older = stage.load_text(&older).unwrap_err();
            assert_eq!(older.reason(), Some("signing-time-not-later"));
            assert_eq!((stage.slot().key_version, stage.key_count()), (Some(2), 1));

            // In two passes no time is needed, and none is set back.
            stage.host.assign("tmk", 3);
            stage.load().await.unwrap();
            let mark = shown(TODAY.now + Duration::seconds(10));
            assert_eq!(stage.last_signing_time(), Some(mark));
        });
    });
}

/// A courier who changes the lines gets a key into the wrong place at most until the host hears of it.
#[test]
fn a_key_that_the_host_does_not_confirm_is_replaced() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            for (version, seconds) in [("1", 0), ("4294967295", 1)] {
                let other_key = stage.file(1, seconds, |order| order.master = 1);
                let line = format!("Key-Version: {version}");
                stage
                    .load_text(&other_key.replace("Key-Version: 1", &line))
                    .unwrap();
                assert_eq!(stage.slot().kcv, Some(stage.host.kcv(1).to_string()));

                let refused = Confirmation::Refused(Reason::ReceiptInvalid);
                stage.host.script().confirmations.push_back(refused);
                let outcome = stage.load().await.unwrap();
                assert!(matches!(outcome, SlotOutcome::Loaded { .. }), "{version}");
                let slot = stage.slot();
                let right = Some(stage.host.kcv(0).to_string());
                assert_eq!((slot.key_version, slot.kcv), (Some(1), right));
                assert!(slot.confirmed);
                assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
            }
        });
    });
}

/// The token is not used up: the right line helps.
#[test]
fn a_file_under_the_held_delivery_is_refused() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.load_text(&stage.file(1, 0, |_| {})).unwrap();
            let (mark, slot) = (stage.last_signing_time(), stage.slot());
            let another = stage.file(1, 1, |_| {});
            let refused = stage.load_text(&another).unwrap_err();
            assert_eq!(refused.reason(), Some("file-malformed"), "{refused}");
            assert_eq!((stage.last_signing_time(), stage.slot()), (mark, slot));
            let other_name = another.replace("file-tmk-1", "file-tmk-2");
            stage.load_text(&other_name).unwrap();
            assert_eq!(stage.key_count(), 1);
        });
    });
}

/// The host let the terminal go with a token that was lost, and takes its receipt no more.
#[test]
fn a_receipt_that_waits_keeps_no_order_from_being_heard() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.load_text(&stage.file(1, 0, |_| {})).unwrap();
            let refused = Confirmation::Refused(Reason::NotBound);
            stage.host.direct(|script| {
                script.confirmations.push_back(refused);
                script.ordered = Some(Kind::Unbind);
            });
            let report = stage.terminal().load(None).await.unwrap();
            assert_eq!(report.moved.unwrap().destroyed_keys.len(), 1);
            assert_eq!(stage.key_count(), 0);
        });
    });
}

/// Nobody has loaded it, and it must not bring an old key back under a new version.
#[test]
fn a_file_from_before_a_load_is_outdated() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let older = stage.file(2, -300, |_| {});
            let newer = stage.file(2, -299, |_| {});
            stage.load().await.unwrap();
            let refused = stage.load_text(&older).unwrap_err();
            assert_eq!(refused.reason(), Some("signing-time-not-later"));
            assert_eq!(stage.slot().key_version, Some(1));
            stage.load_text(&newer).unwrap();
        });
    });
}

/// Nor one that was destroyed.
#[test]
fn a_file_from_before_an_unbinding_is_outdated() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let older = stage.file(1, -300, |_| {});
            stage.host.script().ordered = Some(Kind::Unbind);
            stage.terminal().load(None).await.unwrap();
            stage.terminal().bind().await.unwrap();
            let refused = stage.load_text(&older).unwrap_err();
            assert_eq!(refused.reason(), Some("signing-time-not-later"));
        });
    });
}

/// Whoever binds it next cannot make it take old tokens again.
#[test]
fn the_last_signing_time_survives_an_unbinding() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let earlier = stage.file(1, 9, |_| {});
            stage.load_text(&stage.file(1, 10, |_| {})).unwrap();
            stage.host.script().ordered = Some(Kind::Unbind);
            let unbound = stage.terminal().load(None).await.unwrap().moved.unwrap();
            assert_eq!(unbound.destroyed_keys.len(), 1);
            let mark = shown(TODAY.now + Duration::seconds(10));
            assert_eq!(stage.last_signing_time(), Some(mark));
            let refused = stage.load_text(&earlier).unwrap_err();
            assert_eq!(refused.reason(), Some("not-bound"));
            stage.terminal().bind().await.unwrap();
            let refused = stage.load_text(&earlier).unwrap_err();
            assert_eq!(refused.reason(), Some("signing-time-not-later"));
        });
    });
}

#[test]
fn a_refused_file_leaves_the_old_key_and_the_last_time() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.load_text(&stage.file(2, 0, |_| {})).unwrap();
            let before = stage.slot();
            let good = stage.file(3, 1, |_| {});
            let cases = [
                (stage.file(3, 301, |_| {}), "signing-time-ahead"),
                (stage.file(3, -1, |_| {}), "signing-time-not-later"),
                (stage.file(1, 1, |_| {}), "key-version-older"),
                (
                    stage.file(3, 1, |order| {
                        order.freshness = Freshness::Nonce(KrdNonce::from_bytes([7; 16]));
                    }),
                    "two-pass-token",
                ),
                (
                    stage.file(3, 1, |order| order.signer = &TODAY.other_kdh_key),
                    "signature-invalid",
                ),
                (
                    stage.file(3, 1, |order| order.recipient = neighbour()),
                    "other-recipient",
                ),
                (good.replace(SERIAL, "KRD-000002"), "other-recipient"),
                (good.replace(HEADER, OTHER_HEADER), "header-mismatch"),
                (
                    good.replace(&stage.host.kcv(0).to_string(), "000000"),
                    "kcv-mismatch",
                ),
                (good.replace("Slot: tmk\n", ""), "file-malformed"),
                (good.replace("BEGIN CMS", "BEGIN PKCS7"), "file-malformed"),
                (good.replace("\nMII", "\nNII"), "token-malformed"),
            ];
            for (text, expected) in cases {
                let refused = stage.load_text(&text).unwrap_err();
                assert_eq!(refused.reason(), Some(expected), "{refused}");
                assert_eq!((stage.slot(), stage.key_count()), (before.clone(), 1));
                assert_eq!(stage.last_signing_time(), Some(shown(TODAY.now)));
            }
            let other = "pin".parse().unwrap();
            let file = OnePassFile::parse(good.as_bytes()).unwrap();
            let refused = stage.terminal().load_file(&file, Some(&other)).unwrap_err();
            assert_eq!(refused.reason(), Some("other-slot"));
            stage.load_text(&good).unwrap();
            assert_eq!(stage.slot().key_version, Some(3));
        });
    });
}

#[test]
fn a_file_needs_a_terminal_that_is_bound_to_its_kdh() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::set().await;
            let terminal = stage.terminal();
            terminal.keygen().unwrap();
            terminal.enroll(&crate::stage::code()).await.unwrap();
            let file = stage.file(1, 0, |_| {});
            let refused = stage.load_text(&file).unwrap_err();
            assert_eq!(refused.reason(), Some("not-bound"));
            stage.host.play(&TODAY.other_kdh, &TODAY.other_kdh_key);
            terminal.bind().await.unwrap();
            let refused = stage.load_text(&file).unwrap_err();
            assert_eq!(refused.reason(), Some("other-kdh"));
            stage.load_text(&stage.file(1, 0, |_| {})).unwrap();
        });
    });
}

/// Cut off between the mark and the key: the token is used up, and the old key stays.
#[test]
fn the_mark_is_made_before_the_key() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let file = stage.file(1, 5, |_| {});
            let mark = (TODAY.now + Duration::seconds(5)).unix_timestamp();
            let record = format!(r#"{{"format":1,"content":{{"last":{mark}}}}}"#);
            stage
                .token
                .store_record("krd.signing-time", record.as_bytes())
                .unwrap();
            let refused = stage.load_text(&file).unwrap_err();
            assert_eq!(refused.reason(), Some("signing-time-not-later"));
            assert_eq!(stage.key_count(), 0);
            for damage in ["{", r#"{"format":1,"content":{"last":-1}}"#] {
                stage
                    .token
                    .store_record("krd.signing-time", damage.as_bytes())
                    .unwrap();
                let refused = stage.load_text(&stage.file(1, 9, |_| {})).unwrap_err();
                assert!(matches!(refused, KrdError::Record(_)), "{refused}");
            }
        });
    });
}

#[test]
fn an_opened_token_shows_everything_but_its_key() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let mark = stage.last_signing_time();
            let two_pass = stage.evidence("kt-kdh.der");
            // By somebody else, and opened all the same: it says that nothing was checked.
            let forged = stage.file(9, 999_999, |order| order.signer = &TODAY.other_kdh_key);
            for (file, pass) in [
                (&two_pass[..], "kt-kdh-two-pass"),
                (forged.as_bytes(), "kt-kdh-one-pass"),
            ] {
                let opened = stage.terminal().open_token(file, None, None).unwrap();
                assert_eq!(opened.token, pass);
                assert_eq!((opened.profile, opened.key_len), ("x9-2019", 16));
                assert_eq!(opened.header.text, HEADER);
                assert_eq!(opened.kcv, stage.host.kcv(0).to_string());
                assert_eq!(opened.signing_time.is_some(), pass == "kt-kdh-one-pass");
                let signer = hex::encode_upper(id(&TODAY.kdh).serial_bytes());
                assert_eq!(opened.signer.serial, signer);
                assert!(opened.not_checked.contains(&"signature"));
            }
            assert_eq!(stage.key_count(), 1, "nothing is kept");
            assert_eq!(stage.last_signing_time(), mark);
        });
    });
}

#[test]
fn what_does_not_open_is_refused() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let token = stage.evidence("kt-kdh.der");
            let terminal = stage.terminal();
            let open = |file: &[u8], label: Option<&str>, profile| {
                let error = terminal.open_token(file, label, profile).unwrap_err();
                error.reason()
            };
            let own = Some("krd-encryption");
            terminal.open_token(&token, own, None).unwrap();
            assert_eq!(open(b"", None, None), Some("file-malformed"));
            assert_eq!(open(&token[1..], None, None), Some("file-malformed"));
            let cut = &token[..token.len() - 1];
            assert_eq!(open(cut, None, None), Some("token-malformed"));
            let ct_kdh = stage.evidence("ct-kdh.der");
            assert_eq!(open(&ct_kdh, None, None), Some("token-malformed"));
            let aws = Some(Profile::Aws2012);
            assert_eq!(open(&token, None, aws), Some("token-malformed"));
            let for_another = stage.file(1, 0, |order| order.recipient = TODAY.krd.clone());
            let refused = open(for_another.as_bytes(), None, None);
            assert_eq!(refused, Some("opening-failed"));
            // No such key, or one that does not decrypt: nothing that a token could be refused for.
            for label in ["missing", "krd-authentication", "No Label"] {
                assert_eq!(open(&token, Some(label), None), None, "{label}");
            }
            assert_eq!(stage.key_count(), 1);
        });
    });
}
