//! Unbinding and rebinding, on a real token against a host that does as it is told; and what is cut
//! off on the way.

use hsm::KeyName;
use kdh_proto::{
    Reason,
    v1::{
        BindingStatement, DestroyedKey as WireKey, Receipt, binding_order::Kind,
        fetch_authority_token_response::Token as AuthorityToken,
    },
};
use krd_client::{BindingName, DestroyedKey, KrdError, Moved, SlotOutcome, TokenSource};
use pki::{Certificate, CrlNumber, Role};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tr34::{CaRebindToken, CaUnbindToken, KrdNonce, Profile};

use crate::{
    host::{Confirmation, MoveOrder, ScriptedHost, TODAY, pem},
    stage::{Stage, neighbour, on_stage, reason},
    tokens::on_every_module,
    world::{SERIAL, id, revoked, sign, signing_time},
};

const BINDING: &str = "krd.kdh";

impl Stage {
    async fn unbind(&self, source: TokenSource) -> Result<Moved, KrdError> {
        self.terminal().unbind(source).await
    }

    async fn rebind(&self, source: TokenSource) -> Result<Moved, KrdError> {
        self.terminal().rebind(source).await
    }

    fn binding(&self) -> BindingName {
        self.terminal().status().unwrap().binding
    }

    /// Serial number of the KDH that the terminal is bound to.
    fn kdh(&self) -> Option<String> {
        let kdh = self.terminal().status().unwrap().bound_kdh?;
        Some(kdh.certificate.serial)
    }

    fn pending(&self) -> usize {
        let status = self.terminal().status().unwrap();
        status.pending_acknowledgements.len()
    }

    /// By `CA_KRD`, about the KDH of this certificate.
    fn ubt_ca(&self, kdh: &Certificate) -> Vec<u8> {
        let krd = id(self.host.script().krd.as_ref().unwrap());
        let ca = id(&TODAY.ca_krd.certificate);
        let draft = CaUnbindToken::draft(
            Profile::X9_2019,
            &krd,
            &id(kdh),
            signing_time(TODAY.now),
            &ca,
        );
        sign(draft.unwrap(), &TODAY.ca_krd.key)
    }

    fn rbt_ca(&self, kdh: &Certificate, new: &Certificate) -> Vec<u8> {
        let krd = id(self.host.script().krd.as_ref().unwrap());
        let ca = id(&TODAY.ca_krd.certificate);
        let draft = CaRebindToken::draft(
            Profile::X9_2019,
            &krd,
            &id(kdh),
            new.der(),
            signing_time(TODAY.now),
            &ca,
        );
        sign(draft.unwrap(), &TODAY.ca_krd.key)
    }

    fn destroy_keys(&self) {
        for key in self.loaded_keys() {
            let name = KeyName::with_id(&key.label, &key.id).unwrap();
            self.token.destroy_key(&name).unwrap();
        }
    }

    /// As if nobody answered.
    fn cut_the_line(&mut self) {
        "127.0.0.1:1".clone_into(&mut self.config.host);
    }
}

fn serial(kdh: &Certificate) -> String {
    kdh.serial().to_string()
}

fn tmk(key_version: u32) -> DestroyedKey {
    DestroyedKey {
        slot: "tmk".parse().unwrap(),
        key_version,
    }
}

/// What the host has heard last, its signature verified.
fn last_statement(host: &ScriptedHost) -> BindingStatement {
    let script = host.script();
    let Receipt {
        statement,
        signature,
    } = script.acknowledged.last().unwrap().receipt.clone().unwrap();
    let key = script.krd_tls.as_ref().unwrap().public_key();
    key.verify(&statement, &signature).unwrap();
    BindingStatement::decode(statement.as_slice()).unwrap()
}

/// What the terminal says after it has obeyed `token`.
fn statement(token: &[u8], kdh: Option<&Certificate>, destroyed: &[u32]) -> BindingStatement {
    let destroyed = destroyed.iter().map(|key_version| WireKey {
        slot: "tmk".to_owned(),
        key_version: *key_version,
    });
    BindingStatement {
        context: "kdh.v1.BindingStatement".to_owned(),
        serial_number: SERIAL.to_owned(),
        token_sha256: Sha256::digest(token).to_vec(),
        previous_kdh: id(&TODAY.kdh).to_der(),
        kdh: kdh.map_or_else(Vec::new, |kdh| id(kdh).to_der()),
        destroyed_keys: destroyed.collect(),
    }
}

