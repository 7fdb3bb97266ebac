//! Keys that the host makes by itself for devices that come to a profile, whatever is wrong with others.

use hsm_modules::SOFTHSM;
use kdh_proto::v1::{
    AssignKeyProfileRequest, KeyProfile, KeyProfileTarget, PutKeyProfileRequest,
    SetDeviceGroupRequest, UniqueKey, administration_client::AdministrationClient,
    key_profile_slot::Source, key_profile_target::Target,
};
use tonic::transport::Channel;

use crate::{
    device_keys::{HEADER, carry, database, edit, slot},
    world::{self, World},
};

type Operator = AdministrationClient<Channel>;

async fn assign(operator: &mut Operator, profile: &str, target: Target) {
    let assign = AssignKeyProfileRequest {
        profile_name: profile.to_owned(),
        target: Some(KeyProfileTarget {
            target: Some(target),
        }),
        why: "as well".to_owned(),
        dry_run: false,
    };
    operator.assign_key_profile(assign).await.unwrap();
}

async fn join(operator: &mut Operator, group: &str, serials: &[&str]) {
    let group = SetDeviceGroupRequest {
        serial_numbers: serials.iter().map(ToString::to_string).collect(),
        group: group.to_owned(),
        why: "first".to_owned(),
    };
    operator.set_device_group(group).await.unwrap();
}

#[test]
fn a_spoilt_profile_or_device_keeps_no_other_from_its_keys() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::new(place.folder());
        world.configure(
            "key-strength = \"warn\"\nkey-policy = \"lenient\"\nkeys-for-new-devices = \"make\"\n",
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let mut database = database(&world).await;
            let unique = || slot("tmk", HEADER, Source::Unique(UniqueKey {}));
            carry(&mut operator, vec![unique()]).await;
            assign(&mut operator, "own", Target::Model("M2".to_owned())).await;
            let spoilt = KeyProfile {
                name: "spoilt".to_owned(),
                slots: vec![unique()],
            };
            let put = PutKeyProfileRequest {
                profile: Some(spoilt),
                why: "for some".to_owned(),
                ..PutKeyProfileRequest::default()
            };
            operator.put_key_profile(put).await.unwrap();
            assign(&mut operator, "spoilt", Target::Group("spoilt".to_owned())).await;
            for serial in ["SN-1", "SN-2", "SN-3"] {
                world.added(&mut operator, serial).await;
            }
            edit(
                &mut database,
                "UPDATE key_profiles SET put_by = 'nobody' WHERE name = 'spoilt'",
            )
            .await;
            edit(
                &mut database,
                "UPDATE devices SET model = 'M2' WHERE serial_number = 'SN-1'",
            )
            .await;
            join(&mut operator, "spoilt", &["SN-2"]).await;
            join(&mut operator, "pilot", &["SN-1", "SN-3"]).await;
            let made = "SELECT device FROM device_keys";
            let devices = world::until(async || {
                let made = sqlx::query_scalar(made).fetch_all(&mut database);
                let made: Vec<String> = made.await.unwrap();
                made.contains(&"SN-3".to_owned()).then_some(made)
            })
            .await;
            assert_eq!(devices, ["SN-3"]);
            host.stop().await;
        });
    });
}
