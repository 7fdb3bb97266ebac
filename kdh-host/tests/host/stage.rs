//! What most tests of keys need: a host that serves, an operator, and two terminals whose model carries a key profile.

use hsm::Token;
use hsm_modules::Place;
use kdh_proto::{
    RECEIPT_CONTEXT,
    v1::{
        AssignKeyProfileRequest, AssignKeyRequest, Assignment, ConfirmRequest, KeyCheckValue,
        KeyProfile, KeyProfileSlot, KeyProfileTarget, ListAssignmentsRequest,
        ListRefusedKeysRequest, PutKeyProfileRequest, ReceiptStatement, RequestKeyRequest,
        RequestKeyResponse, SetDeviceGroupRequest, ShowDeviceRequest, ShowDeviceResponse,
        UniqueKey, administration_client::AdministrationClient, key_check_value::Method,
        key_profile_slot::Source, key_profile_target::Target,
        refused_keys_client::RefusedKeysClient,
    },
};
use sha2::{Digest as _, Sha256};
use tonic::{Status, transport::Channel};
use tr34::{KrdNonce, RandomToken};

use crate::{
    database::Database,
    world::{Bound, Running, World},
};

type Operator = AdministrationClient<Channel>;

/// The master key has it as well.
pub(crate) const HEADER: &str = "D0000K0AB00E0000";

/// The terminals have RSA-2048, which is weaker than the keys that they load.
pub(crate) const LENIENT: &str = "key-strength = \"warn\"\nkey-policy = \"lenient\"\n";

/// A host, its operator, and two terminals.
pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World<'w>,
    pub(crate) host: Running,
    pub(crate) operator: Operator,
    terminals: [Bound; 2],
    nonces: u8,
    /// With which terminals report that they have a key.
    pub(crate) header: String,
}

const SERIALS: [&str; 2] = ["SN-1", "SN-2"];