#[test]
fn unbinding_destroys_every_key_and_forgets_the_kdh() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.script().ordered = Some(Kind::Unbind);
            let moved = stage.unbind(TokenSource::Kdh).await.unwrap();
            assert_eq!(moved.kdh, None);
            assert_eq!(moved.destroyed_keys, [tmk(1)]);
            assert!(moved.acknowledged);
            let token = stage.evidence("ubt-kdh.der");
            assert_eq!(last_statement(&stage.host), statement(&token, None, &[1]));

            assert_eq!(stage.key_count(), 0);
            let status = stage.terminal().status().unwrap();
            assert_eq!(status.binding, BindingName::Unbound);
            assert_eq!((status.bound_kdh, status.slots.len()), (None, 0));
            assert!(
                status.encryption_certificate.is_some(),
                "it is enrolled still"
            );
            assert_eq!(status.crl.unwrap().number, 7, "lists are never forgotten");
            let load = stage.terminal().load(None).await.unwrap_err();
            assert_eq!(load.reason(), Some("not-bound"));
            let again = stage.unbind(TokenSource::Kdh).await.unwrap_err();
            assert_eq!(again.reason(), Some("not-bound"));

            // Another one may have it now, and starts with whatever version it likes.
            stage.host.play(&TODAY.other_kdh, &TODAY.other_kdh_key);
            stage.terminal().bind().await.unwrap();
            stage.host.assign("tmk", 1);
            stage.load().await.unwrap();
            assert_eq!(stage.kdh(), Some(serial(&TODAY.other_kdh)));
        });
    });
}

#[test]
fn rebinding_keeps_the_keys_for_the_new_kdh() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let before = stage.slot();
            stage.host.script().ordered = Some(Kind::Rebind);
            let moved = stage.rebind(TokenSource::Kdh).await.unwrap();
            assert_eq!(moved.previous_kdh.serial, TODAY.kdh.serial().to_string());
            assert_eq!(
                moved.kdh.map(|kdh| kdh.serial),
                Some(serial(&TODAY.other_kdh))
            );
            assert!(moved.destroyed_keys.is_empty() && moved.acknowledged);
            let token = stage.evidence("rbt-kdh.der");
            let expected = statement(&token, Some(&TODAY.other_kdh), &[]);
            assert_eq!(last_statement(&stage.host), expected);
            assert_eq!(stage.slot(), before);

            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
            stage.host.assign("tmk", 2);
            stage.load().await.unwrap();
            assert_eq!(stage.slot().key_version, Some(2));

            // The old one has nothing to say any more.
            stage.host.play(&TODAY.kdh, &TODAY.kdh_key);
            stage.host.assign("tmk", 3);
            assert_eq!(reason(stage.load().await), "other-kdh");
            let bind = stage.terminal().bind().await.unwrap_err();
            assert_eq!(bind.reason(), Some("other-kdh"));
            stage.host.script().ordered = Some(Kind::Unbind);
            let unbind = stage.unbind(TokenSource::Kdh).await.unwrap_err();
            assert_eq!(unbind.reason(), Some("other-kdh"));
            assert_eq!(stage.kdh(), Some(serial(&TODAY.other_kdh)));
        });
    });
}

#[test]
fn loading_obeys_orders_first() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.assign("tmk", 2);
            stage.host.script().ordered = Some(Kind::Rebind);
            let report = stage.terminal().load(None).await.unwrap();
            let moved = report.moved.unwrap();
            assert_eq!(
                moved.kdh.map(|kdh| kdh.serial),
                Some(serial(&TODAY.other_kdh))
            );
            // The new KDH is the same host.
            let loaded = report.slots[0].outcome.as_ref().unwrap();
            assert!(matches!(loaded, SlotOutcome::Loaded { .. }));
            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);

            stage.host.assign("tmk", 3);
            stage.host.script().ordered = Some(Kind::Unbind);
            let requests = stage.host.script().requests.len();
            let report = stage.terminal().load(None).await.unwrap();
            let moved = report.moved.unwrap();
            assert_eq!((moved.kdh, moved.acknowledged), (None, true));
            assert_eq!(moved.destroyed_keys, [tmk(2)]);
            assert!(report.slots.is_empty());
            assert_eq!(stage.host.script().requests.len(), requests);
            assert_eq!(stage.key_count(), 0);

            stage.host.script().ordered = Some(Kind::Unspecified);
            stage.terminal().bind().await.unwrap();
            let unknown = stage.terminal().load(None).await.unwrap_err();
            assert_eq!(unknown.reason(), Some("answer-malformed"));
        });
    });
}

