//! From start to stop: bind, open, serve, and on a signal end in order.
//!
//! Invariant: when the process ends by a signal, every answered request is on disk, and every
//! request that was taken is answered as far as the deadline allows.

use std::{path::Path, sync::Arc, thread, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use wick_core::{Clock, Config};
use wick_database::Database;
use wick_service::{Services, database_options};

use crate::{
    Failure,
    clock::SystemClock,
    data_folder::ensure_folder,
    keys,
    listen::{Listener, bind_all, bind_tcp, bind_unix},
    random::SystemRandom,
    serve, telemetry,
};

/// How long requests and tasks may take to end.
const PATIENCE: Duration = Duration::from_millis(1500);

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
    // What still runs then are blocking calls that nobody waits for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(config: Arc<Config>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), server = %config.server.name, "starting");
    let numbers = telemetry::start_metrics()?;
    ensure_folder(&config.database.path)?;
    let public = bind_all(&config.listen).await?;
    let metrics = match config.metrics.enabled {
        true => Some(Listener::Tcp(bind_tcp(config.metrics.listen).await?)),
        false => None,
    };
    let services = open(&config)?;
    let admin = match config.admin.enabled {
        true => Some(Listener::Unix(bind_unix(&config.admin_socket(), 0o600)?)),
        false => None,
    };
    services.start().await.map_err(|error| Failure::because("the server cannot start", error))?;

    let router = wick_api::router(Arc::clone(&services));
    for listener in public {
        serve::spawn(&services, listener, router.clone());
    }
    telemetry::keep_metrics(&numbers, &services.clock, &services.supervisor);
    if let Some(listener) = metrics {
        serve::spawn(&services, listener, telemetry::metrics_router(numbers));
    }
    if let Some(listener) = admin {
        serve::spawn(&services, listener, wick_api::admin_router(Arc::clone(&services)));
    }
    tracing::info!("ready");

    signals.next().await;
    tracing::info!("stopping");
    tokio::select! {
        _in_time = services.supervisor.stop(PATIENCE) => {}
        () = signals.next() => services.supervisor.abort().await,
    }
    if config.admin.enabled {
        remove_socket(&config.admin_socket());
    }
    config.listen.unix.iter().for_each(|path| remove_socket(path));
    let closed = services.database.close().await;
    closed.map_err(|error| Failure::because("the database cannot be closed", error))?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the database, and the use cases over it. Blocks; nothing else runs yet.
fn open(config: &Arc<Config>) -> Result<Arc<Services>, Failure> {
    let options = database_options(&config.database);
    let database = Database::open(&config.database.store(), options)
        .map_err(|error| Failure::because("the database cannot be opened", error))?;
    // After the database, whose lock keeps a second process from making other keys.
    let keys = keys::load(&config.database.path)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Services::build(Arc::clone(config), clock, Arc::new(SystemRandom), database, keys)
        .map_err(|error| Failure::because("the database cannot be read", error))
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
