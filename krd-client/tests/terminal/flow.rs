//! A terminal on a real token against a host that does as it is told.

use hsm::KeyName;
use kdh_proto::{
    Reason,
    v1::{Receipt, ReceiptStatement},
};
use krd_client::{KrdError, LoadRefusal, SlotOutcome, SlotStatus};
use pki::CrlNumber;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tr34::{ContentCipher, Freshness, KrdNonce};

use crate::{
    host::{Confirmation, ScriptedHost, TODAY},
    stage::{Stage, code, neighbour, on_stage, reason},
    tokens::on_every_module,
    world::{DAY, HEADER, OTHER_HEADER, SERIAL, revoked},
};

pub(crate) fn statement(receipt: &Receipt) -> ReceiptStatement {
    ReceiptStatement::decode(receipt.statement.as_slice()).unwrap()
}

#[test]
fn the_main_job() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::set().await;
            let made = stage.terminal().keygen().unwrap();
            assert!(made.made && made.signing_retired);
            let again = stage.terminal().keygen().unwrap();
            assert!(!again.made, "nothing is made twice");
            assert_eq!(
                again.encryption_key_fingerprint,
                made.encryption_key_fingerprint
            );

            let enrolled = stage.terminal().enroll(&code()).await.unwrap();
            assert!(enrolled.encryption_certificate.subject.contains(SERIAL));
            let bound = stage.terminal().bind().await.unwrap();
            assert_eq!(bound.crl_number, 7);
            stage.host.assign("tmk", 1);
            let kcv = stage.host.kcv(0).to_string();
            let loaded = SlotOutcome::Loaded {
                header: HEADER.to_owned(),
                kcv: kcv.clone(),
            };
            assert_eq!(stage.load().await.unwrap(), loaded);

            let status = stage.terminal().status().unwrap();
            assert_eq!(status.encryption_key_may_sign, Some(false));
            assert_eq!(status.crl.unwrap().number, 7);
            let slot = SlotStatus {
                slot: "tmk".to_owned(),
                key_version: Some(1),
                header: Some(HEADER.to_owned()),
                initial_key_id: None,
                kcv: Some(kcv),
                confirmed: true,
                receipt_pending: false,
                state: "held",
            };
            assert_eq!(status.slots, [slot]);

            let confirm = stage.host.script().confirms.pop().unwrap();
            let receipt = confirm.receipt.unwrap();
            let key = stage.host.script().krd_tls.clone().unwrap();
            let verified = key
                .public_key()
                .verify(&receipt.statement, &receipt.signature);
            assert_eq!(verified, Ok(()));
            let statement = statement(&receipt);
            assert_eq!(statement.context, "kdh.v1.ReceiptStatement");
            assert_eq!(statement.serial_number, SERIAL);
            assert_eq!(statement.delivery_id, "delivery-1");
            assert_eq!((statement.slot.as_str(), statement.key_version), ("tmk", 1));
            assert_eq!(statement.header, HEADER);
            assert_eq!(statement.kcv.unwrap().value, stage.host.kcv(0).value());
            let token = stage.evidence("kt-kdh.der");
            assert_eq!(statement.kt_kdh_sha256, Sha256::digest(&token).to_vec());

            assert_eq!(stage.evidence("rt-krd.der").len(), 34);
            for name in ["ct-krd.der", "ct-kdh.der", "krd.pem", "krd-auth.pem"] {
                assert!(!stage.evidence(name).is_empty(), "{name}");
            }
            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
            assert_eq!(stage.host.script().requests.len(), 1);
        });
    });
}