type Change = fn(&mut MoveOrder);

#[test]
fn a_refused_token_changes_nothing() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let (slot, kdh) = (stage.slot(), stage.kdh());
            for (source, expected) in [
                (TokenSource::Kdh, "NOT_ORDERED"),
                (TokenSource::Authority, "NO_AUTHORITY_TOKEN"),
            ] {
                let refused = stage.unbind(source.clone()).await.unwrap_err();
                assert_eq!(refused.reason(), Some(expected));
                let refused = stage.rebind(source).await.unwrap_err();
                assert_eq!(refused.reason(), Some(expected));
            }
            let both = [Kind::Unbind, Kind::Rebind];
            let cases: [(&str, &[Kind], Change); 6] = [
                ("nonce-mismatch", &both, |order| {
                    order.nonce = KrdNonce::from_bytes([7; 16]);
                }),
                ("signature-invalid", &both, |order| {
                    order.key = &TODAY.other_kdh_key;
                }),
                ("other-kdh", &both, |order| {
                    order.signer = TODAY.other_kdh.clone();
                    order.key = &TODAY.other_kdh_key;
                    order.new_kdh = TODAY.kdh.clone();
                }),
                ("other-recipient", &both, |order| order.krd = neighbour()),
                ("kdh-untrusted", &[Kind::Rebind], |order| {
                    order.new_kdh = TODAY.kdh_with(&TODAY.impostor, Role::Kdh, |_| {});
                }),
                ("kdh-wrong-role", &[Kind::Rebind], |order| {
                    order.new_kdh = TODAY.kdh_with(&TODAY.ca_kdh, Role::Krd, |_| {});
                }),
            ];
            for (expected, kinds, change) in cases {
                for kind in kinds {
                    stage.host.direct(|script| {
                        (script.ordered, script.alter_move) = (Some(*kind), change);
                    });
                    let refused = match kind {
                        Kind::Rebind => stage.rebind(TokenSource::Kdh).await,
                        _ => stage.unbind(TokenSource::Kdh).await,
                    };
                    assert_eq!(refused.unwrap_err().reason(), Some(expected));
                    // Ordered at load, it stops that, too.
                    let load = stage.terminal().load(None).await.unwrap_err();
                    assert_eq!(load.reason(), Some(expected));
                    assert_eq!((stage.slot(), stage.kdh()), (slot.clone(), kdh.clone()));
                    assert_eq!(stage.key_count(), 1);
                }
            }
            assert!(stage.host.script().acknowledged.is_empty());
            assert_eq!(stage.pending(), 0);
        });
    });
}

/// Else the list that names a KDH could be followed by an older one.
#[test]
fn a_list_in_a_refused_token_is_not_forgotten() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.direct(|script| {
                script.ordered = Some(Kind::Rebind);
                script.crl = TODAY.ca_kdh.crl(TODAY.now, |crl| {
                    crl.number = CrlNumber(8);
                    crl.revoked = vec![revoked(&TODAY.other_kdh, TODAY.now)];
                });
            });
            let refused = stage.rebind(TokenSource::Kdh).await.unwrap_err();
            assert_eq!(refused.reason(), Some("kdh-revoked"));
            assert_eq!(stage.kdh(), Some(serial(&TODAY.kdh)));
            let token = stage.rbt_ca(&TODAY.kdh, &TODAY.other_kdh);
            let refused = stage.rebind(TokenSource::AuthorityFile(token)).await;
            assert_eq!(refused.unwrap_err().reason(), Some("kdh-revoked"));
        });
    });
}

