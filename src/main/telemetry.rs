//! Telemetry: log lines on standard output, numbers for Prometheus.

use std::{
    io::{self, IsTerminal},
    panic,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use wick_core::{
    Clock,
    config::{Format, Logging},
};
use wick_runtime::Supervisor;

use crate::Failure;

/// From a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// How often histograms are swept, so that they do not grow while they are not scraped.
const UPKEEP: Duration = Duration::from_secs(5);

/// Whether the log filter can be read.
pub(crate) fn ensure_filter(logging: &Logging) -> Result<(), Failure> {
    filter(logging).map(drop)
}

/// Writes log lines from now on, panics among them.
pub(crate) fn start_log(logging: &Logging) -> Result<(), Failure> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(logging)?).with_writer(io::stdout);
    let started = match logging.format {
        Format::Human => lines.with_ansi(io::stdout().is_terminal()).try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    };
    started.map_err(|error| Failure::because("the log cannot be started", error))?;
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic
            .payload()
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        tracing::error!(place, message, "panic");
    }));
    Ok(())
}

/// Collects numbers from now on.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, Failure> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| Failure::because("metrics cannot be collected", error))?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| Failure::because("metrics cannot be collected", error))?;
    metrics::gauge!("wick_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Keeps the collected numbers small.
pub(crate) fn keep_metrics(
    handle: &PrometheusHandle,
    clock: &Arc<dyn Clock>,
    supervisor: &Supervisor,
) {
    let (handle, clock, stopping) =
        (handle.clone(), Arc::clone(clock), supervisor.stopping().clone());
    supervisor.spawn("metrics", move || {
        let (handle, clock, stopping) = (handle.clone(), Arc::clone(&clock), stopping.clone());
        async move {
            loop {
                let pause = clock.sleep_until(clock.monotonic() + UPKEEP);
                if stopping.run_until_cancelled(pause).await.is_none() {
                    return;
                }
                handle.run_upkeep();
            }
        }
    });
}

/// `/metrics`.
pub(crate) fn metrics_router(handle: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(handle)
}

async fn metrics(State(handle): State<PrometheusHandle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render())
}

fn filter(logging: &Logging) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&logging.filter)
        .map_err(|error| Failure::because("logging.filter cannot be read", error))
}
