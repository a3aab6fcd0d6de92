//! From start to stop: bind, open, serve, and on a signal end in order.
//!
//! Invariants: when the process ends by a signal, every answered request is on disk, and every request
//! that was taken is answered as far as the deadline allows; a database that cannot be written is opened
//! anew once its folder can be, on the same listeners.

use std::{path::Path, sync::Arc, thread, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use wick_api::Connections;
use wick_calls::{LiveKit, Twirp};
use wick_core::{Clock, Config, Position};
use wick_database::Database;
use wick_federation::{Network, NoServices, SystemServices};
use wick_outbound::{Outbound, SystemResolver};
use wick_service::{Remotes, Services, database_options};

use crate::{
    Failure,
    clock::SystemClock,
    data_folder::ensure_folder,
    descriptors, keys,
    listen::{Listener, bind_all, bind_tcp, bind_unix},
    random::SystemRandom,
    recovery, serve, telemetry,
};

/// How long requests and tasks may take to end.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How many connections the metrics and the administrator's socket may have.
const INTERNAL_CONNECTIONS: usize = 32;

/// The pause before the database is opened again after that failed.
const REOPEN: Duration = Duration::from_secs(5);

/// Runs the server until a signal ends it.
pub(crate) fn run(config: Config) -> Result<(), Failure> {
    telemetry::start_log(&config.logging)?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("wick")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("the runtime cannot be started", error))?;
    let result = runtime.block_on(serve(Arc::new(config)));
    // What still runs then are blocking calls that nothing awaits.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(config: Arc<Config>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), server = %config.server.name, "starting");
    let numbers = telemetry::start_metrics()?;
    ensure_folder(&config.database.path)?;
    let mut server = Server {
        public: bind_all(&config.listen).await?.into_iter().map(Arc::new).collect(),
        metrics: match config.metrics.enabled {
            true => Some(Arc::new(Listener::Tcp(bind_tcp(config.metrics.listen).await?))),
            false => None,
        },
        admin: None,
        max_connections: descriptors::for_connections(&config)?,
        numbers,
        config,
    };
    let mut services = open(&server.config)?;
    if server.config.admin.enabled {
        let socket = bind_unix(&server.config.admin_socket(), 0o600)?;
        server.admin = Some(Arc::new(Listener::Unix(socket)));
    }
    loop {
        server.start(&services).await?;
        tokio::select! {
            () = signals.next() => break,
            () = recovery::possible(&services) => {}
        }
        tracing::warn!("the database could not be written and is opened anew");
        if let Err(failure) = stop(&services, &mut signals).await {
            tracing::warn!(%failure, "the database was not closed in order");
        }
        // Nothing else holds the database once all tasks have ended.
        drop(services);
        match reopen(&server.config, &mut signals).await {
            Some(opened) => services = opened,
            None => return Ok(()),
        }
    }
    tracing::info!("stopping");
    let stopped = stop(&services, &mut signals).await;
    if server.config.admin.enabled {
        remove_socket(&server.config.admin_socket());
    }
    server.config.listen.unix.iter().for_each(|path| remove_socket(path));
    stopped?;
    tracing::info!("stopped");
    Ok(())
}

/// What stays when the database is opened anew.
struct Server {
    config: Arc<Config>,
    public: Vec<Arc<Listener>>,
    metrics: Option<Arc<Listener>>,
    admin: Option<Arc<Listener>>,
    max_connections: usize,
    numbers: PrometheusHandle,
}

impl Server {
    /// Starts the tasks of the use cases, and serves on all listeners.
    async fn start(&self, services: &Arc<Services>) -> Result<(), Failure> {
        let started = services.start().await;
        started.map_err(|error| Failure::because("the server cannot start", error))?;
        let connections = |max| Arc::new(Connections::new(Arc::clone(services), max));
        let router = wick_api::router(Arc::clone(services));
        let public = connections(self.max_connections);
        for listener in &self.public {
            serve::spawn(services, &public, listener, router.clone());
        }
        telemetry::keep_metrics(&self.numbers, &services.clock, &services.supervisor);
        // Of their own, so that the public cannot lock out the administrator.
        let internal = connections(INTERNAL_CONNECTIONS);
        if let Some(listener) = &self.metrics {
            let router = telemetry::metrics_router(self.numbers.clone());
            serve::spawn(services, &internal, listener, router);
        }
        if let Some(listener) = &self.admin {
            let router = wick_api::admin_router(Arc::clone(services));
            serve::spawn(services, &internal, listener, router);
        }
        tracing::info!("ready");
        Ok(())
    }
}

/// Opens the database, and the use cases over it. Blocks; nothing else runs yet.
fn open(config: &Arc<Config>) -> Result<Arc<Services>, Failure> {
    let options = database_options(&config.database);
    let database = Database::open(&config.database.store(), options)
        .map_err(|error| Failure::because("the database cannot be opened", error))?;
    // After the database, whose lock keeps a second process from making other keys.
    let state = if database.position() == Position::default() {
        keys::Database::Empty
    } else {
        keys::Database::Used
    };
    let keys = keys::load(&config.database.path, state)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let outbound = Outbound::new(&config.outbound, Arc::clone(&clock), Arc::new(SystemResolver))
        .map_err(|error| Failure::because("no outbound requests can be made", error))?;
    let livekit = Twirp::open(config, &clock)
        .map_err(|error| Failure::because("no requests to livekit can be made", error))?;
    let livekit = livekit.map(|livekit| Arc::new(livekit) as Arc<dyn LiveKit>);
    let network = network(config)?;
    let remotes = Remotes { outbound: Arc::new(outbound), network, livekit, media_store: None };
    let random = Arc::new(SystemRandom);
    Services::build(Arc::clone(config), clock, random, database, keys, remotes)
        .map_err(|error| Failure::because("the database cannot be read", error))
}

/// What the names of other servers are resolved by.
fn network(config: &Config) -> Result<Network, Failure> {
    let services: Arc<dyn wick_federation::Services> = if config.federation.enabled {
        let system = SystemServices::new();
        Arc::new(system.map_err(|error| Failure::because("no names can be looked up", error))?)
    } else {
        Arc::new(NoServices)
    };
    Ok(Network { hosts: Arc::new(SystemResolver), services })
}

/// Opens the database until that works. `None` if a signal came first.
async fn reopen(config: &Arc<Config>, signals: &mut Signals) -> Option<Arc<Services>> {
    loop {
        match open(config) {
            Ok(services) => return Some(services),
            Err(failure) => tracing::error!(%failure, "the database is still not usable"),
        }
        tokio::select! {
            () = signals.next() => return None,
            () = tokio::time::sleep(REOPEN) => {}
        }
    }
}

/// Ends all tasks, at once after one more signal, and closes the database.
async fn stop(services: &Services, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        _in_time = services.supervisor.stop(PATIENCE) => {}
        () = signals.next() => services.supervisor.abort().await,
    }
    let closed = services.database.close().await;
    closed.map_err(|error| Failure::because("the database cannot be closed", error))
}

fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "a socket is already gone");
    }
}

/// What an administrator or the system ends the process with.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::because("signals cannot be awaited", error))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
