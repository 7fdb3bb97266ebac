//! Between a terminal and the host: passes bytes on and counts them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Bytes in each direction, as TCP carries them: TLS and HTTP/2 included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    to_host: Arc<AtomicU64>,
    to_terminal: Arc<AtomicU64>,
}

impl Counters {
    /// What terminals have sent, and what they have received.
    pub(crate) fn read(&self) -> [u64; 2] {
        [&self.to_host, &self.to_terminal].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Listens on loopback, for as long as the runtime lives, and returns its address.
pub(crate) async fn relay(host: &str) -> Result<(String, Counters)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let counters = Counters::default();
    let (host, counted) = (host.to_owned(), counters.clone());
    tokio::spawn(async move {
        while let Ok((terminal, _)) = listener.accept().await {
            // Whoever is not passed on is hung up on.
            let Ok(host) = TcpStream::connect(&host).await else {
                continue;
            };
            let _ = terminal.set_nodelay(true);
            let _ = host.set_nodelay(true);
            let (from_terminal, to_terminal) = terminal.into_split();
            let (from_host, to_host) = host.into_split();
            tokio::spawn(pass(from_terminal, to_host, counted.to_host.clone()));
            tokio::spawn(pass(from_host, to_terminal, counted.to_terminal.clone()));
        }
    });
    Ok((address, counters))
}

/// Until one side hangs up.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicU64>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        // Before they leave: who has received them finds them counted.
        counter.fetch_add(len as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_passed_on_and_counted() {
        let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, counters) = relay(&host.local_addr().unwrap().to_string())
            .await
            .unwrap();
        let mut terminal = TcpStream::connect(address).await.unwrap();
        let (mut host, _) = host.accept().await.unwrap();
        terminal.write_all(b"request").await.unwrap();
        let mut buffer = [0; 7];
        host.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"request");
        host.write_all(b"answers").await.unwrap();
        host.write_all(b".").await.unwrap();
        let mut buffer = [0; 8];
        terminal.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"answers.");
        assert_eq!(counters.read(), [7, 8]);
    }
}