/// Sets the stage, and plays a scene on it.
pub(crate) fn play(place: &Place, scene: impl AsyncFnOnce(Stage<'_>, Database)) {
    play_with(place, |_| (), scene);
}

/// The same, with something more in the kdh token.
pub(crate) fn play_with(
    place: &Place,
    prepare: impl FnOnce(&Token),
    scene: impl AsyncFnOnce(Stage<'_>, Database),
) {
    World::with_kdh_token(place.folder(), prepare).play(async |world| {
        let stage = Stage::set(world).await;
        scene(stage, Database::open(world).await).await;
    });
}

impl<'w> Stage<'w> {
    pub(crate) async fn set(world: &'w World<'w>) -> Self {
        Self::set_with(world, "").await
    }

    /// With something more in the configuration.
    pub(crate) async fn set_with(world: &'w World<'w>, more: &str) -> Self {
        world.configure(&format!("{LENIENT}{more}"));
        let host = world.serve().await;
        let mut operator = world.operator(&host).await;
        carry(&mut operator, vec![unique()]).await;
        let terminals = [
            world.bound(&host, &mut operator, SERIALS[0]).await,
            world.bound(&host, &mut operator, SERIALS[1]).await,
        ];
        Self {
            world,
            host,
            operator,
            terminals,
            nonces: 0,
            header: HEADER.to_owned(),
        }
    }

    /// The host is stopped, and another one goes on where it has ended.
    pub(crate) async fn restart(self, meanwhile: impl AsyncFnOnce()) -> Self {
        self.host.stop().await;
        meanwhile().await;
        let world = self.world;
        let host = world.serve().await;
        let [one, other] = self.terminals.map(|bound| bound.enrolled);
        let bound = async |serial, enrolled| Bound {
            client: world.enrolled(&host, serial, &enrolled).await,
            enrolled,
        };
        let terminals = [bound(SERIALS[0], one).await, bound(SERIALS[1], other).await];
        Self {
            operator: world.operator(&host).await,
            terminals,
            host,
            ..self
        }
    }

    pub(crate) async fn assign(&mut self, terminal: usize) -> Assignment {
        self.try_to_assign(terminal).await.unwrap()
    }

    pub(crate) async fn try_to_assign(&mut self, terminal: usize) -> Result<Assignment, Status> {
        self.assign_named(SERIALS[terminal], "tmk", "").await
    }

    /// A registered key, or what the profile says if none is named.
    pub(crate) async fn assign_named(
        &mut self,
        serial_number: &str,
        slot: &str,
        key_name: &str,
    ) -> Result<Assignment, Status> {
        let assign = assigning(serial_number, slot, key_name);
        Ok(self.operator.assign_key(assign).await?.into_inner())
    }

    pub(crate) async fn list(&mut self, terminal: usize) -> Result<Vec<Assignment>, Status> {
        let client = &mut self.terminals[terminal].client;
        let listed = client.list_assignments(ListAssignmentsRequest {}).await?;
        Ok(listed.into_inner().assignments)
    }

    pub(crate) async fn request(&mut self, terminal: usize) -> Result<RequestKeyResponse, Status> {
        self.nonces += 1;
        let request = requesting("tmk", self.nonces);
        let client = &mut self.terminals[terminal].client;
        Ok(client.request_key(request).await?.into_inner())
    }

    pub(crate) async fn confirm(
        &mut self,
        terminal: usize,
        issued: &RequestKeyResponse,
    ) -> Result<(), Status> {
        self.report(terminal, issued, issued.kcv.clone()).await
    }

    /// The terminal loads what it shall hold.
    pub(crate) async fn fetch(&mut self, terminal: usize) -> RequestKeyResponse {
        let issued = self.request(terminal).await.unwrap();
        self.confirm(terminal, &issued).await.unwrap();
        issued
    }

    /// It loads the next key that its profile says. The check value.
    pub(crate) async fn load(&mut self, terminal: usize) -> Vec<u8> {
        self.assign(terminal).await;
        self.fetch(terminal).await.kcv.unwrap().value
    }

    /// The terminal says that what it has loaded has this check value.
    pub(crate) async fn report(
        &mut self,
        terminal: usize,
        issued: &RequestKeyResponse,
        kcv: Option<KeyCheckValue>,
    ) -> Result<(), Status> {
        let statement = ReceiptStatement {
            context: RECEIPT_CONTEXT.to_owned(),
            serial_number: SERIALS[terminal].to_owned(),
            delivery_id: issued.delivery_id.clone(),
            slot: "tmk".to_owned(),
            key_version: issued.key_version,
            header: self.header.clone(),
            kcv,
            kt_kdh_sha256: Sha256::digest(&issued.kt_kdh).to_vec(),
        };
        let confirm = ConfirmRequest {
            receipt: Some(self.world.receipt(SERIALS[terminal], &statement)),
        };
        self.terminals[terminal]
            .client
            .confirm(confirm)
            .await
            .map(drop)
    }

    pub(crate) async fn show(&mut self, terminal: usize) -> ShowDeviceResponse {
        let show = ShowDeviceRequest {
            serial_number: SERIALS[terminal].to_owned(),
        };
        self.operator.show_device(show).await.unwrap().into_inner()
    }

    /// Serial number, slot and version of the rows that the HSM refuses.
    pub(crate) async fn refused(&self) -> Vec<(String, String, i64)> {
        let channel = self.world.operators_channel(&self.host, 0).await;
        let list = ListRefusedKeysRequest::default();
        let listed = RefusedKeysClient::new(channel)
            .list_refused_keys(list)
            .await;
        let rows = listed.unwrap().into_inner().refused.into_iter();
        rows.map(|row| (row.serial_number, row.slot, row.key_version))
            .collect()
    }
}

/// The next key in a slot: a registered one, or what the profile says if none is named.
pub(crate) fn assigning(serial_number: &str, slot: &str, key_name: &str) -> AssignKeyRequest {
    AssignKeyRequest {
        serial_number: serial_number.to_owned(),
        slot: slot.to_owned(),
        key_name: key_name.to_owned(),
        ..AssignKeyRequest::default()
    }
}

/// A terminal asks for the key in a slot.
pub(crate) fn requesting(slot: &str, nonce: u8) -> RequestKeyRequest {
    let nonce = KrdNonce::from_bytes([nonce; 16]);
    RequestKeyRequest {
        slot: slot.to_owned(),
        rt_krd: RandomToken::new(nonce).to_der(),
    }
}

pub(crate) fn slot(slot: &str, header: &str, source: Source) -> KeyProfileSlot {
    KeyProfileSlot {
        slot: slot.to_owned(),
        header: header.to_owned(),
        kind: "AES-128".to_owned(),
        source: Some(source),
        kcv_method: Method::AesCmac.into(),
        kcv_length: 5,
        validity_days: 400,
        renewal_days: 0,
    }
}

/// The slot of a terminal, with a key of its own.
pub(crate) fn unique() -> KeyProfileSlot {
    slot("tmk", HEADER, Source::Unique(UniqueKey {}))
}

/// The model of the terminals carries a profile with these slots.
pub(crate) async fn carry(operator: &mut Operator, slots: Vec<KeyProfileSlot>) {
    put_profile(operator, "own", 0, slots).await.unwrap();
    carry_profile(operator, "own", Target::Model("M1".to_owned())).await;
}

/// Puts a profile, or its next version.
pub(crate) async fn put_profile(
    operator: &mut Operator,
    name: &str,
    based_on: u32,
    slots: Vec<KeyProfileSlot>,
) -> Result<(), Status> {
    let profile = KeyProfile {
        name: name.to_owned(),
        slots,
    };
    let put = PutKeyProfileRequest {
        profile: Some(profile),
        based_on,
        why: "from now on".to_owned(),
        dry_run: false,
    };
    operator.put_key_profile(put).await.map(drop)
}

/// Has a model or a group carry a profile.
pub(crate) async fn carry_profile(operator: &mut Operator, name: &str, target: Target) {
    let assign = AssignKeyProfileRequest {
        profile_name: name.to_owned(),
        target: Some(KeyProfileTarget {
            target: Some(target),
        }),
        why: "as above".to_owned(),
        dry_run: false,
    };
    operator.assign_key_profile(assign).await.unwrap();
}

/// Puts devices into a group; into none if it has no name.
pub(crate) async fn join(operator: &mut Operator, group: &str, serials: &[&str]) {
    let group = SetDeviceGroupRequest {
        serial_numbers: serials.iter().map(ToString::to_string).collect(),
        group: group.to_owned(),
        why: "first".to_owned(),
    };
    operator.set_device_group(group).await.unwrap();
}
