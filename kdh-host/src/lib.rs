//! kdh-host
