//! What every test needs: a token with a server's and a client's key, two CAs, a server, a client.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hsm::{KeyName, KeyPairKind, KeyRole, Module, Pin, SigningKey, Token, TokenConfig};
use pki::{Certificate, issue_csr};
use rustls::ServerConfig;
use token_tls::{
    AcceptLimits, ClientAuthentication, ConnectError, TlsIdentity, accept, client_config, connect,
    server_config,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::authority::{Authority, Profile, SERVER};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const GENEROUS: AcceptLimits = AcceptLimits {
    connections: 16,
    connections_per_address: 16,
    connections_per_key: 16,
    handshake: PATIENCE,
    silence: PATIENCE,
    anonymous: PATIENCE,
};
pub(crate) const SIGNATURES: usize = 16;
pub(crate) const SERVER_NAME: &str = "kdh.example";

pub(crate) struct World {
    pub(crate) token: Token,
    pub(crate) ca: Authority,
    pub(crate) other_ca: Authority,
    server_key: SigningKey,
    client_key: SigningKey,
}

impl World {
    pub(crate) fn new(directory: &Path) -> Self {
        let module = Module::load(&hsm_modules::library()).unwrap();
        let pin = Pin::new("123456".to_owned().into());
        module.initialize_token("tls", &pin, &pin).unwrap();
        let token = module.open(&TokenConfig::new("tls"), &pin).unwrap();
        let key = |role, label| {
            let name = KeyName::new(label).unwrap();
            token
                .generate_key_pair(role, &name, KeyPairKind::P256)
                .unwrap();
            token.signing_key(role, &name).unwrap()
        };
        Self {
            server_key: key(KeyRole::TlsServer, "host-tls"),
            client_key: key(KeyRole::Operator, "operator"),
            token,
            ca: Authority::new(directory, "CA"),
            other_ca: Authority::new(directory, "Other CA"),
        }
    }

    pub(crate) fn server(&self, ca: &Authority, profile: Profile) -> TlsIdentity {
        identity(&self.server_key, ca, "CN=kdh.example", profile)
    }

    /// `subject` like `CN=ada,OU=Operator`.
    pub(crate) fn client(&self, ca: &Authority, subject: &str, profile: Profile) -> TlsIdentity {
        identity(&self.client_key, ca, subject, profile)
    }

    /// A server with a good certificate whose clients must show one by the first CA.
    pub(crate) async fn serve(&self, limits: AcceptLimits) -> SocketAddr {
        let clients = ClientAuthentication::Required(self.ca.certificate.clone());
        serve(&self.server(&self.ca, SERVER), &clients, limits).await
    }

    /// As [`Self::serve`], for clients without a certificate too.
    pub(crate) async fn serve_strangers(&self, limits: AcceptLimits) -> SocketAddr {
        let clients = ClientAuthentication::Optional(self.ca.certificate.clone());
        serve(&self.server(&self.ca, SERVER), &clients, limits).await
    }

    /// Does the handshake, and then nothing.
    pub(crate) async fn silent(
        &self,
        server: SocketAddr,
        client: Option<&TlsIdentity>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_config(client, std::slice::from_ref(&self.ca.certificate)).unwrap();
        let name = SERVER_NAME.try_into().unwrap();
        let stream = TcpStream::connect(server).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}

fn identity(key: &SigningKey, ca: &Authority, subject: &str, profile: Profile) -> TlsIdentity {
    let request = issue_csr(key, &subject.parse().unwrap()).unwrap();
    TlsIdentity {
        chain: vec![ca.certify(&request, profile)],
        key: key.clone(),
    }
}

/// A server that answers every call with the name in the client's certificate.
pub(crate) async fn serve(
    identity: &TlsIdentity,
    clients: &ClientAuthentication,
    limits: AcceptLimits,
) -> SocketAddr {
    let config = server_config(identity, clients, SIGNATURES).unwrap();
    serve_by(config, limits).await
}

/// As [`serve`], with any configuration.
pub(crate) async fn serve_by(config: ServerConfig, limits: AcceptLimits) -> SocketAddr {
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, service) = tonic_health::server::health_reporter();
    let service = InterceptedService::new(service, |request: Request<()>| {
        Err(Status::aborted(client_of(&request)))
    });
    let connections = accept(listener, config, limits);
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(connections),
    );
    address
}

fn client_of(request: &Request<()>) -> String {
    let certificates = request.peer_certs();
    let leaf = certificates.and_then(|certificates| certificates.first().cloned());
    let name = leaf.map(|der| Certificate::from_der(&der).unwrap().common_name().unwrap());
    name.unwrap_or_else(|| "nobody".to_owned())
}

/// Connects, and asks the server who the client is.
pub(crate) async fn ask(
    address: SocketAddr,
    server_name: &str,
    client: Option<&TlsIdentity>,
    servers: &Authority,
) -> Result<String, ConnectError> {
    let config = client_config(client, std::slice::from_ref(&servers.certificate)).unwrap();
    let channel = connect(&address.to_string(), server_name, config, PATIENCE).await?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    Ok(answer.unwrap_err().message().to_owned())
}
