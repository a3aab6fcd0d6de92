//! What all of it works with, and which destinations are at work.
//!
//! Invariants: a destination is at work once at most; one with something in its queue is at work, waits until it is to be
//! asked, or will be at work once the follower has come to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::{Notify, Semaphore, broadcast::error::RecvError};
use wick_core::{Position, Result, Timestamp};
use wick_database::{
    Range, Read,
    schema::outgoing::{OUTGOING_BY_DESTINATION, PROGRESS_BY_DESTINATION},
};
use wick_federation::{FOLLOWER, Federation};
use wick_room::Graph;
use wick_runtime::{Follower, Resources, Supervisor};

use crate::{delivery::Delivery, news::News, presence, waiting::Waiting};

/// Sends events and EDUs to other servers.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

/// What the follower and all deliveries work with.
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    pub(crate) graph: Arc<Graph>,
    pub(crate) federation: Arc<Federation>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// Bounds the transactions to destinations that answered last time.
    pub(crate) first_attempts: Semaphore,
    /// Bounds those to destinations that did not, so that they do not hold up the others.
    pub(crate) further_attempts: Semaphore,
    work: Mutex<Work>,
    /// Notified when a destination begins to wait.
    waits: Notify,
}

#[derive(Default)]
struct Work {
    /// The destinations at work; `true` if there is more than they have looked at.
    at_work: HashMap<OwnedServerName, bool>,
    waiting: Waiting,
}

impl Sender {
    /// For what happens in `graph`.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        federation: Arc<Federation>,
        supervisor: Arc<Supervisor>,
    ) -> Self {
        let most = usize::try_from(resources.config.federation.max_requests).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            resources,
            graph,
            federation,
            supervisor,
            // The rest is for other requests.
            first_attempts: Semaphore::new((most / 2).clamp(1, Semaphore::MAX_PERMITS)),
            further_attempts: Semaphore::new((most / 4).clamp(1, Semaphore::MAX_PERMITS)),
            work: Mutex::default(),
            waits: Notify::new(),
        }))
    }

    /// Resumes what was not sent yet, and follows the stream until the server stops.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn start(&self) -> Result<()> {
        let shared = &self.0;
        for server in shared.unfinished()? {
            shared.wake(&server)?;
        }
        let (waker, stopping) = (Arc::clone(shared), shared.supervisor.stopping().clone());
        shared.supervisor.spawn("sender-retries", move || {
            let (waker, stopping) = (Arc::clone(&waker), stopping.clone());
            async move {
                stopping.run_until_cancelled(waker.end_waits()).await.unwrap_or_default();
            }
        });
        let of_presence = Arc::clone(shared);
        shared.supervisor.spawn_periodic("sender-presence", presence::EVERY, move || {
            let shared = Arc::clone(&of_presence);
            async move { presence::send_again(&shared).await }
        });
        let news = News(Arc::clone(shared));
        let follower = Follower::new(shared.resources.clone(), FOLLOWER.to_owned(), news);
        follower.start(&shared.supervisor, "sender").await
    }
}

impl Shared {
    /// The destinations with something in their queues, or that have not caught up yet.
    fn unfinished(&self) -> Result<Vec<OwnedServerName>> {
        let read = self.resources.database.latest();
        let (mut servers, mut rest) = (Vec::new(), Range::all());
        while let Some(((server, _), _)) = read.first(&OUTGOING_BY_DESTINATION, rest)? {
            rest = Range::after(&(server.clone(), Position(u64::MAX)));
            servers.push(server);
        }
        for row in read.scan(&PROGRESS_BY_DESTINATION, Range::all()) {
            let (server, progress) = row?;
            if progress.gap.is_some() {
                servers.push(server);
            }
        }
        Ok(servers)
    }

    /// Sets a destination to work, or lets it wait until it is to be asked.
    pub(crate) fn wake(self: &Arc<Self>, server: &ServerName) -> Result<()> {
        let until = self.federation.retry_at(server)?;
        let mut work = self.work();
        let Work { at_work, waiting } = &mut *work;
        if let Some(more) = at_work.get_mut(server) {
            *more = true;
        } else if let Some(until) = until.filter(|at| *at > self.resources.clock.now()) {
            waiting.add(server.to_owned(), until);
            self.waits.notify_one();
        } else if !waiting.contains(server) {
            at_work.insert(server.to_owned(), false);
            let (shared, server) = (Arc::clone(self), server.to_owned());
            self.supervisor
                .spawn("sender-destination", move || Delivery::new(&shared, &server).run());
        }
        Ok(())
    }

    /// Whether a destination that has found nothing to send has to look again. If not, it is not at work any more.
    pub(crate) fn has_more(&self, server: &ServerName) -> bool {
        let mut work = self.work();
        match work.at_work.get_mut(server) {
            Some(more @ true) => {
                *more = false;
                true
            }
            _ => {
                work.at_work.remove(server);
                false
            }
        }
    }

    /// Lets a destination that is at work wait until a time instead.
    pub(crate) fn wait(&self, server: &ServerName, until: Timestamp) {
        let mut work = self.work();
        work.at_work.remove(server);
        work.waiting.add(server.to_owned(), until);
        drop(work);
        self.waits.notify_one();
    }

    /// Sets destinations to work whose wait is over, by the time or because they gave a sign of life.
    async fn end_waits(self: &Arc<Self>) {
        let clock = &self.resources.clock;
        let mut revivals = self.federation.revivals();
        loop {
            while let Some(server) = self.take_due() {
                self.wake_again(&server);
            }
            let next = self.work().waiting.first();
            let over = async {
                match next {
                    Some(at) => {
                        clock.sleep_until(clock.monotonic() + at.since(clock.now())).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                () = self.waits.notified() => {}
                revived = revivals.recv() => match revived {
                    Ok(server) => self.revive(&server),
                    Err(RecvError::Lagged(_)) => {
                        let all = self.work().waiting.all();
                        all.iter().for_each(|server| self.revive(server));
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn take_due(&self) -> Option<OwnedServerName> {
        let now = self.resources.clock.now();
        self.work().waiting.take_due(now)
    }

    /// Sets a destination to work that waits, if it is to be asked by now.
    pub(crate) fn revive(self: &Arc<Self>, server: &ServerName) {
        if self.work().waiting.remove(server) {
            self.wake_again(server);
        }
    }

    fn wake_again(self: &Arc<Self>, server: &ServerName) {
        if let Err(error) = self.wake(server) {
            tracing::error!(%server, %error, "a destination cannot be set to work and is tried again");
            let later = self.resources.clock.now().after(crate::delivery::PAUSE);
            self.work().waiting.add(server.to_owned(), later);
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