#[test]
fn each_act_needs_the_one_before() {
    on_every_module(|place| {
        on_stage(|| async {
            let mut stage = Stage::set().await;
            let terminal = stage.terminal();
            let enroll = terminal.enroll(&code()).await;
            assert!(matches!(enroll, Err(KrdError::NoKeys)));
            assert!(matches!(terminal.bind().await, Err(KrdError::NoKeys)));
            terminal.keygen().unwrap();
            assert!(matches!(terminal.bind().await, Err(KrdError::NotEnrolled)));
            assert!(matches!(
                terminal.load(None).await,
                Err(KrdError::NotEnrolled)
            ));
            terminal.enroll(&code()).await.unwrap();
            let enroll = terminal.enroll(&code()).await;
            assert!(matches!(enroll, Err(KrdError::AlreadyEnrolled)));
            let unbound = terminal.load(None).await.unwrap_err();
            assert_eq!(unbound.reason(), Some("not-bound"));
            terminal.bind().await.unwrap();
            drop(terminal);

            let slot = "tmk".parse().unwrap();
            let load = stage.terminal().load(Some(&slot)).await;
            assert!(matches!(load, Err(KrdError::SlotNotAssigned(_))));
            stage.host.assign("tmk", 1);
            stage.config.in_process_memory = None;
            let load = stage.terminal().load(None).await;
            if place.module().can.opening.is_empty() {
                match load {
                    Err(KrdError::CannotOpen { missing }) => {
                        assert!(missing.contains("CKM_EXTRACT_KEY_FROM_KEY"), "{missing}");
                    }
                    other => panic!("{other:?}"),
                }
                assert!(stage.host.script().requests.is_empty());
            } else {
                load.unwrap();
            }
            stage.config.serial = "KRD-000002".parse().unwrap();
            assert!(matches!(stage.open(), Err(KrdError::OtherTerminal { .. })));
        });
    });
}

#[test]
fn a_lost_enrollment_is_asked_for_again_with_the_same_requests() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::set().await;
            stage.terminal().keygen().unwrap();
            stage.host.script().lose_enroll = true;
            let error = stage.terminal().enroll(&code()).await.unwrap_err();
            assert_eq!(error.reason(), None, "{error}");
            let wrong = "wrong".to_owned().into();
            let error = stage.terminal().enroll(&wrong).await.unwrap_err();
            assert_eq!(error.reason(), Some("ENROLLMENT_REFUSED"));
            stage.terminal().keygen().unwrap();
            stage.terminal().enroll(&code()).await.unwrap();
            let script = stage.host.script();
            let [lost, _, kept] = &script.enrolls[..] else {
                panic!("three calls");
            };
            assert_eq!(lost, kept);
        });
    });
}

#[test]
fn wrong_certificates_are_not_kept() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::set().await;
            stage.terminal().keygen().unwrap();
            stage.host.script().alter_enroll = |answer| answer.chain.clear();
            let error = stage.terminal().enroll(&code()).await.unwrap_err();
            assert_eq!(error.reason(), Some("chain-untrusted"));
            let status = stage.terminal().status().unwrap();
            assert_eq!(status.encryption_certificate, None);
            stage.host.script().alter_enroll = |_| {};
            stage.terminal().enroll(&code()).await.unwrap();
        });
    });
}

#[test]
fn a_bound_terminal_stays_with_its_kdh() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.host.script().kdh = TODAY.other_kdh.clone();
            let error = stage.terminal().bind().await.unwrap_err();
            assert_eq!(error.reason(), Some("other-kdh"));

            stage.host.script().kdh = TODAY.kdh.clone();
            stage.load().await.unwrap();
            stage.host.script().crl = TODAY.ca_kdh.crl(TODAY.now, |crl| crl.number = CrlNumber(8));
            assert_eq!(stage.terminal().bind().await.unwrap().crl_number, 8);
        });
    });
}

#[test]
fn an_update_takes_the_place_of_the_old_key() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.script().alter_order = |order| order.master = 1;
            stage.host.assign("tmk", 2);
            stage.load().await.unwrap();
            let slot = stage.slot();
            assert_eq!(slot.key_version, Some(2));
            assert_eq!(slot.kcv, Some(stage.host.kcv(1).to_string()));
            assert_eq!(stage.key_count(), 1);

            stage.host.assign("tmk", 1);
            assert_eq!(reason(stage.load().await), "key-version-older");
            assert_eq!(stage.slot(), slot);
        });
    });
}

type Change = fn(&ScriptedHost);

