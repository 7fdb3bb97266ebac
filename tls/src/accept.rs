//! Accepting connections: bounded in number, in all and from one address; each handshake with a
//! deadline, none able to hold up another; nobody who is silent or nameless keeps a place.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pki::Certificate;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::shares::{Share, Shares};

/// How long to wait after the operating system refused to accept, for example for want of file
/// descriptors, so that the loop does not spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How much strangers may occupy.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Connections at the same time, handshakes included.
    pub connections: usize,
    /// Of these, from one IP address, or from one /64 network of IPv6, which is what one customer of a
    /// provider has. More are hung up on.
    pub connections_per_address: usize,
    /// Of these, from clients with one public key, whatever their address and their certificate. More are hung up on
    /// after the handshake.
    pub connections_per_key: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// A connection from which nothing came for so long is ended. What runs on it has to make sure
    /// that a peer that is well says something more often.
    pub silence: Duration,
    /// How long a connection may live whose client showed no certificate. At most half of all places
    /// are for such.
    pub anonymous: Duration,
}

/// A connection whose handshake is done. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    silence: Duration,
    silent_until: Pin<Box<Sleep>>,
    /// The end of a client without a name.
    end: Option<Pin<Box<Sleep>>>,
    _places: Places,
}

/// What a connection occupies.
#[derive(Debug)]
struct Places {
    _any: OwnedSemaphorePermit,
    _anonymous: Option<OwnedSemaphorePermit>,
    _of_address: Share<IpAddr>,
    _of_key: Option<Share<[u8; 32]>>,
}

/// What one peer has at its disposal: an address of IPv4, a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Accepts connections until the stream is dropped. A failed handshake is logged and not returned.
///
/// Beyond the limit, connections wait in the operating system's queue.
///
/// Needs a Tokio runtime with several threads: the token signs on one of them, and with only one
/// everybody would wait.
pub fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: AcceptLimits,
) -> impl Stream<Item = io::Result<Connection>> {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(limits.connections));
    let anonymous = Arc::new(Semaphore::new(limits.connections.div_ceil(2)));
    let addresses = Shares::new(limits.connections_per_address);
    let keys = Shares::new(limits.connections_per_key);
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let place = tokio::select! {
                () = ready.closed() => return,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let Ok(place) = place else { return };
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            let Some(of_address) = addresses.take(network(peer.ip())) else {
                tracing::info!(%peer, "hung up on: too many connections from this address");
                continue;
            };
            let (acceptor, ready, keys) = (acceptor.clone(), ready.clone(), keys.clone());
            let anonymous = Arc::clone(&anonymous);
            tokio::spawn(async move {
                let stream = match handshake(&acceptor, stream, limits.handshake).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::info!(%peer, %error, "TLS handshake failed");
                        return;
                    }
                };
                let key = client_key(&stream);
                let nameless = key.is_none();
                let of_key = match key.map(|key| keys.take(key)) {
                    Some(None) => {
                        tracing::info!(%peer, "hung up on: too many connections with this client's key");
                        return;
                    }
                    of_key => of_key.flatten(),
                };
                let anonymous = match nameless.then(|| anonymous.try_acquire_owned()) {
                    Some(Err(_)) => {
                        tracing::info!(%peer, "hung up on: too many clients without certificate");
                        return;
                    }
                    Some(Ok(place)) => Some(place),
                    None => None,
                };
                let connection = Connection {
                    stream,
                    silence: limits.silence,
                    silent_until: Box::pin(sleep(limits.silence)),
                    end: nameless.then(|| Box::pin(sleep(limits.anonymous))),
                    _places: Places {
                        _any: place,
                        _anonymous: anonymous,
                        _of_address: of_address,
                        _of_key: of_key,
                    },
                };
                // The server is gone if nobody takes it.
                drop(ready.send(Ok(connection)).await);
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    limit: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    // An answer is a few small frames; none should wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    timeout(limit, acceptor.accept(stream)).await?
}

/// The fingerprint of the public key that the client has proved to have; none of a client without certificate.
fn client_key(stream: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let certificate = Certificate::from_der(certificate);
    // One that the handshake has taken and that cannot be read shares with all such.
    Some(certificate.map_or([0; 32], |certificate| {
        certificate.public_key().fingerprint()
    }))
}

impl Connection {
    /// An error once the time of this connection is over. Whoever waits for the peer is woken then.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let over = |why| Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        if self.silent_until.as_mut().poll(context).is_ready() {
            return over("the peer is silent");
        }
        let end = self.end.as_mut();
        if end.is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            return over("the time of a client without certificate is over");
        }
        Poll::Pending
    }
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let silent_until = Instant::now() + self.silence;
            self.silent_until.as_mut().reset(silent_until);
        }
        self.in_time(context, outcome)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.in_time(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_what_it_has_at_its_disposal() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| text.parse().map(network));
            a.is_ok() && a == b
        };
        assert!(same("192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }
}
