//! Threads for work that would hold up the async threads: password hashes, ranking, large answers.
//!
//! Invariants: never more jobs run at once than there are threads; of each user one job at a time runs or
//! waits for a thread, and threads are given out in the order of arrival, so users are served in turn; a user's
//! queue is bounded; a job that has started runs to its end even if its request is dropped, and counts
//! until then.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task,
};
use tokio_util::task::TaskTracker;
use wick_core::{Error, Result};

use crate::Supervisor;

/// How many jobs of one user may wait or run.
const QUEUE: usize = 32;

/// When to come back after a full queue.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A bounded pool of threads, fair between users.
pub struct Workers {
    threads: Arc<Semaphore>,
    tracker: TaskTracker,
    hasher: RandomState,
    queues: Arc<Mutex<HashMap<u64, Queue>>>,
}

/// The jobs of one user.
struct Queue {
    turn: Arc<Semaphore>,
    jobs: usize,
}

impl Workers {
    /// A pool of a thread less than the machine has processors, at least one. [`Supervisor::stop`] waits
    /// for its jobs.
    #[must_use]
    pub fn new(supervisor: &Supervisor) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(processors.saturating_sub(1).max(1), supervisor)
    }

    fn with_threads(threads: usize, supervisor: &Supervisor) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(threads)),
            tracker: supervisor.tracker(),
            hasher: RandomState::new(),
            queues: Arc::default(),
        }
    }

    /// Runs `job` on a thread of the pool, when it is the turn of `user`: a user id, or an address where
    /// there is no user.
    ///
    /// # Errors
    /// As [`Workers::turn`] and [`WorkerTurn::run`].
    pub async fn run<T: Send + 'static>(
        &self,
        user: &impl Hash,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.turn(user).await?.run(job).await
    }

    /// Waits for the turn of `user`, which holds until it is dropped: for work that has to wait for more than a thread,
    /// such as a file or memory, and must not hold a thread meanwhile.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if too many jobs of the same user wait already.
    pub async fn turn(&self, user: &impl Hash) -> Result<WorkerTurn> {
        let (queued, turn) = self.queue(self.hasher.hash_one(user))?;
        let turn = turn.acquire_owned().await.map_err(closed)?;
        Ok(WorkerTurn {
            held: Arc::new(Held { _turn: turn, _queued: queued }),
            threads: Arc::clone(&self.threads),
            tracker: self.tracker.clone(),
        })
    }

    fn queue(&self, user: u64) -> Result<(Queued, Arc<Semaphore>)> {
        let mut queues = locked(&self.queues);
        let queue = queues
            .entry(user)
            .or_insert_with(|| Queue { turn: Arc::new(Semaphore::new(1)), jobs: 0 });
        if queue.jobs >= QUEUE {
            return Err(Error::limit_exceeded(RETRY_AFTER));
        }
        queue.jobs = queue.jobs.saturating_add(1);
        Ok((Queued { user, queues: Arc::clone(&self.queues) }, Arc::clone(&queue.turn)))
    }
}

/// A user's turn. Its jobs run one after another.
pub struct WorkerTurn {
    held: Arc<Held>,
    threads: Arc<Semaphore>,
    tracker: TaskTracker,
}

/// What is given back when neither the turn nor a job of it is left.
struct Held {
    _turn: OwnedSemaphorePermit,
    _queued: Queued,
}

impl WorkerTurn {
    /// Runs `job` on the next thread.
    ///
    /// # Errors
    /// The job's own error; an internal error if the job panics.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(closed)?;
        let (held, tracked) = (Arc::clone(&self.held), self.tracker.token());
        task::spawn_blocking(move || {
            let result = job();
            drop((held, thread, tracked));
            result
        })
        .await
        .map_err(|error| Error::internal("a job of the worker threads", error))?
    }
}

fn closed(error: AcquireError) -> Error {
    Error::internal("the worker threads", error)
}

/// A place in a user's queue, given back when it is dropped.
struct Queued {
    user: u64,
    queues: Arc<Mutex<HashMap<u64, Queue>>>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut queues = locked(&self.queues);
        if let Some(queue) = queues.get_mut(&self.user) {
            queue.jobs = queue.jobs.saturating_sub(1);
            if queue.jobs == 0 {
                queues.remove(&self.user);
            }
        }
    }
}