#[test]
fn the_ca_takes_a_terminal_away_off_line_and_for_good() {
    on_every_module(|_| {
        on_stage(|| async {
            let mut stage = Stage::loaded().await;
            let line = stage.config.host.clone();
            stage.cut_the_line();
            let token = stage.ubt_ca(&TODAY.kdh);
            let file = || TokenSource::AuthorityFile(pem(&token).into_bytes());
            let moved = stage.unbind(file()).await.unwrap();
            assert_eq!((moved.kdh, moved.acknowledged), (None, false));
            assert_eq!(moved.destroyed_keys, [tmk(1)]);
            assert_eq!((stage.key_count(), stage.pending()), (0, 1));
            let again = stage.unbind(file()).await.unwrap_err();
            assert_eq!(again.reason(), Some("token-obeyed-before"));
            let load = stage.terminal().load(None).await.unwrap_err();
            assert_eq!(
                load.reason(),
                Some("not-bound"),
                "whether there is a line or not"
            );

            // The host is told as soon as there is a line, and the lost KDH is not gone back to.
            stage.config.host = line;
            let back = stage.terminal().bind().await.unwrap_err();
            assert_eq!(back.reason(), Some("withdrawn-kdh"));
            assert_eq!(last_statement(&stage.host), statement(&token, None, &[1]));
            assert_eq!(
                (stage.binding(), stage.pending()),
                (BindingName::Unbound, 0)
            );

            stage.host.play(&TODAY.other_kdh, &TODAY.other_kdh_key);
            stage.terminal().bind().await.unwrap();
            stage.host.assign("tmk", 1);
            stage.load().await.unwrap();
            let again = stage.unbind(file()).await.unwrap_err();
            assert_eq!(again.reason(), Some("token-obeyed-before"));
            assert_eq!(stage.key_count(), 1);

            stage.host.direct(|script| {
                script.ordered = Some(Kind::Rebind);
                script.alter_move = |order| order.new_kdh = TODAY.kdh.clone();
            });
            let back = stage.rebind(TokenSource::Kdh).await.unwrap_err();
            assert_eq!(back.reason(), Some("withdrawn-kdh"));
        });
    });
}

#[test]
fn the_ca_gives_a_terminal_to_another_kdh() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let before = stage.slot();
            let token = stage.rbt_ca(&TODAY.kdh, &TODAY.other_kdh);
            stage.host.script().authority_token = Some(AuthorityToken::RbtCa(token.clone()));
            let other_way = stage.unbind(TokenSource::Authority).await.unwrap_err();
            assert_eq!(other_way.reason(), Some("other-authority-token"));
            let moved = stage.rebind(TokenSource::Authority).await.unwrap();
            assert!(moved.acknowledged && moved.destroyed_keys.is_empty());
            let expected = statement(&token, Some(&TODAY.other_kdh), &[]);
            assert_eq!(last_statement(&stage.host), expected);
            assert_eq!(stage.kdh(), Some(serial(&TODAY.other_kdh)));
            assert_eq!(stage.slot(), before);

            let again = stage.rebind(TokenSource::Authority).await.unwrap_err();
            assert_eq!(again.reason(), Some("token-obeyed-before"));
            let about_the_old_one = TokenSource::AuthorityFile(stage.ubt_ca(&TODAY.kdh));
            let refused = stage.unbind(about_the_old_one).await.unwrap_err();
            assert_eq!(refused.reason(), Some("other-kdh"));
            stage.host.assign("tmk", 2);
            stage.load().await.unwrap();
        });
    });
}

#[test]
fn a_refused_token_of_a_ca_changes_nothing() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let good = stage.ubt_ca(&TODAY.kdh);
            let damaged = |position: usize| {
                let mut token = good.clone();
                token[position] ^= 1;
                token
            };
            let two = pem(&good).repeat(2).into_bytes();
            for (file, expected) in [
                (Vec::new(), "file-malformed"),
                (b"UBT_CA".to_vec(), "file-malformed"),
                (two, "file-malformed"),
                ([&good[..], &[0]].concat(), "token-malformed"),
                (damaged(good.len() - 1), "signature-invalid"),
                (
                    stage.rbt_ca(&TODAY.kdh, &TODAY.other_kdh),
                    "token-malformed",
                ),
                (stage.ubt_ca(&TODAY.other_kdh), "other-kdh"),
            ] {
                let refused = stage.unbind(TokenSource::AuthorityFile(file)).await;
                assert_eq!(refused.unwrap_err().reason(), Some(expected));
            }
            for (file, expected) in [
                (good.clone(), "token-malformed"),
                (stage.rbt_ca(&TODAY.other_kdh, &TODAY.kdh), "other-kdh"),
                (stage.rbt_ca(&TODAY.kdh, &TODAY.krd), "kdh-untrusted"),
            ] {
                let refused = stage.rebind(TokenSource::AuthorityFile(file)).await;
                assert_eq!(refused.unwrap_err().reason(), Some(expected));
            }
            assert_eq!(
                (stage.kdh(), stage.key_count()),
                (Some(serial(&TODAY.kdh)), 1)
            );
            assert_eq!(stage.pending(), 0);
            stage.load().await.unwrap();
        });
    });
}

