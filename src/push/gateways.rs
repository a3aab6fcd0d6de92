//! How many requests run at the same time: in all, and to one push gateway.
//!
//! A gateway is a host: pushers can name any port of it.
//!
//! Invariant: of a gateway whose last request failed or was slow, one request at a time runs, and of all such gateways
//! a quarter of the requests; so gateways that do not answer, or answer slowly, hold up no others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wick_core::{Error, Result, config};

/// From which duration on a request counts as slow.
const SLOW: Duration = Duration::from_secs(5);

/// How many gateways are remembered before those without requests are forgotten.
const REMEMBERED: usize = 256;

/// The push gateways that requests are made to.
pub(crate) struct Gateways {
    all: Arc<Semaphore>,
    /// Taken besides by requests to gateways on trial.
    trials: Arc<Semaphore>,
    most: usize,
    /// By host. Those without requests, too: a failure is remembered until the next request.
    known: Mutex<HashMap<String, Arc<Gateway>>>,
}

struct Gateway {
    requests: Arc<Semaphore>,
    /// Taken besides while the gateway is on trial.
    trial: Arc<Semaphore>,
    /// Whether the last request failed or was slow.
    is_on_trial: AtomicBool,
}

/// A request that may run as long as this is there.
pub(crate) struct Admitted {
    gateway: Arc<Gateway>,
    _permits: [Option<OwnedSemaphorePermit>; 4],
}

impl Admitted {
    /// Notes whether the request succeeded, and how long it took.
    pub(crate) fn note(&self, is_success: bool, took: Duration) {
        self.gateway.is_on_trial.store(!is_success || took >= SLOW, Ordering::Relaxed);
    }
}

impl Gateways {
    pub(crate) fn new(config: &config::Push) -> Self {
        let number = |most: u32| usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(number(config.max_requests))),
            trials: Arc::new(Semaphore::new(number((config.max_requests / 4).max(1)))),
            most: number(config.max_requests_per_gateway),
            known: Mutex::default(),
        }
    }

    /// Waits until a request to the gateway with this URL may run.
    pub(crate) async fn admit(&self, url: &str) -> Result<Admitted> {
        let gateway = self.gateway(url);
        let own = take(&gateway.requests).await?;
        let (trial, of_trials) = match gateway.is_on_trial.load(Ordering::Relaxed) {
            true => (Some(take(&gateway.trial).await?), Some(take(&self.trials).await?)),
            false => (None, None),
        };
        let of_all = take(&self.all).await?;
        Ok(Admitted { gateway, _permits: [Some(own), trial, of_trials, Some(of_all)] })
    }

    fn gateway(&self, url: &str) -> Arc<Gateway> {
        let host = host(url);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gateway) = known.get(&host) {
            return Arc::clone(gateway);
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, gateway| Arc::strong_count(gateway) > 1);
        }
        let gateway = Arc::new(Gateway {
            requests: Arc::new(Semaphore::new(self.most)),
            trial: Arc::new(Semaphore::new(1)),
            is_on_trial: AtomicBool::new(false),
        });
        known.insert(host, Arc::clone(&gateway));
        gateway
    }
}

/// The host of a gateway's URL, without the port. A URL that cannot be read is a host of its own.
fn host(url: &str) -> String {
    wick_outbound::host(url).unwrap_or_else(|| url.to_owned())
}

async fn take(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.map_err(|error| Error::internal("requests to push gateways", error))
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::*;

    fn gateways(max_requests: u32, max_requests_per_gateway: u32) -> Gateways {
        let config =
            config::Push { max_requests, max_requests_per_gateway, ..config::Push::default() };
        Gateways::new(&config)
    }

    /// Whether a request is not admitted yet.
    async fn waits(request: impl Future<Output = Result<Admitted>>) -> bool {
        let mut request = pin!(request);
        poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn requests_are_bounded_by_gateway_and_in_all() {
        let gateways = gateways(3, 2);
        let one = gateways.admit("one").await.unwrap();
        let _two = gateways.admit("one").await.unwrap();
        assert!(waits(gateways.admit("one")).await);
        let _other = gateways.admit("other").await.unwrap();
        assert!(waits(gateways.admit("third")).await);
        drop(one);
        gateways.admit("third").await.unwrap();
        gateways.admit("one").await.unwrap();
    }

    #[tokio::test]
    async fn a_gateway_that_fails_gets_one_request_at_a_time_until_one_succeeds() {
        let gateways = gateways(10, 10);
        let first = gateways.admit("one").await.unwrap();
        first.note(false, Duration::ZERO);
        drop(first);
        let trial = gateways.admit("one").await.unwrap();
        assert!(waits(gateways.admit("one")).await);
        gateways.admit("other").await.unwrap();
        trial.note(true, Duration::ZERO);
        gateways.admit("one").await.unwrap();
    }

    #[tokio::test]
    async fn the_ports_of_one_host_are_one_gateway() {
        let gateways = gateways(10, 1);
        let _one = gateways.admit("https://one.example/_matrix/push/v1/notify").await.unwrap();
        for url in ["https://ONE.example:8443/x", "http://one.example./x"] {
            assert!(waits(gateways.admit(url)).await, "{url}");
        }
        gateways.admit("https://other.example/x").await.unwrap();
    }

    #[tokio::test]
    async fn gateways_that_were_slow_hold_a_quarter_of_the_requests() {
        let gateways = gateways(8, 8);
        for number in 0..8 {
            gateways.admit(&format!("https://slow{number}/")).await.unwrap().note(true, SLOW);
        }
        let _first = gateways.admit("https://slow0/").await.unwrap();
        assert!(waits(gateways.admit("https://slow0/")).await);
        let _second = gateways.admit("https://slow1/").await.unwrap();
        assert!(waits(gateways.admit("https://slow2/")).await);
        gateways.admit("https://quick/").await.unwrap();
    }

    #[tokio::test]
    async fn gateways_without_requests_are_forgotten() {
        let gateways = gateways(10, 10);
        let _kept = gateways.admit("kept").await.unwrap();
        for number in 0..1_000 {
            gateways.admit(&number.to_string()).await.unwrap();
        }
        assert!(gateways.known.lock().unwrap().len() <= REMEMBERED);
        assert!(gateways.known.lock().unwrap().contains_key("kept"));
    }
}
