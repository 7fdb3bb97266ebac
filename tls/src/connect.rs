//! Connecting to a server, for gRPC.

use std::{error::Error, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::{io::AsyncBufReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// Why there is no connection, and what to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("{0:?} is not an address: write host:port")]
    Address(String),
    /// Not a host name or an IP address.
    #[error("{0:?} is not a server name: write a host name or an IP address")]
    ServerName(String),
    /// No such host, or nobody listens.
    #[error(
        "{address} cannot be reached ({cause}): look whether the address is right and the server \
         is running"
    )]
    Unreachable {
        /// Where to.
        address: String,
        /// What the operating system said.
        cause: String,
    },
    /// Something may listen, but does not speak in time.
    #[error(
        "{address} does not answer in time: look whether the address is right and the network \
         lets this machine through"
    )]
    NoAnswer {
        /// Where to.
        address: String,
    },
    /// Another CA, expired, or not a server's certificate.
    #[error(
        "the server at {address} shows a certificate that is not acceptable ({cause}): look \
         whether the address and the configured CA are right, and this machine's clock"
    )]
    ServerRejected {
        /// Where to.
        address: String,
        /// What the TLS library said.
        cause: String,
    },
    /// A good certificate for somebody else.
    #[error(
        "the server at {address} is certified as {found}, not as {expected}: look whether the \
         address and the configured server name are right"
    )]
    WrongServer {
        /// Where to.
        address: String,
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate.
        found: String,
    },
    /// The server wants a client certificate, or another one.
    #[error(
        "the server at {address} refuses this client's certificate ({alert:?}): look whether it is \
         current, and issued by the CA that the server expects of its clients"
    )]
    ClientRejected {
        /// Where to.
        address: String,
        /// The reason as TLS puts it (RFC 8446 6.2).
        alert: AlertDescription,
    },
    /// The client's key did not sign.
    #[error("the key in the token did not sign: {0}")]
    Key(String),
    /// Anything else, for example a server that does not speak TLS 1.3.
    #[error(
        "TLS with {address} failed ({cause}): look whether this is the address of a key \
         distribution host"
    )]
    Handshake {
        /// Where to.
        address: String,
        /// What the TLS library said.
        cause: String,
    },
}

/// Connects to `address` (`host:port`) and checks that the server's certificate is for
/// `server_name`. `limit` is for the whole, from looking up the name to the server's first words.
///
/// A lost connection is made again, in the same way, when it is next needed.
///
/// # Errors
/// The address is malformed, nobody answers in time, or one side does not accept the other.
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
        .ok()
        .filter(|endpoint| endpoint.uri().port_u16().is_some())
        .ok_or_else(|| ConnectError::Address(address.to_owned()))?;
    let connector = TlsConnector::from(Arc::new(config));
    let target = address.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, name, target) = (connector.clone(), name.clone(), target.clone());
        async move {
            let connection = dial(&target, name, &connector);
            match timeout(limit, connection).await {
                Ok(connection) => connection.map(TokioIo::new),
                Err(_) => Err(ConnectError::NoAnswer { address: target }),
            }
        }
    });
    endpoint
        .connect_with_connector(dial)
        .await
        .map_err(|error| unwrap(&error, address))
}

async fn dial(
    address: &str,
    name: ServerName<'static>,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let unreachable = |error: io::Error| ConnectError::Unreachable {
        address: address.to_owned(),
        cause: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let failed = |error: io::Error| explain(&error, address);
    let mut stream = connector.connect(name, stream).await.map_err(failed)?;
    // In TLS 1.3 the client is done before the server has seen its certificate. An HTTP/2 server
    // speaks first (RFC 9113 3.4): what comes is its settings, or its refusal.
    if stream.fill_buf().await.map_err(failed)?.is_empty() {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(stream)
}

fn explain(error: &io::Error, address: &str) -> ConnectError {
    use AlertDescription as Alert;
    let address = address.to_owned();
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        })) => ConnectError::WrongServer {
            address,
            expected: expected.to_str().into_owned(),
            found: presented.join(", "),
        },
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectError::ServerRejected {
            address,
            cause: reason.to_string(),
        },
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate),
        )) => ConnectError::ClientRejected {
            address,
            alert: *alert,
        },
        // Nothing but the signing key makes these.
        Some(rustls::Error::Other(reason)) => ConnectError::Key(reason.to_string()),
        _ => ConnectError::Handshake {
            address,
            cause: error.to_string(),
        },
    }
}

/// Takes our error out of what the gRPC library has wrapped round it.
fn unwrap(error: &(dyn Error + 'static), address: &str) -> ConnectError {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(ours) = cause.downcast_ref::<ConnectError>() {
            return ours.clone();
        }
        next = cause.source();
    }
    ConnectError::Handshake {
        address: address.to_owned(),
        cause: error.to_string(),
    }
}