/// The record in which an unbinding starts.
fn begun(token: &[u8]) -> String {
    format!(
        r#"{{"format":1,"content":{{"state":{{"unbinding":{{"kdh":"{}","token_sha256":"{}","keys":[{{"slot":"tmk","key-version":1}}]}}}},"withdrawals":[],"acknowledgements":[]}}}}"#,
        hex::encode(TODAY.kdh.der()),
        hex::encode(Sha256::digest(token)),
    )
}

/// Wherever it is cut off, the next command ends it, whichever it is.
#[test]
fn an_unbinding_that_is_cut_off_ends_the_same() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            for (cut, command) in (0..12).map(|number| (number / 4, number % 4)) {
                let begun = begun(b"token");
                stage.token.store_record(BINDING, begun.as_bytes()).unwrap();
                if cut > 0 {
                    stage.destroy_keys();
                }
                if cut > 1 {
                    stage.token.destroy_record("krd.slot.tmk").unwrap();
                }
                assert_eq!(stage.binding(), BindingName::Unbinding);
                let terminal = stage.terminal();
                let ended = match command {
                    0 => terminal.load(None).await.map(drop),
                    1 => terminal.unbind(TokenSource::Kdh).await.map(drop),
                    2 => terminal.rebind(TokenSource::Kdh).await.map(drop),
                    _ => terminal.bind().await.map(drop),
                };
                if command < 3 {
                    assert_eq!(ended.unwrap_err().reason(), Some("not-bound"));
                    assert_eq!(stage.binding(), BindingName::Unbound);
                } else {
                    ended.unwrap();
                }
                let told = last_statement(&stage.host);
                assert_eq!(told, statement(b"token", None, &[1]));
                assert_eq!((stage.key_count(), stage.pending()), (0, 0));
                assert!(stage.terminal().status().unwrap().slots.is_empty());
                stage.terminal().bind().await.unwrap();
                stage.load().await.unwrap();
            }
            assert_eq!(stage.host.script().acknowledged.len(), 12);
        });
    });
}

#[test]
fn an_acknowledgement_is_sent_until_it_is_dealt_with() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            stage.host.direct(|script| {
                script.ordered = Some(Kind::Rebind);
                script.acknowledgements = [
                    Confirmation::Lost,
                    Confirmation::Refused(Reason::StoreUnavailable),
                    Confirmation::Refused(Reason::ReceiptInvalid),
                ]
                .into();
            });
            let moved = stage.rebind(TokenSource::Kdh).await.unwrap();
            assert!(!moved.acknowledged);
            assert_eq!(stage.pending(), 1);
            // It holds nothing up.
            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
            assert_eq!(stage.pending(), 1);
            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
            assert_eq!(stage.pending(), 0, "refused for good");
            stage.load().await.unwrap();
            let script = stage.host.script();
            let [first, second, third] = &script.acknowledged[..] else {
                panic!("three times");
            };
            assert_eq!((first, second), (second, third));
        });
    });
}

/// From one KDH to the other and back, and no host that listens.
#[test]
fn what_no_host_takes_does_not_grow_without_end() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            for number in 0..18 {
                stage.host.direct(|script| {
                    script.ordered = Some(Kind::Rebind);
                    script.acknowledgements =
                        [Confirmation::Refused(Reason::StoreUnavailable); 2].into();
                });
                let there: (Change, _) = (
                    |order| order.new_kdh = TODAY.other_kdh.clone(),
                    (&TODAY.other_kdh, &TODAY.other_kdh_key),
                );
                let back: (Change, _) = (
                    |order| order.new_kdh = TODAY.kdh.clone(),
                    (&TODAY.kdh, &TODAY.kdh_key),
                );
                let (change, (kdh, key)) = if number % 2 == 0 { there } else { back };
                stage.host.script().alter_move = change;
                let moved = stage.rebind(TokenSource::Kdh).await.unwrap();
                assert!(!moved.acknowledged);
                assert_eq!(stage.kdh(), Some(serial(kdh)));
                stage.host.play(kdh, key);
                assert_eq!(stage.pending(), (number + 1).min(16));
            }
            let first = stage.host.script().acknowledged.len();
            stage.terminal().load(None).await.unwrap();
            assert_eq!(stage.host.script().acknowledged.len(), first + 16);
        });
    });
}

