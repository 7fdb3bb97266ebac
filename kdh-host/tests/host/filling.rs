//! Keys that the host makes by itself for devices that come to a profile, whatever is wrong with others.

use hsm_modules::SOFTHSM;
use kdh_proto::v1::key_profile_target::Target;

use crate::{
    database::Database,
    stage::{LENIENT, carry, carry_profile, join, put_profile, unique},
    world::{self, World},
};

#[test]
fn a_spoilt_profile_or_device_keeps_no_other_from_its_keys() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            world.configure(&format!("{LENIENT}keys-for-new-devices = \"make\"\n"));
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let mut database = Database::open(world).await;
            carry(&mut operator, vec![unique()]).await;
            carry_profile(&mut operator, "own", Target::Model("M2".to_owned())).await;
            let spoilt = put_profile(&mut operator, "spoilt", 0, vec![unique()]);
            spoilt.await.unwrap();
            carry_profile(&mut operator, "spoilt", Target::Group("spoilt".to_owned())).await;
            for serial in ["SN-1", "SN-2", "SN-3"] {
                world.added(&mut operator, serial).await;
            }
            let put = "UPDATE key_profiles SET put_by = 'nobody' WHERE name = 'spoilt'";
            database.edit(put).await;
            let moved = "UPDATE devices SET model = 'M2' WHERE serial_number = 'SN-1'";
            database.edit(moved).await;
            join(&mut operator, "spoilt", &["SN-2"]).await;
            join(&mut operator, "pilot", &["SN-1", "SN-3"]).await;
            let made = "SELECT device FROM device_keys";
            let devices = world::until(async || {
                let made: Vec<String> = database.column(made).await;
                made.contains(&"SN-3".to_owned()).then_some(made)
            })
            .await;
            assert_eq!(devices, ["SN-3"]);
            host.stop().await;
        });
    });
}
