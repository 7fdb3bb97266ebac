//! Connecting to a server, for gRPC.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// Why there is no connection, and what to look at.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("{0:?} is no address: write host:port")]
    Address(String),
    /// Not a host name or an IP address.
    #[error("{0:?} is no server name")]
    ServerName(String),
    /// Nobody answers there, or the handshake failed.
    #[error("no connection to {address}: {cause}")]
    Failed {
        /// Where to.
        address: String,
        /// What the network or the TLS library said.
        cause: String,
    },
}

/// Connects to `address` (`host:port`) and checks that the server's certificate is for
/// `server_name`.
///
/// # Errors
/// The address is malformed, nobody answers in time, or the handshake fails.
pub async fn connect(
    address: &str,
    server_name: &str,
    config: ClientConfig,
    limit: Duration,
) -> Result<Channel, ConnectError> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| ConnectError::ServerName(server_name.to_owned()))?;
    // TLS is ours; to the gRPC library this is a plain connection.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(limit);
    let connector = TlsConnector::from(Arc::new(config));
    let target = address.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, name, target) = (connector.clone(), name.clone(), target.clone());
        async move {
            let connection = async {
                let stream = TcpStream::connect(&target).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await
            };
            match timeout(limit, connection).await {
                Ok(connection) => connection.map(TokioIo::new),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            }
        }
    });
    endpoint
        .connect_with_connector(dial)
        .await
        .map_err(|error| ConnectError::Failed {
            address: address.to_owned(),
            cause: innermost(&error),
        })
}

/// The gRPC library wraps the cause in "transport error"; the operator needs the cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