/// A terminal that does not know whom it is bound to binds itself to nobody.
#[test]
fn a_damaged_binding_is_no_binding() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::loaded().await;
            let good = stage.token.load_record(BINDING).unwrap().unwrap();
            let text = String::from_utf8(good.clone()).unwrap();
            let certificate = hex::encode(TODAY.kdh.der());
            for damage in [
                "{".to_owned(),
                text.replace("\"format\":1", "\"format\":2"),
                text.replace(&certificate, ""),
                text.replace(&certificate, &certificate[2..]),
                text.replace("bound", "Bound"),
                text.replace("\"kdh\"", "\"ct_kdh\""),
                text.replace(",\"withdrawals\":[]", ""),
                text.replace("[]}}", "[],\"more\":1}}"),
                begun(b"token").replace("\"keys\":[", "\"keys\":[7,"),
            ] {
                assert_ne!(damage, text);
                stage
                    .token
                    .store_record(BINDING, damage.as_bytes())
                    .unwrap();
                let terminal = stage.terminal();
                let file = TokenSource::AuthorityFile(stage.ubt_ca(&TODAY.kdh));
                for refused in [
                    terminal.bind().await.map(drop),
                    terminal.load(None).await.map(drop),
                    terminal.unbind(file).await.map(drop),
                ] {
                    let error = refused.unwrap_err();
                    let damaged = matches!(error, KrdError::Record(_) | KrdError::DamagedMemory(_));
                    assert!(damaged, "{damage}: {error}");
                }
                assert_eq!(stage.key_count(), 1);
            }
            stage.token.store_record(BINDING, &good).unwrap();
            assert_eq!(stage.load().await.unwrap(), SlotOutcome::Held);
        });
    });
}

/// In a profile without lists in its tokens, the remembered one counts.
/// Its record says less, and it is bound all the same.
#[test]
fn a_terminal_of_before_stays_bound() {
    on_every_module(|_| {
        on_stage(|| async {
            let stage = Stage::bound().await;
            let ct_kdh = hex::encode(stage.evidence("ct-kdh.der"));
            let before = format!(r#"{{"format":1,"content":{{"ct_kdh":"{ct_kdh}"}}}}"#);
            stage
                .token
                .store_record(BINDING, before.as_bytes())
                .unwrap();
            assert_eq!(stage.kdh(), Some(TODAY.kdh.serial().to_string()));
            stage.load().await.unwrap();
            stage.host.script().ordered = Some(Kind::Unbind);
            stage.terminal().load(None).await.unwrap().moved.unwrap();
            assert_eq!(stage.binding(), BindingName::Unbound);
        });
    });
}

#[test]
fn another_profile_takes_the_same_way() {
    on_every_module(|_| {
        on_stage(|| async {
            let mut stage = Stage::set().await;
            stage.config.profile = Profile::Clover;
            stage.host.script().profile = Profile::Clover;
            stage.prepare().await;
            stage.load().await.unwrap();
            stage.host.script().ordered = Some(Kind::Rebind);
            stage.rebind(TokenSource::Kdh).await.unwrap();
            stage.host.assign("tmk", 2);
            stage.load().await.unwrap();

            // Another list comes with CT_KDH only.
            stage.host.direct(|script| {
                script.crl = TODAY.ca_kdh.crl(TODAY.now, |crl| {
                    crl.number = CrlNumber(8);
                    crl.revoked = vec![revoked(&TODAY.other_kdh, TODAY.now)];
                });
            });
            stage.host.assign("tmk", 3);
            stage.load().await.unwrap();
            let bind = stage.terminal().bind().await.unwrap_err();
            assert_eq!(bind.reason(), Some("kdh-revoked"));
            stage.host.assign("tmk", 4);
            assert_eq!(reason(stage.load().await), "kdh-revoked");

            // What the terminal remembers is read whatever its configuration says.
            stage.config.profile = Profile::X9_2019;
            assert_eq!(stage.kdh(), Some(serial(&TODAY.other_kdh)));
            assert_eq!(reason(stage.load().await), "token-malformed");
        });
    });
}
