//! TLS 1.3 with private keys that stay in a PKCS#11 token.
//!
//! What belongs here: the connection between rustls and a token's signing key, the two
//! configurations of this system, accepting and connecting, and who may take how much. What does not: who may do what once the
//! connection stands.

mod accept;
mod config;
mod connect;
mod peer;
mod shares;
mod signer;

pub use accept::{AcceptLimits, Connection, accept};
pub use config::{ClientAuthentication, TlsError, TlsIdentity, client_config, server_config};
pub use connect::{ConnectError, connect};
pub use shares::{Share, Shares};