#[test]
fn a_refused_key_leaves_the_old_one() {
    on_every_module(|place| {
        // A token that opens inside shows nobody what stood there, and one that cannot open every block
        // does not know whether it should have been able to.
        let other_inside: &[&str] = match place.module().can.opening {
            [] => &["key-block-header-mismatch"],
            ["aligned"] => &["opening-failed", "cannot-open"],
            _ => &["opening-failed"],
        };
        on_stage(|| async {
            let mut stage = Stage::loaded().await;
            if !place.module().can.opening.is_empty() {
                stage.config.in_process_memory = None;
            }
            let before = stage.slot();
            stage.host.assign("tmk", 2);
            let cases: [(&[&str], Change); 13] = [
                (&["nonce-mismatch"], |host| {
                    host.script().alter_order = |order| {
                        order.freshness = Freshness::Nonce(KrdNonce::from_bytes([7; 16]));
                    };
                }),
                (&["signature-invalid"], |host| {
                    host.script().alter_order = |order| order.signer = &TODAY.other_kdh_key;
                }),
                (&["other-recipient"], |host| {
                    host.script().alter_order = |order| order.recipient = neighbour();
                }),
                // A certificate of the same issuer and serial number, for another key.
                (&["opening-failed"], |host| {
                    host.script().alter_order = |order| order.recipient = TODAY.krd.clone();
                }),
                (&["ephemeral-key-too-weak"], |host| {
                    host.script().alter_order =
                        |order| order.said_cipher = Some(ContentCipher::DesEde3Cbc);
                }),
                (&["opening-failed"], |host| {
                    host.script().alter_order =
                        |order| order.said_cipher = Some(ContentCipher::Aes256Cbc);
                }),
                (other_inside, |host| {
                    host.script().alter_order = |order| order.inside = OTHER_HEADER;
                }),
                (&["header-mismatch"], |host| {
                    host.script().alter_order = |order| {
                        order.inside = OTHER_HEADER;
                        order.outside = OTHER_HEADER;
                    };
                }),
                (&["token-malformed"], |host| {
                    host.script().alter_answer = |answer| answer.kt_kdh.push(0);
                }),
                (&["key-version-mismatch"], |host| {
                    host.script().alter_answer = |answer| answer.key_version += 1;
                }),
                (&["answer-malformed"], |host| {
                    host.script().alter_answer = |answer| answer.kcv = None;
                }),
                (&["answer-malformed"], |host| {
                    host.script().alter_answer = |answer| answer.delivery_id.clear();
                }),
                (&["crl-stale"], |host| {
                    host.script().crl = TODAY.ca_kdh.crl(TODAY.now, |crl| {
                        crl.this_update = TODAY.now - DAY * 9;
                        crl.next_update = TODAY.now - DAY;
                    });
                }),
            ];
            for (expected, change) in cases {
                change(&stage.host);
                let reason = reason(stage.load().await);
                assert!(expected.contains(&reason), "{reason}, not {expected:?}");
                assert_eq!(stage.slot(), before, "{reason}");
                assert_eq!(stage.key_count(), 1, "{reason}");
                let mut script = stage.host.script();
                script.alter_order = |_| {};
                script.alter_answer = |_| {};
                script.crl = TODAY.ca_kdh.crl(TODAY.now, |_| {});
            }
            assert_eq!(
                stage.host.script().confirms.len(),
                1,
                "nothing was reported"
            );
            stage.load().await.unwrap();
        });
    });
}

#[test]
fn a_listed_kdh_is_not_forgotten() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.host.script().crl = TODAY.ca_kdh.crl(TODAY.now, |crl| {
                crl.number = CrlNumber(8);
                crl.revoked = vec![revoked(&TODAY.kdh, TODAY.now)];
            });
            assert_eq!(reason(stage.load().await), "kdh-revoked");
            // The older list is still fresh, and good enough for a terminal that forgets.
            stage.host.script().crl = TODAY.ca_kdh.crl(TODAY.now, |_| {});
            assert_eq!(reason(stage.load().await), "crl-older-than-seen");
            let error = stage.terminal().bind().await.unwrap_err();
            assert_eq!(error.reason(), Some("crl-older-than-seen"));
            assert_eq!(stage.terminal().status().unwrap().crl.unwrap().number, 8);
        });
    });
}

#[test]
fn a_wrong_check_value_is_reported_and_not_loaded() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let before = stage.slot();
            stage.host.assign("tmk", 2);
            stage.host.script().alter_answer = |answer| answer.kcv.as_mut().unwrap().value[0] ^= 1;
            // The first report is lost on its way.
            stage.host.script().confirmations = [
                Confirmation::Refused(Reason::StoreUnavailable),
                Confirmation::Refused(Reason::KcvMismatch),
            ]
            .into();
            let refused = stage.load().await.unwrap_err();
            let KrdError::Load(LoadRefusal::KcvMismatch { computed, .. }) = &refused else {
                panic!("{refused}");
            };
            assert_eq!(computed, stage.host.kcv(0));
            assert_eq!(stage.key_count(), 1);
            let pending = SlotStatus {
                receipt_pending: true,
                ..before.clone()
            };
            assert_eq!(
                stage.slot(),
                pending,
                "the old key, and the report to be sent"
            );

            stage.host.script().assignments.clear();
            let report = stage.terminal().load(None).await.unwrap();
            assert!(report.receipts_sent.is_empty() && report.slots.is_empty());
            assert_eq!(stage.slot(), before);
            let script = stage.host.script();
            let [_, first, second] = &script.confirms[..] else {
                panic!("three receipts");
            };
            assert_eq!(first, second);
            let statement = statement(first.receipt.as_ref().unwrap());
            assert_eq!(statement.kcv.unwrap().value, stage.host.kcv(0).value());
            assert_eq!(statement.delivery_id, "delivery-2");
        });
    });
}

