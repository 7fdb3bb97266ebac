//! krd-client
