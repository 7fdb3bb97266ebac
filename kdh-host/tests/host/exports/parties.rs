//! Who has to do with exports: two operators, a switch, and the keys that the host shares with it.

use hsm::Token;
use hsm_modules::{
    Place,
    makers::{key_unwrap, openssl, tr31_opened},
};
use kdh_proto::v1::{
    AcknowledgeFileRequest, Approval, ApproveRequest, AskTargetRequest, CloseTargetRequest,
    ExportKey, ExportRecord, ExportTarget, FileHeader, FilePart, FillTargetRequest, KeyCheckValue,
    ListTargetsRequest, MakeFileRequest, ReceiveFrom, ReceiveRequest, TargetStanding,
    approvals_client::ApprovalsClient, file_part::Part, key_check_value::Method,
    key_exports_client::KeyExportsClient, receive_request::Request as Said,
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    database::Database,
    stage::{self, HEADER, Stage},
    world::{self, KEY, MASTER_KEY_KCV, Running, World, bring_key},
};

pub(super) const ZMK: &str = "zmkx.switch";
pub(super) const KBPK: &str = "kbpkx.switch";
pub(super) const MAC: &str = "zmac.switch";

/// The keys that are shared with the switch, all of the value [`KEY`].
pub(crate) fn share_keys(token: &Token) {
    for label in [ZMK, KBPK, MAC] {
        bring_key(token, label);
    }
}

/// An operator, or a switch, who has to do with exports.
pub(crate) struct Party {
    pub(super) exports: KeyExportsClient<Channel>,
    pub(super) approvals: ApprovalsClient<Channel>,
}

pub(super) const SWITCH: usize = 3;
pub(super) const STANDBY: usize = 4;

/// Sets the stage, and plays a scene on it with ada and bob, who agree on targets, and the switch.
pub(super) fn play(place: &Place, scene: impl AsyncFnOnce(Stage<'_>, [Party; 3], Database)) {
    play_with(place, |_| (), scene);
}

/// The same, with something more in the kdh token.
pub(super) fn play_with(
    place: &Place,
    prepare: impl FnOnce(&Token),
    scene: impl AsyncFnOnce(Stage<'_>, [Party; 3], Database),
) {
    let prepare = |token: &Token| {
        share_keys(token);
        prepare(token);
    };
    stage::play_with(place, prepare, async |stage, database| {
        let party = async |operator| Party::new(stage.world, &stage.host, operator).await;
        let parties = [party(0).await, party(1).await, party(SWITCH).await];
        scene(stage, parties, database).await;
    });
}

impl Party {
    pub(crate) async fn new(world: &World<'_>, host: &Running, operator: usize) -> Self {
        let channel = world.operators_channel(host, operator).await;
        Self {
            exports: KeyExportsClient::new(channel.clone()),
            approvals: ApprovalsClient::new(channel),
        }
    }

    pub(crate) async fn ask(&mut self, target: ExportTarget) -> Result<Approval, Status> {
        let ask = AskTargetRequest {
            target: Some(target),
            why: "the acquirer's".to_owned(),
        };
        Ok(self.exports.ask_target(ask).await?.into_inner())
    }

    pub(super) async fn approve(&mut self, id: &str) -> Result<Approval, Status> {
        let id = id.to_owned();
        let approved = self.approvals.approve(ApproveRequest { id }).await?;
        Ok(approved.into_inner())
    }

    pub(super) async fn close(&mut self) -> Result<String, Status> {
        let close = CloseTargetRequest {
            name: "switch".to_owned(),
            why: "another acquirer".to_owned(),
        };
        Ok(self.exports.close_target(close).await?.into_inner().id)
    }

    pub(super) async fn fill(&mut self) -> Result<u32, Status> {
        let fill = FillTargetRequest {
            name: "switch".to_owned(),
            ..FillTargetRequest::default()
        };
        Ok(self.exports.fill_target(fill).await?.into_inner().queued)
    }

    pub(super) async fn list(
        &mut self,
        name: &str,
        before: &str,
        limit: u32,
    ) -> Vec<TargetStanding> {
        let list = ListTargetsRequest {
            name: name.to_owned(),
            before: before.to_owned(),
            limit,
        };
        let listed = self.exports.list_targets(list).await.unwrap();
        listed.into_inner().targets
    }

    pub(super) async fn show(&mut self) -> TargetStanding {
        self.list("switch", "", 1).await.remove(0)
    }

    /// Once it is so.
    pub(super) async fn until(&mut self, is: impl Fn(&TargetStanding) -> bool) -> TargetStanding {
        world::until(async || Some(self.show().await).filter(&is)).await
    }

    /// Once so many records are made.
    pub(super) async fn until_made(&mut self, made: u64) -> TargetStanding {
        self.until(|standing| standing.made >= made && standing.made == standing.last)
            .await
    }

    pub(super) async fn file(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<(FileHeader, Vec<ExportRecord>), Status> {
        let make = MakeFileRequest {
            name: "switch".to_owned(),
            from,
            to,
            limit: 0,
        };
        let mut parts = self.exports.make_file(make).await?.into_inner();
        let (mut header, mut records) = (None, Vec::new());
        while let Some(FilePart { part }) = parts.message().await? {
            match part.unwrap() {
                Part::Header(first) => header = Some(first),
                Part::Record(record) => records.push(record),
            }
        }
        Ok((header.unwrap(), records))
    }

    pub(super) async fn acknowledge_file(&mut self, position: u64) -> Result<u64, Status> {
        let acknowledge = AcknowledgeFileRequest {
            name: "switch".to_owned(),
            position,
        };
        let acknowledged = self.exports.acknowledge_file(acknowledge).await?;
        Ok(acknowledged.into_inner().acknowledged)
    }

    pub(super) async fn receive(&mut self, position: u64) -> Result<Line, Status> {
        let (said, mut saying) = mpsc::unbounded_channel();
        let from = ReceiveFrom {
            name: "switch".to_owned(),
            position,
        };
        let line = |request| ReceiveRequest {
            request: Some(request),
        };
        said.send(line(Said::From(from))).unwrap();
        let saying = futures_util::stream::poll_fn(move |context| saying.poll_recv(context));
        let records = self.exports.receive(saying).await?.into_inner();
        Ok(Line { said, records })
    }
}

/// A switch's connection.
pub(super) struct Line {
    said: mpsc::UnboundedSender<ReceiveRequest>,
    records: Streaming<ExportRecord>,
}

impl Line {
    pub(super) async fn next(&mut self) -> Result<ExportRecord, Status> {
        let record = self.records.message().await?;
        Ok(record.unwrap())
    }

    pub(super) fn acknowledge(&self, position: u64) {
        let request = Some(Said::Acknowledged(position));
        self.said.send(ReceiveRequest { request }).unwrap();
    }
}

pub(super) fn shared_key(label: &str) -> ExportKey {
    ExportKey {
        label: label.to_owned(),
        kind: "AES-128".to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: MASTER_KEY_KCV.to_vec(),
        }),
    }
}

/// All keys, to the switch, by AES key wrap.
pub(super) fn to_switch() -> ExportTarget {
    ExportTarget {
        name: "switch".to_owned(),
        form: "key-wrap".to_owned(),
        under: Some(shared_key(ZMK)),
        mac: Some(shared_key(MAC)),
        receiver: "switch".to_owned(),
        ..ExportTarget::default()
    }
}

pub(crate) fn to_files() -> ExportTarget {
    ExportTarget {
        receiver: String::new(),
        ..to_switch()
    }
}

/// All keys, in the form that the module can do inside.
pub(super) fn in_best_form(place: &Place, target: ExportTarget) -> ExportTarget {
    if place.module().can.sealing != "concatenate" {
        return target;
    }
    ExportTarget {
        form: "tr31".to_owned(),
        under: Some(shared_key(KBPK)),
        ..target
    }
}

pub(super) async fn agreed(ada: &mut Party, bob: &mut Party, target: ExportTarget) -> Approval {
    let asked = ada.ask(target).await.unwrap();
    bob.approve(&asked.id).await.unwrap()
}

/// As docs/export.md has it, by OpenSSL.
pub(super) fn cmac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = format!("hexkey:{}", hex::encode(key));
    let cipher = "cipher:AES-128-CBC";
    openssl(
        &["mac", "-binary", "-macopt", cipher, "-macopt", &key, "CMAC"],
        bytes,
    )
}

