//! Which servers a client accepts, and what it says about the others.

use std::time::Duration;

use token_tls::{ClientAuthentication, ConnectError, client_config, connect};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    authority::SERVER,
    run,
    world::{GENEROUS, PATIENCE, SERVER_NAME, World, ask, serve},
};

enum Expected {
    Accepted,
    /// With these words in the reason.
    Rejected(&'static str),
    /// With this name in its certificate.
    AnotherServer(&'static str),
}

#[test]
fn a_server_is_accepted_by_its_certificate_and_name() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        use Expected::{Accepted, AnotherServer, Rejected};
        let world = World::new(place.folder());
        let (ca, other) = (&world.ca, &world.other_ca);
        let name = SERVER_NAME;
        let cases = [
            ("by name", ca, SERVER, name, Accepted),
            ("by address", ca, SERVER, "127.0.0.1", Accepted),
            ("another CA", other, SERVER, name, Rejected("UnknownIssuer")),
            ("expired", ca, SERVER.expired(), name, Rejected("expired")),
            (
                "not yet valid",
                ca,
                SERVER.not_yet_valid(),
                name,
                Rejected("not valid yet"),
            ),
            (
                "without extended usage",
                ca,
                SERVER.with("subjectAltName=DNS:kdh.example"),
                name,
                Rejected("InvalidPurpose"),
            ),
            (
                "with a client's usage",
                ca,
                SERVER.with("subjectAltName=DNS:kdh.example\nextendedKeyUsage=clientAuth"),
                name,
                Rejected("server authentication"),
            ),
            (
                "another name",
                ca,
                SERVER,
                "krd.example",
                AnotherServer("kdh.example"),
            ),
            (
                "another address",
                ca,
                SERVER,
                "127.0.0.2",
                AnotherServer("127.0.0.1"),
            ),
            (
                "a common name alone",
                ca,
                SERVER.with("extendedKeyUsage=serverAuth"),
                name,
                AnotherServer(""),
            ),
        ];
        run(async {
            for (case, issuer, profile, name, expected) in cases {
                let clients = ClientAuthentication::Optional(ca.certificate.clone());
                let server = serve(&world.server(issuer, profile), &clients, GENEROUS).await;
                let answer = ask(server, name, None, ca).await;
                let fits = match (&answer, expected) {
                    (Ok(answer), Accepted) => answer == "nobody",
                    (Err(ConnectError::ServerRejected { cause, .. }), Rejected(why)) => {
                        cause.contains(why)
                    }
                    (
                        Err(ConnectError::WrongServer {
                            expected, found, ..
                        }),
                        AnotherServer(names),
                    ) => expected == name && found.contains(names),
                    _ => false,
                };
                assert!(fits, "{case}: {answer:?}");
            }
        });
    });
}

#[test]
fn what_is_no_server_is_told_apart() {
    run(async {
        let config = || {
            let pem = include_str!("ca.pem");
            client_config(None, &[pki::Certificate::from_pem(pem).unwrap()]).unwrap()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();

        let short = Duration::from_millis(50);
        let error = connect(&address, SERVER_NAME, config(), short).await;
        let address_of = || address.clone();
        let expected = ConnectError::NoAnswer {
            address: address_of(),
        };
        assert_eq!(error.unwrap_err(), expected, "it listens and says nothing");

        let chatter = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream
                    .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    .await
                    .unwrap();
            }
        });
        let error = connect(&address, SERVER_NAME, config(), PATIENCE).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, ConnectError::Handshake { .. }),
            "no TLS: {error:?}"
        );

        chatter.abort();
        assert!(chatter.await.unwrap_err().is_cancelled());
        let error = connect(&address, SERVER_NAME, config(), PATIENCE).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, ConnectError::Unreachable { .. }),
            "nobody: {error:?}"
        );

        for address in [
            "",
            "kdh.example",
            "kdh.example:",
            "a b:7443",
            "kdh.example:65536",
        ] {
            let error = connect(address, SERVER_NAME, config(), PATIENCE).await;
            assert_eq!(
                error.unwrap_err(),
                ConnectError::Address(address.to_owned())
            );
        }
        for name in ["", "not a name", "kdh.example:7443", "-kdh.example-"] {
            let error = connect(&address, name, config(), PATIENCE).await;
            assert_eq!(
                error.unwrap_err(),
                ConnectError::ServerName(name.to_owned())
            );
        }
    });
}
