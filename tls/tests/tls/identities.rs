//! Identities that cannot work are refused before anybody connects.

use hsm::{KeyName, KeyPairKind, KeyRole};
use token_tls::{ClientAuthentication, TlsError, TlsIdentity, client_config, server_config};

use crate::{
    authority::{CLIENT, SERVER},
    world::{SIGNATURES, World},
};

#[test]
fn a_certificate_belongs_to_its_p256_key() {
    hsm_modules::on(&hsm_modules::WHOLE, |place| {
        let world = World::new(place.folder());
        let name = KeyName::new("ca-ops").unwrap();
        let bits = 2048;
        world
            .token
            .generate_key_pair(KeyRole::IssuingCa, &name, KeyPairKind::Rsa { bits })
            .unwrap();
        let rsa_key = world.token.signing_key(KeyRole::IssuingCa, &name).unwrap();
        let request = pki::issue_csr(&rsa_key, &"CN=kdh.example".parse().unwrap()).unwrap();

        let server = world.server(&world.ca, SERVER);
        let client = world.client(&world.ca, "CN=ada,OU=Operator", CLIENT);
        let nothing = TlsIdentity {
            chain: Vec::new(),
            key: server.key.clone(),
        };
        let swapped = TlsIdentity {
            chain: client.chain,
            key: server.key.clone(),
        };
        let rsa = TlsIdentity {
            chain: vec![world.ca.certify(&request, SERVER)],
            key: rsa_key,
        };
        let issuer = &world.ca.certificate;
        let clients = ClientAuthentication::Required(issuer.clone());
        let refusal = |identity: &TlsIdentity| {
            let as_server = server_config(identity, &clients, SIGNATURES).unwrap_err();
            let as_client = client_config(Some(identity), std::slice::from_ref(issuer));
            assert_eq!(as_server.to_string(), as_client.unwrap_err().to_string());
            as_server
        };
        assert!(matches!(refusal(&nothing), TlsError::NoCertificate));
        assert!(matches!(refusal(&swapped), TlsError::WrongKey));
        assert!(matches!(refusal(&rsa), TlsError::KeyKind));
    });
}

#[test]
fn a_client_trusts_somebody() {
    assert!(matches!(client_config(None, &[]), Err(TlsError::Issuer(_))));
}
