//! What strangers may occupy, and for how long.

use std::time::Duration;

use token_tls::{AcceptLimits, ConnectError, TlsIdentity, client_config, connect};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tonic::transport::Channel;

use crate::{
    authority::CLIENT,
    process::alone,
    run,
    world::{PATIENCE, SERVER_NAME, World, ask},
};

#[test]
fn those_who_say_nothing_hold_up_nobody() {
    alone(|directory| {
        let world = World::new(directory);
        run(async {
            let limits = AcceptLimits {
                connections: 4,
                handshake: PATIENCE,
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
    alone(|directory| {
        let world = World::new(directory);
        run(async {
            let limits = AcceptLimits {
                connections: 1,
                handshake: Duration::from_millis(500),
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
    alone(|directory| {
        let world = World::new(directory);
        run(async {
            let limits = AcceptLimits {
                connections: 1,
                handshake: PATIENCE,
            };
            let server = world.serve(limits).await.to_string();
            let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
            let first = open(&world, &server, &client, PATIENCE).await.unwrap();
            let second = open(&world, &server, &client, Duration::from_millis(100)).await;
            assert!(
                matches!(second, Err(ConnectError::NoAnswer { .. })),
                "{second:?}"
            );
            drop(first);
            open(&world, &server, &client, PATIENCE).await.unwrap();
        });
    });
}

async fn open(
    world: &World,
    server: &str,
    client: &TlsIdentity,
    limit: Duration,
) -> Result<Channel, ConnectError> {
    let issuers = [world.ca.certificate.clone()];
    let config = client_config(Some(client), &issuers).unwrap();
    connect(server, SERVER_NAME, config, limit).await
}
