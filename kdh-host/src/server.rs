//! Listeners: start, serve, stop.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hsm::{Failure, Health};
use kdh_proto::v1::{
    administration_server::AdministrationServer, approvals_server::ApprovalsServer,
    base_derivation_keys_server::BaseDerivationKeysServer,
    key_distribution_server::KeyDistributionServer, key_exports_server::KeyExportsServer,
    key_storage_server::KeyStorageServer, refused_keys_server::RefusedKeysServer,
    rollouts_server::RolloutsServer,
};
use serde::Serialize;
use token_tls::{AcceptLimits, ClientAuthentication, TlsIdentity, server_config};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    server::NamedService as _,
    transport::{Server, server::Router},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    Host,
    claims::give_back_leftovers,
    config::Config,
    error::{ServeError, StartError},
    export,
    grpc::{
        AdministrationService, ApprovalsService, BaseDerivationKeysService, KeyDistributionService,
        KeyExportsService, KeyStorageService, MAX_MESSAGE_LEN, RefusedKeysService, RolloutsService,
        ToTheEnd,
    },
    rollout, storage,
};

/// Calls of one connection that may be under way.
const CALLS_PER_CONNECTION: usize = 16;
/// The same, with those that wait for it, and those whose answers go on. Nobody has more than one or two of these.
const STREAMS_PER_CONNECTION: u32 = 32;
/// Connections of one operator: of whoever has one key.
const CONNECTIONS_PER_OPERATOR: usize = 16;
/// A peer that is silent this long is asked whether it is there, and let go if it is not.
const SILENCE: Duration = Duration::from_secs(30);
/// After this a connection is asked to end. A terminal's whole job takes seconds.
const CONNECTION_AGE: Duration = Duration::from_mins(10);
/// Then calls under way may finish, until it is ended.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// No call takes longer, however slowly its message comes in.
const CALL: Duration = Duration::from_mins(1);
/// How often what was claimed and is nobody's is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often the database is kept quick.
const UPKEEP: Duration = Duration::from_secs(1);

/// Where the listeners are.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Addresses {
    /// For terminals.
    pub terminals: SocketAddr,
    /// For operators.
    pub administration: SocketAddr,
}

/// Serves until `stop` completes, then lets calls in flight finish, within the configured time.
///
/// # Errors
/// A listener could not be opened or failed; or the HSM is of no more use to this process.
pub async fn serve(host: Host, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let config = host.config();
    let certificates = &config.certificates;
    let identity = TlsIdentity {
        chain: vec![certificates.host_tls.clone(), certificates.ca_ops.clone()],
        key: host.keys().host_tls.clone(),
    };
    // Handshakes on both listeners leave half of the HSM's queue to deliveries.
    let signatures = config.kdh_token.token.queue.div_ceil(4);
    // Enroll comes without a client certificate; every other call is refused without one.
    let terminals_tls = server_config(
        &identity,
        &ClientAuthentication::Optional(certificates.ca_krd.clone()),
        signatures,
    )
    .map_err(StartError::one)?;
    let administration_tls = server_config(
        &identity,
        &ClientAuthentication::Required(certificates.ca_ops.clone()),
        signatures,
    )
    .map_err(StartError::one)?;
    let terminals = listen("terminals", config.terminals).await?;
    let administration = listen("administration", config.administration).await?;
    let addresses = Addresses {
        terminals: terminals.local_addr().map_err(StartError::one)?,
        administration: administration.local_addr().map_err(StartError::one)?,
    };

    let limits = accept_limits(config);
    let (stopping, stopped) = watch::channel(false);
    let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is a stop too.
        drop(stopped.wait_for(|stopped| *stopped).await);
    };

    let (health, health_service) = tonic_health::server::health_reporter();
    tell_readiness(&host, &health).await;
    let key_distribution = KeyDistributionServer::new(KeyDistributionService(host.clone()))
        .max_decoding_message_size(MAX_MESSAGE_LEN);
    let terminals_server = server()
        .add_service(health_service)
        .add_service(key_distribution)
        .serve_with_incoming_shutdown(
            token_tls::accept(terminals, Arc::new(terminals_tls), limits),
            until_stopped(stopped.clone()),
        );
    let of_operators = AcceptLimits {
        connections_per_key: CONNECTIONS_PER_OPERATOR,
        ..limits
    };
    let administration_server = for_operators(&host).serve_with_incoming_shutdown(
        token_tls::accept(administration, Arc::new(administration_tls), of_operators),
        until_stopped(stopped),
    );

    if let Some(path) = &config.addresses_file {
        write_addresses(path, &addresses).map_err(|error| {
            StartError::one(format!("addresses-file: {}: {error}", path.display()))
        })?;
    }
    tracing::info!(
        terminals = %addresses.terminals,
        administration = %addresses.administration,
        "serving"
    );
    let servers = async { tokio::try_join!(terminals_server, administration_server) };
    tokio::pin!(servers);
    let failure = tokio::select! {
        outcome = &mut servers => {
            host.stop().await.map_err(StartError::one)?;
            return Ok(outcome.map(drop).map_err(StartError::one)?);
        }
        failure = follow_hsm(&host, &health) => Some(failure),
        () = keep_tidy(&host) => None,
        () = storage::keep_moving(&host) => None,
        () = export::keep_exporting(&host) => None,
        () = rollout::keep_rolling(&host) => None,
        () = stop => None,
    };
    tracing::info!("stopping: calls in flight may finish");
    health
        .set_not_serving::<KeyDistributionServer<KeyDistributionService>>()
        .await;
    stopping.send_replace(true);
    host.exports().stop();
    let finish = async {
        let outcome = servers.await;
        // Those whose callers have hung up, too: what they have claimed is still to be settled.
        host.limits().close().await;
        outcome
    };
    let outcome = tokio::time::timeout(config.stop_timeout, finish).await;
    if outcome.is_err() {
        tracing::warn!("calls in flight were cut off");
    }
    if let Some(failure) = failure {
        return Err(end_with(&host, failure).await);
    }
    host.stop().await.map_err(StartError::one)?;
    outcome.unwrap_or(Ok(((), ()))).map_err(StartError::one)?;
    Ok(())
}

