//! How many requests run at the same time: in all, and to one push gateway.
//!
//! Invariant: of a gateway whose last request failed, one request at a time runs; so gateways that do not answer
//! hold up no others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wick_core::{Error, Result, config};

/// How many gateways are remembered before those without requests are forgotten.
const REMEMBERED: usize = 256;

/// The push gateways that requests are made to.
pub(crate) struct Gateways {
    all: Arc<Semaphore>,
    most: usize,
    /// Those without requests, too: a failure is remembered until the next request.
    known: Mutex<HashMap<String, Arc<Gateway>>>,
}

struct Gateway {
    requests: Arc<Semaphore>,
    /// Taken besides while the last request failed.
    trial: Arc<Semaphore>,
    is_failing: AtomicBool,
}

/// A request that may run as long as this is there.
pub(crate) struct Admitted {
    gateway: Arc<Gateway>,
    _permits: [Option<OwnedSemaphorePermit>; 3],
}

impl Admitted {
    /// Notes how the request ended.
    pub(crate) fn note(&self, is_success: bool) {
        self.gateway.is_failing.store(!is_success, Ordering::Relaxed);
    }
}

impl Gateways {
    pub(crate) fn new(config: &config::Push) -> Self {
        let number = |most: u32| usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(number(config.max_requests))),
            most: number(config.max_requests_per_gateway),
            known: Mutex::default(),
        }
    }

    /// Waits until a request to the gateway with this URL may run.
    pub(crate) async fn admit(&self, url: &str) -> Result<Admitted> {
        let gateway = self.gateway(url);
        let own = take(&gateway.requests).await?;
        let trial = match gateway.is_failing.load(Ordering::Relaxed) {
            true => Some(take(&gateway.trial).await?),
            false => None,
        };
        let of_all = take(&self.all).await?;
        Ok(Admitted { gateway, _permits: [Some(own), trial, Some(of_all)] })
    }

    fn gateway(&self, url: &str) -> Arc<Gateway> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gateway) = known.get(url) {
            return Arc::clone(gateway);
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, gateway| Arc::strong_count(gateway) > 1);
        }
        let gateway = Arc::new(Gateway {
            requests: Arc::new(Semaphore::new(self.most)),
            trial: Arc::new(Semaphore::new(1)),
            is_failing: AtomicBool::new(false),
        });
        known.insert(url.to_owned(), Arc::clone(&gateway));
        gateway
    }
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
        first.note(false);
        drop(first);
        let trial = gateways.admit("one").await.unwrap();
        assert!(waits(gateways.admit("one")).await);
        gateways.admit("other").await.unwrap();
        trial.note(true);
        gateways.admit("one").await.unwrap();
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