#[test]
fn a_lost_confirmation_is_sent_again_first() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.host.script().confirmations = [Confirmation::Lost].into();
            let error = stage.load().await.unwrap_err();
            assert_eq!(error.reason(), None, "{error}");
            let slot = stage.slot();
            assert_eq!((slot.confirmed, slot.receipt_pending), (false, true));

            let report = stage.terminal().load(None).await.unwrap();
            assert_eq!(report.receipts_sent.len(), 1);
            let outcome = report.slots[0].outcome.as_ref().unwrap();
            assert_eq!(*outcome, SlotOutcome::Held);
            let slot = stage.slot();
            assert_eq!((slot.confirmed, slot.receipt_pending), (true, false));
            let script = stage.host.script();
            assert_eq!(script.requests.len(), 1, "the key was not asked for again");
            assert_eq!(script.confirms[0], script.confirms[1]);
        });
    });
}

#[test]
fn a_confirmation_that_the_host_cannot_take_leads_to_a_new_delivery() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            stage.host.script().confirmations = [
                Confirmation::Refused(Reason::HsmUnavailable),
                Confirmation::Refused(Reason::DeliveryUnknown),
            ]
            .into();
            assert_eq!(reason(stage.load().await), "HSM_UNAVAILABLE");
            assert!(stage.slot().receipt_pending);
            let outcome = stage.load().await.unwrap();
            assert!(matches!(outcome, SlotOutcome::Loaded { .. }));
            let slot = stage.slot();
            assert_eq!((slot.confirmed, slot.receipt_pending), (true, false));
            assert_eq!(stage.key_count(), 1);
            assert_eq!(stage.host.script().requests.len(), 2);
        });
    });
}

#[test]
fn a_lost_key_is_asked_for_again() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            for key in stage.loaded_keys() {
                let name = KeyName::with_id(&key.label, &key.id).unwrap();
                stage.token.destroy_key(&name).unwrap();
            }
            assert_eq!(stage.slot().state, "missing");
            let outcome = stage.load().await.unwrap();
            assert!(matches!(outcome, SlotOutcome::Loaded { .. }));
            assert_eq!(stage.slot().state, "held");
        });
    });
}

#[test]
fn one_refused_slot_does_not_stop_the_others() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.assign("tmk", 2);
            stage.host.assign("pin", 1);
            stage.host.script().assignments[0].header = OTHER_HEADER.to_owned();
            let report = stage.terminal().load(None).await.unwrap();
            let outcomes: Vec<_> = report
                .slots
                .iter()
                .map(|slot| (slot.slot.as_str(), slot.outcome.is_ok()))
                .collect();
            assert_eq!(outcomes, [("tmk", false), ("pin", true)]);
            let slots = stage.terminal().status().unwrap().slots;
            let versions: Vec<_> = slots.iter().map(|slot| slot.key_version).collect();
            assert_eq!(versions, [Some(1), Some(1)]);
        });
    });
}

#[test]
fn an_impostor_of_the_host_learns_nothing() {
    on_every_module(|_| {
        on_stage(|| async {
            let mut stage = Stage::set().await;
            stage.terminal().keygen().unwrap();
            stage.config.trust.ops = TODAY.ca_krd.certificate.clone();
            let untrusted = stage.terminal().enroll(&code()).await;
            assert!(matches!(untrusted, Err(KrdError::Connect(_))));
            stage.config.trust.ops = TODAY.ca_ops.certificate.clone();
            stage.config.server_name = "kdh.example.com".to_owned();
            let other_name = stage.terminal().enroll(&code()).await;
            assert!(matches!(other_name, Err(KrdError::Connect(_))));
            assert!(stage.host.script().enrolls.is_empty());
        });
    });
}
