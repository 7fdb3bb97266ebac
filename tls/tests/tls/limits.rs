//! What strangers may occupy, and for how long.

use std::time::Duration;

use token_tls::{
    AcceptLimits, ClientAuthentication, ConnectError, TlsIdentity, client_config, connect,
    server_config,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    authority::{CLIENT, SERVER},
    run,
    world::{GENEROUS, PATIENCE, SERVER_NAME, World, ask, serve_by},
};

#[test]
fn those_who_say_nothing_hold_up_nobody() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections: 4,
                ..GENEROUS
            };
            let server = world.serve(limits).await;
            let mut silent = Vec::new();
            for _ in 1..limits.connections {
                silent.push(TcpStream::connect(server).await.unwrap());
            }
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            for _ in 0..3 {
                let answer = ask(server, SERVER_NAME, Some(&client), &world.ca).await;
                assert_eq!(answer.as_deref(), Ok("ada"));
            }
        });
    });
}

#[test]
fn a_place_is_free_again_when_the_handshake_takes_too_long() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections: 1,
                handshake: Duration::from_millis(500),
                ..GENEROUS
            };
            let server = world.serve(limits).await;
            let mut silent = TcpStream::connect(server).await.unwrap();
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let answer = ask(server, SERVER_NAME, Some(&client), &world.ca).await;
            assert_eq!(answer.as_deref(), Ok("ada"));
            assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "hung up on");
        });
    });
}

#[test]
fn a_connection_too_many_waits_for_a_place() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections: 1,
                ..GENEROUS
            };
            let server = world.serve(limits).await.to_string();
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let first = open(&world, &server, Some(&client), PATIENCE)
                .await
                .unwrap();
            let second = open(&world, &server, Some(&client), Duration::from_millis(100)).await;
            assert!(
                matches!(second, Err(ConnectError::NoAnswer { .. })),
                "{second:?}"
            );
            drop(first);
            open(&world, &server, Some(&client), PATIENCE)
                .await
                .unwrap();
        });
    });
}

#[test]
fn who_says_nothing_after_the_handshake_is_hung_up_on() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections: 1,
                silence: Duration::from_millis(500),
                ..GENEROUS
            };
            let server = world.serve(limits).await;
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let silent = world.silent(server, Some(&client)).await.unwrap();
            assert!(is_hung_up_on(silent).await);
            let answer = ask(server, SERVER_NAME, Some(&client), &world.ca).await;
            assert_eq!(answer.as_deref(), Ok("ada"), "the place is free");
        });
    });
}

#[test]
fn a_client_without_certificate_has_less_time_however_busy_it_is() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                anonymous: Duration::from_secs(1),
                ..GENEROUS
            };
            let server = world.serve_strangers(limits).await;
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let mut named = open(&world, &server.to_string(), Some(&client), PATIENCE)
                .await
                .unwrap();
            let mut nameless = open(&world, &server.to_string(), None, PATIENCE)
                .await
                .unwrap();
            // The channel does not come back: it was made of one connection.
            while call(&mut nameless).await == "nobody" {}
            assert_eq!(call(&mut named).await, "ada");
        });
    });
}

#[test]
fn clients_without_certificate_have_half_of_the_places() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections: 4,
                ..GENEROUS
            };
            let server = world.serve_strangers(limits).await;
            let mut kept = Vec::new();
            for _ in 0..2 {
                let address = server.to_string();
                let mut nameless = open(&world, &address, None, PATIENCE).await.unwrap();
                assert_eq!(call(&mut nameless).await, "nobody");
                kept.push(nameless);
            }
            let third = world.silent(server, None).await.unwrap();
            assert!(is_hung_up_on(third).await);
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let answer = ask(server, SERVER_NAME, Some(&client), &world.ca).await;
            assert_eq!(answer.as_deref(), Ok("ada"));
        });
    });
}

#[test]
fn one_address_does_not_take_all_places() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections_per_address: 1,
                ..GENEROUS
            };
            let server = world.serve(limits).await;
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let first = open(&world, &server.to_string(), Some(&client), PATIENCE)
                .await
                .unwrap();
            world.silent(server, Some(&client)).await.unwrap_err();
            drop(first);
            // The server learns of it a moment later.
            while ask(server, SERVER_NAME, Some(&client), &world.ca)
                .await
                .is_err()
            {}
        });
    });
}

#[test]
fn one_key_does_not_take_all_places() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let limits = AcceptLimits {
                connections_per_key: 1,
                ..GENEROUS
            };
            let server = world.serve_strangers(limits).await;
            let [ada, bob] = ["CN=ada,OU=Operator", "CN=bob,OU=Operator"]
                .map(|subject| world.client(&world.ca, subject, CLIENT));
            let first = open(&world, &server.to_string(), Some(&ada), PATIENCE)
                .await
                .unwrap();
            // The client takes the handshake for done, and is hung up on then.
            for another_name in [&ada, &bob] {
                let answer = ask(server, SERVER_NAME, Some(another_name), &world.ca).await;
                assert!(answer.is_err(), "{answer:?}");
            }
            for _ in 0..2 {
                let answer = ask(server, SERVER_NAME, None, &world.ca).await;
                assert_eq!(answer.as_deref(), Ok("nobody"), "it has not this key");
            }
            drop(first);
            while ask(server, SERVER_NAME, Some(&bob), &world.ca)
                .await
                .is_err()
            {}
        });
    });
}

#[test]
fn handshakes_wait_for_their_turn_at_the_token() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let identity = world.server(&world.ca, SERVER);
            let clients = ClientAuthentication::Required(world.ca.certificate.clone());
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let config = server_config(&identity, &clients, 1).unwrap();
            let server = serve_by(config, GENEROUS).await;
            let ask = || ask(server, SERVER_NAME, Some(&client), &world.ca);
            let answers = tokio::join!(ask(), ask(), ask(), ask());
            for answer in [answers.0, answers.1, answers.2, answers.3] {
                assert_eq!(answer.as_deref(), Ok("ada"), "one after the other");
            }
        });
    });
}

/// Whether the server ends a connection within a test's patience.
async fn is_hung_up_on(mut stream: impl AsyncRead + Unpin) -> bool {
    let mut received = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut received))
        .await
        .is_ok()
}

/// What the server answers.
async fn call(channel: &mut Channel) -> String {
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    answer.unwrap_err().message().to_owned()
}

async fn open(
    world: &World,
    server: &str,
    client: Option<&TlsIdentity>,
    limit: Duration,
) -> Result<Channel, ConnectError> {
    let issuers = [world.ca.certificate.clone()];
    let config = client_config(client, &issuers).unwrap();
    connect(server, SERVER_NAME, config, limit).await
}
