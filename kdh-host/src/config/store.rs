//! Where the host's database is.

use std::{
    fmt,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{Check, raw};

/// PostgreSQL cuts longer names off.
const MAX_NAME: usize = 63;
const MAX_PASSWORD: usize = 1024;

/// Where the host's database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// The SQLite file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresSettings),
}

/// A database of a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where the server is.
    pub server: PostgresServer,
    /// The database's name.
    pub database: String,
    /// Who the host is to the server.
    pub user: String,
    /// Where the password is, if the server asks for one.
    pub password_file: Option<PathBuf>,
}

/// Where a PostgreSQL server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresServer {
    /// On this machine.
    Socket {
        /// The folder of its socket.
        folder: PathBuf,
        /// By which the socket is named.
        port: u16,
    },
    /// Over TLS.
    Tls {
        /// The name in its certificate.
        host: String,
        /// The TCP port.
        port: u16,
        /// The file with the CA that certified it.
        ca: PathBuf,
    },
}

impl PostgresSettings {
    /// The password; empty if there is none.
    pub(crate) fn password(&self) -> Result<String, String> {
        let password = self.password_file.as_deref().map(read_password);
        Ok(password.transpose()?.unwrap_or_default())
    }
}

/// Never with the password.
impl fmt::Display for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match self {
            Self::Sqlite(path) => return path.display().fmt(f),
            Self::Postgres(settings) => settings,
        };
        let PostgresSettings { database, user, .. } = settings;
        match &settings.server {
            PostgresServer::Socket { folder, port } => {
                let folder = folder.display();
                write!(f, "{database} at {folder}, port {port}, as {user}")
            }
            PostgresServer::Tls { host, port, .. } => {
                write!(f, "{database} at {host}, port {port}, as {user}")
            }
        }
    }
}

impl Check<'_> {
    pub(super) fn store(&mut self, raw: raw::Store) -> Option<StoreSettings> {
        match raw {
            raw::Store::File(path) => Some(StoreSettings::Sqlite(self.path(&path))),
            raw::Store::Server(raw) => self.postgres(raw).map(StoreSettings::Postgres),
        }
    }

    fn postgres(&mut self, raw: raw::Postgres) -> Option<PostgresSettings> {
        self.range("store.port", raw.port, 1, u16::MAX.into());
        let port = u16::try_from(raw.port);
        for (key, name) in [("store.database", &raw.database), ("store.user", &raw.user)] {
            if !(1..=MAX_NAME).contains(&name.len()) || name.contains(char::is_control) {
                self.fault(
                    key,
                    format!("a name has 1 to {MAX_NAME} bytes, and no control characters"),
                );
            }
        }
        let password_file = raw.password_file.map(|path| self.path(&path));
        if let Some(Err(error)) = password_file.as_deref().map(read_password) {
            self.fault("store.password-file", error);
        }
        let server = match (raw.host, raw.socket, raw.ca) {
            (Some(host), None, ca) => self.tls_server(host, port.ok(), ca.as_deref()),
            (None, Some(_), Some(_)) => {
                self.fault("store.ca", "on a socket there is no TLS: leave it out");
                None
            }
            (None, Some(folder), None) => self.socket_server(&folder, port.ok()),
            _ => {
                let cause = "say where the server is: host for one over TLS, or socket for one on this machine";
                self.fault("store", cause);
                None
            }
        };
        Some(PostgresSettings {
            server: server?,
            database: raw.database,
            user: raw.user,
            password_file,
        })
    }

    fn tls_server(
        &mut self,
        host: String,
        port: Option<u16>,
        ca: Option<&Path>,
    ) -> Option<PostgresServer> {
        let is_name = |host: &str| {
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !host.is_empty() && host.bytes().all(of_name)
        };
        if !is_name(&host) && host.parse::<IpAddr>().is_err() {
            self.fault(
                "store.host",
                format!("{host:?} is neither a name nor an IP address"),
            );
        }
        let Some(ca) = ca else {
            self.fault("store.ca", "missing: the CA that certified the server, PEM");
            return None;
        };
        let ca = self.path(ca);
        match std::fs::read_to_string(&ca) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => {}
            Ok(_) => self.fault("store.ca", format!("{}: no PEM certificate", ca.display())),
            Err(error) => self.fault("store.ca", format!("{}: {error}", ca.display())),
        }
        port.map(|port| PostgresServer::Tls { host, port, ca })
    }

    fn socket_server(&mut self, folder: &Path, port: Option<u16>) -> Option<PostgresServer> {
        let folder = self.path(folder);
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        port.map(|port| PostgresServer::Socket { folder, port })
    }
}

/// One line.
fn read_password(path: &Path) -> Result<String, String> {
    let failed = |cause: &dyn fmt::Display| format!("{}: {cause}", path.display());
    let mut file = hsm::open_private_file(path).map_err(|error| failed(&error))?;
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    if !(1..=MAX_PASSWORD).contains(&password.len()) || password.contains(char::is_control) {
        return Err(failed(&format!(
            "no password: one line of 1 to {MAX_PASSWORD} bytes"
        )));
    }
    Ok(password.to_owned())
}