/// Whatever else fails now: how the process ends is for the HSM's failure to say.
async fn end_with(host: &Host, failure: Failure) -> ServeError {
    match tokio::time::timeout(host.config().stop_timeout, host.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the end is not on record"),
        Err(_) => tracing::error!("the end is not on record: the database does not answer"),
    }
    ServeError::Hsm(failure)
}

/// The host is ready when key tokens can be made.
async fn tell_readiness(host: &Host, health: &HealthReporter) {
    let status = match host.keys().health() {
        Health::Ready => ServingStatus::Serving,
        Health::Lost { .. } | Health::Failed(_) => ServingStatus::NotServing,
    };
    health
        .set_service_status(
            KeyDistributionServer::<KeyDistributionService>::NAME,
            status,
        )
        .await;
}

/// Tells whoever asks for the host's readiness how the HSM is, until it is of no more use.
async fn follow_hsm(host: &Host, health: &HealthReporter) -> Failure {
    let (news, mut changes) = watch::channel(());
    host.keys().watch(move || news.send_replace(()));
    loop {
        if let Some(failure) = host.keys().failure() {
            return failure;
        }
        tell_readiness(host, health).await;
        // The keys hold the sender for as long as they live.
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Gives back what calls could not give back themselves, for as long as it is awaited.
async fn keep_tidy(host: &Host) {
    let mut sweeps = tokio::time::interval(SWEEP);
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            _ = sweeps.tick() => {}
            _ = upkeep.tick() => {
                if let Err(error) = host.store().keep_quick().await {
                    tracing::warn!(%error, "the database may get slow; the next try to keep it quick follows");
                }
                continue;
            }
        }
        host.limits().forget_the_quiet();
        if let Err(error) = give_back_leftovers(host).await {
            tracing::warn!(%error, "leftover claims could not be given back; the next try follows");
        }
    }
}

/// The services that operators have. What they begin is run to its end.
fn for_operators(host: &Host) -> Router {
    let host = &host.for_operators();
    let administration = AdministrationServer::new(AdministrationService(host.clone()));
    let approvals = ApprovalsServer::new(ApprovalsService(host.clone()));
    let bdks = BaseDerivationKeysServer::new(BaseDerivationKeysService(host.clone()));
    let exports = KeyExportsServer::new(KeyExportsService(host.clone()));
    let rollouts = RolloutsServer::new(RolloutsService(host.clone()));
    let storage = KeyStorageServer::new(KeyStorageService(host.clone()));
    let refused = RefusedKeysServer::new(RefusedKeysService(host.clone()));
    let places = &host.limits().operators;
    let limit = MAX_MESSAGE_LEN;
    server()
        .add_service(ToTheEnd::new(
            administration.max_decoding_message_size(limit),
            places,
        ))
        .add_service(ToTheEnd::new(
            approvals.max_decoding_message_size(limit),
            places,
        ))
        .add_service(ToTheEnd::new(bdks.max_decoding_message_size(limit), places))
        .add_service(ToTheEnd::new(
            exports.max_decoding_message_size(limit),
            places,
        ))
        .add_service(ToTheEnd::new(
            rollouts.max_decoding_message_size(limit),
            places,
        ))
        .add_service(ToTheEnd::new(
            storage.max_decoding_message_size(limit),
            places,
        ))
        .add_service(ToTheEnd::new(
            refused.max_decoding_message_size(limit),
            places,
        ))
}

/// What both servers have in common: nobody keeps a place for nothing. Before HTTP/2 has begun, the
/// limits of [`AcceptLimits`] hold alone.
fn server() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(SILENCE))
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(LAST_WORDS)
        .timeout(CALL)
}

/// For terminals; operators' keys have a smaller share.
fn accept_limits(config: &Config) -> AcceptLimits {
    AcceptLimits {
        connections: config.connections,
        connections_per_address: config.connections_per_address,
        connections_per_key: config.connections_per_address,
        handshake: config.handshake_timeout,
        // A peer that is well answers when it is asked.
        silence: 2 * SILENCE + LAST_WORDS,
        anonymous: config.anonymous_timeout,
    }
}

async fn listen(section: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::one(format!("{section}.address: {address}: {error}")))
}

/// Whole or not at all: a reader never sees half a file.
fn write_addresses(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let text = serde_json::to_vec(addresses)?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}