pub(super) fn joined(texts: &[&str]) -> Vec<u8> {
    let with_len = |text: &&str| {
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&len[..], text.as_bytes()].concat()
    };
    texts.iter().flat_map(with_len).collect()
}

pub(super) fn bytes(record: &ExportRecord) -> Vec<u8> {
    joined(&[
        "kdh-export-1",
        &record.target,
        &record.name,
        &record.position.to_string(),
        &record.state,
        &record.device,
        &record.slot,
        &record.version.to_string(),
        &record.header,
        &record.kind,
        &record.kcv_method,
        &record.kcv,
        &record.form,
        &record.key,
    ])
}

/// The switch has the key: its MAC is right, and what it unwraps has the check value that the terminal confirmed.
pub(super) fn assert_arrived(record: &ExportRecord, terminal: usize, version: u32, kcv: &[u8]) {
    let device = ["SN-1", "SN-2"][terminal];
    assert_eq!(
        (
            &*record.state,
            &*record.device,
            &*record.slot,
            record.version
        ),
        ("KEY", device, "tmk", version)
    );
    assert_eq!(record.header, HEADER);
    assert_eq!(
        (&*record.kind, &*record.kcv_method),
        ("AES-128", "AES_CMAC")
    );
    assert_eq!(record.kcv, hex::encode_upper(kcv));
    assert_eq!(record.mac, cmac(&KEY, &bytes(record)), "{record:?}");
    let kn = if record.form == "key-wrap" {
        key_unwrap(&KEY, &hex::decode(&record.key).unwrap())
    } else {
        let said = tr31_opened(&KEY, std::slice::from_ref(&record.key)).remove(0);
        let (fields, kn) = said.rsplit_once(' ').unwrap();
        assert!(fields.starts_with(&record.header), "{fields}");
        hex::decode(kn).unwrap()
    };
    assert_eq!(kcv, &cmac(&kn, &[0; 16])[..kcv.len()]);
}
