//! What keeps a host from starting. `check` names whatever `start` would.

use std::fs;

use hsm::KeyName;
use hsm_modules::KRYOPTIC_UNFIT;
use kdh_host::{Clock as _, StartError, SystemClock};
use kdh_proto::{Reason, ReasonedStatus as _, v1::BindRequest};
use sqlx::{Connection, SqliteConnection};

use crate::world::{self, World, assign_master_key, open};

#[test]
fn a_sound_host_starts_and_stops_and_starts_again() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            kdh_host::check(&world.config(), SystemClock.now(), true).unwrap();
            for _ in 0..2 {
                world.serve().await.stop().await;
            }
        });
    });
}

#[test]
fn what_stops_the_host_is_found_by_the_check() {
    type Break = fn(&World<'_>);
    let cases: [(&str, Break); 7] = [
        ("the KDH certificate is revoked", |world| {
            fs::copy(
                world.path("crl-ca-kdh.revoked"),
                world.path("crl-ca-kdh.der"),
            )
            .unwrap();
        }),
        ("the KDH certificate is another role's", |world| {
            fs::copy(world.path("host-tls.pem"), world.path("kdh.pem")).unwrap();
        }),
        ("the TLS certificate is another role's", |world| {
            fs::copy(world.path("kdh.pem"), world.path("host-tls.pem")).unwrap();
        }),
        ("a CA is another root's", |world| {
            fs::copy(world.path("ca-krd.pem"), world.path("root.pem")).unwrap();
        }),
        ("a revocation list is another CA's", |world| {
            fs::copy(world.path("crl-ca-krd.der"), world.path("crl-ca-kdh.der")).unwrap();
        }),
        ("a revocation list is missing", |world| {
            fs::remove_file(world.path("crl-ca-krd.der")).unwrap();
        }),
        ("a revocation list is none", |world| {
            fs::write(world.path("crl-ca-krd.der"), "x").unwrap();
        }),
    ];
    world::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let kept = [
            "kdh.pem",
            "host-tls.pem",
            "root.pem",
            "crl-ca-krd.der",
            "crl-ca-kdh.der",
        ]
        .map(|name| (name, fs::read(world.path(name)).unwrap()));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut unlike = Vec::new();
        for (case, break_it) in cases {
            break_it(&world);
            let StartError(starting) = runtime.block_on(world.host()).map(drop).unwrap_err();
            let checking = kdh_host::check(&world.config(), SystemClock.now(), false);
            if checking.is_ok() {
                unlike.push(format!(
                    "{case}: start says {starting:?}, check says nothing"
                ));
            }
            for (name, content) in &kept {
                fs::write(world.path(name), content).unwrap();
            }
            fs::remove_file(world.path("host.db")).ok();
        }
        assert!(unlike.is_empty(), "{unlike:#?}");
    });
}

#[test]
fn a_key_that_the_token_lacks_stops_the_host_and_is_not_forgotten() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            world.added(&mut operator, "SN-1").await;
            assign_master_key(&mut operator, "SN-1").await;
            host.stop().await;
            let path = world.path("host.db");
            let path = path.to_str().unwrap();
            let mut database = SqliteConnection::connect(path).await.unwrap();
            let slipped_in =
                "INSERT INTO keys (name, hsm_label, header, kind, kcv_method, kcv, created_at)
                 VALUES ('tmk', 'kn.gone', 'D0000K0AB00E0000', 'AES-128', 'AES_CMAC', 'A1B2C3',
                     '2026-01-01T00:00:00Z')";
            sqlx::query(slipped_in)
                .execute(&mut database)
                .await
                .unwrap();
            let StartError(faults) = world.host().await.map(drop).unwrap_err();
            assert!(faults[0].contains("no operator registered"), "{faults:?}");
            let out_again = "DELETE FROM keys WHERE name = 'tmk'";
            sqlx::query(out_again).execute(&mut database).await.unwrap();

            let name = KeyName::new("kn.test").unwrap();
            open("kdh").destroy_key(&name).unwrap();
            for _ in 0..2 {
                let StartError(faults) = world.host().await.map(drop).unwrap_err();
                assert_eq!(faults.len(), 1, "{faults:?}");
                assert!(
                    faults[0].contains("key key") && faults[0].contains("kn.test"),
                    "{faults:?}"
                );
            }
        });
    });
}

#[test]
fn a_host_whose_certificate_is_revoked_gives_nothing_away() {
    world::on(&hsm_modules::WHOLE, |place| {
        World::new(place.folder()).play(async |world| {
            let host = world.serve().await;
            let code = world.added(&mut world.operator(&host).await, "SN-1").await;
            let enrollment = world.enrollment("SN-1", &code);
            let mut stranger = world.terminal(&host).await;
            let enrolled = stranger.enroll(enrollment).await.unwrap().into_inner();
            let mut terminal = world.enrolled(&host, "SN-1", &enrolled).await;
            let bind = BindRequest {
                ct_krd: enrolled.ct_krd,
            };
            terminal.bind(bind.clone()).await.unwrap();
            let (revoked, list) = ("crl-ca-kdh.revoked", "crl-ca-kdh.der");
            fs::copy(world.path(revoked), world.path(list)).unwrap();
            let refused = terminal.bind(bind).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::Internal));
            assert_eq!(refused.message(), "INTERNAL", "the terminal learns no more");
            host.stop().await;
        });
    });
}

/// The check, and the start, name the mechanisms that an HSM would have to have.
#[test]
fn a_host_whose_hsm_cannot_seal_does_not_start() {
    world::on(&[&KRYOPTIC_UNFIT], |place| {
        let world = World::new(place.folder());
        let refused = kdh_host::check(&world.config(), SystemClock.now(), true);
        let error = refused.unwrap_err().to_string();
        for part in [
            "kdh-token",
            "cannot seal key tokens",
            "concatenate needs CKM_CONCATENATE_DATA_AND_BASE and CKM_CONCATENATE_BASE_AND_DATA",
            "splice needs CKM_AES_CBC",
        ] {
            assert!(error.contains(part), "{error}");
        }
    });
}

/// Nor does one whose configuration wants a Ke that its HSM cannot make.
#[test]
fn a_host_that_is_to_use_tdea_and_cannot_does_not_start() {
    world::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        world.configure("ke-for-tdea = \"tdea\"\n");
        let checked = kdh_host::check(&world.config(), SystemClock.now(), true);
        if place.module().can.tdea_ke() {
            checked.unwrap();
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let started = runtime.block_on(world.host()).map(drop);
        for refused in [checked, started] {
            let error = refused.unwrap_err().to_string();
            for part in [
                "ke-for-tdea",
                "kdh-token",
                "of TDEA-2KEY under DES-EDE3-CBC",
                "of TDEA-3KEY under DES-EDE3-CBC",
                "CKM_DES3_CBC",
            ] {
                assert!(error.contains(part), "{error}");
            }
        }
    });
}
