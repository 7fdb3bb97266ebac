//! Terminals that another host has enrolled.

use hsm_modules::WHOLE;
use kdh_proto::{
    Reason,
    v1::{
        AdmitDeviceRequest, Device, DeviceExport, ExportDeviceRequest, ListDevicesRequest,
        RevokeDeviceRequest, ShowDeviceRequest, SuspendDeviceRequest,
        administration_client::AdministrationClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    bindings::{Scene, of, play, reason},
    world::{self, Bound, World, add_device, assign_master_key},
};

type Operator = AdministrationClient<Channel>;

async fn export(operator: &mut Operator, serial: &str) -> Result<DeviceExport, Status> {
    let export = ExportDeviceRequest {
        serial_number: serial.to_owned(),
    };
    Ok(operator.export_device(export).await?.into_inner())
}

async fn admit(operator: &mut Operator, device: &DeviceExport) -> Result<Device, Status> {
    let admit = AdmitDeviceRequest {
        device: Some(device.clone()),
    };
    Ok(operator.admit_device(admit).await?.into_inner())
}

/// A device as another host would export it, by the files of its certificates.
fn visitor(world: &World<'_>, serial: &str, files: [&str; 2]) -> DeviceExport {
    let [encryption, authentication] = files.map(|name| world.certificate(name).der().to_vec());
    DeviceExport {
        serial_number: serial.to_owned(),
        model: "M1".to_owned(),
        encryption_certificate: encryption,
        authentication_certificate: authentication,
    }
}

async fn newest_record(scene: &Scene<'_>) -> String {
    sqlx::query_scalar(
        "SELECT action || ' ' || outcome || ' ' || actor || ' ' || COALESCE(device, '') FROM audit
         ORDER BY sequence DESC",
    )
    .fetch_one(scene.database().await.connection())
    .await
    .unwrap()
}

const GOOD: [&str; 2] = ["visitor.pem", "visitor-tls.pem"];

impl<'w> Scene<'w> {
    /// Another host takes this one's place, with a registry of its own.
    async fn elsewhere(self, store: &str) -> Scene<'w> {
        self.host.stop().await;
        self.world.use_store(store);
        let host = self.world.serve().await;
        let enrolled = self.terminal.enrolled;
        let client = self.world.enrolled(&host, "SN-1", &enrolled).await;
        Scene {
            world: self.world,
            operator: self.world.operator(&host).await,
            terminal: Bound { client, enrolled },
            host,
        }
    }
}

#[test]
fn a_terminal_of_another_host_is_admitted_and_lives_on() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let exported = export(&mut scene.operator, "SN-1").await.unwrap();
            let shown = (&*exported.serial_number, &*exported.model);
            assert_eq!(shown, ("SN-1", "M1"));

            let mut scene = scene.elsewhere("two.db").await;
            let stranger = Some(Reason::CredentialRejected);
            assert_eq!(reason(scene.bind().await), stranger);
            let admitted = admit(&mut scene.operator, &exported).await.unwrap();
            assert_eq!((&*admitted.state, &*admitted.model), ("ENROLLED", "M1"));
            assert_ne!(admitted.certificate_serial, "");
            assert_eq!(admitted.bound_kdh, "");

            scene.bind().await.unwrap();
            assign_master_key(&mut scene.operator, "SN-1").await;
            scene.request_key(1).await.unwrap();
            assert_eq!(scene.device().await, of("BOUND", ""));
            assert_eq!(export(&mut scene.operator, "SN-1").await.unwrap(), exported);
            let again = admit(&mut scene.operator, &exported).await;
            assert_eq!(reason(again), Some(Reason::AlreadyExists));
            scene.host.stop().await;
        });
    });
}

type Spoil = fn(&mut DeviceExport);

