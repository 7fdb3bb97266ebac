//! TLS over loopback, with keys in `SoftHSM` tokens and certificates by OpenSSL.

#![expect(clippy::unwrap_used, reason = "tests")]

mod authority;
mod clients;
mod identities;
mod limits;
mod servers;
mod world;

/// In a runtime with several threads, as a server needs it.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}
