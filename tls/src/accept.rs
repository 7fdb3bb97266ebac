//! Accepting connections: bounded, each handshake with a deadline, none able to hold up another.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// How long to wait after the operating system refused to accept, for example for want of file
/// descriptors, so that the loop does not spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// How much strangers may occupy.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Connections at the same time, handshakes included.
    pub connections: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
}

/// A connection whose handshake is done. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections until the stream is dropped. A failed handshake is logged and not returned.
///
/// Beyond the limit, connections wait in the operating system's queue. A connection keeps its place
/// for as long as it lives: how long an idle one may live is for the server to say.
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
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                match handshake(&acceptor, stream, limits.handshake).await {
                    Ok(stream) => {
                        let connection = Connection {
                            stream,
                            _place: place,
                        };
                        // The server is gone if nobody takes it.
                        drop(ready.send(Ok(connection)).await);
                    }
                    Err(error) => tracing::info!(%peer, %error, "TLS handshake failed"),
                }
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
