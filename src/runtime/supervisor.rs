//! Owns every task of the server: one way to start, one way to stop, and a restart after a panic.
//!
//! Invariants: no task outlives [`Supervisor::stop`]; a task that panics is started anew, later each
//! time; a task ends by itself soon after [`Supervisor::stopping`] is cancelled, or is dropped at its
//! next `await` when the deadline has passed.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wick_core::{BackOff, Clock, Error, Result};

/// The wait before the restart of a task that panicked.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Owns tasks.
pub struct Supervisor {
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    aborting: CancellationToken,
    tracker: TaskTracker,
}

impl Supervisor {
    /// Owns no task yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }

    /// Cancelled when the server is about to stop: finish what you do, begin nothing new. A request
    /// that waits for news answers at once.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Starts a task that runs as long as the server. `make` is called again after each panic;
    /// a task that returns is done.
    pub fn spawn<T>(&self, name: &'static str, make: impl Fn() -> T + Send + 'static)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let clock = Arc::clone(&self.clock);
        let stopping = self.stopping.clone();
        self.track(async move {
            let mut panics = 0_u32;
            while AssertUnwindSafe(make()).catch_unwind().await.is_err() {
                let back_off = BACK_OFF.after(panics);
                tracing::error!(task = name, ?back_off, "a task panicked and will be restarted");
                metrics::counter!("wick_task_panics_total", "task" => name).increment(1);
                let wait = clock.sleep_until(clock.monotonic() + back_off);
                if stopping.run_until_cancelled(wait).await.is_none() {
                    break;
                }
                panics = panics.saturating_add(1);
            }
        });
    }

    /// Starts a task that does `job` again and again, `every` so often, as long as the server runs. One
    /// that fails is logged and tried again at the next time.
    pub fn spawn_periodic<T>(
        &self,
        name: &'static str,
        every: Duration,
        job: impl Fn() -> T + Clone + Send + Sync + 'static,
    ) where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let clock = Arc::clone(&self.clock);
        let stopping = self.stopping.clone();
        self.spawn(name, move || {
            let (clock, stopping, job) = (Arc::clone(&clock), stopping.clone(), job.clone());
            async move {
                loop {
                    let wait = clock.sleep_until(clock.monotonic() + every);
                    if stopping.run_until_cancelled(wait).await.is_none() {
                        return;
                    }
                    if let Err(error) = job().await {
                        tracing::error!(task = name, %error, "a task failed and is continued");
                    }
                }
            }
        });
    }

    /// Starts a task that does one thing and is not repeated. A panic in it is logged.
    pub fn spawn_once(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.track(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a task panicked");
                metrics::counter!("wick_task_panics_total", "task" => name).increment(1);
            }
        });
    }

    /// Runs a change of several commits as a task and returns its result. The change continues if the
    /// returned future is dropped.
    ///
    /// # Errors
    /// Those of `change`; an internal one if it panics or the server stops before its end.
    pub async fn complete<T: Send + 'static>(
        &self,
        name: &'static str,
        change: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (answer, result) = oneshot::channel();
        self.spawn_once(name, async move {
            if let Err(Err(error)) = answer.send(change.await) {
                tracing::error!(task = name, %error, "a change failed after its client hung up");
            }
        });
        result.await.unwrap_or_else(|_| Err(Error::internal(name, "the change broke off")))
    }

    /// How many tasks run.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks to end and waits for them. Those that still run after `patience` are dropped.
    /// Returns whether none had to be.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        let deadline = self.clock.sleep_until(self.clock.monotonic() + patience);
        let in_time = tokio::select! {
            biased;
            () = self.tracker.wait() => true,
            () = deadline => false,
        };
        if !in_time {
            tracing::warn!(tasks = self.tracker.len(), "tasks did not end in time and are dropped");
            self.aborting.cancel();
            self.tracker.wait().await;
        }
        in_time
    }

    /// Drops all tasks at their next `await`, as if the process had been killed.
    pub async fn abort(&self) {
        self.aborting.cancel();
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// What [`Supervisor::stop`] waits for, for jobs on threads of their own.
    pub(crate) fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborting = self.aborting.clone();
        self.tracker.spawn(async move {
            // `None` means that it was dropped, which `stop` has logged.
            let _ended = aborting.run_until_cancelled(task).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::sync::oneshot;
    use wick_core::clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_later_each_time() {
        let clock = Arc::new(ManualClock::without_sleep());
        let supervisor = Supervisor::new(clock.clone());
        let (send, done) = oneshot::channel();
        let (runs, send) = (AtomicU32::new(0), Mutex::new(Some(send)));
        let task = Arc::new((runs, send));
        supervisor.spawn("test", move || {
            let task = Arc::clone(&task);
            async move {
                assert!(task.0.fetch_add(1, Ordering::Relaxed) >= 3, "not yet");
                task.1.lock().unwrap().take().unwrap().send(()).unwrap();
            }
        });
        done.await.unwrap();
        assert_eq!(clock.slept_until(), [1, 2, 4].map(Duration::from_secs));
    }

    #[tokio::test]
    async fn a_task_that_minds_the_signal_ends_by_itself() {
        let supervisor = Supervisor::new(Arc::new(ManualClock::without_sleep()));
        let stopping = supervisor.stopping().clone();
        supervisor.spawn("test", move || stopping.clone().cancelled_owned());
        tokio::task::yield_now().await;
        supervisor.stopping().cancel();
        tokio::task::yield_now().await;
        assert!(supervisor.stop(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn a_task_that_does_not_is_dropped() {
        let supervisor = Supervisor::new(Arc::new(ManualClock::without_sleep()));
        supervisor.spawn_once("test", std::future::pending());
        assert!(!supervisor.stop(Duration::ZERO).await);
    }
}
