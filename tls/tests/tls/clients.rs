//! Which clients a server lets in.

use std::process::{Command, Stdio};

use hsm::KeyName;
use rustls::AlertDescription as Alert;
use token_tls::{ClientAuthentication, ConnectError};

use crate::{
    authority::{CLIENT, SERVER},
    run,
    world::{GENEROUS, SERVER_NAME, World, ask, serve},
};

const OPERATOR: &str = "CN=ada,OU=Operator";

#[test]
fn a_client_is_let_in_by_its_certificate_alone() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let (ca, other) = (&world.ca, &world.other_ca);
        let refused = |alert| Err(Some(alert));
        let cases = [
            ("an operator", ca, OPERATOR, CLIENT, Ok("ada")),
            ("a terminal", ca, "CN=SN-1,OU=KRD-TLS", CLIENT, Ok("SN-1")),
            (
                "another CA",
                other,
                OPERATOR,
                CLIENT,
                refused(Alert::UnknownCA),
            ),
            (
                "expired",
                ca,
                OPERATOR,
                CLIENT.expired(),
                refused(Alert::CertificateExpired),
            ),
            (
                "not yet valid",
                ca,
                OPERATOR,
                CLIENT.not_yet_valid(),
                refused(Alert::CertificateExpired),
            ),
            (
                "without extended usage",
                ca,
                OPERATOR,
                CLIENT.with(""),
                refused(Alert::UnsupportedCertificate),
            ),
            (
                "with a server's usage",
                ca,
                OPERATOR,
                CLIENT.with("extendedKeyUsage=serverAuth"),
                refused(Alert::UnsupportedCertificate),
            ),
            (
                "with both usages",
                ca,
                OPERATOR,
                CLIENT.with("extendedKeyUsage=clientAuth,serverAuth"),
                refused(Alert::UnsupportedCertificate),
            ),
            (
                "of no unit",
                ca,
                "CN=ada",
                CLIENT,
                refused(Alert::UnsupportedCertificate),
            ),
            (
                "of another unit",
                ca,
                "CN=ada,OU=KRD",
                CLIENT,
                refused(Alert::UnsupportedCertificate),
            ),
        ];
        run(async {
            let server = world.serve(GENEROUS).await;
            for (case, issuer, subject, profile, expected) in cases {
                let client = world.client(issuer, subject, profile);
                let answer = ask(server, SERVER_NAME, Some(&client), ca).await;
                assert_eq!(verdict(answer), expected.map(str::to_owned), "{case}");
            }
            let answer = ask(server, SERVER_NAME, None, ca).await;
            let expected = Err(Some(Alert::CertificateRequired));
            assert_eq!(verdict(answer), expected, "without a certificate");
        });
    });
}

#[test]
fn where_certificates_are_optional_a_wrong_one_is_still_refused() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let (ca, other) = (&world.ca, &world.other_ca);
        run(async {
            let clients = ClientAuthentication::Optional(ca.certificate.clone());
            let server = serve(&world.server(ca, SERVER), &clients, GENEROUS).await;
            let answer = ask(server, SERVER_NAME, None, ca).await;
            assert_eq!(answer.as_deref(), Ok("nobody"));
            let ada = world.client(ca, OPERATOR, CLIENT);
            let answer = ask(server, SERVER_NAME, Some(&ada), ca).await;
            assert_eq!(answer.as_deref(), Ok("ada"));
            let eve = world.client(other, OPERATOR, CLIENT);
            let answer = ask(server, SERVER_NAME, Some(&eve), ca).await;
            assert_eq!(verdict(answer), Err(Some(Alert::UnknownCA)));
        });
    });
}

#[test]
fn a_key_that_is_gone_from_the_token_is_named() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let server = world.serve(GENEROUS).await;
            let client = world.client(&world.ca, OPERATOR, CLIENT);
            world
                .token
                .destroy_key(&KeyName::new("operator").unwrap())
                .unwrap();
            let refused = ask(server, SERVER_NAME, Some(&client), &world.ca).await;
            let Err(ConnectError::Key(reason)) = refused else {
                panic!("{refused:?}")
            };
            assert!(reason.contains("operator"), "{reason}");
        });
    });
}

#[test]
fn a_runtime_with_one_thread_signs_too() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let server = tokio::runtime::Runtime::new().unwrap();
        let address = server.block_on(world.serve(GENEROUS));
        let client = world.client(&world.ca, OPERATOR, CLIENT);
        let one_thread = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = one_thread.block_on(ask(address, SERVER_NAME, Some(&client), &world.ca));
        assert_eq!(answer.as_deref(), Ok("ada"));
    });
}

/// By a client that can speak both versions.
#[test]
fn tls_1_2_is_refused() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        run(async {
            let clients = ClientAuthentication::Optional(world.ca.certificate.clone());
            let identity = world.server(&world.ca, SERVER);
            let server = serve(&identity, &clients, GENEROUS).await;
            let speaks = |version: &str| {
                let output = Command::new("openssl")
                    .args(["s_client", version, "-connect", &server.to_string()])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let log = [output.stdout, output.stderr].concat();
                (
                    output.status.success(),
                    String::from_utf8_lossy(&log).into_owned(),
                )
            };
            let (connected, log) = tokio::task::block_in_place(|| speaks("-tls1_3"));
            assert!(connected && log.contains("TLSv1.3"), "{log}");
            let (connected, log) = tokio::task::block_in_place(|| speaks("-tls1_2"));
            assert!(
                !connected && log.contains("alert protocol version"),
                "{log}"
            );
        });
    });
}

/// What the server answered, or the alert with which it refused the client.
fn verdict(answer: Result<String, ConnectError>) -> Result<String, Option<Alert>> {
    answer.map_err(|error| match error {
        ConnectError::ClientRejected { alert, .. } => Some(alert),
        _ => None,
    })
}
