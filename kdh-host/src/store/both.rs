//! Tests that run on both databases.

use private_postgres::Postgres;
use tempfile::TempDir;

use super::database::Dialect;
use crate::config::{PostgresServer, PostgresSettings, StoreSettings};

/// Makes two tests of each of these functions, which get what they are to run on. The first word is tokio's.
macro_rules! on_both {
    ($flavor:literal: $($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = $flavor)]
                async fn $test() {
                    super::$test($crate::store::database::Dialect::Sqlite).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = $flavor)]
                async fn $test() {
                    super::$test($crate::store::database::Dialect::Postgres).await;
                }
            )+
        }
    };
}
pub(super) use on_both;

/// An empty database, for as long as this lives.
pub(super) struct Place {
    pub(super) settings: StoreSettings,
    pub(super) folder: TempDir,
}

impl Place {
    pub(super) fn new(on: Dialect) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = match on {
            Dialect::Sqlite => StoreSettings::Sqlite(folder.path().join("host.db")),
            Dialect::Postgres => StoreSettings::Postgres(postgres(
                Postgres::shared(),
                &Postgres::shared().new_database().unwrap(),
            )),
        };
        Self { settings, folder }
    }
}

pub(super) fn postgres(server: &Postgres, database: &str) -> PostgresSettings {
    PostgresSettings {
        server: PostgresServer::Socket {
            folder: server.socket().to_owned(),
            port: 5432,
        },
        database: database.to_owned(),
        user: private_postgres::USER.to_owned(),
        password_file: None,
    }
}
