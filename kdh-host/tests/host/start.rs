//! What keeps a host from starting. `check` names whatever `start` would.

use std::fs;

use kdh_host::{Clock as _, StartError, SystemClock};

use crate::{alone::alone, world::World};

#[test]
fn a_sound_host_starts_and_stops_and_starts_again() {
    alone(|directory| {
        let world = World::new(directory);
        kdh_host::check(&world.config(), SystemClock.now(), true).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
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
    alone(|directory| {
        let world = World::new(directory);
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