#[test]
fn what_is_not_good_is_not_admitted() {
    use Reason::{CredentialRejected, IdentityMismatch, RequestInvalid};
    let files = [
        (["visitor-listed.pem", GOOD[1]], CredentialRejected),
        (["visitor-expired.pem", GOOD[1]], CredentialRejected),
        (["visitor-early.pem", GOOD[1]], CredentialRejected),
        (["visitor-foreign.pem", GOOD[1]], CredentialRejected),
        (["kdh.pem", GOOD[1]], CredentialRejected),
        (["ca-krd.pem", GOOD[1]], CredentialRejected),
        (["other.pem", GOOD[1]], IdentityMismatch),
        ([GOOD[0], "visitor-tls-listed.pem"], CredentialRejected),
        ([GOOD[0], "visitor-tls-expired.pem"], CredentialRejected),
        ([GOOD[0], "visitor-tls-foreign.pem"], CredentialRejected),
        ([GOOD[0], "host-tls.pem"], CredentialRejected),
        ([GOOD[0], "ada.pem"], CredentialRejected),
        ([GOOD[0], "other-tls.pem"], IdentityMismatch),
        ([GOOD[1], GOOD[0]], CredentialRejected),
        ([GOOD[0], GOOD[0]], CredentialRejected),
        (["other.pem", "other-tls.pem"], IdentityMismatch),
    ];
    let spoiled: [(&str, Reason, Spoil); 9] = [
        ("no serial number", RequestInvalid, |it| {
            it.serial_number.clear();
        }),
        ("no serial number at all", RequestInvalid, |it| {
            it.serial_number = "sn 7".to_owned();
        }),
        ("no model", RequestInvalid, |it| it.model.clear()),
        ("a model of two lines", RequestInvalid, |it| {
            it.model = "M\n1".to_owned();
        }),
        ("no encryption certificate", CredentialRejected, |it| {
            it.encryption_certificate.clear();
        }),
        ("no authentication certificate", CredentialRejected, |it| {
            it.authentication_certificate.clear();
        }),
        ("a certificate and more", CredentialRejected, |it| {
            it.encryption_certificate.push(0);
        }),
        ("a flipped bit", CredentialRejected, |it| {
            *it.authentication_certificate.last_mut().unwrap() ^= 1;
        }),
        ("a long certificate", CredentialRejected, |it| {
            it.encryption_certificate.resize(60_000, 0);
        }),
    ];
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            for (files, expected) in files {
                let device = visitor(scene.world, "SN-7", files);
                let refused = admit(&mut scene.operator, &device).await;
                assert_eq!(reason(refused), Some(expected), "{files:?}");
            }
            for (case, expected, spoil) in spoiled {
                let mut device = visitor(scene.world, "SN-7", GOOD);
                spoil(&mut device);
                let refused = admit(&mut scene.operator, &device).await;
                assert_eq!(reason(refused), Some(expected), "{case}");
            }
            let nothing = AdmitDeviceRequest { device: None };
            let refused = scene.operator.admit_device(nothing).await;
            assert_eq!(reason(refused), Some(RequestInvalid));
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let good = visitor(scene.world, "SN-7", GOOD);
            let role = Some(Reason::RoleMissing);
            assert_eq!(reason(admit(&mut bob, &good).await), role);

            let all = ListDevicesRequest::default();
            let listed = scene.operator.list_devices(all).await.unwrap();
            assert_eq!(listed.into_inner().devices.len(), 1, "nobody came in");
            assert_eq!(
                newest_record(&scene).await,
                "operator.refused ROLE_MISSING operator:bob "
            );
            admit(&mut scene.operator, &good).await.unwrap();
            assert_eq!(
                newest_record(&scene).await,
                "device.admitted ok operator:ada SN-7"
            );
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_key_or_a_number_that_is_known_here_is_not_admitted_again() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let good = visitor(scene.world, "SN-7", GOOD);
            admit(&mut scene.operator, &good).await.unwrap();
            let in_use = Some(Reason::KeyInUse);
            for files in [
                ["other.pem", "other-tls.pem"],
                ["other.pem", "other-tls-same-serial.pem"],
            ] {
                let other = visitor(scene.world, "SN-8", files);
                let refused = admit(&mut scene.operator, &other).await;
                assert_eq!(reason(refused), in_use, "{files:?}");
                let show = ShowDeviceRequest {
                    serial_number: "SN-8".to_owned(),
                };
                let missing = scene.operator.show_device(show).await;
                assert_eq!(reason(missing), Some(Reason::NotFound), "half of it stays");
            }
            // Registered is there, too.
            scene.world.added(&mut scene.operator, "SN-8").await;
            let other = visitor(scene.world, "SN-8", ["other.pem", "other-tls.pem"]);
            let refused = admit(&mut scene.operator, &other).await;
            assert_eq!(reason(refused), Some(Reason::AlreadyExists));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_key_that_is_too_short_for_this_host_is_not_admitted() {
    world::on(&WHOLE, |place| {
        play(place, async |scene| {
            let lines = "key-strength = \"warn\"\nmin-rsa-bits = 3072\n";
            scene.world.configure(lines);
            let mut scene = scene.elsewhere("two.db").await;
            let device = visitor(scene.world, "SN-7", GOOD);
            let refused = admit(&mut scene.operator, &device).await;
            assert_eq!(reason(refused), Some(Reason::KeyTooWeak));
            scene.host.stop().await;
        });
    });
}

#[test]
fn a_terminal_that_is_stopped_or_has_no_certificates_is_not_exported() {
    world::on(&WHOLE, |place| {
        play(place, async |mut scene| {
            let [mut bob, _] = scene.world.recoverers(&scene.host).await;
            let role = Some(Reason::RoleMissing);
            assert_eq!(reason(export(&mut bob, "SN-1").await), role);
            let operator = &mut scene.operator;
            add_device(operator, "SN-2").await;
            for (serial, expected) in [
                ("SN-2", Reason::WrongState),
                ("SN-9", Reason::NotFound),
                ("", Reason::RequestInvalid),
                ("sn-1", Reason::RequestInvalid),
            ] {
                let refused = export(operator, serial).await;
                assert_eq!(reason(refused), Some(expected), "{serial:?}");
            }
            let (serial_number, why) = ("SN-1".to_owned(), "lost".to_owned());
            let suspend = SuspendDeviceRequest {
                serial_number: serial_number.clone(),
                why: why.clone(),
            };
            operator.suspend_device(suspend).await.unwrap();
            let stopped = Some(Reason::WrongState);
            assert_eq!(reason(export(operator, "SN-1").await), stopped);
            let revoke = RevokeDeviceRequest { serial_number, why };
            operator.revoke_device(revoke).await.unwrap();
            assert_eq!(reason(export(operator, "SN-1").await), stopped);
            scene.host.stop().await;
        });
    });
}