fn locked(queues: &Mutex<HashMap<u64, Queue>>) -> MutexGuard<'_, HashMap<u64, Queue>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, sync::mpsc, task::Poll};

    use ruma::api::error::ErrorKind;
    use wick_core::clock::ManualClock;

    use super::*;

    fn workers(threads: usize) -> (Supervisor, Workers) {
        let supervisor = Supervisor::new(Arc::new(ManualClock::default()));
        let workers = Workers::with_threads(threads, &supervisor);
        (supervisor, workers)
    }

    /// Lets a future go as far as it can.
    async fn begin(future: &mut (impl Future<Output = Result<()>> + Unpin)) {
        let pending = std::future::poll_fn(|context| {
            Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        });
        assert!(pending.await);
    }

    #[tokio::test]
    async fn a_user_with_many_jobs_does_not_hold_up_another() {
        let (_supervisor, workers) = workers(1);
        let (release, gate) = mpsc::channel::<()>();
        let (note, order) = mpsc::channel();
        let noting = |name: &'static str| {
            let note = note.clone();
            move || {
                note.send(name).unwrap();
                Ok(())
            }
        };
        let mut first = pin!(workers.run(&"mallory", move || {
            gate.recv().unwrap();
            Ok(())
        }));
        begin(&mut first).await;
        let mut second = pin!(workers.run(&"mallory", noting("mallory")));
        begin(&mut second).await;
        let mut third = pin!(workers.run(&"mallory", noting("mallory")));
        begin(&mut third).await;
        let mut other = pin!(workers.run(&"alice", noting("alice")));
        begin(&mut other).await;
        release.send(()).unwrap();
        let (first, second, third, other) = tokio::join!(first, second, third, other);
        for result in [first, second, third, other] {
            result.unwrap();
        }
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["alice", "mallory", "mallory"]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_its_user_alone_and_empties_again() {
        let (_supervisor, workers) = workers(2);
        let (release, gate) = mpsc::channel::<()>();
        let mut running = pin!(workers.run(&"mallory", move || {
            gate.recv().unwrap();
            Ok(())
        }));
        begin(&mut running).await;
        let mut waiting: Vec<_> =
            (1..QUEUE).map(|_| Box::pin(workers.run(&"mallory", || Ok(())))).collect();
        for job in &mut waiting {
            begin(job).await;
        }
        let error = workers.run(&"mallory", || Ok(())).await.unwrap_err();
        assert!(matches!(error.kind(), Some(ErrorKind::LimitExceeded(_))), "{error}");
        workers.run(&"alice", || Ok(())).await.unwrap();
        drop(waiting);
        release.send(()).unwrap();
        running.await.unwrap();
        workers.run(&"mallory", || Ok(())).await.unwrap();
        assert!(locked(&workers.queues).is_empty());
    }

    #[tokio::test]
    async fn a_job_whose_request_is_gone_counts_until_it_ends() {
        let (supervisor, workers) = workers(1);
        let (release, gate) = mpsc::channel::<()>();
        let (note, order) = mpsc::channel();
        let first = note.clone();
        let mut gone = Box::pin(workers.run(&"alice", move || {
            gate.recv().unwrap();
            first.send("first").unwrap();
            Ok(())
        }));
        begin(&mut gone).await;
        drop(gone);
        let mut next = pin!(workers.run(&"bob", move || {
            note.send("next").unwrap();
            Ok(())
        }));
        begin(&mut next).await;
        release.send(()).unwrap();
        next.await.unwrap();
        assert!(supervisor.stop(Duration::MAX).await);
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["first", "next"]);
    }

    #[tokio::test]
    async fn a_turn_without_a_job_holds_up_its_user_and_no_thread() {
        let (_supervisor, workers) = workers(1);
        let turn = workers.turn(&"alice").await.unwrap();
        workers.run(&"bob", || Ok(())).await.unwrap();
        let mut next = pin!(workers.run(&"alice", || Ok(())));
        begin(&mut next).await;
        turn.run(|| Ok(())).await.unwrap();
        drop(turn);
        next.await.unwrap();
        assert!(locked(&workers.queues).is_empty());
    }

    #[tokio::test]
    async fn a_job_that_panics_is_an_internal_error_and_frees_its_thread() {
        let (_supervisor, workers) = workers(1);
        let error = workers.run(&"alice", || -> Result<()> { panic!("no") }).await.unwrap_err();
        assert!(error.kind().is_none());
        workers.run(&"alice", || Ok(())).await.unwrap();
    }
}
