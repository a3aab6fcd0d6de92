//! How many requests run at the same time: in all, and to one peer (the host of a push gateway, another server).
//!
//! Invariant: of a peer whose last request failed or was slow, one request at a time runs, and of all such peers
//! a quarter of the requests; so peers that do not answer, or answer slowly, hold up no others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wick_core::{Error, Result};

/// From which duration on a request counts as slow.
const SLOW: Duration = Duration::from_secs(5);

/// How many peers are remembered before those without requests are forgotten.
const REMEMBERED: usize = 256;

/// The peers that requests are made to.
pub struct InFlight {
    all: Arc<Semaphore>,
    /// Taken besides by requests to peers on trial.
    trials: Arc<Semaphore>,
    most: usize,
    /// By name. Those without requests, too: a failure is remembered until the next request.
    known: Mutex<HashMap<String, Arc<Peer>>>,
}

struct Peer {
    requests: Arc<Semaphore>,
    /// Taken besides while the peer is on trial.
    trial: Arc<Semaphore>,
    /// Whether the last request failed or was slow.
    is_on_trial: AtomicBool,
}

/// A request that may run as long as this is there.
pub struct Admitted {
    peer: Arc<Peer>,
    _permits: [Option<OwnedSemaphorePermit>; 4],
}

impl Admitted {
    /// Notes whether the request succeeded, and how long it took.
    pub fn note(&self, is_success: bool, took: Duration) {
        self.peer.is_on_trial.store(!is_success || took >= SLOW, Ordering::Relaxed);
    }
}

impl InFlight {
    /// At most `most` requests in all, and `most_per_peer` to one peer.
    #[must_use]
    pub fn new(most: u32, most_per_peer: u32) -> Self {
        let number = |most: u32| usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(number(most))),
            trials: Arc::new(Semaphore::new(number((most / 4).max(1)))),
            most: number(most_per_peer),
            known: Mutex::default(),
        }
    }

    /// Waits until a request to the peer with this name may run.
    ///
    /// # Errors
    /// None that is expected.
    pub async fn admit(&self, peer: &str) -> Result<Admitted> {
        let peer = self.peer(peer);
        let own = take(&peer.requests).await?;
        let (trial, of_trials) = match peer.is_on_trial.load(Ordering::Relaxed) {
            true => (Some(take(&peer.trial).await?), Some(take(&self.trials).await?)),
            false => (None, None),
        };
        let of_all = take(&self.all).await?;
        Ok(Admitted { peer, _permits: [Some(own), trial, of_trials, Some(of_all)] })
    }

    fn peer(&self, name: &str) -> Arc<Peer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.get(name) {
            return Arc::clone(peer);
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, peer| Arc::strong_count(peer) > 1);
        }
        let peer = Arc::new(Peer {
            requests: Arc::new(Semaphore::new(self.most)),
            trial: Arc::new(Semaphore::new(1)),
            is_on_trial: AtomicBool::new(false),
        });
        known.insert(name.to_owned(), Arc::clone(&peer));
        peer
    }
}

async fn take(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.map_err(|error| Error::internal("outbound requests", error))
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::*;

    fn peers(most: u32, most_per_peer: u32) -> InFlight {
        InFlight::new(most, most_per_peer)
    }

    /// Whether a request is not admitted yet.
    async fn waits(request: impl Future<Output = Result<Admitted>>) -> bool {
        let mut request = pin!(request);
        poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn requests_are_bounded_by_peer_and_in_all() {
        let peers = peers(3, 2);
        let one = peers.admit("one").await.unwrap();
        let _two = peers.admit("one").await.unwrap();
        assert!(waits(peers.admit("one")).await);
        let _other = peers.admit("other").await.unwrap();
        assert!(waits(peers.admit("third")).await);
        drop(one);
        peers.admit("third").await.unwrap();
        peers.admit("one").await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_fails_gets_one_request_at_a_time_until_one_succeeds() {
        let peers = peers(10, 10);
        let first = peers.admit("one").await.unwrap();
        first.note(false, Duration::ZERO);
        drop(first);
        let trial = peers.admit("one").await.unwrap();
        assert!(waits(peers.admit("one")).await);
        peers.admit("other").await.unwrap();
        trial.note(true, Duration::ZERO);
        peers.admit("one").await.unwrap();
    }

    #[tokio::test]
    async fn peers_that_were_slow_hold_a_quarter_of_the_requests() {
        let peers = peers(8, 8);
        for number in 0..8 {
            peers.admit(&format!("https://slow{number}/")).await.unwrap().note(true, SLOW);
        }
        let _first = peers.admit("https://slow0/").await.unwrap();
        assert!(waits(peers.admit("https://slow0/")).await);
        let _second = peers.admit("https://slow1/").await.unwrap();
        assert!(waits(peers.admit("https://slow2/")).await);
        peers.admit("https://quick/").await.unwrap();
    }

    #[tokio::test]
    async fn peers_without_requests_are_forgotten() {
        let peers = peers(10, 10);
        let _kept = peers.admit("kept").await.unwrap();
        for number in 0..1_000 {
            peers.admit(&number.to_string()).await.unwrap();
        }
        assert!(peers.known.lock().unwrap().len() <= REMEMBERED);
        assert!(peers.known.lock().unwrap().contains_key("kept"));
    }
}
