//! The operator's connection to the host.

use std::time::Duration;

use hsm::{KeyRole, Module, Pin};
use kdh_proto::v1::administration_client::AdministrationClient;
use token_tls::{TlsIdentity, client_config, connect};
use tonic::{Request, transport::Channel};

use crate::{config::Config, failure::Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) type Client = AdministrationClient<Channel>;

/// The connection, for every service that operators have.
pub(crate) struct Session {
    pub(crate) channel: Channel,
    pub(crate) administration: Client,
}

/// Opens the operator's token and connects with the key in it.
pub(crate) async fn open(config: &Config) -> Result<Session, Failure> {
    let pin = match &config.pin_file {
        Some(path) => Pin::from_file(path)?,
        None => Pin::prompt(&format!("PIN of token {}: ", config.token.label))?,
    };
    let token = Module::load(&config.module)?.open(&config.token, &pin)?;
    let identity = TlsIdentity {
        chain: vec![config.certificate.clone()],
        key: token.signing_key(KeyRole::Operator, &config.key)?,
    };
    let tls = client_config(Some(&identity), std::slice::from_ref(&config.server_ca))?;
    let channel = connect(&config.address, &config.server_name, tls, CONNECT_TIMEOUT).await?;
    Ok(Session {
        administration: AdministrationClient::new(channel.clone()),
        channel,
    })
}

/// A request that does not wait for ever.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}
